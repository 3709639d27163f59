"""Does a picture with words find more than either alone, and more than their plain sum? Composed questions, labelled.

    python -m benchmarks.combined [--photos DIR]

Drawings (the tests' small CLIP): a colour that a picture shows, on a background that words name; 450 questions, five
example pictures for each of 90 pairs, over 1,000 drawings; R-precision. Photographs (the built-in encoder), whose file
names are their labels: 200 composites of two photographs beside each other; one of the two as a picture, the other in
words; how often the composite is the first hit. Intervals are 95 % over the questions (bootstrap), differences paired.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from benchmarks.config import REPOSITORY
from clipsearch import Library
from clipsearch.evaluate.metrics import bootstrap_mean
from clipsearch.search.terms import Image

sys.path.insert(0, str(REPOSITORY / "tests"))

from tinyclip.scenes import COLOURS, Scene, Shape, draw, scenes

DRAWN = 1000
EXAMPLES = 5
SIDE = 224

Question = tuple[str, Path, Callable[[list[str]], float], int]
"""Words, a picture, what a list of paths is worth, and how many are looked at."""


def drawings(folder: Path) -> Iterator[Question]:
    """Draws a library into `folder`/library and yields the questions to it."""
    drawn = {f"{n:04}.png": scene for n, scene in enumerate(scenes(DRAWN, seed=3))}
    (folder / "library").mkdir()
    for name, scene in drawn.items():
        draw(scene, side=64).save(folder / "library" / name)
    rng = random.Random(0)
    for colour in COLOURS:
        for background in COLOURS:
            right = {
                name
                for name, scene in drawn.items()
                if scene.background == background and colour in (scene.first.colour, scene.second.colour)
            }
            if colour == background or not right:
                continue
            for number in range(EXAMPLES):
                other = rng.choice([each for each in COLOURS if each not in (colour, background)])
                shape = rng.choice(["circle", "square", "triangle"])
                scene = Scene(Shape("large", colour, shape), "above", Shape("small", colour, "square"), other)
                example = folder / f"{colour}-{background}-{number}.png"
                draw(scene, side=64).save(example)
                words = f"a large circle on {'an' if background[0] in 'aeiou' else 'a'} {background} background"
                yield words, example, lambda paths, right=right: np.mean([p in right for p in paths]), len(right)


def composites(folder: Path, photos: list[Path]) -> Iterator[Question]:
    """Makes composites in `folder`/library and yields the questions to it."""
    (folder / "library").mkdir()
    order = list(photos)
    random.Random(1).shuffle(order)
    for number, (one, other) in enumerate(zip(photos, order, strict=True)):
        both = PIL.Image.new("RGB", (2 * SIDE, 2 * SIDE), (128, 128, 128))
        for place, path in enumerate((one, other)):
            with PIL.Image.open(path) as image:
                image.thumbnail((SIDE, 2 * SIDE))
                both.paste(image, (place * SIDE, (2 * SIDE - image.height) // 2))
        name = f"{number:03}.png"
        both.save(folder / "library" / name)
        yield other.stem.replace("_", " "), one, lambda paths, name=name: float(paths == [name]), 1


def measure(folder: Path, model: str, questions: list[Question]) -> str:
    """A table: each way of asking with its mean, and the balanced sum less the plain one."""
    found: dict[str, list[float]] = {}
    with Library.create(folder / "index", model=model) as library:
        library.index([folder / "library"])
        names, vectors = _vectors(library)
        for words, image, worth, k in questions:
            both = library.similarity([words, image]).vectors
            plain = both.sum(axis=0)
            asked = {
                "words": library.query(words, k=k).hits,
                "picture": library.query(image, k=k).hits,
                "both, balanced": library.query([words, Image(image)], k=k).hits,
            }
            answers = {way: [Path(hit.path).name for hit in hits] for way, hits in asked.items()}
            answers["both, added plainly"] = [names[i] for i in np.argsort(-(vectors @ plain), kind="stable")[:k]]
            for way, paths in answers.items():
                found.setdefault(way, []).append(worth(paths))
    rows = [(way, np.array(values)) for way, values in found.items()]
    rows.append(("balanced less plain", rows[2][1] - rows[3][1]))
    lines = [f"{Path(model).name}: {len(questions)} questions"]
    for way, values in rows:
        mean = bootstrap_mean(values, resamples=2000)
        lines.append(f"  {way:<20} {mean.value:6.3f}  [{mean.low:.3f}, {mean.high:.3f}]")
    return "\n".join(lines)


def _vectors(library: Library) -> tuple[list[str], NDArray[np.float64]]:
    """The library's file names and vectors, shape (n, dim): all hits of one question, compared with themselves."""
    hits = library.query("anything", k=DRAWN).hits
    found = library.similarity([Path(hit.path) for hit in hits])
    return [Path(hit.path).name for hit in hits], found.vectors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photographs whose names are their labels")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tiny = str(REPOSITORY / "tests" / "tinyclip" / "tiny_clip.pt")
        print(measure(Path(name), tiny, list(drawings(Path(name)))))
    if given.photos is not None:
        photos = sorted(given.photos.glob("*.jpg"))
        with tempfile.TemporaryDirectory() as name:
            print(measure(Path(name), "builtin", list(composites(Path(name), photos))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
