"""The relevance of a hit: how far its score is above the baseline of this library and this query.

The z-score of a score s of the unit query q is

    z = (s − m) / √(σ · σ₀)

where m and σ are the mean and deviation of this query's scores over (a sample of) the library, without the best tenth,
which would hide the matches. σ₀ is the median of σ over the baseline's queries: 256 everyday prompts for a text, images
of the library for an image, pairs of both for a combined query. With σ alone a random string would stand out, whose
scores hardly differ; with σ₀ alone a subject that many images resemble. Any offset or factor that an encoder gives to
all scores cancels.

The best of n images by chance grows with n. So z is compared with the z-scores of the best hits of the baseline's
queries, of which the lowest tenth is taken, since an everyday prompt may well have its image in the library:

    relevance = 1 / (1 + exp(−(z − baseline's best − LIFT) / WIDTH))

It is a strength from 0 to 1, and not a probability: how many of the best hits with a given strength are right depends
on how many of the queries have an answer at all, and on the images (docs/queries.md has the figures). LIFT and WIDTH
were fitted on one half of the labelled data of `benchmarks/relevance.py`, over libraries of 10 to 20,000 images and two
encoders.

Such a z-score says how surprising a hit is, so what many images show never stands out. `search/evidence` therefore
looks at how the query's scores are distributed, too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["text", "texts", "centred texts", "picture", "mixed", "centred mixed"]
"""What a query vector is made of: one text, a sum of texts, one image, or a sum with an image; sums are centred where
`combine.balanced_sum` centres their terms."""

KINDS: tuple[Kind, ...] = get_args(Kind)

TEXTS: tuple[Kind, ...] = ("text", "texts", "centred texts")

RELEVANT = 0.5
"""A hit whose relevance is above this stands out."""

LIFT: Mapping[Kind, float] = {
    "text": 2.1,
    "texts": 2.1,
    "centred texts": 2.1,
    "picture": 1.0,
    "mixed": 1.45,
    "centred mixed": 1.45,
}
"""How far the z-score of a right hit is above the baseline's best, at least (`benchmarks/relevance.py`)."""

WIDTH = 0.45
"""How far the z-score must rise for the odds to grow e-fold (`benchmarks/relevance.py`)."""

BEST_QUANTILE = 0.1
"""The quantile of the baseline's best hits that stands for what chance reaches."""

LEFT_OUT = 0.1
"""Share of a query's best scores that are left out of its mean and deviation."""

KEPT_NUMBERS = 500_000
"""Numbers of the sample that are kept, in 1 MB: 976 images of 512 dimensions."""

NEAR = 0.2
"""Two images are nearly equal if their distance (1 − cosine) is less than this share of the 0.9 quantile of the
distances of all pairs."""

FEWEST = 10
"""Below this many images there is no baseline."""

QUARTERS = 4
ENOUGH_TO_QUARTER = 400
"""The growth with n is measured between a sample and its quarters where these have 100 images each."""

FACTORS = 64
"""Principal directions of the everyday prompts that are kept: with these, the deviation of one image's scores is within
3 % of the one over all 256 prompts (built-in encoder, 200 photographs)."""


@dataclass(frozen=True, slots=True)
class Level:
    """Of the baseline's queries of a kind: `spread`, their median σ; `best`, low quantile of their best z-scores.

    mean, deviation: of the scores of one image with all of these queries; the mean and the median over the images.
    """

    spread: float
    best: float
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Different images of a library: unit rows of shape (n, dim), float32, n ≥ 2.

    counts, shape (n,): for how many images of the library's sample each stands, with those that nearly equal it.
    """

    vectors: NDArray[np.float32]
    counts: NDArray[np.int64]

    def tail(self, queries: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of the scores of each of `queries` (m, dim), the best tenth left out; shapes (m,)."""
        scores = (queries @ self.vectors.T).astype(np.float64)
        kept = max(2, round(len(self.vectors) * (1 - LEFT_OUT)))
        rest = np.partition(scores, kept - 1, axis=1)[:, :kept]
        return rest.mean(axis=1), rest.std(axis=1)

    def unit(self, queries: NDArray[np.float32], spread: float) -> tuple[NDArray[np.float64], ...]:
        """For each of `queries` (m, dim), shapes (m,): the score at a z-score of 0, the deviation of its scores, and
        how much the score rises with each unit of z."""
        mean, own = self.tail(queries)
        return mean, own, _step(own, spread)

    @classmethod
    def of(cls, images: NDArray[np.float32]) -> Sample:
        """Of unit rows (m, dim), m ≥ 2, those that are not nearly equal to an earlier one.

        Near-equal are those whose distance is less than NEAR of that of unlike images: copies, bursts, altered forms. A
        burst is one event, and would pass for a kind of images, and for what is usual in the library.
        """
        cosines = images @ images.T
        near = cosines > 1 - NEAR * (1 - np.quantile(cosines, 0.1))
        left, chosen, counts = np.ones(len(images), bool), [], []
        for number in range(len(images)):
            if left[number]:
                same = near[number] & left
                same[number] = True
                left &= ~same
                chosen.append(number)
                counts.append(int(same.sum()))
        if len(chosen) < 2:
            return cls(images, np.ones(len(images), np.int64))
        return cls(images[chosen], np.array(counts, np.int64))

    def z_scores(self, queries: NDArray[np.float32], scores: NDArray[np.float32], spread: float) -> NDArray[np.float64]:
        """The z-scores of `scores` (m, n) of `queries` (m, dim), as in the module's docstring."""
        mean, _, step = self.unit(queries, spread)
        result: NDArray[np.float64] = (scores - mean[:, None]) / step[:, None]
        return result


@dataclass(frozen=True, slots=True)
class Everyday:
    """Mean and covariance of the vectors of everyday queries: FᵀF + rest · I.

    centre: shape (dim,); factors, F: shape (FACTORS, dim), or fewer.
    """

    centre: NDArray[np.float32]
    factors: NDArray[np.float32]
    rest: float

    def chance(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation of the scores of each of `vectors` (n, dim) with these queries; shapes (n,)."""
        variance = np.square(vectors @ self.factors.T).sum(axis=1) + self.rest
        return vectors @ self.centre, np.sqrt(np.maximum(variance, 1e-6))

    @classmethod
    def of(cls, queries: NDArray[np.float32]) -> Everyday:
        """Of unit rows (m, dim), m ≥ 2."""
        centre = queries.mean(axis=0)
        apart = (queries - centre) / math.sqrt(len(queries))
        values, directions = np.linalg.eigh(apart @ apart.T)
        factors = directions[:, -FACTORS:].T @ apart
        left = max(0.0, float(values.sum() - values[-FACTORS:].sum()))
        return cls(centre, factors.astype(np.float32), left / max(1, queries.shape[1] - len(factors)))


@dataclass(frozen=True, slots=True)
class Baseline:
    """The baseline of an encoder in a library that had `count` vectors, by kind of query.

    everyday: of the kinds that are made of texts. `mark` tells which images it was measured on: seq and CRC-32 of the
    stored vectors of some of them.
    """

    count: int
    sample: Sample
    usual: Mapping[Kind, Level]
    everyday: Mapping[Kind, Everyday]
    mark: tuple[tuple[int, int], ...] = ()

    def chance(
        self, vectors: NDArray[np.float32], kind: Kind
    ) -> tuple[NDArray[np.float32] | float, NDArray[np.float32] | float]:
        """What everyday queries of a kind score with each of `vectors` (n, dim): mean and deviation.

        By image for texts. For images, which resemble what is frequent in the library, the averages of all images:
        their own mean would cancel just that.
        """
        if kind in self.everyday:
            return self.everyday[kind].chance(vectors)
        return self.usual[kind].mean, max(self.usual[kind].deviation, 1e-3)

    def to_bytes(self) -> bytes:
        """A line of JSON, then sample, centres and factors as little-endian float16: scores move by less than 0.001."""
        usual = {
            kind: {"spread": one.spread, "best": one.best, "mean": one.mean, "deviation": one.deviation}
            for kind, one in self.usual.items()
        }
        rests = {kind: one.rest for kind, one in self.everyday.items()}
        known = {"count": self.count, "images": self.sample.counts.tolist(), "usual": usual, "rests": rests}
        rows = [self.sample.vectors, *(np.vstack([one.centre, one.factors]) for one in self.everyday.values())]
        head = json.dumps(known | {"mark": self.mark})
        return b"%s\n%s" % (head.encode(), np.vstack(rows).astype("<f2").tobytes())

    @classmethod
    def from_bytes(cls, data: bytes, dim: int) -> Baseline:
        """Raises ValueError where `data` is something else, or of another dim."""
        head, _, body = data.partition(b"\n")
        try:
            known = json.loads(head)
            usual: dict[Kind, Level] = {
                kind: Level(*(float(known["usual"][kind][name]) for name in ("spread", "best", "mean", "deviation")))
                for kind in KINDS
            }
            count, rests = int(known["count"]), [float(known["rests"][kind]) for kind in TEXTS]
            counts = np.array(known["images"], np.int64)
            mark = tuple((int(seq), int(crc)) for seq, crc in known["mark"])
        except (KeyError, TypeError) as exc:
            raise ValueError("not a baseline") from exc
        rows = np.frombuffer(body, "<f2").reshape(-1, dim).astype(np.float32)
        images = len(counts)
        if images < 2 or len(rows) < images + 2 * len(TEXTS):
            raise ValueError("not a baseline")
        blocks = np.split(rows[images:], len(TEXTS))
        everyday = {
            kind: Everyday(block[0], block[1:], rest) for kind, block, rest in zip(TEXTS, blocks, rests, strict=True)
        }
        return cls(count, Sample(rows[:images], counts), usual, everyday, mark)


def relevance(
    baseline: Baseline, query: NDArray[np.float32], scores: NDArray[np.float32], *, kind: Kind = "text"
) -> NDArray[np.float32]:
    """The relevance of each hit of one query, 0 … 1; see the module's docstring.

    `query`: unit vector of shape (dim,); `scores`: inner products of hits with it, shape (n,).
    """
    usual = baseline.usual[kind]
    above = baseline.sample.z_scores(query[None], np.asarray(scores)[None], usual.spread)[0] - usual.best - LIFT[kind]
    result: NDArray[np.float32] = (1 / (1 + np.exp(np.clip(-above / WIDTH, -80, 80)))).astype(np.float32)
    return result


def measure(
    images: NDArray[np.floating],
    texts: NDArray[np.float32],
    *,
    count: int,
    owners: NDArray[np.int64] | None = None,
    kinds: Collection[Kind] = KINDS,
    everyday: Mapping[Kind, Everyday] | None = None,
    mark: tuple[tuple[int, int], ...] = (),
) -> Baseline:
    """The baseline of a library of `count` vectors, from a sample of its images and from everyday texts.

    `images`: unit rows (n, dim), n ≥ 2; `texts`: unit rows (m, dim). `owners`, shape (n,), says which rows are views
    of one image, the whole one first; without it, each row is an image. `everyday`: of the same texts, if it is known.
    """
    images = np.asarray(images, np.float32)
    if owners is None:
        owners = np.arange(len(images))
    _, wholes, owners = np.unique(owners, return_index=True, return_inverse=True)
    mean = images.mean(axis=0)
    most = max(FEWEST, KEPT_NUMBERS // images.shape[1])
    some = np.sort(np.random.default_rng(0).permutation(len(images))[:most])  # Kinds of files may take turns.
    kept = Sample.of(images[some].astype(np.float16).astype(np.float32))  # As it will come from the cache.
    chosen = np.sort(wholes)[np.unique(np.linspace(0, len(wholes) - 1, len(texts)).astype(int))]
    beside = np.linspace(0, len(texts) - 1, len(chosen)).astype(int)
    centred = _unit(texts - texts.mean(axis=0)), _unit(images[chosen] - mean)
    queries: dict[Kind, tuple[NDArray[np.float32], NDArray[np.int64] | None]] = {
        "text": (texts, None),
        "texts": (_unit(texts + np.roll(texts, 1, axis=0)), None),
        "centred texts": (_unit(centred[0] + np.roll(centred[0], 1, axis=0)), None),
        "picture": (images[chosen], chosen),
        "mixed": (_unit(texts[beside] + images[chosen]), chosen),
        "centred mixed": (_unit(centred[0][beside] + centred[1]), chosen),
    }
    usual = {
        kind: _baseline(kept, asked, images, owners, itself=itself, count=count)
        for kind, (asked, itself) in queries.items()
        if kind in kinds
    }
    everyday = everyday or {kind: Everyday.of(queries[kind][0]) for kind in TEXTS if kind in kinds}
    return Baseline(count, kept, usual, everyday, mark)


def _baseline(
    sample: Sample,
    queries: NDArray[np.float32],
    images: NDArray[np.float32],
    owners: NDArray[np.int64],
    *,
    count: int,
    itself: NDArray[np.int64] | None = None,
) -> Level:
    """The baseline of queries (m, dim) of a kind; `itself`: the row of `images` that each one is made of.

    `owners` numbers the images that the rows are views of, from 0.
    """
    mean, own = sample.tail(queries)
    spread = float(np.median(own))
    step = _step(own, spread)
    scores = queries @ images.T
    over_images, deviation = float(scores.mean()), float(np.median(scores.std(axis=0)))
    if itself is not None:
        scores[owners[itself][:, None] == owners[None, :]] = -np.inf

    def best(tops: NDArray[np.float32]) -> float:
        return float(np.quantile((tops - mean) / step, BEST_QUANTILE))

    if count <= len(images) or len(images) < ENOUGH_TO_QUARTER:
        return Level(spread, best(scores.max(axis=1)), over_images, deviation)
    # The best of more images than were sampled is better: for each e-fold by as much as from the sample's quarters to
    # the whole. From 10,000 to 100,000 made-up images (`benchmarks/labelled.py`) that was right to .05; from 5,000, it
    # was too high by .55.
    tops = [scores[:, owners % QUARTERS == start].max(axis=1) for start in range(QUARTERS)]
    whole = best(np.max(tops, axis=0))
    growth = max(0.0, whole - sum(best(each) for each in tops) / QUARTERS) / math.log(QUARTERS)
    return Level(spread, whole + growth * math.log(count / len(images)), over_images, deviation)


def _step(own: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """The rise of the score with each unit of z, for queries with these deviations, shape (m,)."""
    spread = max(spread, 1e-3)  # Below this is rounding to float16.
    result: NDArray[np.float64] = np.sqrt(np.maximum(own, spread / 4) * spread)  # Of copies, anything would stand out.
    return result


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result
