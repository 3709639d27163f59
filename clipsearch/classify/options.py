"""How pictures are classified: what is asked of a classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from clipsearch.classify.classifier import Classifier

UNKNOWN = "unknown"
"""What a picture is called that no label fits."""

MARGIN = 2.0
"""Log-odds that a picture's best label must have over unrelated ones, about 7 to 1; see `neutral`."""


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """k: labels a picture, all of them for None. multi: judge every label by itself, and give those whose probability
    is `threshold` at the least. unknown: say so where the best label stands less than `margin` above unrelated ones.
    explain: add the best-matching prompt, and the images of the library nearest to a label. templates: sentences with
    {} for the label, "simple" or "openai"; by default the encoder's own. model: another encoder that the library holds.
    """

    k: int | None = 5
    multi: bool = False
    threshold: float = 0.5
    unknown: bool = False
    margin: float = MARGIN
    explain: bool = False
    templates: Sequence[str] = ()
    model: str | None = None

    def check(self, classifier: Classifier) -> None:
        """Raises UsageError for what contradicts itself, or cannot be asked of `classifier`."""
        if self.k is not None and self.k < 1:
            raise UsageError(f"-k {self.k}: ask for at least one")
        if self.multi and self.unknown:
            raise UsageError("--multi gives no label where none fits; leave out --unknown")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold {self.threshold:g}: a probability, from 0 to 1")
        if not math.isfinite(self.margin):
            raise UsageError(f"--margin {self.margin:g}: a number, in log-odds")
        if self.multi and classifier.fit is not None:
            raise UsageError("--multi: examples teach a classifier to choose one label; leave out --multi")
        if self.unknown and any(label.name == UNKNOWN for label in classifier.labels):
            raise UsageError(f"a label is called {UNKNOWN} itself; rename it, or leave out --unknown")
