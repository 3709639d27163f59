"""Writes a library that was laid out in two dimensions as one HTML page that needs nothing but itself.

Every picture is a dot in its place. Where there is room, its thumbnail is shown instead: the further in, the more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from clipsearch.display.html import page
from clipsearch.display.text import home_path, model_name, size
from clipsearch.display.thumbnails import Thumbnail, thumbnails

if TYPE_CHECKING:
    from clipsearch.search.projection import Projection

__all__ = ["SIDE", "check", "write_map"]

SIDE = 160
"""Pixels of a thumbnail's longer side, about 5 KB: a page of 1,000 pictures has 7 MB."""

_STYLE, _SCRIPT = "map.css", "map.js"
_MARK = '<!doctype html>\n<html lang="en">\n<!-- clipsearch map -->\n'


def check(file: str | Path) -> None:
    """Refuse early what `write_map` would: UsageError where another file is in the way, ClipsearchError for a folder
    that cannot be written."""
    page.check(file, mark=_MARK, what="map")


def write_map(
    projection: Projection,
    file: str | Path,
    *,
    title: str,
    side: int = SIDE,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write `projection` as a page to `file`, whole or not at all; an earlier map there is replaced.

    `progress` is told how many pictures are written. Raises UsageError where another file is in the way,
    ClipsearchError where writing fails.
    """
    with page.writing(file, mark=_MARK, what="map") as stream:
        _write(projection, stream, title, side, progress)


def _write(
    projection: Projection, stream: TextIO, title: str, side: int, progress: Callable[[int], None] | None
) -> None:
    stream.write(_head(projection, title))
    places = _places(projection)
    for number, thumbnail in enumerate(thumbnails(projection.hits, side=side), 1):
        stream.write(_point(thumbnail, *places[number - 1]))
        if progress is not None:
            progress(number)
    stream.write(f"</ol>\n</main>\n{_REST}\n{page.foot(script=_SCRIPT)}")


def _places(projection: Projection) -> list[tuple[float, float]]:
    """Positions with the same scale for both directions, from 0 to 1 along the longer one, 0.5 the middle of each."""
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


def _head(projection: Projection, title: str) -> str:
    count, total = len(projection.hits), projection.total
    counted = f"{count:,} pictures" if count == total else f"a sample of {count:,} of {total:,} pictures"
    if total == 1:
        counted = "1 picture"
    kind = "" if projection.model.is_clip else ' <span class="mark">built-in encoder, not CLIP</span>'
    held = 100 * sum(projection.shares)
    model = page.text(model_name(projection.model.spec))
    about = f"{counted} · {model} · two directions with {held:.0f} % of the variance{kind}"
    notices = "".join(f"<li>{page.text(notice)}</li>" for notice in projection.notices)
    return (
        f"{_MARK}{page.head(title, style=_STYLE, script=_SCRIPT)}"
        f'<header>\n<div><h1><bdi>{page.text(title)}</bdi></h1>\n<p class="about">{about}</p></div>\n'
        '<div id="tools"><button id="out" type="button" aria-label="Zoom out">−</button>'
        '<button id="in" type="button" aria-label="Zoom in">+</button>'
        '<button id="all" type="button">All <kbd>0</kbd></button>'
        '<button id="help" type="button">Keys <kbd>?</kbd></button></div>\n</header>\n'
        + (f'<ul class="notices">{notices}</ul>\n' if notices else "")
        + "<noscript><p>The map needs its script, which this browser does not run.</p></noscript>\n"
        '<main id="map">\n'
        f'<p class="axis across">first direction, {100 * projection.shares[0]:.0f} % of the variance →</p>\n'
        f'<p class="axis up">second direction, {100 * projection.shares[1]:.0f} % →</p>\n'
        '<ol id="points" aria-label="Pictures">\n'
    )


def _point(thumbnail: Thumbnail, x: float, y: float) -> str:
    hit = thumbnail.hit
    folder, name = os.path.split(hit.path)
    facts = " · ".join(part for part in (hit.taken_at and hit.taken_at[:10], size(hit.bytes), f"id {hit.id}") if part)
    why = "offline" if hit.offline else thumbnail.reason or "it cannot be read"
    label = name if thumbnail.picture else f"{name}, not shown: {why}"
    if thumbnail.picture:
        # Kept out of `src` until it is shown: a thousand pictures decoded at once are slow.
        image = f' data-src="{page.data_url(thumbnail.picture, quality=75)}"'
        image += f' data-w="{thumbnail.picture.width}" data-h="{thumbnail.picture.height}"'
    else:
        image = ""
    return (
        f'<li data-x="{x:.5f}" data-y="{y:.5f}"{image} data-name="{page.text(name)}" '
        f'data-where="{escape(home_path(folder))}" data-facts="{page.text(facts)}">'
        f'<a href="{escape(page.file_url(thumbnail.path))}" target="_blank" rel="noopener" tabindex="-1" '
        f'aria-label="{page.text(label)}"></a></li>\n'
    )


_REST = """<aside id="told" aria-live="polite">
Drag to move, scroll to zoom; the arrow keys go from picture to picture.
</aside>
<dialog id="large" aria-label="One picture">
<div id="stage"></div>
<p id="name"></p>
<p id="where"></p>
<div class="tools">
<a id="original" class="button" href="#" target="_blank" rel="noopener">Open the original <kbd>Enter</kbd></a>
<button class="close" type="button">Close <kbd>Esc</kbd></button>
</div>
</dialog>
<dialog id="keys" aria-label="Keys">
<table>
<tr><td><kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd></td><td>the next picture that way</td></tr>
<tr><td><kbd>+</kbd> <kbd>−</kbd></td><td>nearer, further</td></tr>
<tr><td><kbd>0</kbd></td><td>everything</td></tr>
<tr><td><kbd>Space</kbd></td><td>the picture large</td></tr>
<tr><td><kbd>Enter</kbd></td><td>the original file</td></tr>
<tr><td><kbd>Esc</kbd></td><td>back</td></tr>
<tr><td><kbd>?</kbd></td><td>these keys</td></tr>
</table>
<button class="close" type="button">Close <kbd>Esc</kbd></button>
</dialog>"""
