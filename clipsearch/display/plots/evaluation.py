"""Plots of what `eval` measures, from plain arrays: confusion matrix and reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from clipsearch.display.plots.drawing import SIZE, SMALL, Style, drawing, save, squares, table
from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    disagree, and what `drawing.save` raises.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(labels), len(labels)) or not len(labels):
        raise UsageError(f"a confusion matrix of shape {counts.shape} does not fit {len(labels)} labels")
    with drawing(labels, file=file, dark=dark) as style:
        figure = _named(counts, labels, style) if len(labels) <= NAMED else _crowded(counts, labels, style)
        right = int(np.trace(counts))
        save(figure, file, style, title=f"Confusion matrix: {right:,} of {int(counts.sum()):,} correct")


def _named(counts: NDArray[np.integer], labels: Sequence[str], style: Style) -> Figure:
    n = len(labels)
    cell = 0.6 if n <= 6 else 0.46 if n <= 14 else 0.3 if n <= 26 else 0.22
    size = SIZE if cell > 0.4 else SMALL if cell >= 0.3 else 6.5
    figure, axes = _matrix(counts, n * cell, "numbers: pictures; colour: share of the row; outlined: correct", style)
    shares = np.ma.masked_equal(_shares(counts), 0)
    # A number must fit its square.
    shown = np.array([str(n) if n < 1000 else f"{n / 1000:.0f}k" for n in counts.flat]).reshape(counts.shape)
    shown[(counts == 0) | (np.vectorize(style.width)(shown, size=size) >= cell)] = ""
    squares(axes, shares, shown, style, gap=2 * cell, size=size, colours=_blues(0.22, 0.82), scale=Normalize(0, 1))
    names = [style.fit(label, 2.0, size=size) for label in labels]
    axes.set_xticks(np.arange(n) + 0.5, names, rotation=90, size=size)
    axes.set_yticks(np.arange(n) + 0.5, names, size=size)
    for i in range(n):
        axes.add_patch(Rectangle((i, i), 1, 1, fill=False, edgecolor=style.theme.text, zorder=2, clip_on=False))
    return figure


def _crowded(counts: NDArray[np.integer], labels: Sequence[str], style: Style) -> Figure:
    figure, axes = _matrix(counts, 5, f"{len(labels):,} classes in order", style)
    axes.set(facecolor=style.theme.panel, xticks=[], yticks=[])
    # With many classes a dot stands for several; it shows the largest, which a mean would hide.
    starts = range(0, len(labels), -(-len(labels) // DOTS))
    pooled = np.maximum.reduceat(np.maximum.reduceat(_shares(counts), starts, axis=0), starts, axis=1)
    axes.imshow(np.ma.masked_equal(pooled, 0), cmap=_blues(0.3, 0.9), vmin=0, vmax=1, interpolation="antialiased")
    wrong = counts.astype(np.int64)
    np.fill_diagonal(wrong, 0)
    # Ties in the order of the classes.
    frequent = [int(i) for i in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS] if wrong.flat[i]]
    rows = [["", "most frequent confusions", ""]]
    for flat in frequent:
        true, predicted = divmod(flat, len(labels))
        names = style.fit(labels[true], 2.2), style.fit(f"→ {labels[predicted]}", 2.2)
        rows.append([f"{int(wrong.flat[flat]):,}", *names])
    table(axes, rows, style)
    return figure


def _matrix(counts: NDArray[np.integer], side: float, more: str, style: Style) -> tuple[Figure, Axes]:
    """Empty axes, `side` inches wide and high, for a matrix, with their names and a summary below."""
    figure = Figure(figsize=(side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted class", labelpad=8, **style.note)
    axes.set_ylabel("true class", labelpad=8, **style.note)
    total, right = int(counts.sum()), int(np.trace(counts))
    summary = f"{right:,} of {total:,} correct ({100 * right / max(total, 1):.1f} %); {more}"
    axes.text(0, -0.1 / side, summary, transform=axes.transAxes, va="top", **style.note)
    return figure, axes


def _blues(low: float, high: float) -> ListedColormap:
    """A colour per share. Even the smallest share is dark enough to be seen."""
    return ListedColormap(colormaps["Blues"](np.linspace(low, high, 256)))


def _shares(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


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
    figure 1. Raises UsageError if the shapes disagree, and what `drawing.save` raises.
    """
    confidences, accuracies, counts = np.asarray(confidences), np.asarray(accuracies), np.asarray(counts)
    if confidences.ndim != 1 or not confidences.shape == accuracies.shape == counts.shape:
        raise UsageError(
            "a reliability diagram needs the confidence, accuracy and count of each bin: three arrays of one length"
        )
    with drawing([], file=file, dark=dark) as style:
        figure = Figure(figsize=(5, 5.6))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1), gridspec_kw={"hspace": 0.12})
        middles, width = (np.arange(len(counts)) + 0.5) / len(counts), 0.92 / len(counts)
        held = counts > 0
        right, gaps = accuracies[held], (confidences - accuracies)[held]
        above.bar(middles[held], right, width, color=style.theme.series[0], label="accuracy")
        # Hatched, so that the gap is seen without its colour.
        look = {"facecolor": "none", "edgecolor": style.theme.series[1], "hatch": "////"}
        above.bar(middles[held], gaps, width, bottom=right, label="gap to confidence", **look)
        above.plot([0, 1], [0, 1], "--", color=style.theme.text, linewidth=1.2, label="perfectly calibrated")
        above.set(ylim=(0, 1.01), ylabel="accuracy")
        above.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        above.grid(axis="y", linewidth=0.6)
        above.set_axisbelow(True)
        above.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, fontsize=SMALL, columnspacing=1.4)
        below.bar(middles, counts, width, color=style.theme.muted)
        below.set(xlim=(0, 1), xlabel="confidence (predicted probability)", ylabel="pictures")
        below.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        above.set_title(f"Expected calibration error {100 * ece:.1f} % ({int(counts.sum()):,} pictures)", pad=26)
        figure.align_ylabels()
        save(figure, file, style, title=f"Reliability diagram, expected calibration error {100 * ece:.1f} %")
