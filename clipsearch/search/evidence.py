"""Which images are relevant to a query, by two kinds of evidence: how far a hit stands out, and how all scores lie.

How far a hit stands out (`search/relevance`) says how surprising it is. What many images show surprises nobody, so the
distribution of all scores is looked at, too: where they fall into two groups, the whole upper group is relevant.

An image that resembles many texts scores high with any of them. So scores are standardised by image,

    z = (s − μ) / σ

where μ and σ are the mean and deviation of its scores with the everyday prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.search import mixture
from clipsearch.search.relevance import LIFT, RELEVANT, WIDTH, Baseline, Kind

BEST = 3
"""Hits whose mean standard score says how high that of a relevant image is."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """The constants of `Evidence.cut`, chosen on the groups of `benchmarks/groups.txt`.

    `python -m benchmarks.relevance` shows what they give cross-validated by group.

    gain, separation: of a mixture that splits the images (a gain of 10 is very strong evidence: Kass and Raftery 1995,
    doi:10.1080/01621459.1995.10476572). height: mean standard score of its upper component. smallest: share of the
    images below which that component needs a hit that stands out. best: relevance of such a hit. deviations, share:
    standard score of the images near it, absolute and as a share of its own. apart: how many of the query's own
    deviations these are above its mean.
    """

    gain: float = 10.0
    separation: float = 2.6
    height: float = 1.2
    smallest: float = 0.05
    best: float = 0.6
    deviations: float = 2.0
    share: float = 0.7
    apart: float = 3.5


CUTS: Mapping[Kind, Cuts] = {
    "text": Cuts(),
    "texts": Cuts(),
    "centred texts": Cuts(),
    "picture": Cuts(best=RELEVANT, share=0.8),
    "mixed": Cuts(share=0.8),
    "centred mixed": Cuts(share=0.8),
}
"""For queries like one photograph, the constants of texts lower the mean F1 over the groups of `benchmarks/groups.txt`
from .505 to .461, and for a photograph with words from .713 to .693."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Of images with one query, shapes (n,): inner products, and how many deviations they are above chance.

    As chance, each image has the mean and the deviation of its scores with everyday queries (`Baseline.chance`).
    """

    raw: NDArray[np.floating]
    standard: NDArray[np.floating]


def scored(
    baseline: Baseline, query: NDArray[np.float32], vectors: NDArray[np.float32], *, kind: Kind = "text"
) -> Scores:
    """The scores of images, unit rows (n, dim), with the unit vector `query` (dim,)."""
    raw = vectors @ query
    mean, deviation = baseline.chance(vectors, kind)
    return Scores(raw, (raw - mean) / deviation)


@dataclass(frozen=True, slots=True)
class Cut:
    """Relevant are images with a score above `stands_out`, and those with a score above `least` and a standard score
    above `standard`."""

    stands_out: float = math.inf
    least: float = math.inf
    standard: float = math.inf

    @property
    def answers(self) -> bool:
        """Whether anything is relevant."""
        return self != Cut()

    def passes(self, scores: Scores) -> NDArray[np.bool_]:
        """Which of the images are relevant, shape (n,)."""
        above: NDArray[np.bool_] = scores.raw > self.stands_out
        return above | ((scores.raw > self.least) & (scores.standard > self.standard))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the scores of one query over a library say: their mixture, and how far the best of them stand out.

    zero: the score at a z-score of 0; deviation: of this query's scores, without its best; step: the rise of the score
    with each unit of z. stands_out: the score of a relevance of RELEVANT. best: the highest score; top: the mean
    standard score of the three best hits. fitted: to the standard scores of different images.
    """

    zero: float
    deviation: float
    step: float
    stands_out: float
    best: float
    top: float
    fitted: mixture.Mixture | None
    kind: Kind

    def cut(self, cuts: Cuts | None = None) -> Cut:
        """Which images are relevant. `cuts`: those of the query's kind.

        If the mixture has a gain and a separation of at least those of `cuts`, and its upper component a mean of at
        least `cuts.height`, that component is relevant, and so are the images that stand out by themselves. A component
        with a share below `cuts.smallest` is too small to lower how far its images stand out, so the best of them must.

        Otherwise, if the best hit's relevance is above `cuts.best`, the images that stand out are relevant, and those
        whose standard score is at least `cuts.deviations` and `cuts.share` of the three best hits', if they are
        `cuts.apart` deviations above the usual score of this query. (Of captions with one right drawing each,
        `cuts.share` alone would let in many more.)
        """
        cuts = cuts or CUTS[self.kind]
        fitted = self.fitted
        is_sure = self.best > self.stands_out + self.step * WIDTH * math.log(cuts.best / (1 - cuts.best))
        if (
            fitted
            and fitted.gain >= cuts.gain
            and fitted.separation >= cuts.separation
            and fitted.means[1] >= cuts.height
            and (fitted.share >= cuts.smallest or is_sure)
        ):
            return Cut(self.stands_out, -math.inf, fitted.boundary)
        if not is_sure:
            return Cut()
        least = self.zero + cuts.apart * self.deviation
        return Cut(self.stands_out, least, max(cuts.deviations, cuts.share * self.top))


def evidence(baseline: Baseline, query: NDArray[np.float32], best: Scores, *, kind: Kind = "text") -> Evidence:
    """What the scores of the unit vector `query` (dim,) say; `best`: those of three hits or more, best first."""
    usual, sample = baseline.usual[kind], baseline.sample
    mean, deviation, step = (float(each[0]) for each in sample.unit(query[None], usual.spread))
    stands_out = mean + step * (usual.best + LIFT[kind])
    top = float(np.mean(best.standard[:BEST]))
    fitted = mixture.fit(scored(baseline, query, sample.vectors, kind=kind).standard)
    return Evidence(mean, deviation, step, stands_out, float(best.raw[0]), top, fitted, kind)
