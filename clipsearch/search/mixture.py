"""Two normal components fitted to the scores of one query over a library: its matches, and everything else.

Expectation–maximisation (Dempster, Laird and Rubin 1977; for normals: Bishop 2006, "Pattern Recognition and Machine
Learning", section 9.2.2) from several starting points, in one dimension. Many values are counted in bins first, so that
a fit costs the same for any number of them. The result is deterministic, and does not depend on the order, the offset
or the unit of the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 128
"""Values beyond this number are counted in as many bins of equal width."""

STARTS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Each start takes the values above this quantile for the upper component."""

STEPS = 200
CONVERGED = 1e-5
"""The fit ends when no start's mean log-likelihood rises by more than this, or after STEPS steps."""

FLOOR = 0.01
"""Added to a component's variance, as a share of that of all values: no component shrinks to a single value."""

FEWEST = 4
"""Fewer values are not fitted."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two normal components, the lower one first. `share`: weight of the upper one, 0 … 1.

    gain: how much lower the Bayesian information criterion is than that of a single normal (Schwarz 1978). separation:
    the distance of the means in units of the root mean square of both deviations (Ashman, Bird and Zepf 1994,
    arXiv:astro-ph/9408030, without the factor √2). boundary: above this value, the upper component is more probable.
    """

    means: tuple[float, float]
    variances: tuple[float, float]
    share: float
    gain: float
    separation: float
    boundary: float


def fit(values: NDArray[np.floating]) -> Mixture | None:
    """The most likely of the fits from all STARTS to `values`, shape (n,).

    None where values that are finite are fewer than FEWEST or all the same, and where no value separates the two.
    """
    known: NDArray[np.float64] = values[np.isfinite(values)].astype(np.float64)
    if len(known) < FEWEST or np.ptp(known) < 1e-9 * max(1.0, float(np.abs(known).max())):
        return None
    offset, unit = float(known.mean()), float(known.std())
    points, counts = _binned((known - offset) / unit)
    shares, means, variances, likelihood = _climb(points, counts)
    best = int(np.argmax(likelihood))
    low, high = np.argsort(means[best], kind="stable")
    mean, variance = means[best][[low, high]], variances[best][[low, high]]
    share = float(shares[best][high])
    boundary = _boundary(mean, variance, share)
    if boundary is None:
        return None
    single = -0.5 * len(known) * (math.log(2 * math.pi) + 1)
    gain = 2 * (float(likelihood[best]) - single) - 3 * math.log(len(known))
    separation = float((mean[1] - mean[0]) / math.sqrt(variance.mean()))
    return Mixture(
        (offset + unit * float(mean[0]), offset + unit * float(mean[1])),
        (unit**2 * float(variance[0]), unit**2 * float(variance[1])),
        share,
        gain,
        separation,
        offset + unit * boundary,
    )


def _binned(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sorted points and how many values each stands for, shapes (b,)."""
    if len(values) <= BINS:
        return np.sort(values), np.ones(len(values))
    counts, edges = np.histogram(values, BINS)
    sums = np.histogram(values, edges, weights=values)[0]
    taken = counts > 0
    return sums[taken] / counts[taken], counts[taken].astype(np.float64)


def _climb(points: NDArray[np.float64], counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Shares, means and variances, shapes (starts, 2), and log-likelihoods, shape (starts,), after the last step."""
    total = counts.sum()
    below = np.searchsorted(np.cumsum(counts), [share * total for share in STARTS]).clip(0, len(points) - 2)
    upper = np.arange(len(points))[None, :] > below[:, None]
    belongs = np.stack([~upper, upper], axis=1).astype(np.float64)  # (starts, 2, points)
    likelihood = np.full(len(STARTS), -np.inf)
    for _ in range(STEPS):
        weights = belongs * counts
        mass = weights.sum(axis=2) + 1e-9
        means = (weights @ points) / mass
        variances = (weights * (points - means[..., None]) ** 2).sum(axis=2) / mass + FLOOR
        shares = mass / total
        logs = np.log(shares / np.sqrt(2 * np.pi * variances))[..., None]
        logs = logs - (points - means[..., None]) ** 2 / (2 * variances[..., None])
        both = np.logaddexp(logs[:, 0], logs[:, 1])
        now = both @ counts
        belongs = np.exp(logs - both[:, None])
        if np.all(now - likelihood <= CONVERGED * total):
            break
        likelihood = now
    return shares, means, variances, now


def _boundary(means: NDArray[np.float64], variances: NDArray[np.float64], share: float) -> float | None:
    """The value between two means where both components are equally probable; None where one covers the other."""

    def odds(value: float) -> float:
        logs = [
            math.log(max(weight, 1e-300)) - 0.5 * math.log(variance) - (value - mean) ** 2 / (2 * variance)
            for weight, mean, variance in zip((1 - share, share), means.tolist(), variances.tolist(), strict=True)
        ]
        return float(logs[1] - logs[0])

    low, high = means.tolist()
    if not odds(low) < 0 < odds(high):
        return None
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if odds(middle) < 0 else (low, middle)
    return float(high)
