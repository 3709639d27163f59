"""Writes a 2-D projection of a library as one self-contained HTML page.

Every image is a dot; where there is room, its thumbnail is shown instead: the closer one zooms in, the more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.display.html import page
from clipsearch.display.thumbnails import thumbnails

if TYPE_CHECKING:
    from clipsearch.search.projection import Projection

MAP_SIDE = 160
"""Pixels of a thumbnail's longer side, about 5 KB: a page of 1,000 images has 7 MB."""


def check(file: str | Path) -> None:
    """Raise at once what `write_map` would raise: UsageError if another file is in the way, ClipsearchError if the
    folder cannot be written."""
    page.check(file, "map")


def write_map(
    projection: Projection,
    file: str | Path,
    *,
    title: str,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write `projection` as a page to `file`, whole or not at all; an earlier map is replaced.

    `progress` receives the number of images written so far. Raises UsageError if another file is in the way,
    ClipsearchError if writing fails.
    """
    shown = thumbnails(projection.hits, side=MAP_SIDE, progress=progress)
    page.write(
        file,
        "map",
        title=title,
        model=projection.model,
        notices=projection.notices,
        hits=projection.hits,
        total=projection.total,
        shares=projection.shares,
        points=((thumbnail, x, y) for thumbnail, (x, y) in zip(shown, _places(projection), strict=True)),
    )


def _places(projection: Projection) -> list[tuple[float, float]]:
    """Positions with the same scale in both directions, from 0 to 1 along the longer one, 0.5 the middle of each."""
    if not projection.hits:
        return []
    low, high = projection.positions.min(axis=0), projection.positions.max(axis=0)
    longest = max(float((high - low).max()), 1e-9)
    middle = (low + high) / 2
    # y runs down on a page.
    return [
        (0.5 + (float(x) - float(middle[0])) / longest, 0.5 - (float(y) - float(middle[1])) / longest)
        for x, y in projection.positions
    ]
