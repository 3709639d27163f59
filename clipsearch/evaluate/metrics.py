"""Accuracy, recall, average precision and bootstrap intervals: pure functions of arrays; calibration is in `classify`.

`weights`, shape (n,), are how often each item counts, once by default: a bootstrap draws items with replacement and
passes how often it drew each.

Ties are broken in two ways. Among classes the first one wins, as in `Classifier.predict`, so that accuracy is the share
on the diagonal of the confusion matrix. Among ranked items the irrelevant ones come first: an encoder that gives every
item the same score finds nothing, in whatever order the items are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
Statistic = Callable[[Weights], NDArray[np.float64]]
"""Weights of the items, shape (n,) → the figures that they give, shape (m,)."""

LEVEL = 0.95

RESAMPLES = 1000
"""Draws of a bootstrap: the ends of a 95 % interval are then the 25th from either side."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its bootstrap interval; all NaN where there was nothing to measure."""

    value: float
    low: float
    high: float


def top_k_hits(ranked: NDArray[np.integer], truth: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Whether each item's class is among its first `k`, shape (n,).

    `ranked`: classes, best first, shape (n, w), where w is at least k or the number of classes; `truth`: shape (n,).
    """
    hits: NDArray[np.bool_] = (ranked[:, :k] == truth[:, None]).any(axis=1)
    return hits


def mean(values: NDArray[np.generic], weights: Weights | None = None) -> float:
    """The mean over the items, NaN for none. Of `top_k_hits` it is the top-k accuracy (Russakovsky et al. 2015).

    Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", arXiv:1409.0575, section 4.1.
    """
    wide = values.astype(np.float64)
    summed, total = (wide.sum(), len(wide)) if weights is None else (wide @ weights, weights.sum())
    return float(summed / total) if total else float("nan")


def mean_per_class(values: NDArray[np.generic], truth: NDArray[np.integer], *, weights: Weights | None = None) -> float:
    """The mean over classes of the mean over each one's items: every class has the same weight.

    Of top-1 hits it is the mean per-class accuracy, as in the CLIP paper's tables for Caltech-101, Pets and Flowers
    (arXiv:2103.00020, table 9). Classes without items are left out; NaN where there is none with any.
    """
    wide = np.ones(len(truth)) if weights is None else weights
    sizes = np.bincount(truth, weights=wide)
    sums = np.bincount(truth, weights=wide * values.astype(np.float64))
    there = sizes > 0
    return float((sums[there] / sizes[there]).mean()) if there.any() else float("nan")


def confusion_matrix(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """How often each class (row) was predicted as each (column): counts of shape (classes, classes)."""
    cells = truth.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def relevant_ranks(scores: NDArray[np.floating], relevant: Sequence[NDArray[np.integer]]) -> list[NDArray[np.int64]]:
    """The ranks (1 is the best) of each query's relevant items, ascending: of `scores`, shape (queries, items).

    `relevant`: for each query the indices of its relevant items, at least one. Irrelevant items come before relevant
    ones of the same score.
    """
    found = []
    for row, wanted in zip(scores, relevant, strict=True):
        own = -np.sort(-row[wanted])
        at_least = (row >= own[:, None]).sum(axis=1)
        before = at_least - (own >= own[:, None]).sum(axis=1)
        found.append((before + np.arange(1, len(own) + 1)).astype(np.int64))
    return found


def recall_at_k(first: NDArray[np.integer], k: int, *, weights: Weights | None = None) -> float:
    """R@K: the share of queries with a relevant item among the first `k`. `first`: the best rank of each, shape (n,).

    As in image–text retrieval, where any of an image's captions counts. Karpathy & Fei-Fei
    2015, "Deep Visual-Semantic Alignments for Generating Image Descriptions" (arXiv:1412.2306), section 4.1. Other
    fields call this the hit rate, and use recall for the share of all relevant items.
    """
    return mean(first <= k, weights)


def average_precisions(ranks: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
    """Average precision of each query, shape (n,), from its relevant items' ranks, ascending; their `mean` is the mAP.

    The mean over the relevant items of the precision at each one's rank: Manning, Raghavan & Schütze 2008,
    "Introduction to Information Retrieval", section 8.4.
    """
    return np.array([(np.arange(1, len(own) + 1) / own).mean() for own in ranks], np.float64)


def median_rank(first: NDArray[np.integer], *, weights: Weights | None = None) -> float:
    """The median of the queries' best ranks, shape (n,); the mean of the middle two where there are two. NaN for none.

    Karpathy & Fei-Fei 2015 (arXiv:1412.2306), section 4.1.
    """
    ranks = first if weights is None else np.repeat(first, weights.astype(np.int64))
    return float(np.median(ranks)) if len(ranks) else float("nan")


def bootstrap(
    statistic: Statistic,
    count: int,
    *,
    groups: NDArray[np.integer] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[Estimate, ...]:
    """The figures that `statistic` gives for `count` items, each with its bootstrap percentile interval.

    All items are drawn again with replacement; with `groups`, shape (count,), whole groups are: the captions of one
    image are not independent samples. The same `seed` gives the same draws, so that figures of several encoders over
    the same items vary together. The interval shows how much the choice of these items matters, nothing else. Efron &
    Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3; groups: Davison & Hinkley 1997, "Bootstrap
    Methods and their Application", section 3.8.
    """
    values = statistic(np.ones(count))
    if not count:
        return tuple(Estimate(float(v), float("nan"), float("nan")) for v in values)
    which = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    sets = int(which.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(values)))
    for row in drawn:
        times = np.bincount(rng.integers(sets, size=sets), minlength=sets)
        row[:] = statistic(times[which].astype(np.float64))
    tail = (1 - level) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
    return tuple(Estimate(float(v), float(a), float(b)) for v, a, b in zip(values, low, high, strict=True))


def bootstrap_mean(
    values: NDArray[np.generic], *, groups: NDArray[np.integer] | None = None, resamples: int = RESAMPLES
) -> Estimate:
    """The mean of `values`, shape (n,), with its interval; see `bootstrap`."""
    [estimate] = bootstrap(lambda w: np.array([mean(values, w)]), len(values), groups=groups, resamples=resamples)
    return estimate
