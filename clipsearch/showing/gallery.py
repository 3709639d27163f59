"""Writes the answer to a query as one HTML page that needs nothing but itself: no network, no files beside it.

Pictures are inlined small; the originals are only linked to, and shown large from where they lie. A content security
policy lets the page run its own script and reach nothing else, whatever a file may be called.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import stat
import urllib.parse
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.showing.thumbnails import Thumbnail, thumbnails
from clipsearch.showing.wording import home_path, part_of, printable, reason, size
from clipsearch.types import Hit, QueryResult

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SIDE", "write_gallery"]

SIDE = 320
"""Pixels of a thumbnail's longer side: sharp in the grid on a dense screen, about 15 KB."""

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
    path = os.path.realpath(file)
    try:
        with _replacing(path) as stream:
            _write(result, stream, side, progress)
    except OSError as exc:
        raise ClipsearchError(f"cannot write the gallery {path}: {reason(exc)}") from exc


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[TextIO]:
    """A stream whose content takes the place of `path` once it is complete."""
    special = _refuse_others(path)
    if special:
        with open(path, "w", encoding="utf-8") as stream:
            yield stream
        return
    folder, name = os.path.split(path)
    # The process's number keeps two runs apart; the part behind it, what a killed run with that number left.
    part = os.path.join(folder, f".{name[:100]}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        with open(part, "x", encoding="utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _refuse_others(path: str) -> bool:
    """Whether `path` is no regular file (a pipe, say). A mistyped name must not cost a photograph."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a folder; name a file for the gallery")
    if not stat.S_ISREG(found.st_mode):
        return True
    with open(path, "rb") as stream:
        head = stream.read(len(_MARK))
    if head and head != _MARK.encode():
        raise UsageError(f"{path} exists and is no gallery of clipsearch; choose another name")
    return False


def _write(result: QueryResult, stream: TextIO, side: int, progress: Callable[[int], None] | None) -> None:
    stream.write(_head(result))
    for number, thumbnail in enumerate(thumbnails(result.hits, side=side), 1):
        stream.write(_card(number, thumbnail))
        if progress is not None:
            progress(number)
    stream.write(_foot(result))


def _asset(name: str) -> tuple[str, str]:
    """A style or script of this package, and the source by which the policy allows it."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return text, f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(text: str) -> str:
    return escape(printable(text))


def _head(result: QueryResult) -> str:
    style, style_source = _asset("gallery.css")
    _, script_source = _asset("gallery.js")
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: file:; "
        f"style-src {style_source}; script-src {script_source}"
    )
    count = f"{len(result.hits):,} {'picture' if len(result.hits) == 1 else 'pictures'}"
    kind = "" if result.model.is_clip else ' <span class="mark warn">built-in encoder, not CLIP</span>'
    notices = "".join(f"<li>{_text(notice)}</li>" for notice in result.notices)
    return (
        f'{_MARK}<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(result.query)} – clipsearch</title>\n<style>{style}</style>\n"
        f"<header>\n<div><h1><bdi>{_text(result.query)}</bdi></h1>\n"
        f'<p class="about">{count} · {_text(result.model.spec)}{kind}</p></div>\n'
        '<button id="help" type="button">Keys <kbd>?</kbd></button>\n</header>\n'
        + (f'<ul class="notices">{notices}</ul>\n' if notices else "")
        + ('<ol class="hits">\n' if result.hits else '<p class="empty">No picture was found.</p>\n')
    )


def _foot(result: QueryResult) -> str:
    script, _ = _asset("gallery.js")
    return f"{'</ol>' if result.hits else ''}\n{_DIALOGS}\n<script>{script}</script>\n</html>\n"


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
        facts.append(_text(hit.taken_at[:10]))
    facts.append(size(hit.bytes).replace(" ", "\u00a0"))
    return (
        f'<li class="hit">\n<a class="thumb" href="{escape(_file_url(thumbnail.path))}" target="_blank" rel="noopener">'
        f"{_picture(thumbnail)}</a>\n"
        f'<p class="name" title="{_text(name)}"><span class="rank">{number}</span> <bdi>{_text(name)}</bdi></p>\n'
        f'<p class="where" title="{_text(hit.path)}"><bdi>{escape(home_path(folder))}</bdi></p>\n'
        f'{_relevance(hit)}<p class="facts">{" · ".join(facts)}</p>\n{_marks(hit)}'
        f'<template class="more">{_told(number, hit)}</template>\n</li>\n'
    )


def _file_url(path: str) -> str:
    return f"file://{urllib.parse.quote(os.fsencode(path))}"


def _picture(thumbnail: Thumbnail) -> str:
    name = os.path.basename(thumbnail.hit.path)
    picture = thumbnail.picture
    if picture is None:
        why = "offline" if thumbnail.hit.offline else thumbnail.reason or "it cannot be read"
        return f'<span class="none" role="img" aria-label="{_text(name)}, not shown: {_text(why)}">{_text(why)}</span>'
    seen = ", ".join(each.label for each in thumbnail.hit.explain[:3])
    alt = f"{name} (recognised: {seen})" if seen else name
    return (
        f'<img src="{_data_url(picture)}" width="{picture.width}" height="{picture.height}" '
        f'alt="{_text(alt)}" decoding="async">'
    )


def _data_url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


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
        ("Taken", hit.taken_at and _text(hit.taken_at.replace("T", " "))),
        ("Size", ", ".join(part for part in (pixels, size(hit.bytes), hit.format and _text(hit.format)) if part)),
        ("Recognised", ", ".join(f"{_text(each.label)} {each.score:.2f}" for each in hit.explain)),
        ("Library id", str(hit.id)),
        ("Copies" if len(hit.paths) > 1 else "File", _paths(hit)),
    ]
    heading = f"<h2><bdi>{_text(os.path.basename(hit.path))}</bdi></h2>"
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value)
    return f"{heading}{_marks(hit)}<dl>{listed}</dl>"


def _paths(hit: Hit) -> str:
    if len(hit.paths) <= 1:
        return f"<bdi>{_text(hit.path)}</bdi>"
    more = len(hit.paths) - _MAX_PATHS
    listed = "".join(f"<li><bdi>{_text(path)}</bdi></li>" for path in hit.paths[:_MAX_PATHS])
    return f"<ul>{listed}</ul>" + (f"and {more:,} more" if more > 0 else "")
