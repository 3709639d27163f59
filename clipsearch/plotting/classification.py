"""Plots of classifications: a picture beside the bars of its labels, or a sheet of several such."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipsearch.errors import UsageError
from clipsearch.plotting.paper import SIZE, SMALL, Paper, Style, drawing, pitch, save
from clipsearch.plotting.pictures import small_picture
from clipsearch.reports import Classification, ClassifyResult, Prediction
from clipsearch.showing.wording import model_name

__all__ = ["MOST", "plot_classification"]

MOST = 24
"""Pictures on a sheet."""

LABELS = 8
"""Labels beside one picture; on a sheet SHEET_LABELS."""

SHEET_LABELS = 3


def plot_classification(result: ClassifyResult, file: str | Path, *, dark: bool = False) -> int:
    """The picture beside a bar for each of its best labels; of several pictures a sheet, with the first MOST of them.

    Pictures that could not be read are left out. Returns how many pictures are shown. Raises UsageError where there is
    none, or another file is in the way, ClipsearchError where it cannot be written.
    """
    done = [item for item in result.results if item.predictions]
    if not done:
        raise UsageError("--plot: no picture was classified, so there is nothing to draw")
    shown = done[:MOST]
    texts = [text for item in shown for text in (item.path, *(p.label for p in item.predictions))]
    with drawing([*texts, result.model.spec], file=file, dark=dark) as style:
        about = model_name(result.model.spec) + ("" if result.model.is_clip else ", not CLIP")
        about = style.readable(f"probability by {about}")
        if len(shown) < len(done):
            about += f"; the first {len(shown)} of {len(done):,} pictures"
        paper = _one(shown[0], style, about) if len(shown) == 1 else _sheet(shown, style, about)
        title = "; ".join(f"{os.path.basename(item.path)}: {item.predictions[0].label}" for item in shown)
        save(paper.figure, file, style, title=title)
    return len(shown)


def _one(item: Classification, style: Style, about: str) -> Paper:
    predictions = item.predictions[:LABELS]
    side, bars = 3.4, 3.6
    picture = small_picture((item.path,), side=480)
    ratio = picture.height / picture.width if picture else 1.0
    wide, high = (side, side * ratio) if ratio <= 1 else (side / ratio, side)
    top, left = 0.4, wide + 0.4
    labels = [
        _Label(prediction, bars, style, size=SIZE, lines=3, first=not i) for i, prediction in enumerate(predictions)
    ]
    tall = sum(label.high for label in labels) + 0.4
    height = max(high, tall)
    paper = Paper(left + bars, top + height, style)
    name = style.cut(os.path.basename(item.path), left + bars, size=12, bold=True)
    paper.text(0, 0.1, name, size=12, bold=True)
    paper.picture(picture, 0, top + (height - high) / 2, wide, high)
    y = top + (height - tall) / 2
    for label in labels:
        label.draw(paper, left, y)
        y += label.high
    _scale(paper, left, y + 0.08, bars)
    paper.text(left, y + 0.34, about, size=SMALL, colour=style.theme.muted)
    return paper


def _scale(paper: Paper, left: float, y: float, width: float) -> None:
    """What a bar's length means."""
    for share, across in ((0.0, "left"), (0.5, "center"), (1.0, "right")):
        paper.text(left + share * width, y, f"{100 * share:.0f} %", size=SMALL, colour=paper.theme.muted, across=across)


class _Label:
    """A label with its percentage, and the bar below it; `high` in inches."""

    def __init__(
        self, prediction: Prediction, width: float, style: Style, *, size: float, lines: int, first: bool
    ) -> None:
        self._share = prediction.probability
        self._said = _percent(prediction.probability)
        room = width - style.width(self._said, size=size, bold=first) - 0.15
        self._lines = style.wrap(prediction.label, room, lines=lines, size=size, bold=first)
        self._width, self._size, self._first = width, size, first
        self.high = 0.018 * size + pitch(size) * len(self._lines) + 0.11

    def draw(self, paper: Paper, x: float, y: float) -> None:
        step, size = pitch(self._size), self._size
        middle = y + step / 2
        paper.lines(x, middle + (len(self._lines) - 1) / 2 * step, self._lines, size=size, bold=self._first)
        paper.text(x + self._width, middle, self._said, size=size, bold=self._first, across="right")
        thick, top = 0.011 * size, y + step * len(self._lines) + 0.03
        paper.box(x, top, self._width, thick, paper.theme.panel)
        colour = paper.theme.accent if self._first else paper.theme.muted
        paper.box(x, top, self._width * min(1.0, max(self._share, 0.004)), thick, colour)


def _percent(share: float) -> str:
    """99.97 % is not 100 %, and what is small is not nothing."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def _sheet(items: Sequence[Classification], style: Style, about: str) -> Paper:
    columns = min(len(items), 2 if len(items) <= 4 else 3 if len(items) <= 9 else 4)
    labels = min(SHEET_LABELS, max(len(item.predictions) for item in items))
    wide, high, gap = 2.1, 1.5, 0.4
    bars = [
        [_Label(p, wide, style, size=SMALL, lines=1, first=not i) for i, p in enumerate(item.predictions[:labels])]
        for item in items
    ]
    row = bars[0][0].high
    cell = high + 0.3 + row * labels + 0.25
    rows = -(-len(items) // columns)
    paper = Paper(columns * (wide + gap) - gap, rows * cell + 0.1, style)
    for number, item in enumerate(items):
        x, y = number % columns * (wide + gap), number // columns * cell
        paper.picture(small_picture((item.path,), side=280), x, y, wide, high)
        name = style.cut(os.path.basename(item.path), wide, size=SMALL)
        paper.text(x + wide / 2, y + high + 0.13, name, size=SMALL, colour=style.theme.muted, across="center")
        for place, label in enumerate(bars[number]):
            label.draw(paper, x, y + high + 0.26 + place * row)
    paper.text(0, rows * cell, about, size=SMALL, colour=style.theme.muted)
    return paper
