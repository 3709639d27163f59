"""Writes the result of a query as one self-contained HTML page: no network, no other files.

The page contains thumbnails; it links to the originals and shows them enlarged from where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from clipsearch.display.html import page
from clipsearch.display.thumbnails import Thumbnail, thumbnails
from clipsearch.types import QueryResult

GALLERY_SIDE = 320
"""Pixels of a thumbnail's longer side: sharp in the grid on a dense screen, about 15 KB."""

_MAX_PATHS = 50
"""Paths of one image that are listed; a library may hold thousands of copies."""


def write_gallery(
    result: QueryResult,
    file: TextIO | str | Path,
    *,
    progress: Callable[[int], None] | None = None,
    shown: Iterable[Thumbnail] | None = None,
) -> None:
    """Write `result` as a page to `file`, with thumbnails of at most GALLERY_SIDE pixels.

    A path is written whole or not at all; an earlier gallery is replaced, any other file is not. `progress` receives
    the number of hits written so far. Memory does not grow with the number of hits. `shown`: the thumbnails, where they
    need not be made from the files.
    Raises UsageError if another file is in the way, ClipsearchError if writing fails.
    """
    page.write(
        file,
        "gallery",
        title=result.query,
        model=result.model,
        notices=result.notices,
        hits=result.hits,
        thumbnails=thumbnails(result.hits, side=GALLERY_SIDE, progress=progress) if shown is None else shown,
        max_paths=_MAX_PATHS,
    )
