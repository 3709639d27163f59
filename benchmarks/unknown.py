"""What `--unknown` keeps and detects: `python -m benchmarks.unknown --photos DIR`.

Kept: right answers that are not called unknown. Detected: images of other things that are. By prompts, a photograph
gets a set of labels in which one applies to it (kept), and the same set with another one in its place (detected): names
of ImageNet's classes, the first question of each group in groups.txt, and the general words of general.txt, these for
photographs and for the same things cut out on white. By examples, the groups of groups.txt are classes.

`--sweep` prints the tables for other margins, on every second photograph (chosen on) and on the rest (held out).
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.classifying import Photos, Rows, encoded, photographs
from benchmarks.config import REPOSITORY
from benchmarks.labelled import groups
from clipsearch.classify import few_shot, unknown
from clipsearch.classify.classifier import Classifier
from clipsearch.classify.known import Everyday
from clipsearch.classify.labels import Label
from clipsearch.classify.options import UNKNOWN_MARGIN
from clipsearch.classify.unknown import Distractors
from clipsearch.encoders import prompts

Mask = NDArray[np.bool_]
PLAIN = ("dog", "cat", "bird", "fish", "insect", "car", "boat", "train", "food", "flower", "building", "person")
OTHER = ("dog", "cat", "horse", "bird", "car", "tree", "house", "person", "food", "beach", "mountain", "city")
REPEATS = 3
DRAWS = 60


@dataclasses.dataclass(frozen=True)
class Task:
    """Images with labels: `applies` (n, labels) tells which are right; `count` of them are given at a time."""

    name: str
    vectors: Rows
    labels: Rows
    applies: Mask
    count: int
    hidden: Mask | None = None
    """Distractor labels (n, m) that are an image's own class, and not used for it."""


def general_words() -> list[tuple[str, frozenset[str]]]:
    """The words of general.txt, each with the photographs that it applies to."""
    lines = (REPOSITORY / "benchmarks" / "general.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(":") for line in lines if not line.startswith("#")]
    return [(word, frozenset(names.split())) for word, names in pairs]


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
    return np.concatenate([encoded(photos.encoder, cut_out(Image.open(file))) for file in photos.files])


def members(photos: Photos, sets: Sequence[frozenset[str]]) -> Mask:
    return np.array([[name in some for some in sets] for name in photos.names])


def tasks(photos: Photos) -> list[Task]:
    """The label sets by prompts; a photograph's own class is not among its distractor labels where it is a label."""
    names = prompts.imagenet_names()
    classes = [names[c] for c in photos.classes]
    own = np.array([[name == one for one in prompts.everyday_names(unknown.COUNT)] for name in classes])
    words = general_words()
    general, applies = photos.text([Label(word) for word, _ in words]), members(photos, [some for _, some in words])
    asked = photos.text([Label(questions[0]) for _, questions in groups()])
    alike = members(photos, [some for some, _ in groups()])
    each = photos.text([Label(f"{name} {i}", spoken=name) for i, name in enumerate(classes)])
    same = np.eye(len(classes), dtype=bool)
    cut = cut_outs(photos)
    found = [Task(f"{n} classes", photos.vectors, each, same, n, own) for n in (2, 5, 20, 100)]
    found += [Task(f"{n} questions of groups", photos.vectors, asked, alike, n) for n in (2, 5, 10, 18)]
    found += [Task(f"{n} general words", photos.vectors, general, applies, n) for n in (2, 5, 12, 25)]
    return found + [Task(f"{n} general words, cut-outs", cut, general, applies, n) for n in (2, 5, 12)]


def margins(photos: Photos, task: Task, beside: Distractors, rows: Sequence[int]) -> tuple[list[float], list[float]]:
    """Margins of right answers, and of images none of whose labels applies."""
    rng = np.random.default_rng(0)
    right: list[float] = []
    other: list[float] = []
    for i in rows:
        seen = beside if task.hidden is None else Distractors(beside.prototypes[~task.hidden[i]])
        image = task.vectors[i : i + 1]
        own = np.flatnonzero(task.applies[i])
        for _ in range(REPEATS):
            given = rng.permutation(np.flatnonzero(~task.applies[i]))[: task.count]
            other.append(_margin(image, task.labels[given], seen, photos.scale)[1])
            if len(own):
                given[0] = rng.choice(own)
                best, margin = _margin(image, task.labels[given], seen, photos.scale)
                right += [margin] if best == 0 else []
    return right, other


def _margin(image: Rows, labels: Rows, beside: Distractors, scale: float) -> tuple[int, float]:
    best = (image @ labels.T).argmax(axis=1)
    return int(best[0]), float(beside.margins(image, labels, best, scale)[0])


def by_prompts(photos: Photos, some: Sequence[Task], rows: Sequence[int], lines: Sequence[float]) -> Iterator[str]:
    """Kept and detected for each margin of `lines`."""
    beside = Distractors(photos.text(unknown.labels()))
    yield f"{'by prompts, kept / detected; margin':36}" + "".join(f"{line:14.2f}" for line in lines)
    for task in some:
        right, other = (np.array(found) for found in margins(photos, task, beside, rows))
        cells = "".join(f"{(right >= line).mean():8.2f}/{(other < line).mean():.2f} " for line in lines)
        yield f"  {task.name:34}{cells}"
    dogs = np.array([name in groups()[0][0] for name in photos.names])
    none = ~members(photos, [names for _, names in general_words()]).any(axis=1)
    for words in (PLAIN, OTHER):
        labels = photos.text([Label(word) for word in words])
        best = (photos.vectors @ labels.T).argmax(axis=1)
        found = beside.margins(photos.vectors, labels, best, photos.scale)
        here = np.isin(np.arange(len(none)), rows)
        right, other = found[here & dogs & (best == 0)], found[here & none]
        cells = "".join(f"{(right >= line).mean():8.2f}/{(other < line).mean():.2f} " for line in lines)
        yield f"  {'12 plain labels on dogs: ' + words[2] + ' …':34}{cells}"


def by_examples(photos: Photos) -> Iterator[str]:
    """Groups as classes: all seven with five photographs or more, three of them, and one."""
    applies = members(photos, [some for some, _ in groups()])
    large = np.flatnonzero(applies.sum(axis=0) >= 5)
    small = np.flatnonzero((applies.sum(axis=0) >= 3) & (applies.sum(axis=0) < 5))
    everyday = Everyday.of(photos.text(unknown.labels()))
    yield "by examples, kept / detected; labels without meaning; beside it, a floor on the centred score"
    for kind, pool, counts in (("large", large, (1, 2, 4)), ("small", small, (1, 2))):
        for size in (1, 3, len(pool)):
            for count in counts:
                shares = [_draw(photos, applies, pool, size, count, everyday, seed) for seed in range(DRAWS)]
                kept, detected, before, then = np.nanmean(shares, axis=0)
                name = f"{size} of {len(pool)} {kind} groups, {count} {'example' if count == 1 else 'examples'}"
                yield f"  {name:40}{kept:.3f}/{detected:.3f}   by the score {before:.3f}/{then:.3f}"


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
    known = made.known.nearness(photos.vectors[rest], everyday) >= made.known.floor
    before = scores.max(axis=1) >= made.fit.floor
    return tuple(float(some.mean()) for some in (known[right], ~known[other], before[right], ~before[other]))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path, required=True, help="200 photographs, each named by its ImageNet class")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--sweep", action="store_true", help="other margins, on either half of the photographs")
    options = parser.parse_args()
    photos = photographs(options.photos, options.model)
    print(*by_examples(photos), "", sep="\n", flush=True)
    some = tasks(photos)
    every = range(len(photos.names))
    print(*by_prompts(photos, some, every, (UNKNOWN_MARGIN,)), "", sep="\n", flush=True)
    if options.sweep:
        for name, half in (("chosen on", every[::2]), ("held out", every[1::2])):
            print(name, *by_prompts(photos, some, half, (1.4, 1.6, 1.8, 2.0, 2.2, 2.4)), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
