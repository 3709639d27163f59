"""What evaluations return: figures with their intervals, and the arrays that a plot is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from clipsearch.classify.calibration import ReliabilityBins
from clipsearch.evaluate.metrics import Estimate
from clipsearch.types import EncoderInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


CURVE = 100
"""Ranks that a recall curve goes to, where there are so many."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A picture that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Effort:
    """What the vectors of one evaluation cost.

    encoded: pictures and texts that went through the encoder; taken: those whose vectors the library or an earlier
    evaluation had. seconds: reading, decoding and encoding together.
    """

    encoded: int
    taken: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Guess:
    """A picture, its label, and what it was taken for: up to five labels, best first."""

    path: str
    label: str
    guesses: tuple[str, ...]
    probability: float
    """Of the first guess: softmax over all labels, 0 … 1."""

    @property
    def right(self) -> bool:
        return self.guesses[0] == self.label


@dataclass(frozen=True, slots=True)
class ClassificationScores:
    """Zero-shot classification of labelled pictures by one encoder; all shares lie between 0 and 1.

    difference: of top1 to the first encoder's, on the pictures that both could read; None for the first one.
    confusion: counts of shape (labels, labels), a row for each true label. reliability: see `metrics.ReliabilityBins`.
    """

    model: EncoderInfo
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    guesses: tuple[Guess, ...]
    top1: Estimate
    top5: Estimate
    per_class: Estimate
    """Mean over the labels that have pictures of the accuracy on each."""
    calibration_error: Estimate
    difference: Estimate | None
    confusion: NDArray[np.int64]
    reliability: ReliabilityBins
    missed: tuple[Missed, ...]
    effort: Effort
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Direction:
    """How well queries of one kind find what belongs to them.

    recall: R@K by K. curve: R@K for K = 1 … len(curve), without intervals.
    """

    queries: int
    gallery: int
    recall: dict[int, Estimate]
    mean_average_precision: Estimate
    median_rank: Estimate
    curve: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Pictures found by their captions, and captions by their pictures, with one encoder.

    difference: of text → image R@1 to the first encoder's; None for the first one.
    """

    model: EncoderInfo
    text_to_image: Direction
    image_to_text: Direction
    difference: Estimate | None
    missed: tuple[Missed, ...]
    effort: Effort
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """An altered copy that another picture was nearer to than its original was."""

    path: str
    alteration: str
    rank: int
    """Of the original, from 1."""
    nearest: str
    """The picture that was found in its place."""


@dataclass(frozen=True, slots=True)
class AlterationRecall:
    """How many copies that were altered in one way still find their original."""

    alteration: str
    what: str
    copies: int
    recall: dict[int, Estimate]
    cosine: float
    """Mean cosine of a copy with its original."""
    curve: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SelfScores:
    """How well altered copies return their originals, with one encoder. `pictures`: different ones in the gallery."""

    model: EncoderInfo
    pictures: int
    alterations: tuple[AlterationRecall, ...]
    lost: tuple[Lost, ...]
    missed: tuple[Missed, ...]
    effort: Effort
    notices: tuple[str, ...] = ()


Scored = ClassificationScores | RetrievalScores | SelfScores
"""What says of one encoder how it did, what it could not use, and what it cost."""


@dataclass(frozen=True, slots=True)
class EngineScores:
    """One engine over a library's vectors, asked one query at a time.

    origin: "library" where the library's own snapshot was measured, "made" where one was made for it and removed.
    recall: R@k against exact search, by kind of query ("pictures", "texts"); p50, p95: milliseconds a query.
    bytes: of its file; build_s: seconds that making it took. details: for "ivf", nlist and nprobe.
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
