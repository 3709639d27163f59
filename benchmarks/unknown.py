"""What `--unknown` keeps and detects: `python -m benchmarks.unknown --photos DIR`.

Kept: right answers that are not called unknown. Detected: images of other things that are. By prompts, an image gets a
set of labels in which one applies to it (kept), and the same set with another one in its place (detected): names of
ImageNet's classes, the first question of each group in groups.txt, and the general words of general.txt, these for
photographs and for the same things cut out on white. By examples, the groups of groups.txt are classes.

`--stamps DIR` adds other cut-outs. It is optional: without it, their rows and columns are missing. They are the images
of Debian's package tuxpaint-stamps-default (`apt-get download` and `dpkg -x FILE DIR`); stamps.txt tells which words
apply to which of them. The margin was not chosen on them, but they were in sight.

`--sweep` prints the tables for other margins, on every second photograph and on the rest, what other constants keep and
detect on average, and the cosines of near-equal images.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.classifying import Photos, Rows, encoded, photographs
from benchmarks.config import REPOSITORY
from benchmarks.labelled import groups
from clipsearch.classify import few_shot, known, unknown
from clipsearch.classify.classifier import Classifier
from clipsearch.classify.known import Everyday
from clipsearch.classify.labels import Label
from clipsearch.classify.options import UNKNOWN_MARGIN
from clipsearch.classify.unknown import Distractors
from clipsearch.encoders import prompts
from clipsearch.encoders.base import Encoder

Mask = NDArray[np.bool_]
PLAIN = ("dog", "cat", "bird", "fish", "insect", "car", "boat", "train", "food", "flower", "building", "person")
OTHER = ("dog", "cat", "horse", "bird", "car", "tree", "house", "person", "food", "beach", "mountain", "city")
UNSEEN = "person"
"""The built-in encoder sees no people: ImageNet has no such class."""
DRAWN = ("cartoon", "symbols", "flags", "planets", "moon", "toys")
"""Folders of stamps that are left out: drawings, signs, and things that are in no photograph."""
REPEATS = 3
"""Label sets that each image is judged by."""
DRAWS = 60
"""Choices of examples."""
MARGINS = (1.4, 1.7, 2.0, 2.3, 2.6)
SWEPT = {
    "COUNT": (256, 512, 1000),
    "NARROWER": (2.0, 2.5, 3.0),
    "NEAREST": (2, 3, 4),
    "GENERAL": (0.2, 0.25, 1 / 3, 0.5),
    "PER_LABEL": (0.4, 0.5, 0.6, 0.7),
}
SWEPT_KNOWN = {
    "SHARE": (0.7, 0.9, 1.0),
    "FLOOR": (1.55, 1.65, 1.75),
    "BEST_OF": (0.08, 0.12, 0.16),
    "PRIOR": (5, 15, 45),
    "KNOWN": (0.04, 0.07, 0.1),
    "COHESION": (0.35, 0.45, 0.55),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """Images with labels: `applies` (n, labels) tells which are right; `count` of them are given at a time.

    apart: none of the labels is a distractor label.
    """

    name: str
    vectors: Rows
    labels: Rows
    applies: Mask
    count: int
    apart: bool = False


def words_of(file: str) -> list[tuple[str, list[str]]]:
    """The words of a file, each with the photographs or patterns that it applies to."""
    lines = (REPOSITORY / "benchmarks" / file).read_text(encoding="utf-8").splitlines()
    pairs = [line.split(":") for line in lines if not line.startswith("#")]
    return [(word, names.split()) for word, names in pairs]


def cut_out(image: Image.Image) -> Image.Image:
    """What is in the middle of a photograph on white: Grady's random walker (2006) from the middle and the border."""
    from scipy import ndimage
    from skimage.segmentation import random_walker

    small = image.convert("RGB")
    small.thumbnail((128, 128))
    pixels = np.asarray(small, float) / 255
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    seeds = np.zeros((height, width), int)
    border = max(2, min(height, width) // 20)
    seeds[:border] = seeds[-border:] = seeds[:, :border] = seeds[:, -border:] = 2
    seeds[np.hypot(2 * y / height - 1, 2 * x / width - 1) < 0.3] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Probabilities that are a little above 1 do no harm.
        inside = random_walker(pixels, seeds, beta=200, mode="cg_j", channel_axis=-1) == 1
    parts, _ = ndimage.label(inside)
    shape = ndimage.binary_fill_holes(parts == parts[height // 2, width // 2])
    mask = Image.fromarray((255 * shape).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    white = Image.new("RGB", image.size, "white")
    white.paste(image.convert("RGB"), mask=mask)
    found = white.crop(mask.point(lambda v: 255 * (v > 127)).getbbox())
    return ImageOps.expand(found, border=max(found.size) // 8, fill="white")


def cut_outs(photos: Photos) -> Rows:
    """The photographs cut out on white, as unit rows (n, dim)."""
    return np.concatenate([encoded(photos.encoder, cut_out(Image.open(file))) for file in photos.files])


def members(photos: Photos, sets: Sequence[frozenset[str]]) -> Mask:
    """Which photograph is in which set of names: shape (n, sets)."""
    return np.array([[name in some for some in sets] for name in photos.names])


def tasks(photos: Photos) -> list[Task]:
    """The label sets by prompts."""
    names = prompts.imagenet_names()
    classes = photos.text([Label(f"{names[c]} {i}", spoken=names[c]) for i, c in enumerate(photos.classes)])
    same = np.eye(len(photos.names), dtype=bool)
    asked = photos.text([Label(questions[0]) for _, questions in groups()])
    alike = members(photos, [some for some, _ in groups()])
    words = words_of("general.txt")
    general, applies = (
        photos.text([Label(w) for w, _ in words]),
        members(photos, [frozenset(some) for _, some in words]),
    )
    seen = [word != UNSEEN for word, _ in words]
    cut = cut_outs(photos)
    found = [Task(f"{n} classes", photos.vectors, classes, same, n) for n in (2, 5, 20, 100)]
    found += [Task(f"{n} classes, not distractors", photos.vectors, classes, same, n, True) for n in (2, 5, 20, 100)]
    found += [Task(f"{n} questions of groups", photos.vectors, asked, alike, n) for n in (1, 2, 5, 10, 18)]
    some = general[seen], applies[:, seen]
    found += [Task(f"{n} general words", photos.vectors, *some, n) for n in (1, 2, 5, 12, 25)]
    found += [Task(f"{n} general words or {UNSEEN}", photos.vectors, general, applies, n) for n in (2, 5, 12)]
    return found + [Task(f"{n} general words, cut-outs", cut, *some, n) for n in (2, 5, 12)]


def stamps(encoder: Encoder, folder: Path, photos: Photos) -> list[Task]:
    """The same with the images of tuxpaint-stamps-default, unpacked in `folder`."""
    root = folder / "usr" / "share" / "tuxpaint" / "stamps"
    files = [file for file in sorted(root.rglob("*.png")) if "mirror" not in file.name]
    files = [file for file in files if not set(DRAWN) & set(file.relative_to(root).parts)]
    vectors = np.concatenate([encoded(encoder, on_white(Image.open(file).convert("RGBA"))) for file in files])
    words = words_of("stamps.txt")
    shown = [{file for pattern in patterns for file in root.rglob(pattern)} for _, patterns in words]
    shown = [some | {file for file in files if some & set(file.parents)} for some in shown]
    applies = np.array([[file in some for some in shown] for file in files])
    labels = photos.text([Label(word) for word, _ in words])
    return [Task(f"{n} general words, stamps", vectors, labels, applies, n) for n in (1, 2, 5, 12, 25)]


def on_white(image: Image.Image) -> Image.Image:
    """An image with transparency, on white with a border."""
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return ImageOps.expand(white.convert("RGB"), border=max(image.size) // 8, fill="white")


class Judge:
    """Margins by the constants in use."""

    def __init__(self, photos: Photos) -> None:
        """With all distractor labels, and with those that are not the class of a photograph."""
        some, names = unknown.labels(unknown.COUNT), prompts.imagenet_names()
        rows, shown = photos.text(some), {names[c] for c in photos.classes}
        self.scale = photos.scale
        self.beside = Distractors(rows), Distractors(rows[[label.name not in shown for label in some]])
        self.known: dict[tuple[int, int, bool], NDArray[np.float64]] = {}

    def heights(self, task: Task) -> NDArray[np.float64]:
        """The margin of each image with each label, as if it were the only one: shape (n, labels)."""
        key = (id(task.vectors), id(task.labels), task.apart)
        if key not in self.known:
            zero = np.zeros(len(task.vectors), np.int64)
            alone = (task.labels[i : i + 1] for i in range(len(task.labels)))
            beside = self.beside[task.apart]
            columns = [beside.margins(task.vectors, label, zero, self.scale) for label in alone]
            self.known[key] = np.stack(columns, axis=1)
        return self.known[key]

    def margins(self, task: Task, half: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Margins of right answers, and of images none of whose labels applies."""
        rng = np.random.default_rng(0)
        high, scores = self.heights(task), task.vectors @ task.labels.T
        right: list[float] = []
        other: list[float] = []
        for i in range(len(task.vectors))[half]:
            own = np.flatnonzero(task.applies[i])
            for _ in range(REPEATS):
                given = rng.permutation(np.flatnonzero(~task.applies[i]))[: task.count]
                other.append(high[i, given[scores[i, given].argmax()]])
                if len(own):
                    given[0] = rng.choice(own)
                    right += [high[i, given[0]]] if scores[i, given].argmax() == 0 else []
        lower = unknown.PER_LABEL * np.log(task.count)
        return np.array(right) - lower, np.array(other) - lower


def by_prompts(photos: Photos, some: Sequence[Task], half: slice, lines: Sequence[float]) -> Iterator[str]:
    """Kept and detected for each margin of `lines`."""
    judge = Judge(photos)
    yield f"{'by prompts, kept / detected; margin':36}" + "".join(f"{line:14.2f}" for line in lines)
    for task in some:
        right, other = judge.margins(task, half)
        cells = "".join(f"{(right >= line).mean():8.2f}/{(other < line).mean():.2f} " for line in lines)
        yield f"  {task.name:34}{cells}"
    dogs = np.array([name in groups()[0][0] for name in photos.names])
    none = members(photos, [frozenset(names) for _, names in words_of("general.txt")]).sum(axis=1) == 0
    for words in (PLAIN, OTHER):
        labels = photos.text([Label(word) for word in words])
        best = (photos.vectors @ labels.T).argmax(axis=1)
        found = judge.beside[False].margins(photos.vectors, labels, best, photos.scale)[half]
        right, other = found[dogs[half] & (best[half] == 0)], found[none[half]]
        cells = "".join(f"{(right >= line).mean():8.2f}/{(other < line).mean():.2f} " for line in lines)
        yield f"  {'12 plain labels on dogs: ' + words[2] + ' …':34}{cells}"


def sweep(photos: Photos, some: Sequence[Task]) -> Iterator[str]:
    """Mean of what is kept and detected, over the tasks with few and with general labels, for other constants."""
    kinds = ("classes", "distractors", "groups", "words", "cut-outs", "stamps")
    kinds = tuple(kind for kind in kinds if any(task.name.endswith(kind) for task in some))
    yield f"{'constants, kept / detected':28}" + "".join(f"{kind:>12}" for kind in kinds)
    for name, values in SWEPT.items():
        own = getattr(unknown, name)
        for value in values:
            setattr(unknown, name, value)
            judge, shares = Judge(photos), []
            for kind in kinds:
                here = [task for task in some if task.name.endswith(kind)]
                found = [judge.margins(task, slice(None)) for task in here]
                kept = np.mean([(right >= UNKNOWN_MARGIN).mean() for right, _ in found])
                detected = np.mean([(other < UNKNOWN_MARGIN).mean() for _, other in found])
                shares.append(f"{kept:7.2f}/{detected:.2f}")
            yield f"  {name:12}{value:14.2f}" + "".join(shares)
        setattr(unknown, name, own)


def by_examples(photos: Photos) -> Iterator[str]:
    """Groups as classes: all seven with five photographs or more, three of them, and one."""
    yield "by examples, kept / detected; labels without meaning; beside it, a floor on the centred score"
    for (kind, pool, size, count), shares in example_shares(photos, DRAWS):
        name = f"{size} of {pool} {kind} groups, {count} {'example' if count == 1 else 'examples'}"
        yield f"  {name:40}{shares[0]:.3f}/{shares[1]:.3f}   by the score {shares[2]:.3f}/{shares[3]:.3f}"


def example_shares(photos: Photos, draws: int) -> Iterator[tuple[tuple[str, int, int, int], NDArray[np.float64]]]:
    """What `_draw` gives on average: of which groups and how many, how many are taught, and by how many examples."""
    applies = members(photos, [some for some, _ in groups()])
    large = np.flatnonzero(applies.sum(axis=0) >= 5)
    small = np.flatnonzero((applies.sum(axis=0) >= 3) & (applies.sum(axis=0) < 5))
    everyday = Everyday.of(photos.text(unknown.labels()))
    for kind, pool, counts in (("large", large, (1, 2, 4)), ("small", small, (1, 2))):
        for size in (1, 3, len(pool)):
            for count in counts:
                shares = [_draw(photos, applies, pool, size, count, everyday, seed) for seed in range(draws)]
                yield (kind, len(pool), size, count), np.nanmean(shares, axis=0)


def near_equal(photos: Photos) -> Iterator[str]:
    """Cosines of photographs with slightly altered forms of them, and with one another: for `known.BURST`."""

    def cropped(image: Image.Image) -> Image.Image:
        (width, height), share = image.size, 0.01
        return image.crop((int(share * width), int(share * height), width, height))

    def turned(image: Image.Image) -> Image.Image:
        """By 2°; of both forms, only the middle is kept, which the corners do not reach."""
        return middle(image.rotate(2, Image.Resampling.BICUBIC))

    def middle(image: Image.Image) -> Image.Image:
        width, height = image.size
        return image.crop((width // 20, height // 20, width - width // 20, height - height // 20))

    def brighter(image: Image.Image) -> Image.Image:
        return ImageEnhance.Brightness(image).enhance(1.1)

    def rows(alter: Callable[[Image.Image], Image.Image]) -> Rows:
        return np.concatenate([encoded(photos.encoder, alter(Image.open(f).convert("RGB"))) for f in photos.files])

    yield f"near-equal images: 5 % and 50 % quantile of the cosines, share above {known.BURST} (known.BURST)"
    ways = {
        "1 % cropped at two sides": (photos.vectors, rows(cropped)),
        "turned by 2°": (rows(middle), rows(turned)),
        "a tenth brighter": (photos.vectors, rows(brighter)),
    }
    for name, (before, after) in ways.items():
        cosines = (before * after).sum(axis=1)
        low, median = np.quantile(cosines, [0.05, 0.5])
        yield f"  {name:28}{low:.3f} {median:.3f}  {(cosines > known.BURST).mean():.2f}"
    pairs = np.triu(photos.vectors @ photos.vectors.T, 1)
    yield f"  {'different photographs':28}{int((pairs > known.BURST).sum())} pairs above it"


def sweep_known(photos: Photos) -> Iterator[str]:
    """What other constants keep and detect by examples, on average over the large and over the small groups."""
    yield "constants, by examples        large groups  small groups"
    for name, values in SWEPT_KNOWN.items():
        own = getattr(known, name)
        for value in values:
            setattr(known, name, value)
            found = list(example_shares(photos, DRAWS // 3))
            means = [np.mean([s for about, s in found if about[0] == kind], axis=0) for kind in ("large", "small")]
            yield f"  {name:12}{value:12.2f}" + "".join(f"{kept:9.3f}/{detected:.3f}" for kept, detected, *_ in means)
        setattr(known, name, own)


def _draw(
    photos: Photos, applies: Mask, pool: NDArray[np.int64], size: int, count: int, everyday: Everyday, seed: int
) -> tuple[float, float, float, float]:
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(pool)[:size])
    single = applies[:, chosen].sum(axis=1) == 1
    taught = [rng.permutation(np.flatnonzero(single & applies[:, group]))[:count] for group in chosen]
    rows, places = np.concatenate(taught), np.repeat(np.arange(size), [len(some) for some in taught])
    labels = tuple(Label(f"class {chr(65 + i)}") for i in range(size))
    plain = Classifier(photos.encoder.info, labels, photos.text(labels), (photos.encoder.info.template,))
    made = few_shot.fit(plain, photos.vectors[rows], places, everyday=everyday)
    if made.known is None or made.fit is None:
        raise ValueError("made without examples")
    rest = np.setdiff1d(np.arange(len(applies)), rows)
    scores = made.scores(photos.vectors[rest])
    right = applies[rest][:, chosen][np.arange(len(rest)), scores.argmax(axis=1)]
    other = ~applies[rest][:, chosen].any(axis=1)
    near = made.known.nearness(photos.vectors[rest], everyday) >= made.known.floor
    before = scores.max(axis=1) >= made.fit.floor
    return tuple(float(some.mean()) for some in (near[right], ~near[other], before[right], ~before[other]))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, required=True, help="200 photographs, each named by its ImageNet class")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--stamps", type=Path, help="Debian's tuxpaint-stamps-default, unpacked")
    parser.add_argument("--sweep", action="store_true", help="other margins and constants")
    options = parser.parse_args()
    photos = photographs(options.photos, options.model)
    print(*by_examples(photos), "", sep="\n", flush=True)
    some = tasks(photos) + (stamps(photos.encoder, options.stamps, photos) if options.stamps else [])
    print(*by_prompts(photos, some, slice(None), (UNKNOWN_MARGIN,)), "", sep="\n", flush=True)
    if options.sweep:
        for name, half in (("even", slice(0, None, 2)), ("odd", slice(1, None, 2))):
            print(name, *by_prompts(photos, some, half, MARGINS), "", sep="\n", flush=True)
        print(*sweep(photos, some), "", *sweep_known(photos), "", *near_equal(photos), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
