"""How good answers are, as the field measures it: pure functions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BINS = 15
"""Bins of equal width for the calibration error, as in Guo et al."""


def expected_calibration_error(
    confidences: NDArray[np.floating], correct: NDArray[np.bool_], *, bins: int = BINS
) -> float:
    """How far confidence and accuracy lie apart, 0 … 1; 0 for no predictions.

    `confidences`: the probability of each prediction, shape (n,); `correct`: whether it was right, shape (n,).
    Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), equation 3: predictions are binned
    by confidence, and the gaps between mean confidence and accuracy averaged, weighed by the bins' sizes.
    """
    import numpy as np

    if not len(confidences):
        return 0.0
    place = np.clip(np.ceil(np.asarray(confidences) * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=confidences - correct.astype(np.float64), minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))
