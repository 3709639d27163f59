"""How far labels stand above unrelated ones for an image: the basis of `unknown` and `multi`.

A softmax always chooses: its shares tell which label fits better than the others, never whether any fits. So an image
is also compared with 64 distractor labels, everyday things in the templates of the labels. For an image x, a label's
prototype p and the distractor prototypes n₁ … n₆₄, with τ the encoder's logit scale,

    baseline(x) = log mean_{j ordinary} exp(τ · x·n_j)

in which all but the best tenth are ordinary: the image may well show one of the distractors. It is the logit that one
unrelated label reaches. Differences of logits are what the encoder was trained on, so they mean the same for every
CLIP: the logarithm of odds.

    margin(x)        = τ · max_c x·p_c − baseline(x) − log L      the best of L labels against L unrelated ones
    unknown(x)       = margin(x) < MARGIN
    yes(x, c)        = σ(τ · x·p_c − baseline(x) − BAR)           independently for every label

A SigLIP was trained to answer yes or no itself: yes(x, c) = σ(τ · x·p_c + bias) (Zhai et al. 2023, arXiv:2303.15343,
section 3.2). `options.MARGIN` was chosen on one half of the labelled photographs of `benchmarks/classifying.py`, and
docs/classification.md reports the other half; the formulas and BAR were found with all of them in sight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.classify.labels import Label
from clipsearch.encoders import prompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNT = 64
"""Distractor labels. 32, 128 and 256 separate no better (`benchmarks/classifying.py`)."""

LEFT_OUT = 0.1
"""Share of the distractor labels, the best ones for an image, that are left out."""

BAR = 3.0
"""Log-odds over one unrelated label at which a yes is as likely as a no."""


def labels() -> tuple[Label, ...]:
    """The distractor labels."""
    return tuple(Label(name) for name in prompts.everyday_names(COUNT))


@dataclass(frozen=True, slots=True)
class Distractors:
    """Prototypes of the distractor labels: unit rows of shape (COUNT, dim), float32."""

    prototypes: NDArray[np.float32]

    def usual(self, vectors: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
        """The logit that one unrelated label reaches with each of `vectors` (n, dim); shape (n,)."""
        logits = scale * (vectors.astype(np.float64) @ self.prototypes.T.astype(np.float64))
        kept = max(1, round(logits.shape[1] * (1 - LEFT_OUT)))
        ordinary = np.partition(logits, kept - 1, axis=1)[:, :kept]
        top = ordinary.max(axis=1, keepdims=True)
        usual: NDArray[np.float64] = top[:, 0] + np.log(np.exp(ordinary - top).mean(axis=1))
        return usual


def margins(logits: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the best of the labels stands above unrelated ones: shape (n,), from logits (n, labels)."""
    best: NDArray[np.float64] = logits.max(axis=1) - usual - np.log(logits.shape[1])
    return best


def yes(logits: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """The independent probability of each label, shape (n, labels), for an encoder that was trained with a softmax."""
    return sigmoid(logits - usual[:, None] - BAR)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return result
