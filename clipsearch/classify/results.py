"""What classification returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clipsearch.types import EncoderInfo, Hit, Listing, Notice


@dataclass(frozen=True, slots=True)
class Prediction:
    label: str
    probability: float
    """Softmax over the labels that were given, with the encoder's logit scale, or where `ClassifyResult.threshold` is
    set, of this label by itself: 0 … 1."""
    score: float
    """Inner product of the picture's vector with the label's prototype, −1 … 1."""
    prompt: str | None = None
    """The label's prompt that is nearest to the picture, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Classification:
    path: str
    predictions: tuple[Prediction, ...]
    """Best first; empty where `reason` says why the picture could not be read."""
    reason: str | None = None
    paths: tuple[str, ...] = ()
    """Every live path of a picture of the library."""
    id: int | None = None
    """Of a picture that the library holds, as `Hit.id`."""
    offline: bool = False
    """Its file is not there; its stored vector was classified."""
    unknown: bool = False
    """None of the labels stands out, where that was asked; `predictions` are what would have been chosen."""
    margin: float | None = None
    """How far the best label stands above unrelated ones, in log-odds, where that was asked."""


@dataclass(frozen=True, slots=True)
class ClassifyResult(Listing[Classification]):
    """What each image is, in the order of the images; a sequence of classifications."""

    model: EncoderInfo
    results: tuple[Classification, ...]
    notices: tuple[Notice, ...] = ()
    labels: tuple[str, ...] = ()
    """All that could be chosen, in their order."""
    threshold: float | None = None
    """Where every label was judged by itself: the probability that those in `predictions` have at the least."""
    nearest: Mapping[str, tuple[Hit, ...]] = field(default_factory=dict)
    """The pictures of the library nearest to a label that was chosen, where it was asked for."""

    def _items(self) -> tuple[Classification, ...]:
        return self.results
