"""`ClassifyOptions`: how images are classified, and which options contradict one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from clipsearch.classify.classifier import Classifier

UNKNOWN = "unknown"
"""The label of an image that no label fits."""

UNKNOWN_MARGIN = 2.0
"""Standard deviations by which an image's best label must stand above unrelated ones; see `unknown`."""


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """k: labels per image, None for all. multi: judge each label separately, and give those with a probability of at
    least `threshold`. unknown: mark an image whose best label is less than `margin` standard deviations above unrelated
    ones; None stands for the margin that was fitted for the library (`evaluate.store_fit`), or UNKNOWN_MARGIN without
    one. explain: add the best-matching prompt, and the images of the library nearest to a label. templates: sentences
    with {} for the label, "simple" or "openai"; by default the encoder's own. model: another encoder in the library.
    """

    k: int | None = 5
    multi: bool = False
    threshold: float = 0.5
    unknown: bool = False
    margin: float | None = None
    explain: bool = False
    templates: Sequence[str] = ()
    model: str | None = None

    def check(self, classifier: Classifier) -> None:
        """Raises UsageError for options that contradict one another or do not fit `classifier`."""
        if self.k is not None and self.k < 1:
            raise UsageError(f"`k={self.k}`: must be at least 1")
        if self.multi and self.unknown:
            raise UsageError("`multi=True` already gives no label where none fits; leave out `unknown`")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"`threshold={self.threshold:g}`: must be a probability, from 0 to 1")
        if self.margin is not None and not math.isfinite(self.margin):
            raise UsageError(f"`margin={self.margin:g}`: must be a number of standard deviations")
        if self.multi and classifier.fit is not None:
            raise UsageError("a classifier made from examples chooses one label; leave out `multi`")
        if self.unknown and any(label.name == UNKNOWN for label in classifier.labels):
            raise UsageError(f"a label is itself called {UNKNOWN}; rename it, or leave out `unknown`")
