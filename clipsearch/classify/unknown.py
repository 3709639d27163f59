"""How far labels stand above unrelated ones for an image: the basis of `unknown` and `multi`.

A softmax always chooses: its shares tell which label fits better than the others, never whether any fits. So an image
is also compared with distractor labels, the names n₁ … n₁₀₀₀ of everyday things in the templates of the labels.

For `unknown`, the cosine of an image x with its best label is standardised by the image's cosines with all of these.
None of them competes with the label: a dachshund fits "dachshund" better than "dog", and is a dog nevertheless. But the
more general a word is, the farther it lies from everything that it names. So the names are used to correct that, too.
All labels and names are first centred on the mean of the names, since CLIP's texts lie close together (Liang et al.
2022, arXiv:2203.02053). Let z_p(y) be the z-score of the cosine of y with p among the cosines of p with all names.

    p⁺ = p + Σ_j max(0, z_p(n_j) − NARROWER) · n_j     both made unit vectors: p moved towards its narrower terms
    reach(p) = mean of the NEAREST highest z_p⁺(n_j)   how near everyday things come to it
    short(p) = max(0, U − reach(p))                    U: what three in four names reach

A specific label has a reach like those of the names, and is left as it is. For the label c with the highest cosine of L
labels, with μ and σ the mean and deviation of the cosines of x with the names,

    margin(x)        = (x·p⁺_c − μ) / σ + short(p_c) − PER_LABEL · log L
    unknown(x)       = margin(x) < options.UNKNOWN_MARGIN

All of these are counted in deviations, so neither the scale nor the offset of an encoder's cosines matters. Deviations
among names mean nothing to a model that cannot tell everyday words apart; then, with τ the encoder's logit scale,

    baseline(x)      = log mean_{j ordinary} exp(τ · x·n_j)
    margin(x)        = τ · x·p_c − baseline(x) − log L          the best of L labels against L unrelated ones

in which all but the best tenth are ordinary: the image may well show one of the distractors. The baseline is the logit
that one unrelated label reaches. For `multi`, each label is compared with it independently:

    yes(x, c)        = σ(τ · x·p_c − baseline(x) − BAR)         with 64 distractors

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

COUNT = 1000
"""Distractor labels: all there are. Fewer leave gaps around a label, which then seems more general than it is
(`benchmarks/unknown.py --sweep`)."""

FEW = 64
"""Distractor labels for `yes`: more separate no better there (`benchmarks/classifying.py`)."""

LEFT_OUT = 0.1
"""Share of the distractor labels, the best ones for an image, that are left out of the baseline."""

NARROWER = 2.5
"""Deviations above the other names from which on a name counts as a narrower term (`benchmarks/unknown.py --sweep`)."""

NEAREST = 3
"""Names that tell how near everyday things come to a label (`benchmarks/unknown.py --sweep`)."""

GENERAL = 0.25
"""Share of the names, the most general ones, that have less than the usual reach (`benchmarks/unknown.py --sweep`)."""

PER_LABEL = 0.6
"""How much an e-fold of the labels lowers the margin: the best of more labels is nearer to any image
(`benchmarks/unknown.py --sweep`)."""

BAR = 3.0
"""Log-odds over one unrelated label at which a yes is as likely as a no."""


def labels(count: int = COUNT) -> tuple[Label, ...]:
    """The distractor labels; two of the names are those of two classes each."""
    return tuple(Label(name) for name in dict.fromkeys(prompts.everyday_names(count)))


@dataclass(frozen=True)
class Distractors:
    """Prototypes of the distractor labels: unit rows of shape (m, dim), float32."""

    prototypes: NDArray[np.float32]

    def usual(self, vectors: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
        """The logit that one unrelated label reaches with each of `vectors` (n, dim); shape (n,)."""
        logits = scale * (vectors.astype(np.float64) @ self.prototypes.T.astype(np.float64))
        kept = max(1, round(logits.shape[1] * (1 - LEFT_OUT)))
        ordinary = np.partition(logits, kept - 1, axis=1)[:, :kept]
        top = ordinary.max(axis=1, keepdims=True)
        usual: NDArray[np.float64] = top[:, 0] + np.log(np.exp(ordinary - top).mean(axis=1))
        return usual

    def margins(
        self, vectors: NDArray[np.float32], prototypes: NDArray[np.float32], best: NDArray[np.int64], scale: float
    ) -> NDArray[np.float64]:
        """How far the label `best` (n,) of each of `vectors` (n, dim) stands above unrelated ones: shape (n,).

        `prototypes`: those of all L labels, unit rows (L, dim).
        """
        rows, count = vectors.astype(np.float64), np.log(len(prototypes))
        if not self._tells_apart:
            logits = scale * (rows * prototypes[best]).sum(axis=1)
            odds: NDArray[np.float64] = logits - self.usual(vectors, scale) - count
            return odds
        moved = self._towards_narrower(unit(prototypes - self.prototypes.mean(axis=0, dtype=np.float64)))
        short = np.maximum(self._usual_reach - self._reach(moved), 0)
        mean, deviation = _level(rows @ self._names.T)
        z = ((rows * moved[best]).sum(axis=1) - mean) / deviation
        margins: NDArray[np.float64] = z + short[best] - PER_LABEL * count
        return margins

    @cached_property
    def _names(self) -> NDArray[np.float64]:
        """The prototypes centred on their mean: unit rows (m, dim)."""
        return unit(self.prototypes - self.prototypes.mean(axis=0, dtype=np.float64))

    @cached_property
    def _tells_apart(self) -> bool:
        return tells_apart(self.prototypes)

    @cached_property
    def _usual_reach(self) -> float:
        return float(np.quantile(self._reach(self._towards_narrower(self._names)), GENERAL))

    def _towards_narrower(self, texts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Prototypes (L, dim), each moved towards its narrower terms."""
        return unit(texts + unit(np.maximum(self._z_scores(texts) - NARROWER, 0) @ self._names))

    def _reach(self, texts: NDArray[np.float64]) -> NDArray[np.float64]:
        """How near everyday things come to prototypes (L, dim): shape (L,)."""
        nearest: NDArray[np.float64] = np.partition(self._z_scores(texts), -NEAREST, axis=1)[:, -NEAREST:].mean(axis=1)
        return nearest

    def _z_scores(self, texts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the names among all names, for each of `texts` (L, dim): shape (L, m)."""
        cosines = texts @ self._names.T
        mean, deviation = _level(cosines)
        z: NDArray[np.float64] = (cosines - mean[:, None]) / deviation[:, None]
        return z


def _level(cosines: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each row of (n, m): shapes (n,)."""
    return cosines.mean(axis=1), np.maximum(cosines.std(axis=1), 1e-6)


def yes(logits: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """The independent probability of each label, shape (n, labels), for an encoder that was trained with a softmax."""
    return sigmoid(logits - usual[:, None] - BAR)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return result
