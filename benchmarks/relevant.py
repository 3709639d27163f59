"""Which images `--relevant` returns: for `benchmarks.relevance`.

Asked for are the groups of photographs (`groups.txt`), things that no photograph shows, random letters, and single
photographs by their labels. F1 is that of the images returned with -k 500, averaged over the questions. The constants
are chosen for each group on the other groups (`cross-validated`) or are those of the program (`in sample`); beside them
is what the relevance alone returned (`strength > .5`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.labelled import TINY, Rows, absent_things, drawing_trials, embed, groups, labels_of, salads
from clipsearch.encoders import prompts
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.load import load_encoder
from clipsearch.images.open import open_image
from clipsearch.search import evidence, relevance
from clipsearch.search.background import PROMPTS, SAMPLE
from clipsearch.search.evidence import CUTS, Cuts, Evidence, Scores
from clipsearch.search.relevance import Kind

GRID = [
    Cuts(separation=separation, height=height, best=best, share=share, apart=apart)
    for separation, height, best, share, apart in itertools.product(
        (2.3, 2.6, 2.9), (0.8, 1.2, 1.6), (0.55, 0.6, 0.65), (0.6, 0.7, 0.8), (3.0, 3.5, 4.0)
    )
]
"""Constants among which those of a group are chosen."""

ABSENT, NONSENSE, KEPT = 0.15, 0.02, 0.9
"""Shares of queries: answered at most of absent things and of random letters; kept at least of single labels."""


@dataclass(frozen=True)
class Asked:
    """One query: the evidence, the scores of all images and which are right, and the group that it is from, or -1."""

    evidence: Evidence
    scores: Scores
    right: NDArray[np.bool_]
    group: int = -1
    first: bool = False

    def returned(self, cuts: Cuts | None) -> NDArray[np.bool_]:
        if cuts is None:
            return self.scores.raw > self.evidence.stands_out
        return self.evidence.cut(cuts).passes(self.scores)

    def f1(self, cuts: Cuts | None) -> float:
        returned = self.returned(cuts)
        both = int((returned & self.right).sum())
        return 2 * both / max(1, int(returned.sum() + self.right.sum()))

    def answered(self, cuts: Cuts | None) -> bool:
        return self.evidence.best > self.evidence.stands_out if cuts is None else self.evidence.cut(cuts).answers


@dataclass(frozen=True)
class Collection:
    """A library and its queries: those of groups, of absent things, of random letters, of single labels."""

    name: str
    present: Sequence[Asked]
    absent: Sequence[Asked]
    nonsense: Sequence[Asked]
    labels: Sequence[Asked]


class Library:
    """Images with the baseline of the library that they are, unit rows (n, dim)."""

    def __init__(self, images: Rows, everyday: Rows) -> None:
        step = -(-len(images) // SAMPLE)
        self.images = images
        self.baseline = relevance.measure(images[::step], everyday, count=len(images))
        self._chance: dict[Kind, tuple[NDArray[np.float32] | float, NDArray[np.float32] | float]] = {}

    def ask(
        self, query: Rows, right: NDArray[np.bool_], kind: Kind = "text", *, group: int = -1, first: bool = False
    ) -> Asked:
        if kind not in self._chance:
            self._chance[kind] = self.baseline.chance(self.images, kind)
        mean, deviation = self._chance[kind]
        raw = self.images @ query
        scores = Scores(raw, (raw - mean) / deviation)
        order = np.argpartition(-raw, 2)[:3]
        best = order[np.argsort(-raw[order])]
        found = evidence.evidence(self.baseline, query, Scores(raw[best], scores.standard[best]), kind=kind)
        return Asked(found, scores, right, group, first)


@dataclass(frozen=True)
class Photos:
    """The photographs' and the queries' vectors; altered: those of altered photographs, and whose they are."""

    names: list[str]
    images: Rows
    altered: Rows
    owners: NDArray[np.int64]
    drawn: Rows
    everyday: Rows
    questions: list[Rows]
    labels: Rows
    absent: Rows
    nonsense: Rows


def altered(image: Image.Image, number: int) -> Image.Image:
    """The same scene, as another photograph of it might show it."""
    width, height = image.size
    crops = [(0, 0, 0.8, 0.8), (0.2, 0.2, 1, 1), (0.1, 0.1, 0.9, 0.9), (0, 0.2, 0.8, 1), (0.2, 0, 1, 0.8)]
    left, top, right, bottom = crops[number % len(crops)]
    part = image.crop((int(left * width), int(top * height), int(right * width), int(bottom * height)))
    part = ImageOps.mirror(part) if number % 2 else part
    return ImageEnhance.Brightness(part).enhance((0.8, 1.0, 1.2)[number % 3])


def load_photos(folder: Path, copies: int = 4, drawings: int = 200) -> Photos:
    encoder = load_encoder("builtin")
    files = sorted(folder.glob("*.jpg"))
    images = embed(encoder, files)
    changed, owners = [], []
    for owner, file in enumerate(files):
        with Image.open(file) as image:
            changed += [np.asarray(altered(image.convert("RGB"), number)) for number in range(copies)]
        owners += [owner] * copies
    everyday, absent, nonsense = (
        encoder.encode_texts(texts)
        for texts in (prompts.everyday(PROMPTS), absent_things(0) + absent_things(1), salads(0) + salads(1))
    )
    names = [file.stem for file in files]
    labels = encoder.encode_texts(labels_of(names))
    questions = [encoder.encode_texts(asked) for _, asked in groups()]
    other = _encode(encoder, changed)
    drawn = _encode(encoder, _drawings(drawings))
    return Photos(names, images, other, np.array(owners), drawn, everyday, questions, labels, absent, nonsense)


def _drawings(count: int) -> list[NDArray[np.uint8]]:
    import sys

    sys.path.append(str(TINY.parent))
    from scenes import draw, scenes

    return [np.asarray(draw(scene).convert("RGB")) for scene in scenes(count, seed=2)]


def _encode(encoder: Encoder, pictures: Sequence[NDArray[np.uint8]]) -> Rows:
    import io

    rows = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        rows.append(encoder.encode_images(open_image(file.getvalue()).pixels(encoder.info.preprocess)[None])[0])
    return np.stack(rows)


def collection(name: str, photos: Photos, images: Rows, owners: NDArray[np.int64]) -> Collection:
    """A library of `images`, each of which shows what the photograph `owners` shows; -1 for none of them."""
    library = Library(images, photos.everyday)
    present, absent = [], []
    for number, (members, _) in enumerate(groups()):
        wanted = [i for i, each in enumerate(photos.names) if each in members]
        right = np.isin(owners, wanted)
        for place, query in enumerate(photos.questions[number]):
            asked = library.ask(query, right, group=number, first=place == 0)
            (present if right.any() else absent).append(asked)
    none = np.zeros(len(images), bool)
    absent += [library.ask(query, none) for query in photos.absent]
    nonsense = [library.ask(query, none) for query in photos.nonsense]
    labels = [library.ask(query, owners == i) for i, query in enumerate(photos.labels) if (owners == i).any()]
    right_first = [one for one in labels if one.right[one.scores.raw.argmax()]]
    return Collection(name, present, absent, nonsense, right_first)


def photo_collections(photos: Photos) -> Iterator[Collection]:
    """Libraries of 200, 30, 2,000 and 20,000, and one of which half are dogs."""
    rng = np.random.default_rng(0)
    count = len(photos.images)
    yield collection(f"{count} photos", photos, photos.images, np.arange(count))
    for _ in range(5):
        some = rng.permutation(count)[:30]
        yield collection("30 of them", photos, photos.images[some], np.asarray(some))
    rows = np.concatenate([photos.images, photos.altered, photos.drawn])
    owners = np.concatenate([np.arange(count), photos.owners, np.full(len(photos.drawn), -1)])
    for _ in range(4):
        yield collection("a third are bursts of 4 photos", photos, *_bursts(photos, rng))
    for size in (2_000, 20_000, 40_000):
        yield collection(f"{size:,}, filled up", photos, *_filled(rows, owners, size, rng))
    dogs = np.array([name in groups()[0][0] for name in photos.names])
    some = np.concatenate([np.flatnonzero(dogs), rng.permutation(np.flatnonzero(~dogs))[: dogs.sum()]])
    half = collection("half are dogs", photos, photos.images[some], some)
    yield half
    yield replace(half, name="… asked for dogs", present=[one for one in half.present if one.group == 0])


def _bursts(photos: Photos, rng: np.random.Generator) -> tuple[Rows, NDArray[np.int64]]:
    """150 photographs, and 75 more images of four of them."""
    some = rng.permutation(len(photos.images))[:150]
    rows, owners = _filled(photos.images[some[:4]], some[:4], 79, rng)
    return np.concatenate([rows, photos.images[some[4:]]]), np.concatenate([owners, some[4:]])


def _filled(
    rows: Rows, owners: NDArray[np.int64], size: int, rng: np.random.Generator
) -> tuple[Rows, NDArray[np.int64]]:
    """`size` images: `rows`, and mixtures of an image with an altered form of it, which lie as far apart as these."""
    more = rng.integers(0, len(rows), max(0, size - len(rows)))
    noise = rng.normal(0, 1, (len(more), rows.shape[1])).astype(np.float32)
    mixed = rows[more] + 0.3 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.concatenate([rows, mixed])[:size].astype(np.float32), np.concatenate([owners, owners[more]])[:size]


def drawing_collections() -> Iterator[Collection]:
    """Drawings with the small checkpoint, one colour missing, as a background or altogether."""
    for half in (0, 1):
        for trial in drawing_trials()(half):
            library = Library(trial.pictures, trial.everyday)
            none = np.zeros(len(trial.pictures), bool)
            yield Collection(
                trial.name,
                [library.ask(q, right, first=True) for q, right in zip(trial.present, trial.answers, strict=True)],
                [library.ask(q, none) for q in trial.absent],
                [library.ask(q, none) for q in trial.salads],
                [],
            )


def chosen_cuts(library: Collection) -> dict[int, Cuts]:
    """For each group the constants with the best F1 on the other groups, within the limits; -1: on all groups."""
    allowed = [
        cuts
        for cuts in GRID
        if share(library.absent, cuts) <= ABSENT
        and share(library.nonsense, cuts) <= NONSENSE
        and share(library.labels, cuts) >= KEPT
    ]
    values = np.array([[one.f1(cuts) for one in library.present] for cuts in allowed])
    numbers = np.array([one.group for one in library.present])
    return {
        group: allowed[int(values[:, numbers != group].mean(axis=1).argmax())] for group in range(-1, len(groups()))
    }


def share(asked: Sequence[Asked], cuts: Cuts | None) -> float:
    return float(np.mean([one.answered(cuts) for one in asked])) if asked else 0.0


def report(libraries: Sequence[Collection]) -> Iterator[str]:
    """A row for each library; those of one name are averaged. The constants are chosen in the first."""
    cuts = chosen_cuts(libraries[0])
    kinds = sorted({str(each) for number, each in cuts.items() if number >= 0})
    yield f"constants chosen without one group each: {'; '.join(kinds)}"
    yield f"in sample: {CUTS['text']}"
    yield "F1 of first and all questions, with constants cross-validated / in sample / strength > .5; answered / kept"
    yield f"{'library':38}{'first questions':20}{'all questions':20}{'absent':>8}{'letters':>8}{'labels':>8}"
    for name in dict.fromkeys(one.name for one in libraries):
        some = [one for one in libraries if one.name == name]
        asked = [each for one in some for each in one.present]
        cells = []
        for wanted in ([one for one in asked if one.first], asked):
            values = [(one.f1(cuts[one.group]), one.f1(CUTS["text"]), one.f1(None)) for one in wanted]
            cells.append(" ".join(f"{value:.3f}" for value in np.mean(values, axis=0)).ljust(20))
        for kind in ("absent", "nonsense", "labels"):
            others = [each for one in some for each in getattr(one, kind)]
            cells.append(f"{share(others, CUTS['text']):8.3f}" if others else f"{'–':>8}")
        yield f"{name:38}{''.join(cells)}"


def collections(photos: Photos) -> list[Collection]:
    return [*photo_collections(photos), *drawing_collections()]
