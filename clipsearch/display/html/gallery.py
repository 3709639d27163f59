"""Writes the answer to a query as one HTML page that needs nothing but itself: no network, no files beside it.

Pictures are inlined small; the originals are only linked to, and shown large from where they lie. A content security
policy lets the page run its own script and reach nothing else, whatever a file may be called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TextIO

from clipsearch.display.html import page
from clipsearch.display.text import home_path, part_of, size
from clipsearch.display.thumbnails import Thumbnail, thumbnails
from clipsearch.types import Hit, QueryResult

__all__ = ["SIDE", "write_gallery"]

SIDE = 320
"""Pixels of a thumbnail's longer side: sharp in the grid on a dense screen, about 15 KB."""

_STYLE, _SCRIPT = "gallery.css", "gallery.js"
_MARK = '<!doctype html>\n<html lang="en">\n<!-- clipsearch gallery -->\n'
_MAX_PATHS = 50
"""Paths of one picture that are listed; a library may hold thousands of copies."""


def write_gallery(
    result: QueryResult,
    file: TextIO | str | Path,
    *,
    side: int = SIDE,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write `result` as a page to `file`, thumbnails at most `side` pixels wide and high.

    A path is written whole or not at all; an earlier gallery there is replaced, any other file is not. `progress` is
    told how many hits are written. Memory does not grow with their number.
    Raises UsageError where another file is in the way, ClipsearchError where writing fails.
    """
    if not isinstance(file, str | Path):
        _write(result, file, side, progress)
        return
    with page.writing(file, mark=_MARK, what="gallery") as stream:
        _write(result, stream, side, progress)


def _write(result: QueryResult, stream: TextIO, side: int, progress: Callable[[int], None] | None) -> None:
    stream.write(_head(result))
    for number, thumbnail in enumerate(thumbnails(result.hits, side=side), 1):
        stream.write(_card(number, thumbnail))
        if progress is not None:
            progress(number)
    stream.write(_foot(result))


def _head(result: QueryResult) -> str:
    count = f"{len(result.hits):,} {'picture' if len(result.hits) == 1 else 'pictures'}"
    kind = "" if result.model.is_clip else ' <span class="mark warn">built-in encoder, not CLIP</span>'
    notices = "".join(f"<li>{page.text(notice)}</li>" for notice in result.notices)
    return (
        f"{_MARK}{page.head(result.query, style=_STYLE, script=_SCRIPT)}"
        f"<header>\n<div><h1><bdi>{page.text(result.query)}</bdi></h1>\n"
        f'<p class="about">{count} · {page.text(result.model.spec)}{kind}</p></div>\n'
        '<button id="help" type="button">Keys <kbd>?</kbd></button>\n</header>\n'
        + (f'<ul class="notices">{notices}</ul>\n' if notices else "")
        + ('<ol class="hits">\n' if result.hits else '<p class="empty">No picture was found.</p>\n')
    )


def _foot(result: QueryResult) -> str:
    return f"{'</ol>' if result.hits else ''}\n{_DIALOGS}\n{page.foot(script=_SCRIPT)}"


_DIALOGS = """<dialog id="large" aria-label="One picture">
<div id="stage"></div>
<div id="told"></div>
<div id="tools">
<a id="original" class="button" href="#" target="_blank" rel="noopener">Open the original <kbd>Enter</kbd></a>
<button id="before" type="button">Previous <kbd>←</kbd></button>
<button id="after" type="button">Next <kbd>→</kbd></button>
<button class="close" type="button">Close <kbd>Esc</kbd></button>
</div>
</dialog>
<dialog id="keys" aria-label="Keys">
<table>
<tr><td><kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd></td><td>another picture</td></tr>
<tr><td><kbd>Home</kbd> <kbd>End</kbd></td><td>the first, the last one</td></tr>
<tr><td><kbd>Space</kbd></td><td>the picture large, with all that is known of it</td></tr>
<tr><td><kbd>Enter</kbd></td><td>the original file</td></tr>
<tr><td><kbd>Esc</kbd></td><td>back</td></tr>
<tr><td><kbd>?</kbd></td><td>these keys</td></tr>
</table>
<button class="close" type="button">Close <kbd>Esc</kbd></button>
</dialog>"""


def _card(number: int, thumbnail: Thumbnail) -> str:
    hit = thumbnail.hit
    folder, name = os.path.split(hit.path)
    facts = [f"{hit.score:.3f}"]
    if hit.taken_at:
        facts.append(page.text(hit.taken_at[:10]))
    facts.append(size(hit.bytes).replace(" ", "\u00a0"))
    link, shown = escape(page.file_url(thumbnail.path)), page.text(name)
    return (
        f'<li class="hit">\n<a class="thumb" href="{link}" target="_blank" rel="noopener">'
        f"{_picture(thumbnail)}</a>\n"
        f'<p class="name" title="{shown}"><span class="rank">{number}</span> <bdi>{shown}</bdi></p>\n'
        f'<p class="where" title="{page.text(hit.path)}"><bdi>{escape(home_path(folder))}</bdi></p>\n'
        f'{_relevance(hit)}<p class="facts">{" · ".join(facts)}</p>\n{_marks(hit)}'
        f'<template class="more">{_told(number, hit)}</template>\n</li>\n'
    )


def _picture(thumbnail: Thumbnail) -> str:
    name = os.path.basename(thumbnail.hit.path)
    picture = thumbnail.picture
    if picture is None:
        why = page.text("offline" if thumbnail.hit.offline else thumbnail.reason or "it cannot be read")
        return f'<span class="none" role="img" aria-label="{page.text(name)}, not shown: {why}">{why}</span>'
    seen = ", ".join(each.label for each in thumbnail.hit.explain[:3])
    alt = f"{name} (recognised: {seen})" if seen else name
    return (
        f'<img src="{page.data_url(picture)}" width="{picture.width}" height="{picture.height}" '
        f'alt="{page.text(alt)}" decoding="async">'
    )


def _relevance(hit: Hit) -> str:
    if hit.relevance is None:
        return ""
    share = min(1.0, max(0.0, hit.relevance))
    return (
        '<p class="relevance"><svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{100 * share:.0f}" height="6"/></svg><span>relevance {share:.2f}</span></p>\n'
    )


def _marks(hit: Hit) -> str:
    marks = []
    if len(hit.paths) > 1:
        marks.append(f'<span class="mark">{len(hit.paths):,} copies</span>')
    if hit.offline:
        marks.append('<span class="mark warn">offline</span>')
    if hit.state == "partial":
        marks.append('<span class="mark warn">ends early</span>')
    return f'<p class="marks">{" ".join(marks)}</p>\n' if marks else ""


def _told(number: int, hit: Hit) -> str:
    """Everything about a hit, for the large view."""
    pixels = f"{hit.width} × {hit.height} pixels" if hit.width and hit.height else None
    rows = [
        ("Rank", str(number)),
        ("Relevance", None if hit.relevance is None else f"{hit.relevance:.2f}"),
        ("Score", f"{hit.score:.4f}"),
        ("Found in", None if hit.box is None else f"its part {part_of(hit.box)}, framed"),
        ("Taken", hit.taken_at and page.text(hit.taken_at.replace("T", " "))),
        ("Size", ", ".join(part for part in (pixels, size(hit.bytes), hit.format and page.text(hit.format)) if part)),
        ("Recognised", ", ".join(f"{page.text(each.label)} {each.score:.2f}" for each in hit.explain)),
        ("Library id", str(hit.id)),
        ("Copies" if len(hit.paths) > 1 else "File", _paths(hit)),
    ]
    heading = f"<h2><bdi>{page.text(os.path.basename(hit.path))}</bdi></h2>"
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value)
    return f"{heading}{_marks(hit)}<dl>{listed}</dl>"


def _paths(hit: Hit) -> str:
    if len(hit.paths) <= 1:
        return f"<bdi>{page.text(hit.path)}</bdi>"
    more = len(hit.paths) - _MAX_PATHS
    listed = "".join(f"<li><bdi>{page.text(path)}</bdi></li>" for path in hit.paths[:_MAX_PATHS])
    return f"<ul>{listed}</ul>" + (f"and {more:,} more" if more > 0 else "")
