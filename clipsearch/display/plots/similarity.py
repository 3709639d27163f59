"""Plots of similarities: a heat map of cosines, or arrows if all items are 2-D vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clipsearch.display.plots.drawing import SIZE, SMALL, Style, drawing, number, save, squares, table, thumbnail
from clipsearch.display.plots.inset import small_image
from clipsearch.display.text import model_name
from clipsearch.errors import UsageError
from clipsearch.search.similarity import Compared, Similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 40
"""Maximum number of items in a heat map; more would be illegible."""

LETTERS = "ABCDEFGHIJKL"
"""A name per arrow."""

THUMBNAIL_SIDE = 240
"""Pixels of a thumbnail."""


def plot_similarity(result: Similarity, file: str | Path, *, dark: bool = False) -> None:
    """Draw a heat map of the cosines, or arrows from the origin for up to twelve 2-D vectors.

    Raises UsageError for more than MOST items, and what `drawing.save` raises.
    """
    check_count(len(result.items))
    with drawing([item.name for item in result.items], file=file, dark=dark) as style:
        if result.vectors.shape[1] == 2 and result.model is None and len(result.items) <= len(LETTERS):
            figure, title = _arrows(result, style), "Vectors, their angles and cosines to the first"
        else:
            figure, title = _heat_map(result, style), "Cosine similarities"
        save(figure, file, style, title=f"{title}: {', '.join(_name(item) for item in result.items)}")


def check_count(items: int) -> None:
    """Raises UsageError for more than MOST items, before they are compared."""
    if items > MOST:
        raise UsageError(f"`plot`: {items} are too many for one plot, {MOST} fit; `csv` has them all")


# The heat map


def _heat_map(result: Similarity, style: Style) -> Figure:
    """A square per pair, one unit wide; the diagonal is always 1 and has no colour."""
    n = len(result.items)
    cell = 1.0 if n <= 4 else 0.85 if n <= 8 else 0.62 if n <= 16 else 0.44 if n <= 26 else 0.34
    figure = Figure(figsize=(n * cell, n * cell))
    axes = figure.add_axes((0, 0, 1, 1))
    others = np.ma.masked_array(result.cosines, np.eye(n, dtype=bool))
    texts = np.vectorize(number)(result.cosines, 2 if cell >= 0.44 else 1)
    size = 11 if cell >= 0.8 else SMALL if cell >= 0.6 else 7.5 if cell >= 0.44 else 6
    colours, scale = _colours(others)
    grid = squares(axes, others, texts, style, gap=2 * cell, size=size, colours=colours, scale=scale)
    axes.set_axis_off()
    for place, item in enumerate(result.items):
        _head(axes, item, place, cell, style)
    bar = axes.inset_axes((1 + 0.2 / (n * cell), 0, 0.14 / (n * cell), 1))
    figure.colorbar(grid, cax=bar, label="cosine similarity", format=lambda value, _: number(value, 2))
    bar.tick_params(length=0)
    if result.model is not None:
        kind = model_name(result.model.spec) + ("" if result.model.is_clip else ", not CLIP")
        axes.text(0, n + 0.1 / cell, style.readable(kind), va="top", **style.note)
    return figure


def _head(axes: Axes, item: Compared, place: int, cell: float, style: Style) -> None:
    """The heading of a row, and of a column: a thumbnail with its name in the row, or a text."""
    size = SIZE if cell >= 0.6 else SMALL
    gap = 0.1 / cell
    left, middle = -gap, place + 0.5
    if item.kind == "picture":
        image = small_image(item.paths, side=THUMBNAIL_SIDE, data=item.data, region=item.region)
        for corner in ((-0.96 - gap / 2, place + 0.04), (place + 0.04, -0.96 - gap / 2)):
            thumbnail(axes, image, corner, (0.92, 0.92), style.theme)
        left -= 0.96 + gap / 2
    elif cell >= 0.8:
        above = style.fit(_name(item), cell - 0.08, lines=7, size=SMALL)
        axes.text(middle, -gap, above, size=SMALL, ha="center", va="bottom")
    else:
        above = style.fit(_name(item), 1.9, size=SMALL)
        axes.text(middle, -gap, above, size=SMALL, rotation=60, rotation_mode="anchor")
    beside = style.fit(_name(item), 2.4, lines=4 if cell >= 0.8 else 2 if cell >= 0.4 else 1, size=size)
    axes.text(left, middle, beside, size=size, ha="right", va="center", multialignment="right")


def _name(item: Compared) -> str:
    """The name of an item in the plot: a file without its folder, a text in quotes."""
    if item.kind == "text":
        return f"“{item.name}”"
    if item.id is not None and item.paths:
        return f"{item.name} {Path(item.paths[0]).name}"
    return Path(item.name).name if item.kind == "picture" else item.name


def _colours(others: np.ma.MaskedArray[Any, Any]) -> tuple[Colormap, Normalize]:
    """Cividis over the range of the cosines, in tenths; blue to red around 0 if it contains 0.

    Cividis: Nuñez, Anderton and Renslow 2018, PLOS ONE 13(7).
    """
    low, high = math.floor(others.min() * 10) / 10, math.ceil(others.max() * 10) / 10
    if low < -0.15:
        most = max(-low, high)
        return colormaps["RdBu_r"], Normalize(-most, most)
    return colormaps["cividis"], Normalize(low, max(high, low + 0.1))


# The arrows

PLANE = 3.8
"""Length of the plane's longer side in inches."""

UNEQUAL = 20
"""Above this ratio of longest to shortest, an arrow would be shorter than its head."""


def _arrows(result: Similarity, style: Style) -> Figure:
    """All arrows from the origin, each with a letter; beside them a table of their angles and cosines."""
    vectors = result.vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unequal = bool(lengths.max() > UNEQUAL * lengths.min())
    if unequal:
        vectors, lengths = vectors / lengths, np.ones_like(lengths)
    inch = float(np.ptp([*vectors, (0, 0)], axis=0).max()) / PLANE
    arcs = _arcs(result, vectors, min(max(float(lengths.min()), 0.8 * inch), 1.9 * inch) * 0.85)
    figure, axes = _plane(np.concatenate([vectors, np.zeros((1, 2)), *arcs.values()]), inch, style)
    colours = style.theme.series * 2
    taken = []
    for i, arc in arcs.items():
        axes.plot(*arc.T, color=colours[i], linewidth=1.2)
        if result.angles[0, i] >= 8 and len(arcs) <= 6:
            taken.append(arc[45])
            _label(axes, taken[-1], f"{result.angles[0, i]:.0f}°", colours[i], size=SMALL, weight="normal")
    # Short arrows over long ones, and letters over all arrows.
    head = "-|>,head_length=0.5,head_width=0.24"
    for i in np.argsort(-lengths[:, 0], kind="stable").tolist():
        look = {"arrowstyle": head, "color": colours[i], "linewidth": 2.4, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", vectors[i], (0, 0), arrowprops=look)
    for i, vector in enumerate(vectors):
        # Beyond the tip, away from other letters and degrees.
        step = vector / np.linalg.norm(vector) * inch
        place = vector + 0.19 * step
        while any(np.linalg.norm(place - other) < 0.25 * inch for other in taken):
            place = place + 0.07 * step
        taken.append(place)
        _label(axes, place, LETTERS[i], colours[i], size=12, weight="bold")
    _table(axes, result, colours, style)
    if unequal:
        why = "The lengths are very unequal: each is drawn with length 1."
        axes.text(0, -0.02, why, transform=axes.transAxes, va="top", **style.note)
    return figure


def _arcs(result: Similarity, vectors: NDArray[np.float64], reach: float) -> dict[int, NDArray[np.float64]]:
    """Points, (91, 2), of the arc from the first vector to each other one, by radius, which increases up to `reach`."""
    own = np.arctan2(vectors[:, 1], vectors[:, 0])
    order = sorted(range(1, len(vectors)), key=lambda i: float(result.angles[0, i]))
    arcs = {}
    for place, i in enumerate(order):
        turn = (own[i] - own[0]) % (2 * math.pi)
        angles = own[0] + np.linspace(0, turn if turn <= math.pi else turn - 2 * math.pi, 91)
        arcs[i] = reach * (place + 1.2) / (len(order) + 0.2) * np.column_stack([np.cos(angles), np.sin(angles)])
    return arcs


def _plane(points: NDArray[np.float64], inch: float, style: Style) -> tuple[Figure, Axes]:
    """Axes through the origin that contain `points`; `inch` is the length of an inch in their unit."""
    low, high = points.min(axis=0) - 0.42 * inch, points.max(axis=0) + 0.42 * inch
    figure = Figure(figsize=tuple((high - low) / inch))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.spines[["left", "bottom"]].set_position("zero")
    axes.tick_params(labelsize=SMALL, labelcolor=style.theme.muted, direction="inout")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−") if value else "")
    axes.text(1.02, 0, "x", transform=axes.get_yaxis_transform(), va="center", **style.note)
    axes.text(0, 1.02, "y", transform=axes.get_xaxis_transform(), ha="center", **style.note)
    return figure, axes


def _label(axes: Axes, place: NDArray[np.float64], text: str, colour: str, *, size: float, weight: str) -> None:
    """A text on a ground that hides what it covers."""
    ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 1.2}
    label = axes.text(place[0], place[1], text, color=colour, size=size, weight=weight, zorder=4)
    label.set(ha="center", va="center_baseline", bbox=ground)


def _table(axes: Axes, result: Similarity, colours: Sequence[str], style: Style) -> None:
    rows = [["", "", "cosine to A", "angle to A"]]
    for i, item in enumerate(result.items):
        numbers = ["", "the reference"] if not i else [number(result.cosines[0, i], 2), f"{result.angles[0, i]:.1f}°"]
        rows.append([LETTERS[i], style.fit(item.name.replace("-", "−"), 1.8), *numbers])
    cells = table(axes, rows, style)
    for (row, column), cell in cells.get_celld().items():
        if column > 1:
            cell.set_text_props(ha="right", weight="bold" if row and column == 2 else "normal")
        elif column == 0 and row:
            cell.set_text_props(size=12, weight="bold", color=colours[row - 1])
    cells[1, 3].set_text_props(**style.note)
