"""What evaluations return: figures with intervals, and the arrays behind the plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch.classify.calibration import ReliabilityBins
from clipsearch.evaluate.metrics import Estimate
from clipsearch.search.fitted import Fitted, Rule
from clipsearch.types import EncoderInfo

CURVE = 100
"""The largest K of a recall curve."""


@dataclass(frozen=True, slots=True)
class Missed:
    """An image that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Effort:
    """The cost of the vectors of one evaluation.

    encoded: images and texts that were encoded; taken: those whose vectors the library or an earlier evaluation
    already had. seconds: reading, decoding and encoding together.
    """

    encoded: int
    taken: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Results of one encoder, with the images that it could not use, and its cost."""

    model: EncoderInfo
    missed: tuple[Missed, ...]
    effort: Effort
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guess:
    """An image, its label, and up to five predicted labels, best first."""

    path: str
    label: str
    guesses: tuple[str, ...]
    probability: float
    """Of the first guess: softmax over all labels, 0 … 1."""

    @property
    def right(self) -> bool:
        return self.guesses[0] == self.label


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationScores(Scored):
    """Zero-shot classification of labelled images by one encoder; all shares are between 0 and 1.

    difference: top1 minus the first encoder's, on the images that both could use; None for the first one.
    confusion: counts of shape (labels, labels), one row per true label. reliability: see `ReliabilityBins`.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    guesses: tuple[Guess, ...]
    top1: Estimate
    top5: Estimate
    per_class: Estimate
    """Mean over the labels that have images of the accuracy on each."""
    calibration_error: Estimate
    difference: Estimate | None
    confusion: NDArray[np.int64]
    reliability: ReliabilityBins


@dataclass(frozen=True, slots=True)
class Direction:
    """How well queries of one kind find their images or captions.

    recall: R@K by K. curve: R@K for K = 1 … len(curve), without intervals.
    """

    queries: int
    gallery: int
    recall: dict[int, Estimate]
    mean_average_precision: Estimate
    median_rank: Estimate
    curve: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalScores(Scored):
    """Images found by their captions, and captions by their images, with one encoder.

    difference: text → image R@1 minus the first encoder's; None for the first one. equal_pictures, equal_captions: how
    many were not counted, since an earlier one has the same bytes, or the same text.
    """

    text_to_image: Direction
    image_to_text: Direction
    difference: Estimate | None
    equal_pictures: int = 0
    equal_captions: int = 0


@dataclass(frozen=True, slots=True)
class LabelRelevance:
    """What `relevant` returns for one label, from the images of all labels.

    returned: images that came back, `right` of them the label's. strength: relevance of the best hit, 0 … 1. absent:
    whether anything is returned once the label's images are left out; None where too few others remain.
    """

    label: str
    images: int
    returned: int
    right: int
    strength: float
    absent: bool | None

    @property
    def recall(self) -> float:
        return self.right / self.images if self.images else float("nan")

    @property
    def precision(self) -> float:
        return self.right / self.returned if self.returned else float("nan")

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.images + self.returned) if self.images else float("nan")


@dataclass(frozen=True, slots=True)
class RelevanceFigures:
    """Shares between 0 and 1; nan where there is nothing to measure.

    f1, recall, precision: of the images that are returned for a label, averaged over the labels with images; precision
    over those with an answer. absent: labels that are answered although their images were left out. letters: random
    letters that are answered. kept: right labels that are not called unknown. detected: images that are, once their
    label is left out of the labels.
    """

    f1: float
    recall: float
    precision: float
    absent: float
    letters: float
    kept: float
    detected: float


@dataclass(frozen=True, slots=True)
class RelevanceFit:
    """Constants chosen on labelled images.

    chosen: None where none do better than the program's own on labels that they were not chosen on. own: figures
    with the program's own; same: with the best ones, on the labels that they were chosen on; others: with those chosen
    without the label that is measured.
    """

    chosen: Fitted | None
    own: RelevanceFigures
    same: RelevanceFigures
    others: RelevanceFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class RelevanceScores(Scored):
    """What `relevant` returns and `unknown` keeps, with one encoder, on labelled images taken as a library.

    pictures: different images. rule, margin: the constants in use, `in_use` as they are stored in the library; None for
    the program's own. estimates: the figures with intervals, over labels or, of kept and detected, over images.
    """

    pictures: int
    labels: tuple[LabelRelevance, ...]
    rule: Rule
    margin: float
    in_use: Fitted | None
    estimates: dict[str, Estimate]
    fit: RelevanceFit | None


@dataclass(frozen=True, slots=True)
class Lost:
    """An altered copy that is nearer to another image than to its original."""

    path: str
    alteration: str
    rank: int
    """Rank of the original, from 1."""
    nearest: str
    """The image that was found in its place."""


@dataclass(frozen=True, slots=True)
class AlterationRecall:
    """How many copies with one alteration still find their original."""

    alteration: str
    what: str
    copies: int
    recall: dict[int, Estimate]
    cosine: float
    """Mean cosine of a copy with its original."""
    curve: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfScores(Scored):
    """How well altered copies return their originals, with one encoder. `images`: different ones in the gallery."""

    pictures: int
    alterations: tuple[AlterationRecall, ...]
    lost: tuple[Lost, ...]


@dataclass(frozen=True, slots=True)
class EngineScores:
    """One engine over a library's vectors, with one query at a time.

    origin: "library" for the library's own snapshot, "made" for one that was built for the measurement and removed.
    recall: R@k against exact search, by kind of query ("images", "texts"); p50, p95: milliseconds per query.
    bytes: size of its file; build_s: seconds to build it. details: for "ivf", nlist and nprobe.
    """

    model: EncoderInfo
    engine: str
    origin: Literal["library", "made"]
    vectors: int
    k: int
    recall: dict[str, Estimate]
    p50: float
    p95: float
    bytes: int
    build_s: float | None
    details: dict[str, int]
