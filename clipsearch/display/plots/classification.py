"""Plots of classifications: an image with one bar per label, or a sheet of several such images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipsearch.classify.results import Classification, ClassifyResult, Prediction
from clipsearch.display.plots.inset import small_picture
from clipsearch.display.plots.paper import SIZE, SMALL, Paper, Style, drawing, pitch, save
from clipsearch.display.text import model_name
from clipsearch.errors import UsageError

__all__ = ["MOST", "plot_classification"]

MOST = 24
"""Maximum number of images on a sheet."""

LABELS = 8
"""Maximum number of labels beside a single image; on a sheet SHEET_LABELS."""

SHEET_LABELS = 3

UNKNOWN, NONE = "unknown", "none of the labels"


def plot_classification(result: ClassifyResult, file: str | Path, *, dark: bool = False) -> int:
    """Draw one image with a bar for each of its best labels, or a sheet of the first MOST images.

    The labels of the answer are in colour: the best one; none if the image is unknown; all if each label was judged on
    its own. Images that could not be read are left out. Returns the number of images shown. Raises UsageError if there
    are none or another file is in the way, ClipsearchError if the plot cannot be written.
    """
    done = [item for item in result.results if item.reason is None]
    if not done:
        raise UsageError("`plot`: no picture was classified, so there is nothing to draw")
    shown = done[:MOST]
    texts = [text for item in shown for text in (item.path, *(p.label for p in item.predictions))]
    with drawing([*texts, result.model.spec], file=file, dark=dark) as style:
        about = [_axis(result, style)]
        if len(shown) < len(done):
            about.append(f"the first {len(shown)} of {len(done):,} pictures")
        draw = _one if len(shown) == 1 else _sheet
        title = "; ".join(f"{os.path.basename(item.path)}: {_answer(item)}" for item in shown)
        save(draw(shown, result, style, about).figure, file, style, title=title)
    return len(shown)


def _axis(result: ClassifyResult, style: Style) -> str:
    """What the length of a bar means."""
    model = model_name(result.model.spec) + ("" if result.model.is_clip else ", not CLIP")
    alone = "" if result.threshold is None else f" per label on its own, at least {100 * result.threshold:g} %"
    return style.readable(f"probability{alone} ({model})")


def _answer(item: Classification) -> str:
    if item.unknown:
        return UNKNOWN
    return item.predictions[0].label if item.predictions else NONE


def _left_out(items: Sequence[Classification], result: ClassifyResult, most: int) -> list[str]:
    """A note that there are more labels than bars, if there are."""
    longest = max(len(item.predictions) for item in items)
    shown = min(most, longest)
    if result.threshold is not None:
        of = f"{'up to ' if len(items) > 1 else ''}{longest:,}"
        return [f"the first {shown} of {of} labels"] if shown < longest else []
    labels = max(longest, len(result.labels))
    return [f"the best {shown} of {labels:,} labels"] if 0 < shown < labels else []


def _one(items: Sequence[Classification], result: ClassifyResult, style: Style, about: Sequence[str]) -> Paper:
    [item] = items
    predictions = item.predictions[:LABELS]
    side, bars = 3.4, 3.6
    picture = small_picture((item.path,), side=480)
    ratio = picture.height / picture.width if picture else 1.0
    wide, high = (side, side * ratio) if ratio <= 1 else (side / ratio, side)
    top, left = 0.4, wide + 0.4
    labels = [
        _Label(prediction, bars, style, size=SIZE, lines=3, chosen=chosen)
        for prediction, chosen in zip(predictions, _chosen(item, result), strict=False)
    ]
    verdict = _verdict(item)
    above = (0.0, 0.32, 0.6)[len(verdict)]
    tall = sum(label.high for label in labels) + above + (0.4 if labels else 0)
    height = max(high, tall)
    paper = Paper(left + bars, top + height, style)
    name = style.cut(os.path.basename(item.path), left + bars, size=12, bold=True)
    paper.text(0, 0.1, name, size=12, bold=True)
    paper.picture(picture, 0, top + (height - high) / 2, wide, high)
    y = top + (height - tall) / 2
    for number, line in enumerate(verdict):
        colour = style.theme.muted if number else None
        paper.text(left, y + 0.1 + 0.22 * number, line, size=SMALL if number else 12, bold=not number, colour=colour)
    y += above
    for label in labels:
        label.draw(paper, left, y)
        y += label.high
    if labels:
        _scale(paper, left, y + 0.08, bars)
    below = style.wrap("; ".join([*about, *_left_out(items, result, LABELS)]), bars, lines=4, size=SMALL)
    y += 0.34 if labels else 0.06
    paper.lines(left, y + (len(below) - 1) / 2 * pitch(SMALL), below, size=SMALL, colour=style.theme.muted)
    return paper


def _chosen(item: Classification, result: ClassifyResult) -> list[bool]:
    """Which of the predictions are an answer: the first one, none if the image is unknown, or all."""
    return [not item.unknown and (not i or result.threshold is not None) for i in range(len(item.predictions))]


def _verdict(item: Classification) -> list[str]:
    """The lines above the bars if no label is the answer."""
    if item.unknown:
        return [UNKNOWN, "no label stands out; the closest:"] if item.predictions else [UNKNOWN]
    return [] if item.predictions else [NONE]


def _scale(paper: Paper, left: float, y: float, width: float) -> None:
    """The ticks below the bars."""
    for share, across in ((0.0, "left"), (0.5, "center"), (1.0, "right")):
        paper.text(left + share * width, y, f"{100 * share:.0f} %", size=SMALL, colour=paper.theme.muted, across=across)


class _Label:
    """A label with its percentage and a bar below; `high` in inches."""

    def __init__(
        self, prediction: Prediction, width: float, style: Style, *, size: float, lines: int, chosen: bool
    ) -> None:
        self._share = prediction.probability
        self._percent = _percent(prediction.probability)
        room = width - style.width(self._percent, size=size, bold=chosen) - 0.15
        self._lines = style.wrap(prediction.label, room, lines=lines, size=size, bold=chosen)
        self._width, self._size, self._chosen = width, size, chosen
        self.high = 0.018 * size + pitch(size) * len(self._lines) + 0.11

    def draw(self, paper: Paper, x: float, y: float) -> None:
        step, size = pitch(self._size), self._size
        middle = y + step / 2
        paper.lines(x, middle + (len(self._lines) - 1) / 2 * step, self._lines, size=size, bold=self._chosen)
        paper.text(x + self._width, middle, self._percent, size=size, bold=self._chosen, across="right")
        thick, top = 0.011 * size, y + step * len(self._lines) + 0.03
        paper.box(x, top, self._width, thick, paper.theme.panel)
        colour = paper.theme.accent if self._chosen else paper.theme.muted
        paper.box(x, top, self._width * min(1.0, max(self._share, 0.004)), thick, colour)


def _percent(share: float) -> str:
    """Rounded, but never to 0 or 100 % what is not."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def _sheet(items: Sequence[Classification], result: ClassifyResult, style: Style, about: Sequence[str]) -> Paper:
    columns = min(len(items), 2 if len(items) <= 4 else 3 if len(items) <= 9 else 4)
    wide, high, gap = 2.1, 1.5, 0.4
    cells = [_cell(item, result, wide, style) for item in items]
    row = 0.018 * SMALL + pitch(SMALL) + 0.11
    cell = high + 0.3 + row * max(len(each) for each in cells) + 0.25
    rows = -(-len(items) // columns)
    across = columns * (wide + gap) - gap
    paper = Paper(across, rows * cell + 0.1, style)
    for number, item in enumerate(items):
        x, y = number % columns * (wide + gap), number // columns * cell
        paper.picture(small_picture((item.path,), side=280), x, y, wide, high)
        name = style.cut(os.path.basename(item.path), wide, size=SMALL)
        paper.text(x + wide / 2, y + high + 0.13, name, size=SMALL, colour=style.theme.muted, across="center")
        for place, each in enumerate(cells[number]):
            top = y + high + 0.26 + place * row
            if isinstance(each, str):
                paper.text(x, top + pitch(SMALL) / 2, each, size=SMALL, bold=True)
            else:
                each.draw(paper, x, top)
    below = style.wrap("; ".join([*about, *_left_out(items, result, SHEET_LABELS)]), across, lines=3, size=SMALL)
    middle = rows * cell + (len(below) - 1) / 2 * pitch(SMALL)
    paper.lines(0, middle, below, size=SMALL, colour=style.theme.muted)
    return paper


def _cell(item: Classification, result: ClassifyResult, wide: float, style: Style) -> list[str | _Label]:
    """Up to SHEET_LABELS rows below an image of a sheet: bars, or a verdict and bars."""
    bars: list[str | _Label] = [
        _Label(prediction, wide, style, size=SMALL, lines=1, chosen=chosen)
        for prediction, chosen in zip(item.predictions[:SHEET_LABELS], _chosen(item, result), strict=False)
    ]
    return [*_verdict(item)[:1], *bars][:SHEET_LABELS]
