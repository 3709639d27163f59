"""Which images `--relevant` returns: for `benchmarks.relevance`.

Asked for are the groups of photographs (`groups.txt`), things that no photograph shows, random letters, and single
photographs by their labels. F1 is that of the images returned with -k 500, averaged over the questions. The constants
are chosen for each group on the other groups (`cross-validated`) or are those of the program (`in sample`); beside them
is what the relevance alone returned (`strength > .5`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.labelled import TINY, Rows, absent_things, drawing_trials, embed, groups, salads
from clipsearch.encoders import prompts
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.load import load_encoder
from clipsearch.images.open import open_image
from clipsearch.search import relevance
from clipsearch.search.background import PROMPTS, SAMPLE
from clipsearch.search.relevance import CUTS, Baseline, Cuts, Evidence, Kind

GRID = [
    Cuts(*values)
    for values in itertools.product(
        (20,), (2.3, 2.6, 2.9), (1.5, 2, 2.5), (0.55, 0.6, 0.65), (2,), (0.6, 0.7, 0.8), (0.5, 1, 1.5)
    )
]
"""Constants among which those of a group are chosen."""

ABSENT, NONSENSE, KEPT = 0.15, 0.02, 0.9
"""Shares of queries: answered at most of absent things and of random letters; kept at least of single labels."""

SCANNED = 20_000
"""As `search.confidence`: above, the mixture is fitted to the baseline's sample."""


@dataclass(frozen=True)
class Asked:
    """One query: the evidence, the scores of all images and which are right, and the group that it is from, or -1."""

    evidence: Evidence
    scores: NDArray[np.floating]
    right: NDArray[np.bool_]
    group: int = -1
    first: bool = False

    def f1(self, cut: float) -> float:
        returned = self.scores > cut
        both = int((returned & self.right).sum())
        return 2 * both / max(1, int(returned.sum() + self.right.sum()))

    def answered(self, cuts: Cuts | None) -> bool:
        return bool(self.evidence.best[0] > self.cut(cuts))

    def cut(self, cuts: Cuts | None) -> float:
        return self.evidence.stands_out if cuts is None else self.evidence.cut(cuts)


@dataclass(frozen=True)
class Collection:
    """A library and its queries: those of groups, of absent things, of random letters, of single labels."""

    name: str
    present: Sequence[Asked]
    absent: Sequence[Asked]
    nonsense: Sequence[Asked]
    labels: Sequence[Asked]


def ask(
    baseline: Baseline, images: Rows, query: Rows, right: NDArray[np.bool_], kind: Kind = "text", **about: int
) -> Asked:
    scores = images @ query
    best = np.sort(scores)[::-1][:10]
    fitted_to = scores if len(images) <= SCANNED else baseline.sample.vectors @ query
    found = relevance.evidence(baseline, query, fitted_to, best, kind=kind)
    return Asked(found, scores, right, about.get("group", -1), bool(about.get("first", 0)))


def baseline_of(images: Rows, everyday: Rows, *, centred: bool = False) -> Baseline:
    step = -(-len(images) // SAMPLE)
    return relevance.measure(images[::step].astype(np.float64), everyday, count=len(images), centred=centred)


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
    labels = encoder.encode_texts([f"a {name.replace('_', ' ')}" for name in names])
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
        rows.append(encoder.encode_images(encoder.prepare(open_image(file.getvalue()))[None])[0])
    return np.stack(rows)


def collection(name: str, photos: Photos, images: Rows, owners: NDArray[np.int64]) -> Collection:
    """A library of `images`, each of which shows what the photograph `owners` shows; -1 for none of them."""
    baseline = baseline_of(images, photos.everyday)
    present, absent = [], []
    for number, (members, _) in enumerate(groups()):
        wanted = [i for i, each in enumerate(photos.names) if each in members]
        right = np.isin(owners, wanted)
        for place, query in enumerate(photos.questions[number]):
            asked = ask(baseline, images, query, right, group=number, first=place == 0)
            (present if right.any() else absent).append(asked)
    none = np.zeros(len(images), bool)
    absent += [ask(baseline, images, query, none) for query in photos.absent]
    nonsense = [ask(baseline, images, query, none) for query in photos.nonsense]
    labels = [ask(baseline, images, query, owners == i) for i, query in enumerate(photos.labels) if (owners == i).any()]
    right_first = [one for one in labels if one.right[one.scores.argmax()]]
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
    yield collection("half are dogs", photos, photos.images[some], some)


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
            baseline = baseline_of(trial.pictures, trial.everyday)
            none = np.zeros(len(trial.pictures), bool)
            yield Collection(
                "tiny_clip: " + trial.name,
                [
                    ask(baseline, trial.pictures, q, a, first=1)
                    for q, a in zip(trial.present, trial.answers, strict=True)
                ],
                [ask(baseline, trial.pictures, q, none) for q in trial.absent],
                [ask(baseline, trial.pictures, q, none) for q in trial.salads],
                [],
            )


def chosen_cuts(library: Collection, without: int) -> Cuts:
    """The constants with the best F1 on the groups other than `without`, within the limits."""
    present = [one for one in library.present if one.group != without]

    def value(cuts: Cuts) -> float:
        if (
            share(library.absent, cuts) > ABSENT
            or share(library.nonsense, cuts) > NONSENSE
            or share(library.labels, cuts) < KEPT
        ):
            return -1.0
        return float(np.mean([one.f1(one.cut(cuts)) for one in present]))

    return max(GRID, key=value)


def share(asked: Sequence[Asked], cuts: Cuts | None) -> float:
    return float(np.mean([one.answered(cuts) for one in asked])) if asked else 0.0


def report(libraries: Sequence[Collection]) -> Iterator[str]:
    """A row for each library; those of one name are averaged. The constants are chosen in the first."""
    cuts = {number: chosen_cuts(libraries[0], number) for number in range(-1, len(groups()))}
    kinds = sorted({str(each) for number, each in cuts.items() if number >= 0})
    yield f"constants chosen without one group each: {'; '.join(kinds)}"
    yield f"in sample: {CUTS['text']}"
    yield "F1 of first and all questions, with constants cross-validated / in sample / strength > .5; answered / kept"
    yield f"{'library':36}{'first questions':20}{'all questions':20}{'absent':>8}{'letters':>8}{'labels':>8}"
    for name in dict.fromkeys(one.name for one in libraries):
        some = [one for one in libraries if one.name == name]
        asked = [each for one in some for each in one.present]
        cells = []
        for wanted in ([one for one in asked if one.first], asked):
            values = [
                (one.f1(one.cut(cuts[one.group])), one.f1(one.cut(CUTS["text"])), one.f1(one.cut(None)))
                for one in wanted
            ]
            cells.append(" ".join(f"{value:.3f}" for value in np.mean(values, axis=0)).ljust(20))
        shares = [
            share([each for one in some for each in getattr(one, kind)], CUTS["text"])
            for kind in ("absent", "nonsense", "labels")
        ]
        yield f"{name:36}{''.join(cells)}{''.join(f'{value:8.3f}' for value in shares)}"


def main(folder: Path) -> Iterator[str]:
    yield from report([*photo_collections(load_photos(folder)), *drawing_collections()])
