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

Such a z-score says how surprising a hit is, so what many images show never stands out. `Evidence` therefore looks at
how the query's scores are distributed, too: where they fall into two groups, the whole upper group is relevant.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from clipsearch.search import mixture

Kind = Literal["text", "texts", "picture", "mixed"]
"""What a query vector is made of: one text, a sum of texts, one image, or a sum with an image; sums are centred where
`combine.balanced_sum` centres them."""

KINDS: tuple[Kind, ...] = get_args(Kind)

RELEVANT = 0.5
"""A hit whose relevance is above this stands out."""

LIFT: Mapping[Kind, float] = {"text": 2.1, "texts": 2.1, "picture": 1.0, "mixed": 1.45}
"""How far the z-score of a right hit is above the baseline's best, at least (`benchmarks/relevance.py`)."""

WIDTH = 0.45
"""How far the z-score must rise for the odds to grow e-fold (`benchmarks/relevance.py`)."""

BEST_QUANTILE = 0.1
"""The quantile of the baseline's best hits that stands for what chance reaches."""

LEFT_OUT = 0.1
"""Share of a query's best scores that are left out of its mean and deviation."""

KEPT_NUMBERS = 500_000
"""Numbers of the sample that are kept, in 1 MB: 976 images of 512 dimensions."""

FEWEST = 10
"""Below this many images there is no baseline."""

QUARTERS = 4
ENOUGH_TO_QUARTER = 400
"""The growth with n is measured between a sample and its quarters where these have 100 images each."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """The constants of `Evidence.cut`. Chosen on the groups of `benchmarks/groups.txt`, and flat around these values:
    `python -m benchmarks.relevance` shows what they give cross-validated by group."""

    gain: float = 20.0
    separation: float = 2.6
    height: float = 2.0
    best: float = 0.6
    deviations: float = 2.0
    share: float = 0.7
    reach: float = 1.0


CUTS: Mapping[Kind, Cuts] = {
    "text": Cuts(),
    "texts": Cuts(),
    "picture": Cuts(best=RELEVANT, share=0.8),
    "mixed": Cuts(),
}
"""For queries like one photograph, the constants of texts would lower the mean F1 of benchmarks/relevance's groups from
.45 to .41; these raise it to .49, with as many absent things answered."""


@dataclass(frozen=True, slots=True)
class Level:
    """Of the baseline's queries of a kind: `spread`, their median σ; `best`, low quantile of their best z-scores.

    mean, deviation: of the scores of one image with all of these queries, averaged over the images.
    """

    spread: float
    best: float
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Images of a library: unit rows of shape (n, dim), float32, n ≥ 2."""

    vectors: NDArray[np.float32]

    def tail(self, queries: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of the scores of each of `queries` (m, dim), the best tenth left out; shapes (m,)."""
        scores = (queries @ self.vectors.T).astype(np.float64)
        kept = max(2, round(len(self.vectors) * (1 - LEFT_OUT)))
        rest = np.partition(scores, kept - 1, axis=1)[:, :kept]
        return rest.mean(axis=1), rest.std(axis=1)

    def unit(self, queries: NDArray[np.float32], spread: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The score of each of `queries` (m, dim) at a z-score of 0, and how much it rises with each; shapes (m,)."""
        spread = max(spread, 1e-3)  # Below this is rounding to float16.
        mean, own = self.tail(queries)
        own = np.maximum(own, spread / 4)  # Anything would stand out from copies of one image.
        return mean, np.sqrt(own * spread)

    def z_scores(self, queries: NDArray[np.float32], scores: NDArray[np.float32], spread: float) -> NDArray[np.float64]:
        """The z-scores of `scores` (m, n) of `queries` (m, dim), as in the module's docstring."""
        mean, step = self.unit(queries, spread)
        result: NDArray[np.float64] = (scores - mean[:, None]) / step[:, None]
        return result


@dataclass(frozen=True, slots=True)
class Baseline:
    """The baseline of an encoder in a library that had `count` vectors, by kind of query.

    `mark` tells which images it was measured on: seq and CRC-32 of the stored vectors of some of them.
    """

    count: int
    sample: Sample
    usual: Mapping[Kind, Level]
    mark: tuple[tuple[int, int], ...] = ()

    def to_bytes(self) -> bytes:
        """A line of JSON, then the sample as little-endian float16: a score moves by less than 0.001."""
        usual = {
            kind: {"spread": one.spread, "best": one.best, "mean": one.mean, "deviation": one.deviation}
            for kind, one in self.usual.items()
        }
        head = json.dumps({"count": self.count, "usual": usual, "mark": self.mark})
        return b"%s\n%s" % (head.encode(), self.sample.vectors.astype("<f2").tobytes())

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
            count, mark = int(known["count"]), tuple((int(seq), int(crc)) for seq, crc in known["mark"])
        except (KeyError, TypeError) as exc:
            raise ValueError("not a baseline") from exc
        vectors = np.frombuffer(body, "<f2").reshape(-1, dim).astype(np.float32)
        if len(vectors) < 2:
            raise ValueError("not a baseline")
        return cls(count, Sample(vectors), usual, mark)


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


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the scores of one query over a library say: their mixture, and how far the best of them stand out.

    stands_out: the score of a relevance of RELEVANT; it rises by `step` for each unit of z. best: the highest scores,
    in descending order.
    """

    stands_out: float
    step: float
    usual: Level
    best: NDArray[np.floating]
    fitted: mixture.Mixture | None
    kind: Kind

    def cut(self, cuts: Cuts | None = None) -> float:
        """The score above which images are relevant; infinite where none is. `cuts`: those of the query's kind.

        Nothing is relevant unless the best hit is `cuts.height` deviations above the scores of everyday queries.

        If the mixture has a gain and a separation of at least those of `cuts`, and the mean of its upper component is
        as high, that component is relevant, and so are the images that stand out by themselves. (Without a height, any
        text splits a library that is half one burst of photos.) An upper component smaller than LEFT_OUT does not hide
        itself from the relevance, so one of its images must stand out.

        Otherwise, if the best hit's relevance is above `cuts.best`, the images that stand out are relevant, and those
        below them that are at least `cuts.deviations` and `cuts.share` as far above the scores of everyday queries as
        the mean of the three best hits, and at most `cuts.reach` times as far below the score that stands out as that
        mean is above it. (Of captions with one right drawing each, `cuts.share` alone would let in many more.)
        """
        if not len(self.best):
            return math.inf
        cuts = cuts or CUTS[self.kind]
        fitted, mean, deviation = self.fitted, self.usual.mean, max(self.usual.deviation, 1e-3)
        height = mean + cuts.height * deviation
        if self.best[0] < height:
            return math.inf
        splits = fitted and fitted.gain >= cuts.gain and fitted.separation >= cuts.separation
        seen = fitted and (fitted.share >= LEFT_OUT or self.best[0] > self.stands_out)
        if fitted and splits and seen and fitted.means[1] >= height:
            return min(self.stands_out, fitted.boundary)
        if self.best[0] <= self.stands_out + self.step * WIDTH * math.log(cuts.best / (1 - cuts.best)):
            return math.inf
        top = float(np.mean(self.best[:3]))
        lowest = mean + max(cuts.deviations * deviation, cuts.share * (top - mean))
        return min(self.stands_out, max(lowest, self.stands_out - cuts.reach * max(0.0, top - self.stands_out)))


def evidence(
    baseline: Baseline,
    query: NDArray[np.float32],
    scores: NDArray[np.floating],
    best: NDArray[np.floating],
    *,
    kind: Kind = "text",
) -> Evidence:
    """`scores`: inner products of all images, or of a sample of them, with the unit vector `query` (dim,); `best`: the
    three highest ones or more, in descending order."""
    usual = baseline.usual[kind]
    zero, step = (float(each[0]) for each in baseline.sample.unit(query[None], usual.spread))
    return Evidence(zero + step * (usual.best + LIFT[kind]), step, usual, best, mixture.fit(scores), kind)


def measure(
    images: NDArray[np.floating],
    texts: NDArray[np.float32],
    *,
    count: int,
    owners: NDArray[np.int64] | None = None,
    centred: bool = True,
    kinds: Collection[Kind] = KINDS,
    mark: tuple[tuple[int, int], ...] = (),
) -> Baseline:
    """The baseline of a library of `count` vectors, from a sample of its images and from everyday texts.

    `images`: unit rows (n, dim), n ≥ 2; `texts`: unit rows (m, dim). `owners`, shape (n,), says which rows are views
    of one image, the whole one first; without it, each row is an image. `centred`: whether combined queries centre
    their terms.
    """
    images = images.astype(np.float32)
    if owners is None:
        owners = np.arange(len(images))
    _, wholes, owners = np.unique(owners, return_index=True, return_inverse=True)
    mean = images.mean(axis=0)
    step = -(-len(images) // max(FEWEST, KEPT_NUMBERS // images.shape[1]))
    kept = Sample(images[::step].astype(np.float16).astype(np.float32))  # As it will come from the cache.
    chosen = np.sort(wholes)[np.unique(np.linspace(0, len(wholes) - 1, len(texts)).astype(int))]
    beside = np.linspace(0, len(texts) - 1, len(chosen)).astype(int)
    words, shown = texts[beside], images[chosen]
    others = texts
    if centred:
        others = _unit(texts - texts.mean(axis=0))
        words, shown = others[beside], _unit(shown - mean)
    queries: dict[Kind, tuple[NDArray[np.float32], NDArray[np.int64] | None]] = {
        "text": (texts, None),
        "texts": (_unit(others + np.roll(others, 1, axis=0)), None),
        "picture": (images[chosen], chosen),
        "mixed": (_unit(words + shown), chosen),
    }
    usual = {
        kind: _baseline(kept, asked, images, owners, itself=itself, count=count)
        for kind, (asked, itself) in queries.items()
        if kind in kinds
    }
    return Baseline(count, kept, usual, mark)


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
    spread = float(np.median(sample.tail(queries)[1]))
    scores = queries @ images.T
    mean, deviation = float(scores.mean()), float(np.median(scores.std(axis=0)))
    if itself is not None:
        scores[owners[itself][:, None] == owners[None, :]] = -np.inf

    def best(some: slice | NDArray[np.bool_]) -> float:
        top = scores[:, some].max(axis=1, keepdims=True)
        return float(np.quantile(sample.z_scores(queries, top, spread), BEST_QUANTILE))

    whole = best(slice(None))
    if count <= len(images) or len(images) < ENOUGH_TO_QUARTER:
        return Level(spread, whole, mean, deviation)
    # The best of more images than were sampled is better: for each e-fold by as much as from the sample's quarters to
    # the whole. From 10,000 to 100,000 made-up images (`benchmarks/labelled.py`) that was right to .03.
    quarters = [best(owners % QUARTERS == start) for start in range(QUARTERS)]
    growth = max(0.0, whole - sum(quarters) / QUARTERS) / math.log(QUARTERS)
    return Level(spread, whole + growth * math.log(count / len(images)), mean, deviation)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result
