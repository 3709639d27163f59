"""What `--relevant` keeps and what it turns away, on labelled queries: `python -m benchmarks.relevance --photos DIR`.

Each library gets queries of three sorts: those that it answers (its pictures' labels), those that name what it does not
hold, and letter salads. Constants are chosen on one half of labels, sentences and libraries; the other is reported. A
row says, of the queries whose best hit is right, how many keep it, and how many of the others are answered all the
same. Beside it stands what fixed cuts on the score do: one for the encoder and one for both encoders, chosen as MARGIN
was (at most a fifth of absent things and a twentieth of salads answered in any library of the choosing half); and one
chosen with hindsight for this very row, which answers as many absent things as relevance does.
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.config import REPOSITORY
from clipsearch import prompts, relevance
from clipsearch.background import PROMPTS, SAMPLE
from clipsearch.encoders import Encoder, load_encoder
from clipsearch.images import open_picture

Rows = NDArray[np.float32]

ABSENT, SALADS = 0.2, 0.05
"""Shares that may be answered of what is absent, and of letter salads."""

TINY = REPOSITORY / "tests" / "tinyclip" / "tiny_clip.pt"

DOGS = """
Airedale Bedlington_terrier Blenheim_spaniel Chihuahua Doberman EntleBucher Great_Dane Irish_water_spaniel
Italian_greyhound Newfoundland Norwich_terrier Saluki Walker_hound basset briard clumber collie curly-coated_retriever
dalmatian keeshond miniature_poodle miniature_schnauzer silky_terrier vizsla
"""


@dataclass(frozen=True)
class Trial:
    """A library with its queries; `answers` (m, n) says which pictures are right for which of `present`."""

    name: str
    encoder: str
    pictures: Rows
    everyday: Rows
    present: Rows
    answers: NDArray[np.bool_]
    absent: Rows
    salads: Rows


@dataclass(frozen=True)
class Judged:
    """The best hits' scores and relevance, of queries that have it right, absent things and salads; and all hits."""

    name: str
    encoder: str
    asked: int
    scores: tuple[NDArray[np.floating], ...]
    relevance: tuple[NDArray[np.floating], ...]
    returned: int
    returned_right: int
    found: int

    def kept(self, cut: float | None = None) -> tuple[float, ...]:
        """Shares that pass: right ones, absent things, salads. By relevance, or by a cut on the score."""
        values, limit = (self.relevance, relevance.RELEVANT) if cut is None else (self.scores, cut)
        return tuple(float((some > limit).mean()) for some in values)


def judge(trial: Trial) -> Judged:
    """Every query's best hit in the trial's library, and what else is above the mark for those that have an answer."""
    count = len(trial.pictures)
    step = -(-count // SAMPLE)
    yardstick = relevance.measure(trial.pictures[::step].astype(np.float64), trial.everyday, count=count, centred=False)

    def ask(queries: Rows) -> tuple[Rows, Rows]:
        scores = queries @ trial.pictures.T
        top = scores.argmax(axis=1)
        best = scores[np.arange(len(queries)), top]
        sure = [relevance.relevance(yardstick, q, s[None])[0] for q, s in zip(queries, best, strict=True)]
        return best, np.asarray(sure)

    right = trial.answers[np.arange(len(trial.present)), (trial.present @ trial.pictures.T).argmax(axis=1)]
    best, sure = ask(trial.present)
    returned = returned_right = found = 0
    for query, answers in zip(trial.present, trial.answers, strict=True):
        passing = relevance.relevance(yardstick, query, trial.pictures @ query) > relevance.RELEVANT
        returned += int(passing.sum())
        returned_right += int((passing & answers).sum())
        found += bool((passing & answers).any())
    others = [ask(trial.absent), ask(trial.salads)]
    return Judged(
        trial.name,
        trial.encoder,
        len(trial.present),
        (best[right], *(scores for scores, _ in others)),
        (sure[right], *(values for _, values in others)),
        returned,
        returned_right,
        found,
    )


def pooled(judged: Sequence[Judged]) -> list[Judged]:
    """One for each name: the trials of a kind are taken together."""
    result = []
    for name in dict.fromkeys(one.name for one in judged):
        some = [one for one in judged if one.name == name]
        numbers = {
            key: sum(getattr(one, key) for one in some) for key in ("asked", "returned", "returned_right", "found")
        }
        scores = tuple(np.concatenate(parts) for parts in zip(*(one.scores for one in some), strict=True))
        sure = tuple(np.concatenate(parts) for parts in zip(*(one.relevance for one in some), strict=True))
        result.append(replace(some[0], scores=scores, relevance=sure, **numbers))
    return result


def lowest_cut(judged: Sequence[Judged]) -> float:
    """The lowest score that answers no more than is allowed in any of them."""
    return max(max(np.quantile(one.scores[1], 1 - ABSENT), np.quantile(one.scores[2], 1 - SALADS)) for one in judged)


# Libraries and queries


def salads(seed: int) -> list[str]:
    """A hundred of one or two words of random letters."""
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 9)))

    return [" ".join(word() for _ in range(1 + i % 2)) for i in range(100)]


def absent_things(half: int) -> list[str]:
    lines = (REPOSITORY / "benchmarks" / "absent.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")][100 * half : 100 * half + 100]


def embed(encoder: Encoder, files: Sequence[Path]) -> Rows:
    """Pictures as `clipsearch index` embeds them."""
    pixels = [encoder.prepare(open_picture(path.read_bytes())) for path in files]
    parts = [encoder.encode_images(np.stack(pixels[i : i + 16])) for i in range(0, len(pixels), 16)]
    return np.concatenate(parts)


def photo_trials(folder: Path) -> Callable[[int], Iterator[Trial]]:
    """The photographs, parts of them, and a library of which half are dogs. A photo's label is its file's name."""
    encoder = load_encoder("builtin")
    files = sorted(folder.glob("*.jpg"))
    pictures = embed(encoder, files)
    labels = encoder.encode_texts([f"a {path.stem.replace('_', ' ')}" for path in files])
    everyday = encoder.encode_texts(prompts.everyday(PROMPTS))
    dogs = np.array([path.stem in DOGS.split() for path in files])

    def trials(half: int) -> Iterator[Trial]:
        absent, nonsense = encoder.encode_texts(absent_things(half)), encoder.encode_texts(salads(half))

        def trial(name: str, members: NDArray[np.integer]) -> Trial:
            asked = members[members % 2 == half]
            answers = asked[:, None] == members[None, :]
            return Trial(name, "builtin", pictures[members], everyday, labels[asked], answers, absent, nonsense)

        rng = np.random.default_rng(half)
        yield trial(f"{len(files)} photos", np.arange(len(files)))
        for size, times in ((10, 40), (20, 30), (50, 15), (100, 8)):
            for _ in range(times):
                yield trial(f"{size} of them", rng.permutation(len(files))[:size])
        for _ in range(10):
            others = rng.permutation(np.flatnonzero(~dogs))[: dogs.sum()]
            yield trial("half are dogs", np.concatenate([np.flatnonzero(dogs), others]))

    return trials


def class_trials(sizes: Sequence[int]) -> Callable[[int], Iterator[Trial]]:
    """Large libraries, made up: what the built-in encoder would give for pictures of half of its 1,000 classes.

    A picture's vector is its class's direction with those of classes near to it, in shares like those of the
    photographs (.25 … .75 for its own). Absent things are classes of the other half that have no near relative (cosine
    under .45) in the library.
    """
    from clipsearch.encoders.builtin import BuiltinEncoder

    encoder = BuiltinEncoder()
    directions, names = encoder._classes.directions, encoder._classes.names
    texts = encoder.encode_texts([f"a {name}" for name in names])
    everyday = encoder.encode_texts(prompts.everyday(PROMPTS))
    near = np.argsort(-(directions @ directions.T), axis=1)

    def pictures(rng: np.random.Generator, classes: NDArray[np.integer]) -> Rows:
        n, others = len(classes), 30
        share = rng.uniform(0.25, 0.75, n).astype(np.float32)
        ranks = np.minimum(1 + rng.exponential(60, (n, others)).astype(int), len(names) - 1)
        weights = rng.exponential(1, (n, others)).astype(np.float32)
        weights *= ((1 - share) / weights.sum(axis=1))[:, None]
        rows = share[:, None] * directions[classes]
        for i in range(others):
            rows += weights[:, i : i + 1] * directions[near[classes, ranks[:, i]]]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def trials(half: int) -> Iterator[Trial]:
        rng = np.random.default_rng(half)
        nonsense = encoder.encode_texts(salads(half))
        for size in sizes:
            members = rng.permutation(len(names))[:500]
            weights = 1 / np.sqrt(np.arange(1, 501))  # Of some things a person has many pictures, of most few.
            classes = rng.choice(members, size, p=weights / weights.sum())
            strange = np.flatnonzero((directions @ directions[np.unique(classes)].T).max(axis=1) < 0.45)
            present = np.unique(classes)[half::2]
            answers = present[:, None] == classes[None, :]
            name = f"{size:,} made up"
            yield Trial(
                name, "builtin", pictures(rng, classes), everyday, texts[present], answers, texts[strange], nonsense
            )

    return trials


def drawing_trials() -> Callable[[int], Iterator[Trial]]:
    """Captioned drawings and the small checkpoint; one colour is missing, as a background or altogether."""
    sys.path.append(str(TINY.parent))
    from scenes import COLOURS, SHAPES, Scene, caption, draw, scenes

    def prepared(encoder: Encoder, drawing: Image.Image) -> NDArray[np.uint8]:
        file = io.BytesIO()
        drawing.save(file, "PNG")
        return encoder.prepare(open_picture(file.getvalue()))[None]

    encoder = load_encoder(str(TINY))
    drawn, other = list(scenes(500, seed=0)), list(scenes(700, seed=1))
    pictures = np.concatenate([encoder.encode_images(prepared(encoder, draw(s))) for s in drawn])
    captions = encoder.encode_texts([caption(s) for s in drawn])
    others = encoder.encode_texts([caption(s) for s in other])
    everyday = encoder.encode_texts(prompts.everyday(PROMPTS))

    def shows(scene: Scene, colour: str, *, anywhere: bool) -> bool:
        shapes = (scene.first.colour, scene.second.colour) if anywhere else ()
        return colour in (scene.background, *shapes)

    def long(half: int, colour: str, members: NDArray[np.integer], *, anywhere: bool) -> tuple[Rows, ...]:
        asked = members[members % 2 == half]
        absent = others[[shows(s, colour, anywhere=anywhere) for s in other]]
        return captions[asked], asked[:, None] == members[None, :], absent

    def short(half: int, colour: str, members: NDArray[np.integer]) -> tuple[Rows, ...]:
        """Of one shape only: right is any drawing with that colour on that background."""
        pairs = [(a, b) for a in COLOURS for b in COLOURS if a != b]
        held = [pair for pair in pairs if pair[1] != colour][half::2]
        scenes_here = [drawn[i] for i in members]
        answers = [[s.background == b and a in (s.first.colour, s.second.colour) for s in scenes_here] for a, b in held]
        lacking = [(a, b, shape) for a, b in pairs if b == colour for shape in SHAPES]
        present = [f"a {a} {SHAPES[i % len(SHAPES)]} on a {b} background" for i, (a, b) in enumerate(held)]
        absent = [f"a {a} {shape} on a {b} background" for a, b, shape in lacking]
        return encoder.encode_texts(present), np.array(answers), encoder.encode_texts(absent)

    def trials(half: int) -> Iterator[Trial]:
        nonsense = encoder.encode_texts(salads(half))
        for anywhere, colour in itertools.product((False, True), list(COLOURS)[half::2]):
            members = np.array([i for i, s in enumerate(drawn) if not shows(s, colour, anywhere=anywhere)])
            whole = long(half, colour, members, anywhere=anywhere)
            name = "drawings, no such " + ("colour" if anywhere else "background")
            forms = [(name, whole)]
            if not anywhere:
                brief = short(half, colour, members)
                both = tuple(np.concatenate(parts) for parts in zip(whole, brief, strict=True))
                forms += [("… asked in short", brief), ("… in both ways", both)]
            for name, (present, answers, absent) in forms:
                yield Trial(name, "tiny_clip", pictures[members], everyday, present, answers, absent, nonsense)

    return trials


def report(chosen: Sequence[Judged], reported: Sequence[Judged]) -> Iterator[str]:
    """The table: a row for each library of the reporting half."""
    cuts = {
        name: lowest_cut([one for one in chosen if one.encoder == name]) for name in {one.encoder for one in chosen}
    }
    common = lowest_cut(chosen)
    yield f"chosen cuts: {', '.join(f'{name} {cut:.3f}' for name, cut in sorted(cuts.items()))}; for both {common:.3f}"
    yield "kept of the right ones / answered of absent things / of salads; precision and recall of what is returned"
    heads = ("library", "asked", "relevance", "cut by encoder", "cut for both", "hindsight", "precision", "recall")
    yield "{:33}{:>6}  {:18}{:18}{:18}{:10}{:>9}{:>8}".format(*heads)
    for one in reported:
        columns = [one.kept(), one.kept(cuts[one.encoder]), one.kept(common)]
        cells = "".join(" ".join(f"{share:.3f}" for share in shares).ljust(18) for shares in columns)
        hindsight = one.kept(float(np.quantile(one.scores[1], 1 - columns[0][1])))[0]
        precision, recall = one.returned_right / max(one.returned, 1), one.found / one.asked
        yield f"{one.name:33}{one.asked:6}  {cells}{hindsight:<10.3f}{precision:9.3f}{recall:8.3f}"
    yield "relevance of best hits, and the share of right ones where every second query has an answer:"
    steps = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    for low, high in itertools.pairwise(steps):
        shares = []
        for one in reported:
            right, absent, nonsense = (float(((low < some) & (some <= high)).mean()) for some in one.relevance)
            shares.append((right, (absent + nonsense) / 2))
        right, wrong = (float(np.mean(some)) for some in zip(*shares, strict=True))
        yield f"  {low:.1f} … {high:.1f}: {right / max(right + wrong, 1e-9):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, required=True, help="200 photographs, each named by what it shows")
    parser.add_argument("--largest", type=int, default=100_000, help="pictures of the largest library")
    options = parser.parse_args()
    sizes = [size for size in (200, 2_000, 20_000, 100_000) if size <= options.largest]
    makers = [photo_trials(options.photos), class_trials(sizes), drawing_trials()]
    halves = [pooled([judge(trial) for maker in makers for trial in maker(half)]) for half in (0, 1)]
    for name, half in zip(("chosen on", "held out"), halves, strict=True):
        print(f"\n{name}:", *report(halves[0], half), sep="\n")


if __name__ == "__main__":
    main()
