"""Plots of similarities: a heat map of cosines, or arrows if all items are 2-D vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, Normalize, to_hex
from matplotlib.patches import Arc
from matplotlib.ticker import MaxNLocator

from clipsearch.display.plots.inset import small_picture
from clipsearch.display.plots.paper import SIZE, SMALL, Paper, Style, drawing, figure, pitch, save
from clipsearch.display.text import model_name
from clipsearch.errors import UsageError
from clipsearch.search.similarity import Compared, Similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST", "check_count", "plot_similarity"]

MOST = 40
"""Maximum number of items in a heat map; more would be illegible."""

MOST_ARROWS = 12

SIDE = 240
"""Pixels of a thumbnail."""


def plot_similarity(result: Similarity, file: str | Path, *, dark: bool = False) -> None:
    """Draw a heat map of the cosines, or arrows from the origin for up to MOST_ARROWS 2-D vectors.

    Raises UsageError for more than MOST items, and what `paper.save` raises.
    """
    check_count(len(result.items))
    with drawing([item.name for item in result.items], file=file, dark=dark) as style:
        if result.vectors.shape[1] == 2 and result.model is None and len(result.items) <= MOST_ARROWS:
            paper, title = _arrows(result, style), "Vectors, their angles and cosines to the first"
        else:
            paper, title = _heat_map(result, style), "Cosine similarities"
        save(paper.figure, file, style, title=f"{title}: {', '.join(_name(item) for item in result.items)}")


def check_count(items: int) -> None:
    """Raises UsageError for more than MOST items, before they are compared."""
    if items > MOST:
        raise UsageError(f"`plot`: {items} are too many for one plot, {MOST} fit; `csv` has them all")


# The heat map


def _heat_map(result: Similarity, style: Style) -> Paper:
    n = len(result.items)
    cell = 1.0 if n <= 4 else 0.85 if n <= 8 else 0.62 if n <= 16 else 0.44 if n <= 26 else 0.34
    heads = [_Head(item, cell, style) for item in result.items]
    left, top = max(head.wide for head in heads) + 0.12, max(head.high for head in heads) + 0.06
    paper = Paper(left + n * cell + 0.75, top + n * cell + 0.2, style)
    colours, scale = _colours(result.cosines)
    for i, head in enumerate(heads):
        head.draw_beside(paper, left - 0.1, top + i * cell)
        head.draw_above(paper, left + i * cell, top)
        for j in range(n):
            _cell(paper, result.cosines[i, j], i == j, (left + j * cell, top + i * cell), cell, colours, scale)
    _scale(paper, colours, scale, left + n * cell + 0.2, top, n * cell)
    if result.model is not None:
        kind = model_name(result.model.spec) + ("" if result.model.is_clip else ", not CLIP")
        paper.text(left, top + n * cell + 0.2, style.readable(kind), size=SMALL, colour=style.theme.muted)
    return paper


class _Head:
    """The heading of a row and a column: a thumbnail with its name, or a text. `wide` and `high` in inches."""

    _TURN = 60

    def __init__(self, item: Compared, cell: float, style: Style) -> None:
        self._cell = cell
        self._is_picture = item.kind == "picture"
        self._picture = small_picture(item.paths, side=SIDE, data=item.data, region=item.region)
        name = _name(item)
        self._size = SIZE if cell >= 0.6 else SMALL
        most = 4 if cell >= 0.8 else 2 if cell >= 0.4 else 1
        self._lines = style.wrap(name, 2.4, lines=most, size=self._size)
        self._side = cell - 0.08
        self.wide = max(style.width(line, size=self._size) for line in self._lines)
        self._upright = cell >= 0.8
        if self._is_picture:
            self.wide += self._side + 0.1
            self.high = self._side + 0.04
        elif self._upright:
            self._above = style.wrap(name, cell - 0.08, lines=7, size=SMALL)
            self.high = 0.1 + len(self._above) * pitch(SMALL)
        else:
            self._above = style.wrap(name, 1.9, lines=1, size=SMALL)
            self.high = 0.2 + style.width(self._above[0], size=SMALL) * math.sin(math.radians(self._TURN))

    def draw_beside(self, paper: Paper, right: float, y: float) -> None:
        if self._is_picture:
            paper.picture(self._picture, right - self._side, y + 0.04, self._side, self._side)
            right -= self._side + 0.1
        paper.lines(right, y + self._cell / 2, self._lines, size=self._size, across="right")

    def draw_above(self, paper: Paper, x: float, y: float) -> None:
        """A thumbnail alone, since its name is in the row; or the text."""
        if self._is_picture:
            paper.picture(self._picture, x + 0.04, y - 0.04 - self._side, self._side, self._side)
        elif self._upright:
            middle = y - 0.1 - (len(self._above) - 1) / 2 * pitch(SMALL)
            paper.lines(x + self._cell / 2, middle, self._above, size=SMALL, across="center")
        else:
            paper.text(x + self._cell / 2, y - 0.08, self._above[0], size=SMALL, turned=self._TURN)


def _name(item: Compared) -> str:
    """The name of an item in the plot: a file without its folder, a text in quotes."""
    if item.kind == "text":
        return f"“{item.name}”"
    if item.id is not None and item.paths:
        return f"{item.name} {Path(item.paths[0]).name}"
    return Path(item.name).name if item.kind == "picture" else item.name


def _colours(cosines: NDArray[np.float64]) -> tuple[Colormap, Normalize]:
    """Cividis over the range of the cosines, in tenths; blue to red around 0 if it contains 0.

    The diagonal is always 1 and is ignored. Cividis: Nuñez, Anderton and Renslow 2018, PLOS ONE 13(7).
    """
    others = cosines[~np.eye(len(cosines), dtype=bool)]
    low, high = math.floor(others.min() * 10) / 10, math.ceil(others.max() * 10) / 10
    if low < -0.15:
        most = max(-low, high)
        return colormaps["RdBu_r"], Normalize(-most, most)
    return colormaps["cividis"], Normalize(low, max(high, low + 0.1))


def _cell(
    paper: Paper,
    cosine: float,
    same: bool,
    place: tuple[float, float],
    cell: float,
    colours: Colormap,
    scale: Normalize,
) -> None:
    x, y = place
    size = 11 if cell >= 0.8 else SMALL if cell >= 0.6 else 7.5 if cell >= 0.44 else 6
    said = figure(cosine, 2 if cell >= 0.44 else 1)
    gap = 0.015
    if same:
        paper.box(x + gap, y + gap, cell - 2 * gap, cell - 2 * gap, paper.theme.panel)
        paper.text(x + cell / 2, y + cell / 2, said, size=size, colour=paper.theme.muted, across="center")
        return
    red, green, blue, _ = colours(scale(cosine))
    paper.box(x + gap, y + gap, cell - 2 * gap, cell - 2 * gap, to_hex((red, green, blue)))
    bright = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    on = "#000000" if bright > 0.18 else "#ffffff"
    paper.text(x + cell / 2, y + cell / 2, said, size=size, colour=on, across="center")


def _scale(paper: Paper, colours: Colormap, scale: Normalize, x: float, y: float, height: float) -> None:
    """The colour bar, high values on top."""
    height = min(height, 4.0)
    low, high = float(scale.vmin or 0), float(scale.vmax or 0)
    paper.image(colours(np.linspace(1, 0, 256))[:, None], (x, x + 0.14, y + height, y))
    for value in (low, (low + high) / 2, high):
        place = y + height * (high - value) / (high - low)
        paper.text(x + 0.2, place, figure(value, 2), size=SMALL)
    paper.text(x + 0.72, y + height / 2, "cosine similarity", size=SMALL, turned=90, across="center")


# The arrows

PLANE = 3.8
"""Length of the plane's longer side in inches."""

UNEQUAL = 20
"""Above this ratio of longest to shortest, an arrow would be shorter than its head."""


def _arrows(result: Similarity, style: Style) -> Paper:
    """All arrows from the origin, each with a letter; beside them the legend."""
    lengths = np.linalg.norm(result.vectors, axis=1, keepdims=True)
    unequal = bool(lengths.max() > UNEQUAL * lengths.min())
    vectors = result.vectors / lengths if unequal else result.vectors
    most = float(np.abs(vectors).max())
    numbers = vectors / most
    low, high = np.minimum(numbers.min(axis=0), 0), np.maximum(numbers.max(axis=0), 0)
    unit = PLANE / max(float((high - low).max()), 1e-9)
    arcs = _arcs(result, numbers, unit)
    ends = np.array([point for arc in arcs for point in arc.points()] or [(0.0, 0.0)]) / unit
    low, high = np.minimum(low, ends.min(axis=0)), np.maximum(high, ends.max(axis=0))
    edge, row = 0.42, 0.44
    wide, tall = (high - low) * unit + 2 * edge
    table = row * (len(numbers) + 1 + unequal)
    height = max(float(tall), table)
    names = [style.cut(item.name.replace("-", "−"), 1.8) for item in result.items]
    named = max(style.width(name) for name in names) + 0.28
    paper = Paper(float(wide) + 0.5 + named + 2.1, height, style)
    x0, y0 = float(edge - low[0] * unit), float((height + tall) / 2 - edge + low[1] * unit)
    plane = _Plane(
        paper, (x0, y0), unit, most, (0.0, float(wide)), (float(height - tall) / 2, float(height + tall) / 2)
    )
    plane.axes()
    for arc in arcs:
        plane.arc(arc)
    # Short arrows over long ones, and letters over all arrows.
    for i in np.argsort(-np.linalg.norm(numbers, axis=1), kind="stable").tolist():
        plane.arrow(numbers[i], _colour(style, i))
    for i, vector in enumerate(numbers):
        plane.letter(vector, _letter(i), _colour(style, i))
    left, top = float(wide) + 0.45, (height - table) / 2
    for x, said in ((1.2, "cosine to A"), (2.1, "angle to A")):
        paper.text(left + named + x, top + row / 2, said, size=SMALL, colour=style.theme.muted, across="right")
    for i, name in enumerate(names):
        _legend(paper, result, i, name, (left, left + named), top + row * (i + 1.5))
    if unequal:
        why = style.wrap("The lengths are very unequal: each is drawn with length 1.", named + 2.1, lines=2, size=SMALL)
        paper.lines(left, top + row * (len(names) + 1.5), why, size=SMALL, colour=style.theme.muted)
    return paper


@dataclass(frozen=True, slots=True)
class _Angle:
    """The arc from the first vector to vector `i`: start and turn in degrees, radius in inches."""

    i: int
    first: float
    turn: float
    radius: float
    named: bool
    """Whether there is room for the label with its degrees."""

    def points(self) -> list[tuple[float, float]]:
        """Points along the arc, in inches from the origin, y up."""
        degrees = np.radians(self.first + self.turn * np.linspace(0, 1, 19))
        return list(zip(self.radius * np.cos(degrees), self.radius * np.sin(degrees), strict=True))

    def label(self) -> tuple[float, float]:
        """The place of the label: near the end of the arc, where no other arc passes."""
        size = abs(self.turn)
        at = math.radians(self.first + math.copysign(max(size - 14 / self.radius, size / 2), self.turn))
        return self.radius * math.cos(at), self.radius * math.sin(at)


def _arcs(result: Similarity, numbers: NDArray[np.float64], unit: float) -> list[_Angle]:
    """An arc from the first vector to each other one, with increasing radius."""
    first = math.degrees(math.atan2(numbers[0, 1], numbers[0, 0]))
    order = sorted(range(1, len(numbers)), key=lambda i: float(result.angles[0, i]))
    shortest = float(np.linalg.norm(numbers, axis=1).min()) * unit
    reach = min(max(shortest, 0.8), 1.9) * 0.85
    arcs = []
    for place, i in enumerate(order):
        angle = float(result.angles[0, i])
        own = math.degrees(math.atan2(numbers[i, 1], numbers[i, 0]))
        turn = angle if (own - first) % 360 <= 180 else -angle
        radius = reach * (place + 1.2) / (len(order) + 0.2)
        arcs.append(_Angle(i, first, turn, radius, angle >= 8 and len(order) <= 6))
    return arcs


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _colour(style: Style, number: int) -> str:
    return style.theme.series[number % len(style.theme.series)]


class _Plane:
    """The plane of the arrows: its origin, inches per unit, and its ranges on the sheet.

    Vectors are scaled by `most`, the largest absolute coordinate.
    """

    def __init__(
        self,
        paper: Paper,
        origin: tuple[float, float],
        unit: float,
        most: float,
        across: tuple[float, float],
        down: tuple[float, float],
    ) -> None:
        self._paper, self._origin, self._unit, self._most = paper, origin, unit, most
        self._across, self._down = across, down
        self._taken: list[tuple[float, float, float]] = []
        """Positions of letters and degrees, and how close a letter may come, in inches."""

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return self._origin[0] + x * self._unit, self._origin[1] - y * self._unit

    def axes(self) -> None:
        """Thin axes through the origin, with a few ticks and names at their ends."""
        theme = self._paper.theme
        (left, right), (top, bottom), (x0, y0) = self._across, self._down, self._origin
        self._paper.axes.plot([left, right], [y0, y0], color=theme.line, linewidth=1, zorder=0)
        self._paper.axes.plot([x0, x0], [top, bottom], color=theme.line, linewidth=1, zorder=0)
        self._paper.text(right + 0.06, y0, "x", size=SMALL, colour=theme.muted)
        self._paper.text(x0, top - 0.1, "y", size=SMALL, colour=theme.muted, across="center")
        reach = max(right - left, bottom - top) / self._unit * self._most
        for value in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(-reach, reach):
            x, y = self._at(value / self._most, value / self._most)
            said = f"{value:g}".replace("-", "−")
            if value and left + 0.1 < x < right - 0.1:
                self._paper.axes.plot([x, x], [y0 - 0.04, y0 + 0.04], color=theme.line, linewidth=1, zorder=0)
                self._paper.text(x, y0 + 0.17, said, size=SMALL, colour=theme.muted, across="center")
            if value and top + 0.1 < y < bottom - 0.1:
                self._paper.axes.plot([x0 - 0.04, x0 + 0.04], [y, y], color=theme.line, linewidth=1, zorder=0)
                self._paper.text(x0 - 0.1, y, said, size=SMALL, colour=theme.muted, across="right")

    def arrow(self, vector: NDArray[np.float64], colour: str) -> None:
        tip = self._at(*vector)
        style = {"arrowstyle": "-|>,head_length=0.5,head_width=0.24", "color": colour, "linewidth": 2.4}
        self._paper.axes.annotate("", tip, self._origin, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})

    def letter(self, vector: NDArray[np.float64], letter: str, colour: str) -> None:
        """Beyond the tip of the arrow, far enough from other letters and degrees."""
        tip = np.array(self._at(*vector))
        away = tip - np.array(self._origin)
        step = away / max(float(np.linalg.norm(away)), 1e-9)
        place = tip + 0.19 * step
        while any(math.hypot(place[0] - x, place[1] - y) < room for x, y, room in self._taken):
            place = place + 0.07 * step
        x, y = (float(n) for n in place)
        self._taken.append((x, y, 0.2))
        ground = {"facecolor": self._paper.theme.ground, "edgecolor": "none", "pad": 1.2}
        self._paper.axes.text(
            x, y, letter, size=12, weight="bold", color=colour, ha="center", va="center_baseline", bbox=ground, zorder=4
        )

    def arc(self, arc: _Angle) -> None:
        """An arc, with its degrees if there is room."""
        colour = _colour(self._paper.style, arc.i)
        # The sheet's y runs down, so its angles run the other way.
        ends = sorted((-arc.first, -(arc.first + arc.turn)))
        drawn = Arc(self._origin, 2 * arc.radius, 2 * arc.radius, theta1=ends[0], theta2=ends[1])
        drawn.set(color=colour, linewidth=1.2)
        self._paper.axes.add_patch(drawn)
        if not arc.named:
            return
        x, y = self._origin[0] + arc.label()[0], self._origin[1] - arc.label()[1]
        self._taken.append((x, y, 0.3))
        said = f"{abs(arc.turn):.0f}°"
        wide = self._paper.style.width(said, size=SMALL) + 0.05
        self._paper.box(x - wide / 2, y - 0.08, wide, 0.16, self._paper.theme.ground)
        self._paper.text(x, y, said, size=SMALL, colour=colour, across="center")


def _legend(paper: Paper, result: Similarity, i: int, name: str, columns: tuple[float, float], y: float) -> None:
    x, numbers = columns
    paper.text(x, y, _letter(i), size=12, bold=True, colour=_colour(paper.style, i))
    paper.text(x + 0.28, y, name)
    if i == 0:
        paper.text(numbers + 2.1, y, "the reference", colour=paper.theme.muted, size=SMALL, across="right")
        return
    paper.text(numbers + 1.2, y, figure(result.cosines[0, i], 2), bold=True, across="right")
    paper.text(numbers + 2.1, y, f"{result.angles[0, i]:.1f}°", across="right")
