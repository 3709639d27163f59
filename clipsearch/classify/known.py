"""Whether an image resembles any example: the basis of `unknown` for classifiers that were made from examples.

The prototypes of `few_shot` are centred on their own mean, so they only tell classes apart: a single class always
scores 0. Here, an image is compared with what the model says of everyday things. Let n₁ … n₁₀₀₀ be the distractor
labels, B the principal directions of n − n̄ that hold SHARE of their variance, and y = Bᵀx / |Bᵀx|. That leaves out
what all images have in common: CLIP's images and texts occupy separate regions (Liang et al. 2022, arXiv:2203.02053).
For the mean m_c of the n_c examples of a class, a unit vector in the same space,

    z_c(x) = (y·m_c − μ(y)) / σ(y)              μ, σ: mean and deviation of the cosines of y with the distractor labels
    u_c(x) = z_c(x) / √(n_c / (1 + (n_c − 1) · ρ))
    unknown(x) = max_c u_c(x) < floor

A mean of more examples is nearer to all images of its class; the root takes that off, where ρ is the mean cosine of two
examples of a class. u is therefore the z-score of a single example, and one floor serves any number of them:

    floor = (PRIOR · FLOOR + w · q) / (PRIOR + w) + BEST_OF · ln C

The nearest of C classes is nearer to any image, hence the last term. q is the KNOWN quantile of the examples' own
leave-one-out u. A class of n_c counts (n_c − 2) times towards w: one left out of two is judged by a single example,
which says little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHARE = 0.9
"""Of the variance of the distractor labels. From .7 to 1, two percentage points more are kept and four fewer detected
(`benchmarks/unknown.py --sweep`)."""

FEWEST = 16
"""With fewer directions, the model cannot tell everyday words apart, and images are compared as they are."""

FLOOR = 1.65
"""Where images of a single class begin. 1.75 keeps one percentage point fewer and detects two more
(`benchmarks/unknown.py --sweep`)."""

BEST_OF = 0.12
"""How much an e-fold of the classes raises the floor. .16 keeps half a percentage point fewer, and detects two more
(`benchmarks/unknown.py --sweep`)."""

PRIOR = 15
"""Examples that FLOOR counts for; with 5 or 45, shares differ by one percentage point
(`benchmarks/unknown.py --sweep`)."""

KNOWN = 0.07
"""Share of the examples that may lie below the floor; of other images of their classes, fewer do, since the nearest
class decides (`benchmarks/unknown.py --sweep`)."""

COHESION = 0.45
"""ρ where no class has two examples (`benchmarks/unknown.py`)."""

PAIRS = 10
"""Pairs of examples that COHESION counts for."""

BURST = 0.95
"""Cosine above which images are near-equal. With the built-in encoder, 99 % of 200 photographs are near-equal to their
forms cropped by 1 %, turned by 2° or a tenth brighter, and a single pair of different ones is, a lawn mower and a
tractor (`benchmarks/unknown.py --sweep`)."""

_ROWS = 1024
"""Examples that are compared with all others of their class at a time."""


@dataclass(frozen=True, slots=True)
class Everyday:
    """What a model says of everyday things: `basis` (dim, k), `labels` (m, k), unit rows, of the distractor labels."""

    basis: NDArray[np.float64]
    labels: NDArray[np.float64]

    @classmethod
    def of(cls, distractors: NDArray[np.float32]) -> Everyday:
        """From the prototypes of the distractor labels, unit rows (m, dim)."""
        rows = distractors.astype(np.float64)
        centred = rows - rows.mean(axis=0)
        basis = _principal(centred)
        if basis.shape[1] < FEWEST:
            return cls(np.eye(rows.shape[1]), rows)
        return cls(basis, unit(centred @ basis))

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Unit rows (n, k) of unit rows (n, dim)."""
        return unit(vectors.astype(np.float64) @ self.basis)

    def spread(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of the cosines of projected rows (n, k) with the distractor labels: shapes (n,)."""
        cosines = rows @ self.labels.T
        return cosines.mean(axis=1), np.maximum(cosines.std(axis=1), 1e-6)


@dataclass(frozen=True, slots=True)
class Known:
    """What the examples of a classifier look like.

    prototypes: shape (labels, dim), float32; of a label with examples their mean, a unit vector in the space of
    `Everyday`; of one without, the text prototype. counts: independent examples of each label. cohesion: ρ. floor: the
    lowest u of a known image.
    """

    prototypes: NDArray[np.float32]
    counts: tuple[int, ...]
    cohesion: float
    floor: float

    def nearness(self, vectors: NDArray[np.float32], everyday: Everyday) -> NDArray[np.float64]:
        """The highest u of unit rows (n, dim) over the labels with examples: shape (n,)."""
        counts = np.array(self.counts)
        has = counts > 0
        rows = everyday.project(vectors)
        mean, deviation = everyday.spread(rows)
        cosines = rows @ (self.prototypes[has].astype(np.float64) @ everyday.basis).T
        z = (cosines - mean[:, None]) / deviation[:, None]
        nearest: NDArray[np.float64] = (z / _growth(counts[has], self.cohesion)).max(axis=1)
        return nearest


def learn(
    texts: NDArray[np.float32],
    vectors: NDArray[np.float32],
    classes: NDArray[np.int64],
    groups: NDArray[np.int64],
    everyday: Everyday,
) -> Known:
    """From text prototypes (labels, dim), examples (n, dim), the label of each and its group of near-equal ones, (n,).

    Each group counts as one example.
    """
    rows = everyday.project(vectors)
    weights = 1 / np.bincount(groups)[groups]
    counts = np.bincount(classes, weights=weights, minlength=len(texts)).round().astype(np.int64)
    sums = np.zeros((len(texts), rows.shape[1]))
    np.add.at(sums, classes, rows * weights[:, None])
    parts = np.zeros((int(groups.max()) + 1, rows.shape[1]))
    np.add.at(parts, groups, rows * weights[:, None])
    squares = np.zeros(len(texts))
    first = np.unique(groups, return_index=True)[1]
    np.add.at(squares, classes[first], (parts**2).sum(axis=1))
    pairs = int((counts * (counts - 1)).sum())
    together = float(((sums**2).sum(axis=1) - squares).sum())
    cohesion = min(max((PAIRS * COHESION + together / 2) / (PAIRS + pairs / 2), 0.0), 1.0)
    some = counts[classes] > 2
    without = unit(sums[classes] - parts[groups])
    mean, deviation = everyday.spread(rows)
    z = ((rows * without).sum(axis=1) - mean) / deviation
    own = z[some] / _growth(counts[classes][some] - 1, cohesion)
    prototypes = texts.astype(np.float64)
    prototypes[counts > 0] = unit(sums[counts > 0]) @ everyday.basis.T
    trusted = float(np.maximum(counts - 2, 0).sum())
    low = float(np.quantile(own, KNOWN)) if trusted else FLOOR
    floor = (PRIOR * FLOOR + trusted * low) / (PRIOR + trusted) + BEST_OF * math.log(np.count_nonzero(counts))
    return Known(prototypes.astype(np.float32), tuple(counts.tolist()), cohesion, floor)


def near_equal(vectors: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of each of n examples, numbered from 0: images of a class that are linked by cosines above BURST."""
    group = np.arange(len(vectors))
    for label in np.unique(classes):
        places = np.flatnonzero(classes == label)
        rows, own = vectors[places], np.arange(len(places))
        for start in range(0, len(places), _ROWS):
            for alike in rows[start : start + _ROWS] @ rows.T > BURST:
                linked = np.unique(own[alike])
                if len(linked) > 1:
                    own[np.isin(own, linked)] = linked[0]
        group[places] = places[own]
    numbered: NDArray[np.int64] = np.unique(group, return_inverse=True)[1].astype(np.int64)
    return numbered


def tells_apart(distractors: NDArray[np.float32]) -> bool:
    """Whether a model can tell everyday words apart, by the prototypes of the distractor labels (m, dim)."""
    rows = distractors.astype(np.float64)
    return bool(_principal(rows - rows.mean(axis=0)).shape[1] >= FEWEST)


def _principal(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """The directions (dim, k) that hold SHARE of the variance of centred rows (m, dim)."""
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    shares = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-12)
    count = int(np.searchsorted(shares, SHARE)) + 1
    principal: NDArray[np.float64] = directions[:count].T
    return principal


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """`rows` as unit vectors; zero ones stay."""
    result: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result


def _growth(counts: NDArray[np.int64], cohesion: float) -> NDArray[np.float64]:
    """How many times as high the z-score of a mean of so many examples is as that of one."""
    growth: NDArray[np.float64] = np.sqrt(counts / (1 + (counts - 1) * cohesion))
    return growth
