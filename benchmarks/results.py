"""A row of the table: what was compared with what, and what was hoped for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Sense = Literal["≥", "≤"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio should reach. `text` says it otherwise where the ratio is not what one would name."""

    sense: Sense
    value: float
    text: str = ""

    def __str__(self) -> str:
        return self.text or f"{self.sense} {self.value:g}×"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `ratio` is None where `missing` says why it was not measured.

    ours, reference: figures for people, with units. shown: the ratio for people where "1.23×" would not do.
    label: a few words for the plot. A row without a target is for information. facts: JSON-able, the figures behind it.
    """

    name: str
    what: str
    target: Target | None
    ours: str = "–"
    reference: str = "–"
    ratio: float | None = None
    shown: str = ""
    label: str = ""
    note: str = ""
    missing: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio_text(self) -> str:
        if self.ratio is None:
            return "–"
        return self.shown or f"{self.ratio:.2f}×"

    @property
    def plot_text(self) -> str:
        """The ratio, or ours where the target is an amount."""
        amount = self.target is not None and self.target.text and self.target.sense == "≤" and not self.shown
        return self.ours if amount else self.ratio_text

    @property
    def score(self) -> float | None:
        """How far the target was reached: 1 is just so, 2 twice as good; None without target or figures."""
        if self.ratio is None or self.target is None or self.ratio <= 0:
            return None
        return self.ratio / self.target.value if self.target.sense == "≥" else self.target.value / self.ratio

    @property
    def met(self) -> bool | None:
        score = self.score
        return None if score is None else score >= 1

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "target": str(self.target or ""), "met": self.met, "score": self.score}


def seconds(value: float) -> str:
    """A time for people."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"
