"""What classification returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clipsearch.types import EncoderInfo, Hit, Listing, Notice


@dataclass(frozen=True, slots=True)
class Prediction:
    label: str
    probability: float
    """0 … 1: softmax over the given labels with the encoder's logit scale; where `ClassifyResult.threshold` is set, of
    this label independently."""
    score: float
    """Inner product of the image's vector with the label's prototype, −1 … 1."""
    prompt: str | None = None
    """The label's best-matching prompt, with `explain`."""


@dataclass(frozen=True, slots=True)
class Classification:
    path: str
    predictions: tuple[Prediction, ...]
    """Best first; empty where `reason` tells why the image could not be read."""
    reason: str | None = None
    paths: tuple[str, ...] = ()
    """Every live path of an image of the library."""
    id: int | None = None
    """Of an image of the library, as `Hit.id`."""
    offline: bool = False
    """Its file is unreachable; its stored vector was classified."""
    unknown: bool = False
    """With `unknown`: none of the labels fits; `predictions` are what would have been chosen."""
    margin: float | None = None
    """With `unknown`: how far the best label stands above unrelated ones, in standard deviations."""


@dataclass(frozen=True, slots=True)
class ClassifyResult(Listing[Classification]):
    """What each image is, in the order of the images; a sequence of classifications."""

    model: EncoderInfo
    results: tuple[Classification, ...]
    notices: tuple[Notice, ...] = ()
    labels: tuple[str, ...] = ()
    """All labels, in their order."""
    threshold: float | None = None
    """With `multi`: the lowest probability in `predictions`."""
    nearest: Mapping[str, tuple[Hit, ...]] = field(default_factory=dict)
    """With `explain`: the images of the library nearest to a chosen label."""

    def _items(self) -> tuple[Classification, ...]:
        return self.results
