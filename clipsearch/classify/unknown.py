"""How far labels stand above unrelated ones for an image: the basis of `unknown` and `multi`.

A softmax always chooses: its shares tell which label fits better than the others, never whether any fits. So an image
is also compared with distractor labels, everyday things in the templates of the labels. For an image x, a label's
prototype p and the prototypes n₁ … n₂₅₆ of the distractor labels, with τ the encoder's logit scale,

    baseline(x, p) = log mean_{j ordinary} exp(τ · x·n_j)

in which all but the best tenth are ordinary: the image may well show one of the distractors. It is the logit that one
unrelated label reaches. Differences of logits are what the encoder was trained on, so they mean the same for every
CLIP: the logarithm of odds.

A distractor label that is a narrower term of the label must not compete with it: "dachshund" fits a dachshund better
than "dog" does. Narrower terms are near to their general word, so those whose cosine r_j with p, after the mean of all
distractor labels was subtracted, is RELATED or more are not counted in the baseline. Moreover, they tell what the
general word looks like, and it is moved towards them:

    p⁺ = p + TOWARDS · d / max(1, |d|)    made a unit vector, with d = Σ_j max(0, r_j − RELATED) · n_j

A specific label has few related ones and hardly moves. For the label c with the highest x·p_c of L labels,

    margin(x)        = τ · x·p⁺_c − baseline(x, p_c) − log L      the best of L labels against L unrelated ones
    unknown(x)       = margin(x) < options.UNKNOWN_MARGIN
    yes(x, c)        = σ(τ · x·p_c − baseline(x) − BAR)           independently for every label, with 64 distractors

A SigLIP was trained to answer yes or no itself: yes(x, c) = σ(τ · x·p_c + bias) (Zhai et al. 2023, arXiv:2303.15343,
section 3.2). docs/classification.md reports what these rules keep and detect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.classify.known import tells_apart, unit
from clipsearch.classify.labels import Label
from clipsearch.encoders import prompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNT = 256
"""Distractor labels. 128 separate nearly as well, 64 less (`benchmarks/unknown.py`)."""

FEW = 64
"""Distractor labels for `yes`: more separate no better there (`benchmarks/classifying.py`)."""

LEFT_OUT = 0.1
"""Share of the distractor labels, the best ones for an image, that are left out."""

RELATED = 0.25
"""Centred cosine of a label and its narrower terms; .2 to .3 separate equally well (`benchmarks/unknown.py`)."""

TOWARDS = 0.5
"""How far a label is moved towards its narrower terms, at most (`benchmarks/unknown.py`)."""

BAR = 3.0
"""Log-odds over one unrelated label at which a yes is as likely as a no."""


def labels(count: int = COUNT) -> tuple[Label, ...]:
    """The distractor labels."""
    return tuple(Label(name) for name in prompts.everyday_names(count))


@dataclass(frozen=True)
class Distractors:
    """Prototypes of the distractor labels: unit rows of shape (m, dim), float32."""

    prototypes: NDArray[np.float32]

    @cached_property
    def _tell_apart(self) -> bool:
        return tells_apart(self.prototypes)  # 0.2 s: once, and not for each part of the images.

    def usual(self, vectors: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
        """The logit that one unrelated label reaches with each of `vectors` (n, dim); shape (n,)."""
        return _usual(scale * (vectors.astype(np.float64) @ self.prototypes.T.astype(np.float64)))

    def margins(
        self, vectors: NDArray[np.float32], prototypes: NDArray[np.float32], best: NDArray[np.int64], scale: float
    ) -> NDArray[np.float64]:
        """How far the label `best` (n,) of each of `vectors` (n, dim) stands above unrelated ones: shape (n,).

        `prototypes`: those of all L labels, unit rows (L, dim).
        """
        rows, own = vectors.astype(np.float64), self.prototypes.astype(np.float64)
        related = self._related(prototypes)
        logits = scale * (rows @ own.T)
        margins = np.empty(len(rows))
        for label in np.unique(best):
            here = best == label
            towards = np.maximum(related[label] - RELATED, 0) @ own
            moved = prototypes[label] + TOWARDS * towards / max(1.0, float(np.linalg.norm(towards)))
            moved /= max(float(np.linalg.norm(moved)), 1e-12)
            margins[here] = scale * (rows[here] @ moved) - _usual(logits[here][:, self._unrelated(related[label])])
        margins -= np.log(len(prototypes))
        return margins

    def _related(self, prototypes: NDArray[np.float32]) -> NDArray[np.float64]:
        """The centred cosine of each label with each distractor label: shape (L, m).

        Zero for a model that cannot tell everyday words apart: all of them would seem related, or none.
        """
        if not self._tell_apart:
            return np.zeros((len(prototypes), len(self.prototypes)))
        mean = self.prototypes.mean(axis=0)
        own = unit(self.prototypes.astype(np.float64) - mean)
        related: NDArray[np.float64] = unit(prototypes.astype(np.float64) - mean) @ own.T
        return related

    def _unrelated(self, related: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which distractor labels are not narrower terms of a label, shape (m,): half of them at least."""
        unrelated: NDArray[np.bool_] = related < max(RELATED, float(np.median(related)) + 1e-9)
        return unrelated


def _usual(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the mean of exp over all but the best tenth of each row: shape (n,), from (n, m)."""
    kept = max(1, round(logits.shape[1] * (1 - LEFT_OUT)))
    ordinary = np.partition(logits, kept - 1, axis=1)[:, :kept]
    top = ordinary.max(axis=1, keepdims=True)
    usual: NDArray[np.float64] = top[:, 0] + np.log(np.exp(ordinary - top).mean(axis=1))
    return usual


def yes(logits: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """The independent probability of each label, shape (n, labels), for an encoder that was trained with a softmax."""
    return sigmoid(logits - usual[:, None] - BAR)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return result
