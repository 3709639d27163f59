"""Plots of classifications: an image with one bar per label, or a sheet of several such images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipsearch.classify.results import Classification, ClassifyResult
from clipsearch.display.plots.drawing import SIZE, SMALL, Style, drawing, save, thumbnail
from clipsearch.display.plots.inset import small_image
from clipsearch.display.text import model_name
from clipsearch.errors import UsageError

MOST = 24
"""Maximum number of images on a sheet."""

LABELS = 8
"""Maximum number of labels beside a single image; on a sheet SHEET_LABELS."""

SHEET_LABELS = 3


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
        title = "; ".join(
            f"{os.path.basename(item.path)}: {_verdict(item) or item.predictions[0].label}" for item in shown
        )
        save(_draw(shown, result, style, about), file, style, title=title)
    return len(shown)


def _axis(result: ClassifyResult, style: Style) -> str:
    """What the length of a bar means."""
    model = model_name(result.model.spec) + ("" if result.model.is_clip else ", not CLIP")
    alone = "" if result.threshold is None else f" per label on its own, at least {100 * result.threshold:g} %"
    return style.readable(f"probability{alone} ({model})")


def _left_out(items: Sequence[Classification], result: ClassifyResult, most: int) -> list[str]:
    """A note that there are more labels than bars, if there are."""
    longest = max(len(item.predictions) for item in items)
    shown = min(most, longest)
    if result.threshold is not None:
        of = f"{'up to ' if len(items) > 1 else ''}{longest:,}"
        return [f"the first {shown} of {of} labels"] if shown < longest else []
    labels = max(longest, len(result.labels))
    return [f"the best {shown} of {labels:,} labels"] if 0 < shown < labels else []


def _draw(items: Sequence[Classification], result: ClassifyResult, style: Style, about: Sequence[str]) -> Figure:
    """Each image under its name and beside its bars, in up to three columns."""
    # The unit is an inch, x to the right and y down; `save` crops the figure to what is drawn.
    figure = Figure(figsize=(1, 1))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(1, 0))
    axes.set_axis_off()
    one = len(items) == 1
    side, length, most = (3.4, 3.6, LABELS) if one else (1.5, 2.1, SHEET_LABELS)
    columns = 1 if one else 2 if len(items) <= 8 else 3
    images = [small_image((item.path,), side=480 if one else 280) for item in items]
    ratios = [image.height / image.width if image else 1.0 for image in images]
    width, height = side * min(1.0, 1 / min(ratios)), side * min(1.0, max(ratios))
    block = width + 0.3 + length
    y = bottom = 0.0
    for place, (item, image) in enumerate(zip(items, images, strict=True)):
        x = place % columns * (block + 0.5)
        y = y if place % columns else bottom
        size = SIZE if one else SMALL
        name = style.fit(os.path.basename(item.path), block, size=1.2 * size, bold=True)
        axes.text(x, y, name, size=1.2 * size, weight="bold")
        top = y + 0.12
        thumbnail(axes, image, (x, top), (width, height), style.theme)
        end = _bars(axes, (x + width + 0.3, top), length, item, result, style, one=one)
        bottom = max(bottom, end + 0.3, top + height + 0.4)
    notes = "; ".join([*about, *_left_out(items, result, most)])
    across = block if one else columns * (block + 0.5) - 0.5
    axes.text(0, bottom - 0.2, style.fit(notes, across, lines=4, size=SMALL), va="top", **style.note)
    return figure


def _bars(
    axes: Axes,
    place: tuple[float, float],
    length: float,
    item: Classification,
    result: ClassifyResult,
    style: Style,
    *,
    one: bool,
) -> float:
    """A verdict unless a label is the answer, and the best labels, each above a bar; returns where they end."""
    size, most, lines = (SIZE, LABELS, 3) if one else (SMALL, SHEET_LABELS, 1)
    x, y = place
    line = 1.2 * size / 72
    if verdict := _verdict(item):
        closest = "; the closest:" if item.predictions else ""
        axes.text(x, y, verdict + closest, size=1.2 * size, weight="bold", va="top")
        y += 1.6 * line
    for number, prediction in enumerate(item.predictions[:most]):
        chosen = not item.unknown and (not number or result.threshold is not None)
        percent, weight = _percent(prediction.probability), "bold" if chosen else "normal"
        room = length - style.width(percent, size=size, bold=chosen) - 0.15
        label = style.fit(prediction.label, room, lines=lines, size=size, bold=chosen)
        axes.text(x, y, label, size=size, weight=weight, va="top")
        axes.text(x + length, y, percent, size=size, weight=weight, va="top", ha="right")
        y += line * (label.count("\n") + 1.6)
        colour = style.theme.accent if chosen else style.theme.muted
        for share, fill in ((1.0, style.theme.panel), (prediction.probability, colour)):
            axes.barh(y, length * max(share, 0.004), 0.7 * line, left=x, color=fill, clip_on=False)
        y += 0.9 * line
    return y


def _verdict(item: Classification) -> str:
    """What is shown in place of an answer; empty if a label is the answer."""
    return "unknown" if item.unknown else "" if item.predictions else "none of the labels"


def _percent(share: float) -> str:
    """Rounded, but never to 0 or 100 % what is not."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"
