"""Calibration: how well probabilities match accuracy (expected calibration error, reliability bins)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Bins of equal width for the calibration error, as in Guo et al."""


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """The data of a reliability diagram with m bins of equal width: arrays of shape (m,), edges of shape (m + 1,).

    confidence: mean confidence; accuracy: share of correct predictions; both NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def expected_calibration_error(
    confidences: NDArray[np.floating],
    correct: NDArray[np.bool_],
    *,
    bins: int = BINS,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """The mean gap between confidence and accuracy, 0 … 1; 0 for no predictions.

    `confidences`: the probability of each prediction, shape (n,); `correct`: whether it was correct, shape (n,);
    `weights`: how often each one counts, shape (n,), once without it.
    Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), equation 3: predictions are binned
    by confidence, and the gaps between mean confidence and accuracy are averaged, weighted by the sizes of the bins.
    """
    if not len(confidences):
        return 0.0
    wide = np.ones(len(confidences)) if weights is None else weights
    gaps = (confidences - correct.astype(np.float64)) * wide
    return float(np.abs(np.bincount(_bins(confidences, bins), weights=gaps, minlength=bins)).sum() / wide.sum())


def reliability_bins(
    confidences: NDArray[np.floating], correct: NDArray[np.bool_], *, bins: int = BINS
) -> ReliabilityBins:
    """The bins behind `expected_calibration_error`: number of predictions, mean confidence and accuracy of each.

    Guo et al. 2017 (arXiv:1706.04599), section 2; a bin is open below and closed above, (low, high].
    """
    place = _bins(confidences, bins)
    counts = np.bincount(place, minlength=bins)
    some = np.where(counts, counts, np.nan)
    confidence = np.bincount(place, weights=np.asarray(confidences, np.float64), minlength=bins) / some
    accuracy = np.bincount(place, weights=correct.astype(np.float64), minlength=bins) / some
    return ReliabilityBins(np.linspace(0, 1, bins + 1), counts.astype(np.int64), confidence, accuracy)


def _bins(confidences: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    return np.clip(np.ceil(np.asarray(confidences, np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
