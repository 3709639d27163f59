"""Few-shot classification: means of a few examples per class blended with the prompts, and a fitted temperature.

For a class c with text prototype t_c and example vectors x, whose mean made a unit vector is m_c, the prototype is

    w_c = (1 − b) · (t_c − t̄) + b · (m_c − m̄)           classes without an example keep t_c − t̄

where t̄ and m̄ are the means of all text prototypes and of all class means. CLIP's text and image embeddings occupy
separate regions (Liang et al. 2022, arXiv:2203.02053); without subtracting their centres, any class with an example
would win over those without. The subtraction adds the same to every class's logit, so b = 0 is the plain zero-shot
classifier, probability by probability.

Every example is left out once, together with those of its class that are nearly equal (`known.near_equal`): a burst
would otherwise confirm itself. Its class's mean and m̄ are computed without them, and the rest classifies it. b is the
one of BLENDS with the lowest log-loss of these predictions, each at its own best scale; where no class has two
independent examples, b is DEFAULT_BLEND. The scale s (1 / temperature; Guo et al. 2017, arXiv:1706.04599) is the most
probable one after these n predictions,

    s = argmin  n · log-loss(s) + (ln(s / τ))² / (2 · SPREAD²)

so it is fitted on images that the classifier has not seen, and departs from the encoder's own scale τ only as far as
their number justifies: ten correct ones would otherwise increase it without limit. The calibration error after fitting
is that of scales fitted on the other half of the predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.classify.calibration import expected_calibration_error
from clipsearch.classify.classifier import BlendBy, Classifier, Fit, softmax
from clipsearch.classify.known import Everyday, learn, near_equal, unit

BLENDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

DEFAULT_BLEND = 0.5
"""Where no class has two examples; about the best in `benchmarks/classifying.py`."""

FEWEST = 8
"""With fewer examples no scale is fitted, and the encoder's own is used."""

SPAN = 32.0
"""The fitted scale lies within this factor of the encoder's own."""

SPREAD = 1.0
"""Expected distance, as a logarithm, of scales from the encoder's own; see `calibration` in
`benchmarks/classifying.py`. Platt's targets instead left the predictions of few examples underconfident."""

KNOWN = 0.05
"""Share of the examples whose leave-one-out score may be below `Fit.floor`; see `known` for the rule in use."""


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """Scores of each of n examples by prompts (n, labels), and by the other examples (n, labels)."""

    text: NDArray[np.float64]
    pictures: NDArray[np.float64]
    has: NDArray[np.bool_]
    """Whether the label still has an example, shape (n, labels)."""
    classes: NDArray[np.int64]

    def scores(self, blend: float) -> NDArray[np.float64]:
        blended: NDArray[np.float64] = np.where(self.has, (1 - blend) * self.text + blend * self.pictures, self.text)
        return blended

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Which examples have others in their class, shape (n,)."""
        judged: NDArray[np.bool_] = self.has[np.arange(len(self.classes)), self.classes]
        return judged


def fit(
    classifier: Classifier,
    vectors: NDArray[np.float32],
    classes: NDArray[np.int64],
    *,
    blend: float | None = None,
    everyday: Everyday | None = None,
) -> Classifier:
    """`classifier`, made from prompts alone, with examples: unit rows (n, dim), n ≥ 1, and the label of each, (n,).

    `blend` is the weight of the images, 0 … 1; by default, the one with the lowest leave-one-out log-loss. With
    `everyday`, the classifier can also tell which images are unknown.
    """
    rows = vectors.astype(np.float64)
    text = classifier.prototypes.astype(np.float64)
    text = text - text.mean(axis=0)
    counts = np.bincount(classes, minlength=len(text))
    sums = np.zeros_like(text)
    np.add.at(sums, classes, rows)
    groups = near_equal(vectors, classes)
    left = _leave_one_out(text, rows, classes, groups, counts, sums)
    own = classifier.info.logit_scale
    by: BlendBy = "given"
    if blend is None and not left.judged.any():
        blend, by = DEFAULT_BLEND, "default"
    elif blend is None:
        blend, by = _best_blend(left, own), "leave-one-out"
    scores = left.scores(blend)
    fitted = len(np.unique(groups)) >= FEWEST and len(text) > 1
    scale = _best_scale(scores, classes, own) if fitted else own
    before, after = _errors(scores, classes, groups, own, fitted=fitted)
    has = counts > 0
    means = unit(sums[has])
    prototypes = text.copy()
    prototypes[has] = (1 - blend) * text[has] + blend * (means - means.mean(axis=0))
    return Classifier(
        classifier.info,
        classifier.labels,
        prototypes.astype(np.float32),
        classifier.templates,
        Fit(
            counts=tuple(counts.tolist()),
            blend=blend,
            blend_by=by,
            scale=scale,
            scale_fitted=fitted,
            right=float((scores.argmax(axis=1) == classes).mean()),
            ece_before=before,
            ece_after=after,
            floor=float(np.quantile(scores[np.arange(len(rows)), classes], KNOWN)),
        ),
        classifier.notices,
        learn(classifier.prototypes, vectors, classes, groups, everyday) if everyday else None,
    )


def _leave_one_out(
    text: NDArray[np.float64],
    rows: NDArray[np.float64],
    classes: NDArray[np.int64],
    groups: NDArray[np.int64],
    counts: NDArray[np.int64],
    sums: NDArray[np.float64],
) -> _LeftOut:
    every = np.arange(len(rows))
    means = unit(sums)
    parts = np.zeros((int(groups.max()) + 1, rows.shape[1]))
    np.add.at(parts, groups, rows)
    rest = counts[classes] - np.bincount(groups)[groups]
    without = unit(sums[classes] - parts[groups])
    without[rest == 0] = 0
    images = rows @ means.T
    images[every, classes] = (rows * without).sum(axis=1)
    has = np.repeat((counts > 0)[None], len(rows), axis=0)
    has[every, classes] = rest > 0
    centre = (means.sum(axis=0) - means[classes] + without) / np.maximum(has.sum(axis=1), 1)[:, None]
    images -= (rows * centre).sum(axis=1)[:, None]
    return _LeftOut(rows @ text.T, images, has, classes)


def _best_blend(left: _LeftOut, own: float) -> float:
    """The blend with the lowest log-loss over the examples whose class has others."""
    judged = left.judged
    some = _LeftOut(left.text[judged], left.pictures[judged], left.has[judged], left.classes[judged])

    def loss(blend: float) -> float:
        scores = some.scores(blend)
        return _loss(scores, some.classes, _best_scale(scores, some.classes, own), own)

    return min(BLENDS, key=loss)


def _loss(scores: NDArray[np.float64], classes: NDArray[np.int64], scale: float, own: float) -> float:
    """The log-loss of n predictions, plus the penalty on the scale divided by n."""
    n = len(scores)
    logits = scale * scores
    top = logits.max(axis=1)
    logs = logits[np.arange(n), classes] - top - np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float(-logs.mean() + math.log(scale / own) ** 2 / (2 * SPREAD**2 * n))


def _best_scale(scores: NDArray[np.float64], classes: NDArray[np.int64], own: float) -> float:
    """The scale with the lowest loss, by golden section over its logarithm (Kiefer 1953)."""

    def value(log: float) -> float:
        return _loss(scores, classes, math.exp(log), own)

    low, high = math.log(own / SPAN), math.log(own * SPAN)
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = value(a), value(b)
    for _ in range(30):
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = value(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = value(b)
    return math.exp((low + high) / 2)


def _errors(
    scores: NDArray[np.float64], classes: NDArray[np.int64], groups: NDArray[np.int64], own: float, *, fitted: bool
) -> tuple[float, float]:
    """Calibration error of the left-out predictions with the encoder's scale, and with one fitted on the other half."""
    right = scores.argmax(axis=1) == classes
    before = softmax(own * scores).max(axis=1)
    after = before.copy()
    if fitted:
        for half in (0, 1):
            here = groups % 2 == half
            scale = _best_scale(scores[~here], classes[~here], own)
            after[here] = softmax(scale * scores[here]).max(axis=1)
    return expected_calibration_error(before, right), expected_calibration_error(after, right)
