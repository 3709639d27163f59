"""A sheet measured in inches, with text that is measured before it is placed; and how a plot is saved.

matplotlib's global state does not change: settings hold within `drawing` only, and pyplot is not used.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from clipsearch.display.plots.file import MARK, is_plot
from clipsearch.display.plots.fonts import families_for, readable
from clipsearch.display.plots.theme import DARK, LIGHT, Theme, adaptive
from clipsearch.files import writing_own

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["SIZE", "SMALL", "Paper", "Style", "drawing", "figure", "pitch", "save"]

DPI = 144
SIZE = 10.0
"""Font size of plain text in points."""
SMALL = 8.5
MARGIN = 0.25
"""Inches around the plot."""


@dataclass(frozen=True, slots=True)
class Style:
    """The theme, whether the file follows the viewer's mode, and the fonts."""

    theme: Theme
    adapts: bool
    families: tuple[str, ...]

    def readable(self, text: str) -> str:
        return readable(text, self.families)

    def width(self, text: str, *, size: float = SIZE, bold: bool = False) -> float:
        """Width of `text` in inches."""
        font = FontProperties(family=list(self.families), size=size, weight="bold" if bold else "normal")
        return float(_renderer().get_text_width_height_descent(text, font, False)[0]) / 72

    def cut(self, text: str, width: float, *, size: float = SIZE, bold: bool = False) -> str:
        """`text` on one line, cut to at most `width` inches."""
        text = " ".join(self.readable(text).split())
        if self.width(text, size=size, bold=bold) <= width:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.width(text[:middle].rstrip() + "…", size=size, bold=bold) <= width
            low, high = (middle, high) if fits else (low, middle - 1)
        return text[:low].rstrip() + "…"

    def wrap(self, text: str, width: float, *, lines: int, size: float = SIZE, bold: bool = False) -> list[str]:
        """`text` in at most `lines` lines of at most `width` inches, broken between words if possible."""
        rest = " ".join(self.readable(text).split())
        wrapped: list[str] = []
        while rest:
            if len(wrapped) == lines - 1 or self.width(rest, size=size, bold=bold) <= width:
                return [*wrapped, self.cut(rest, width, size=size, bold=bold)]
            end = len(self.cut(rest, width, size=size, bold=bold)) - 1
            # At a space or after a separator in a file name; within a word only if it is too long.
            breaks = [i for i in range(1, end + 1) if rest[i : i + 1] == " " or rest[i - 1] in "_-/."]
            end = max(1, breaks[-1] if breaks else end)
            wrapped.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
        return wrapped or [""]


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


@functools.cache
def _renderer() -> Any:  # noqa: ANN401 - matplotlib's own methods have no types
    return RendererAgg(640, 480, 72)  # type: ignore[no-untyped-call]


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
        "axes.unicode_minus": True,
        "axes.facecolor": theme.ground,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.text,
        "axes.titlecolor": theme.text,
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
        "savefig.facecolor": theme.ground,
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
        stream, format="svg" if svg else "png", dpi=DPI, bbox_inches="tight", pad_inches=MARGIN, metadata=about
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


def figure(value: float, digits: int) -> str:
    """A number with a typographic minus sign, and none before zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "−")


def pitch(size: float) -> float:
    """Inches from one line of text to the next."""
    return 1.25 * size / 72


class Paper:
    """A sheet of `width` × `height` inches; x runs right and y down from the top left corner."""

    def __init__(self, width: float, height: float, style: Style) -> None:
        self.style = style
        self.theme = style.theme
        self.figure = Figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self._limits = (0.0, width), (height, 0.0)
        self._hold()

    def _hold(self) -> None:
        self.axes.set_xlim(*self._limits[0])
        self.axes.set_ylim(*self._limits[1])

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = SIZE,
        colour: str | None = None,
        bold: bool = False,
        across: str = "left",
        down: str = "center_baseline",
        turned: float = 0,
    ) -> None:
        """`text` unchanged: file names and labels must already be `readable`."""
        self.axes.text(
            x,
            y,
            text,
            size=size,
            color=colour or self.theme.text,
            weight="bold" if bold else "normal",
            horizontalalignment=across,
            verticalalignment=down,
            rotation=turned,
            rotation_mode="anchor" if turned else "default",
        )

    def lines(self, x: float, y: float, lines: Sequence[str], *, size: float = SIZE, **style: Any) -> None:  # noqa: ANN401 - those of `text`
        """Lines centred on the height `y`, evenly spaced."""
        for number, line in enumerate(lines):
            self.text(x, y + (number - (len(lines) - 1) / 2) * pitch(size), line, size=size, **style)

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="none"))

    def picture(self, picture: Image.Image | None, x: float, y: float, width: float, height: float) -> None:
        """`picture` as large as fits, centred; a panel with a cross if it could not be read."""
        if picture is None:
            self.box(x, y, width, height, self.theme.panel)
            self.axes.plot([x, x + width], [y, y + height], color=self.theme.line, linewidth=1)
            self.axes.plot([x, x + width], [y + height, y], color=self.theme.line, linewidth=1)
        else:
            scale = min(width / picture.width, height / picture.height)
            w, h = picture.width * scale, picture.height * scale
            left, top = x + (width - w) / 2, y + (height - h) / 2
            self.image(np.asarray(picture), (left, left + w, top + h, top))
        self._hold()

    def image(self, pixels: NDArray[Any], extent: tuple[float, float, float, float]) -> None:
        """Pixels (h, w, 3 or 4) within `extent`: left, right, bottom, top."""
        # Boxes have zorder 1, lines 2.
        self.axes.imshow(pixels, extent=extent, aspect="auto", interpolation="antialiased", zorder=1.5)
        self._hold()
