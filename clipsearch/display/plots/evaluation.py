"""Plots of what `eval` measures, from plain arrays: confusion matrix and reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from clipsearch.display.plots.paper import SIZE, SMALL, Paper, Style, drawing, pitch, save
from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["plot_confusion", "plot_reliability"]

NAMED = 40
"""Maximum number of classes whose matrix has names; above it, the most frequent confusions are listed instead."""

CONFUSIONS = 12

DOTS = 360
"""Maximum number of dots along a side of a matrix without names."""


# Confusion


def plot_confusion(counts: NDArray[np.integer], labels: Sequence[str], file: str | Path, *, dark: bool = False) -> None:
    """How often images of each class got each label; the colour shows the share of the row.

    counts: (n, n), rows the true classes, columns the predicted ones, in the order of `labels`. Above NAMED classes
    the matrix has no names, and the most frequent confusions are listed beside it. Raises UsageError if the shapes
    disagree, and what `paper.save` raises.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(labels), len(labels)) or not len(labels):
        raise UsageError(f"a confusion matrix of shape {counts.shape} does not fit {len(labels)} labels")
    with drawing(labels, file=file, dark=dark) as style:
        paper = _named(counts, labels, style) if len(labels) <= NAMED else _crowded(counts, labels, style)
        right = int(np.trace(counts))
        save(paper.figure, file, style, title=f"Confusion matrix: {right:,} of {int(counts.sum()):,} correct")


def _shares(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _named(counts: NDArray[np.integer], labels: Sequence[str], style: Style) -> Paper:
    n = len(labels)
    cell = 0.6 if n <= 6 else 0.46 if n <= 14 else 0.3 if n <= 26 else 0.22
    size = SIZE if cell > 0.4 else SMALL if cell >= 0.3 else 6.5
    names = [style.cut(label, 2.0, size=size) for label in labels]
    longest = max(style.width(name, size=size) for name in names)
    left, top = longest + 0.5, longest + 0.5
    paper = Paper(left + n * cell, top + n * cell + 0.3, style)
    shares = _shares(counts)
    for i in range(n):
        middle = (i + 0.5) * cell
        paper.text(left - 0.1, top + middle, names[i], size=size, across="right")
        paper.text(left + middle, top - 0.1, names[i], size=size, turned=90, down="center")
        for j in range(n):
            place = left + j * cell, top + i * cell
            _count(paper, int(counts[i, j]), float(shares[i, j]), place, cell, right=i == j, size=size)
    paper.text(0.1, top + n * cell / 2, "true class", size=SMALL, turned=90, across="center", colour=style.theme.muted)
    paper.text(left + n * cell / 2, 0.1, "predicted class", size=SMALL, across="center", colour=style.theme.muted)
    summary = _summary(counts, "numbers: pictures; colour: share of the row; outlined: correct")
    paper.text(left, top + n * cell + 0.2, summary, size=SMALL, colour=style.theme.muted)
    return paper


def _summary(counts: NDArray[np.integer], more: str) -> str:
    total, right = int(counts.sum()), int(np.trace(counts))
    return f"{right:,} of {total:,} correct ({100 * right / max(total, 1):.1f} %); {more}"


def _blue(share: float) -> tuple[str, str]:
    """The colour of a share and of the text on it. Even the smallest share is dark enough to be seen."""
    return to_hex(colormaps["Blues"](0.22 + 0.6 * share)), "#000000" if share < 0.55 else "#ffffff"


def _count(
    paper: Paper, count: int, share: float, place: tuple[float, float], cell: float, *, right: bool, size: float
) -> None:
    (x, y), gap = place, 0.012
    colour, on = _blue(share) if count else (paper.theme.panel, paper.theme.muted)
    paper.box(x + gap, y + gap, cell - 2 * gap, cell - 2 * gap, colour)
    if right:
        corners = [x, x + cell, x + cell, x, x], [y, y, y + cell, y + cell, y]
        paper.axes.plot(*corners, color=paper.theme.text, linewidth=1)
    # A number must fit its square.
    number = str(count) if count < 1000 else f"{count / 1000:.0f}k"
    if count and paper.style.width(number, size=size) < cell:
        paper.text(x + cell / 2, y + cell / 2, number, size=size, colour=on, across="center")


def _crowded(counts: NDArray[np.integer], labels: Sequence[str], style: Style) -> Paper:
    side, row = 5.0, 0.4
    paper = Paper(side + 4.3, side + 0.7, style)
    shares = _shares(counts)
    paper.box(0.3, 0.3, side, side, style.theme.panel)
    # With many classes a dot stands for several; it shows the largest, which a mean would hide.
    step = -(-len(labels) // DOTS)
    pooled = _pooled(shares, step)
    picture = colormaps["Blues"](0.3 + 0.6 * pooled)
    picture[..., 3] = pooled > 0
    extent = (0.3, 0.3 + side, 0.3 + side, 0.3)
    paper.image(picture, extent)
    paper.text(0.1, 0.3 + side / 2, "true class", size=SMALL, turned=90, across="center", colour=style.theme.muted)
    paper.text(0.3 + side / 2, 0.12, "predicted class", size=SMALL, across="center", colour=style.theme.muted)
    summary = _summary(counts, f"{len(labels):,} classes in order")
    paper.text(0.3, side + 0.5, summary, size=SMALL, colour=style.theme.muted)
    wrong = counts.astype(np.int64)
    np.fill_diagonal(wrong, 0)
    # Ties in the order of the classes.
    frequent = [int(i) for i in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS] if wrong.flat[i]]
    left = side + 0.7
    paper.text(left, 0.4, "most frequent confusions", size=SIZE, bold=True)
    for number, flat in enumerate(frequent):
        true, predicted = divmod(flat, len(labels))
        y = 0.78 + number * row
        paper.text(left + 0.4, y, f"{int(wrong.flat[flat]):,}", size=SIZE, bold=True, across="right")
        paper.text(left + 0.55, y, style.cut(labels[true], 3.0), size=SIZE)
        taken_for = style.cut(f"→ {labels[predicted]}", 3.0, size=SMALL)
        paper.text(left + 0.55, y + pitch(SMALL), taken_for, size=SMALL, colour=style.theme.muted)
    return paper


def _pooled(shares: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """The largest of each `step` × `step` numbers."""
    more = -len(shares) % step
    padded = np.pad(shares, (0, more))
    n = len(padded) // step
    pooled: NDArray[np.float64] = padded.reshape(n, step, n, step).max(axis=(1, 3))
    return pooled


# Reliability


def plot_reliability(
    confidences: NDArray[np.floating],
    accuracies: NDArray[np.floating],
    counts: NDArray[np.integer],
    ece: float,
    file: str | Path,
    *,
    dark: bool = False,
) -> None:
    """Accuracy against confidence in bins, with perfect calibration as the diagonal; below, the size of each bin.

    confidences, accuracies: the means of each bin, (bins,), 0 … 1, ignored where counts, (bins,), is 0; the bins have
    equal width from 0 to 1. `ece`: the expected calibration error, 0 … 1. Guo et al. 2017 (arXiv:1706.04599),
    figure 1. Raises UsageError if the shapes disagree, and what `paper.save` raises.
    """
    confidences, accuracies, counts = np.asarray(confidences), np.asarray(accuracies), np.asarray(counts)
    if confidences.ndim != 1 or not confidences.shape == accuracies.shape == counts.shape:
        raise UsageError(
            "a reliability diagram needs the confidence, accuracy and count of each bin: three arrays of one length"
        )
    with drawing([], file=file, dark=dark) as style:
        figure = Figure(figsize=(5, 5.6))
        grid = figure.add_gridspec(2, 1, height_ratios=(4, 1), hspace=0.12)
        above, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
        _bins(above, confidences, accuracies, counts, style)
        width = 1 / len(counts)
        middles = (np.arange(len(counts)) + 0.5) * width
        below.bar(middles, counts, width * 0.92, color=style.theme.muted)
        below.set(xlim=(0, 1), xlabel="confidence (predicted probability)", ylabel="pictures")
        for axes in (above, below):
            axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        above.set_title(f"Expected calibration error {100 * ece:.1f} % ({int(counts.sum()):,} pictures)", pad=26)
        figure.align_ylabels()
        save(figure, file, style, title=f"Reliability diagram, expected calibration error {100 * ece:.1f} %")


def _bins(
    axes: Axes,
    confidences: NDArray[np.floating],
    accuracies: NDArray[np.floating],
    counts: NDArray[np.integer],
    style: Style,
) -> None:
    width = 1 / len(counts)
    held = counts > 0
    middles = ((np.arange(len(counts)) + 0.5) * width)[held]
    right, sure = accuracies[held], confidences[held]
    axes.bar(middles, right, width * 0.92, color=style.theme.series[0], label="accuracy")
    # Hatched, so that the gap is seen without its colour.
    axes.bar(
        middles,
        sure - right,
        width * 0.92,
        bottom=right,
        facecolor="none",
        edgecolor=style.theme.series[1],
        hatch="////",
        label="gap to confidence",
    )
    axes.plot([0, 1], [0, 1], color=style.theme.text, linewidth=1.2, linestyle="--", label="perfectly calibrated")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), ylabel="accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.tick_params(labelbottom=False)
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, fontsize=SMALL, columnspacing=1.4)
