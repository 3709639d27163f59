"""How far probabilities can be trusted: calibration error and reliability bins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Weights = NDArray[np.float64]
    Statistic = Callable[[Weights], NDArray[np.float64]]
    """Weights of the items, shape (n,) → the figures that they give, shape (m,)."""


BINS = 15
"""Bins of equal width for the calibration error, as in Guo et al."""


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """What a reliability diagram shows, for each of m bins of equal width: arrays of shape (m,), edges (m + 1,).

    confidence: mean confidence; accuracy: share that was right; both NaN in a bin without predictions.
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
    weights: Weights | None = None,
) -> float:
    """How far confidence and accuracy lie apart, 0 … 1; 0 for no predictions.

    `confidences`: the probability of each prediction, shape (n,); `correct`: whether it was right, shape (n,).
    Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), equation 3: predictions are binned
    by confidence, and the gaps between mean confidence and accuracy averaged, weighed by the bins' sizes.
    """
    import numpy as np

    if not len(confidences):
        return 0.0
    gaps = confidences - correct.astype(np.float64)
    total = float(len(confidences)) if weights is None else float(weights.sum())
    if weights is not None:
        gaps = gaps * weights
    return float(np.abs(np.bincount(_bins(confidences, bins), weights=gaps, minlength=bins)).sum() / total)


def reliability_bins(
    confidences: NDArray[np.floating], correct: NDArray[np.bool_], *, bins: int = BINS
) -> ReliabilityBins:
    """The bins behind `expected_calibration_error`: how many predictions, how confident, how many of them right.

    Guo et al. 2017 (arXiv:1706.04599), section 2; a bin is open below and closed above, (low, high].
    """
    import numpy as np

    place = _bins(confidences, bins)
    counts = np.bincount(place, minlength=bins)
    some = np.where(counts, counts, np.nan)
    confidence = np.bincount(place, weights=np.asarray(confidences, np.float64), minlength=bins) / some
    accuracy = np.bincount(place, weights=correct.astype(np.float64), minlength=bins) / some
    return ReliabilityBins(np.linspace(0, 1, bins + 1), counts.astype(np.int64), confidence, accuracy)


def _bins(confidences: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    import numpy as np

    return np.clip(np.ceil(np.asarray(confidences, np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
