"""Tiles: the parts of an image that get vectors of their own, from its size and the library's mode.

An encoder sees an image at a few hundred pixels per side, and most see only its central square. So it does not see
the ends of a panorama, and hardly sees what is small in a large image. A *view* is what one vector is made from: view
0 is the whole image, and the others are square parts of it, the *tiles*. They follow from width, height and mode
alone, so missing views are known without reading the image.

    none  no tiles
    auto  panoramas (twice as long as wide or more): squares of the short side, all along the long one
    all   also, for other images, two rows of squares of half the short side

Every list of views is the beginning of the same image's list in a larger mode, so the numbers of views keep their
meaning when the mode changes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from clipsearch.types import Box

Tiles = Literal["none", "auto", "all"]

PANORAMA = 2
"""An image this many times as long as wide is a panorama: its central square is half of it or less."""

MIN_SIDE = 112
"""Smallest tile, half of what most encoders take: smaller parts are only blurred."""

MAX_TILES = 32
"""Maximum number of tiles; they overlap by half up to an aspect ratio of 16:1, touch up to 32:1, then have gaps."""

PANORAMA_STEP = (1, 2)
"""Squares along a panorama are at most half their side apart: what is up to half as wide is whole in one of them.

Measured (`benchmarks/tiles.py`): of 200 drawings, each somewhere in a panorama of 4:1, 31 % are found among the first
five without tiles, and with steps of 1, 2/3 and 1/2 of the side 77, 88 and 96 %, at 5, 7 and 8 views per image."""

GRID_SHARE = (1, 2)
"""A tile's side in an ordinary image, rounded up: half of the short side, in two rows.

Measured there: of 200 drawings that take a quarter of an image of 4:3, 20 % are found among the first five
without tiles and 71 % with these; with squares of 3/5 it is 66 %, and for smaller drawings the difference grows. Three
rows would cost twice as many vectors."""

GRID_STEP = (3, 4)
"""Squares of a row are at most this share of their side apart: 6 tiles for a square image, 8 for 4:3, at most 10."""


@dataclass(frozen=True, slots=True)
class View:
    """A view of an image: its number, and the part that it shows; None for the whole."""

    number: int
    box: Box | None


WHOLE = View(0, None)


def boxes(width: int, height: int, mode: Tiles) -> tuple[Box, ...]:
    """The tiles of an upright image of width × height pixels, left to right and top to bottom; MAX_TILES at most."""
    short, long = min(width, height), max(width, height)
    if mode == "none" or short < MIN_SIDE:
        return ()
    if long >= PANORAMA * short:
        side, across = short, [0]
        along = _starts(long, side, PANORAMA_STEP)
    elif mode == "all" and (side := _ceil(GRID_SHARE[0] * short, GRID_SHARE[1])) >= MIN_SIDE:
        across = [0, short - side]
        along = _starts(long, side, GRID_STEP)
    else:
        return ()
    across, down = (along, across) if width >= height else (across, along)
    return tuple((x, y, x + side, y + side) for y in down for x in across)


def views(width: int, height: int, mode: Tiles) -> tuple[View, ...]:
    """All views of an image, the whole one first."""
    return (WHOLE, *(View(number, box) for number, box in enumerate(boxes(width, height, mode), 1)))


@functools.lru_cache(maxsize=4096)
def count_views(width: int | None, height: int | None, mode: Tiles) -> int:
    """How many views an image has; one of unknown size has only the whole."""
    return 1 if width is None or height is None else 1 + len(boxes(width, height, mode))


def _starts(length: int, side: int, step: tuple[int, int]) -> list[int]:
    """The starts of squares spread evenly over `length`, at most the share `step` of their side apart."""
    count = min(MAX_TILES, _ceil((length - side) * step[1], side * step[0]) + 1)
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _ceil(over: int, under: int) -> int:
    return -(-over // under)
