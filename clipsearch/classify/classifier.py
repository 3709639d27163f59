"""A classifier: prototypes of labels, and the labels of image vectors by them (CLIP paper, section 3.1).

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch.classify import unknown
from clipsearch.classify.labels import Label, checked
from clipsearch.classify.prototypes import means
from clipsearch.classify.results import Prediction
from clipsearch.classify.templates import expand, prompts_of
from clipsearch.errors import UsageError
from clipsearch.types import EncoderInfo, Notice

if TYPE_CHECKING:
    from clipsearch.classify.known import Known
    from clipsearch.classify.unknown import Distractors

    EmbedTexts = Callable[[Sequence[str]], NDArray[np.float32]]

BLOCK = 1 << 22
"""Numbers in any one array for a part of the images: 32 MB in float64. Vectors, scores, logits and those of the
distractor labels make up about ten such arrays."""

BlendBy = Literal["given", "leave-one-out", "default"]


@dataclass(frozen=True, slots=True)
class Fit:
    """What a few examples changed in a classifier; see `few_shot`.

    blend: share of the examples in the prototypes, 0 … 1, and how it was found. scale: what scores are multiplied by,
    fitted so that probabilities are calibrated. right: leave-one-out accuracy of the examples, 0 … 1. ece_before,
    ece_after: their calibration error with the encoder's own scale and with the fitted one. floor: the score that 19 in
    20 of them reach; below it an image is unknown, for a classifier without `Known`.
    """

    counts: tuple[int, ...]
    blend: float
    blend_by: BlendBy
    scale: float
    scale_fitted: bool
    right: float
    ece_before: float
    ece_after: float
    floor: float


@dataclass(frozen=True, slots=True)
class Classifier:
    """Prototypes of labels, shape (len(labels), dim), float32.

    They are unit vectors unless examples were blended in: then `fit` tells how.
    """

    info: EncoderInfo
    labels: tuple[Label, ...]
    prototypes: NDArray[np.float32]
    templates: tuple[str, ...] = ()
    fit: Fit | None = None
    notices: tuple[Notice, ...] = ()
    """About how it was made: truncated prompts, examples that could not be read."""
    known: Known | None = None
    """What its examples look like; None without any, and for one saved by version 0.1.0."""

    @classmethod
    def build(
        cls, info: EncoderInfo, labels: Sequence[Label], embed: EmbedTexts, *, templates: Sequence[str] = ()
    ) -> Classifier:
        """Embed every label and synonym in every template, average, and normalise again.

        `templates` are as `templates.expand` takes them; without any, the encoder's own is used. Raises UsageError for
        no labels, a label given twice, or a template without a place for the label.
        """
        labels = checked(labels)
        filled = expand(templates, default=info.template)
        groups = [prompts_of(label, filled) for label in labels]
        vectors = embed([prompt for group in groups for prompt in group])
        return cls(info, labels, means(vectors, groups), filled)

    @property
    def distractor_templates(self) -> tuple[str, ...]:
        """For the distractor labels of `unknown`: its first template.

        In 80 templates, they would be 80,000 prompts, which take a CLIP on a CPU many minutes.
        """
        return self.templates[:1] or (self.info.template,)

    @property
    def scale(self) -> float:
        """What a score is multiplied by to be a logit."""
        return self.fit.scale if self.fit else self.info.logit_scale

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inner products of unit rows (n, dim) with the prototypes: shape (n, labels), in one matrix product.

        Summed in float64 and rounded once, as everywhere, so that they do not depend on the number of rows.
        """
        product = vectors.astype(np.float64) @ self.prototypes.T.astype(np.float64)
        return product.astype(np.float32)

    def logits(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        return self.scale * scores.astype(np.float64)

    def predict(self, vectors: NDArray[np.float32], *, k: int) -> list[tuple[Prediction, ...]]:
        """The `k` nearest labels of each of `vectors`, unit rows of shape (n, dim), best first.

        Probabilities are the softmax over all labels of scale · inner product, as CLIP was trained; a SigLIP's
        logit_bias is the same for every label and drops out.
        """
        predicted = []
        for part in self.parts(vectors):
            scores = self.scores(part)
            predicted += self.named(scores, softmax(self.logits(scores)), best_columns(scores, k))
        return predicted

    def yes(
        self, vectors: NDArray[np.float32], scores: NDArray[np.float32], beside: Distractors | None
    ) -> NDArray[np.float64]:
        """The probability of each label by itself: shape (n, labels). See `unknown`; a SigLIP needs no distractors."""
        if beside is None or self.info.logit_bias is not None:
            return unknown.sigmoid(self.logits(scores) + (self.info.logit_bias or 0.0))
        return unknown.yes(self.logits(scores), beside.usual(vectors, self.scale))

    def parts(self, vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """`vectors` in blocks that fit into memory, with their scores and those of the distractor labels; see BLOCK."""
        step = max(1, BLOCK // max(len(self.labels), self.info.dim, unknown.COUNT))
        return (vectors[start : start + step] for start in range(0, len(vectors), step))

    def named(
        self, scores: NDArray[np.float32], probabilities: NDArray[np.float64], chosen: NDArray[np.int64]
    ) -> list[tuple[Prediction, ...]]:
        """Predictions for the columns `chosen` (n, k), in their order."""
        names = [label.name for label in self.labels]
        sure = np.take_along_axis(probabilities, chosen, axis=1).tolist()
        raw = np.take_along_axis(scores, chosen, axis=1).tolist()
        return [
            tuple(Prediction(names[j], p, s) for j, p, s in zip(row, ps, ss, strict=True))
            for row, ps, ss in zip(chosen.tolist(), sure, raw, strict=True)
        ]

    def above(
        self,
        scores: NDArray[np.float32],
        probabilities: NDArray[np.float64],
        threshold: float,
        *,
        k: int | None = None,
    ) -> list[tuple[Prediction, ...]]:
        """Predictions of at least `threshold`, the `k` highest scores of a row at most, best first."""
        rows, columns = np.nonzero(probabilities >= threshold)
        order = np.lexsort((columns, -scores[rows, columns], rows))
        rows, columns = rows[order], columns[order]
        if k is not None:
            kept = np.arange(len(rows)) - np.searchsorted(rows, rows) < k
            rows, columns = rows[kept], columns[kept]
        names = [label.name for label in self.labels]
        sure, raw = probabilities[rows, columns].tolist(), scores[rows, columns].tolist()
        found = [Prediction(names[j], p, s) for j, p, s in zip(columns.tolist(), sure, raw, strict=True)]
        ends = np.searchsorted(rows, np.arange(len(scores) + 1)).tolist()
        return [tuple(found[start:end]) for start, end in itertools.pairwise(ends)]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of shape (n, labels) that add up to 1 in each row."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def best_columns(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The `k` columns with the highest scores of each row, best first, equal ones in their order: shape (n, k)."""
    k = min(k, scores.shape[1])
    if k < 1:
        raise UsageError(f"`k={k}`: at least 1")
    if 8 * k >= scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    left = scores.copy()  # A few passes for the best take a tenth of the time of sorting a thousand.
    chosen = np.empty((len(scores), k), np.int64)
    rows = np.arange(len(scores))
    for place in range(k):
        chosen[:, place] = left.argmax(axis=1)
        left[rows, chosen[:, place]] = -np.inf
    return chosen
