"""What all plots share: the style, text that fits a width, thumbnails, and how a plot is saved.

matplotlib's global state does not change: settings hold within `drawing` only, and pyplot is not used.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.table import Table
from matplotlib.textpath import text_to_path

from clipsearch.display.plots.file import MARK, is_plot
from clipsearch.display.plots.fonts import families_for, readable
from clipsearch.display.plots.theme import DARK, LIGHT, Theme, adaptive
from clipsearch.files import writing_own

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

DPI = 144
SIZE = 10.0
"""Font size of plain text in points."""
SMALL = 8.5
PADDING = 0.25
"""Inches around the plot."""


@dataclass(frozen=True, slots=True)
class Style:
    """The theme, whether the file follows the viewer's mode, and the fonts."""

    theme: Theme
    adapts: bool
    families: tuple[str, ...]

    @property
    def note(self) -> dict[str, Any]:
        """Font of what is less important."""
        return {"size": SMALL, "color": self.theme.muted}

    def readable(self, text: str) -> str:
        return readable(text, self.families)

    def width(self, text: str, *, size: float = SIZE, bold: bool = False) -> float:
        """Width of `text` in inches."""
        font = FontProperties(family=list(self.families), size=size, weight="bold" if bold else "normal")
        return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72

    def fit(self, text: str, width: float, *, lines: int = 1, size: float = SIZE, bold: bool = False) -> str:
        """`text` in at most `lines` lines of at most `width` inches, broken between words if possible, then cut."""
        rest = " ".join(self.readable(text).split())
        fitted: list[str] = []
        while self.width(rest, size=size, bold=bold) > width:
            ends = range(1, len(rest))
            # The longest start that fits.
            end = max(1, bisect(ends, width, key=lambda n: self.width(rest[:n].rstrip() + "…", size=size, bold=bold)))
            if len(fitted) == lines - 1:
                rest = rest[:end].rstrip() + "…"
                break
            # At a space or after a separator in a file name; within a word only if it is too long.
            breaks = [i for i in range(1, end + 1) if rest[i : i + 1] == " " or rest[i - 1] in "_-/."]
            end = breaks[-1] if breaks else end
            fitted.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
        return "\n".join([*fitted, rest])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without matplotlib's warnings that a font for some script has no bold face."""
    logger = logging.getLogger("matplotlib.font_manager")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def drawing(texts: Iterable[str], *, file: str | Path, dark: bool) -> Iterator[Style]:
    """Settings for a plot that contains `texts`."""
    theme = DARK if dark else LIGHT
    families = families_for(texts)
    settings: dict[str, Any] = {
        "font.family": families,
        "font.size": SIZE,
        "text.parse_math": False,  # A dollar sign in a name is literal.
        "text.color": theme.text,
        "axes.facecolor": theme.ground,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.text,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.text,
        "ytick.labelcolor": theme.text,
        "grid.color": theme.line,
        "figure.facecolor": theme.ground,
        "legend.frameon": False,
        "image.composite_image": False,
        "svg.fonttype": "path",  # The viewer may have none of these fonts.
        "svg.hashsalt": "clipsearch",  # The same plot is the same file.
    }
    # Independent of the user's own matplotlibrc.
    with style.context(["default", settings]), _quiet():
        yield Style(theme, not dark and _is_svg(file), tuple(families))


def save(figure: Figure, file: str | Path, used: Style, *, title: str) -> None:
    """Write a figure, cropped to its contents; `title` describes it for screen readers.

    Raises UsageError if another file is in the way, ClipsearchError if it cannot be written.
    """
    stream = io.BytesIO()
    svg = _is_svg(file)
    title = used.readable(title)
    about: dict[str, Any] = {"Creator": MARK.decode(), "Date": None, "Title": title}
    if not svg:
        about = {"Software": MARK.decode(), "Title": title.encode("latin-1", "replace").decode("latin-1")}
    figure.savefig(
        stream, format="svg" if svg else "png", dpi=DPI, bbox_inches="tight", pad_inches=PADDING, metadata=about
    )
    data = stream.getvalue()
    if svg:
        end = data.index(b">", data.index(b"<svg"))
        label = f' role="img" aria-label="{escape(title)}">\n<!-- {MARK.decode()} -->'
        sheet = f"\n<style>\n{adaptive()}\n</style>" if used.adapts else ""
        data = data[:end] + (label + sheet).encode() + data[end + 1 :]
    with writing_own(file, is_own=is_plot, what="plot") as output:
        output.write(data)


def _is_svg(file: str | Path) -> bool:
    return os.path.splitext(file)[1].lower() == ".svg"


def number(value: float, digits: int) -> str:
    """A number with a typographic minus sign, and none before zero."""
    return f"{value:z.{digits}f}".replace("-", "−")


def thumbnail(
    axes: Axes, image: Image.Image | None, place: tuple[float, float], size: tuple[float, float], theme: Theme
) -> None:
    """`image` as large as fits, centred; a hatched panel if it could not be read.

    place: the top left corner; size: width and height, in a unit that is equal along both axes.
    """
    (x, y), (width, height) = place, size
    if image is None:
        axes.add_patch(
            Rectangle(place, width, height, facecolor=theme.panel, edgecolor=theme.line, hatch="x", clip_on=False)
        )
        return
    scale = min(width / image.width, height / image.height)
    across, down = image.width * scale / 2, image.height * scale / 2
    x, y = x + width / 2, y + height / 2
    # With the limits of `axes` set, they do not change.
    axes.imshow(np.asarray(image), extent=(x - across, x + across, y + down, y - down), aspect="auto", clip_on=False)


def squares(
    axes: Axes,
    values: np.ma.MaskedArray[Any, Any],
    texts: NDArray[np.str_],
    style: Style,
    *,
    gap: float,
    size: float,
    colours: Colormap,
    scale: Normalize,
) -> QuadMesh:
    """A square with a colour and a text per number, one unit wide, from the top down; no colour if it is masked.

    values, texts: (n, n); gap: points between the squares.
    """
    colours = colours.with_extremes(bad=style.theme.panel)
    grid = axes.pcolormesh(values, cmap=colours, norm=scale, edgecolors=style.theme.ground, linewidth=gap)
    axes.set(xlim=(0, len(values)), ylim=(len(values), 0))
    bright = grid.to_rgba(values)[..., :3] ** 2.2 @ (0.2126, 0.7152, 0.0722)
    on = np.where(np.ma.getmaskarray(values), style.theme.muted, np.where(bright > 0.18, "#000000", "#ffffff"))
    for (i, j), text in np.ndenumerate(texts):
        axes.text(j + 0.5, i + 0.5, text, size=size, color=str(on[i, j]), ha="center", va="center")
    return grid


def table(axes: Axes, rows: Sequence[Sequence[str]], style: Style) -> Table:
    """A table without lines to the right of `axes`; the first row is its heading."""
    beside = axes.inset_axes((1 + 0.4 * axes.figure.dpi / axes.bbox.width, 0, 0.01, 1))
    beside.set_axis_off()
    cells = beside.table(rows, edges="open", loc="center left", cellLoc="left")
    cells.auto_set_font_size(False)
    cells.auto_set_column_width(list(range(len(rows[0]))))
    cells.scale(1, 2)
    for column in range(len(rows[0])):
        cells[0, column].set_text_props(**style.note)
    return cells
