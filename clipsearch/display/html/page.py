"""Self-contained web pages: one template environment that escapes every value, and how a page is written.

A content security policy lets a page run its own script and load nothing else, whatever a file is called.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clipsearch import files
from clipsearch.display.text import (
    date_text,
    day_text,
    from_source,
    home_path,
    model_name,
    part_of,
    place_text,
    printable,
    size,
    stars,
)
from clipsearch.display.thumbnails import jpeg
from clipsearch.types import EncoderInfo, Hit

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal["gallery", "map"]
"""What a page is; its template, style and script are the files of that name in this folder."""

_HERE = Path(__file__).parent


def write(
    file: TextIO | str | Path,
    kind: Kind,
    *,
    title: str,
    model: EncoderInfo,
    notices: tuple[str, ...],
    **values: object,
) -> None:
    """Render the template `kind` with `values` to `file`, piece by piece: iterators in `values` are used up lazily.

    A path is written whole or not at all; only a page of the same kind is replaced. Raises UsageError if another file
    is in the way, ClipsearchError if writing fails.
    """
    style = Markup(_read("page.css") + _read(f"{kind}.css"))
    template = environment().get_template(f"{kind}.html.jinja")
    body = template.generate(
        title=title, model=model, notices=notices, style=style, script=Markup(_read(f"{kind}.js")), **values
    )
    pieces = itertools.chain([_mark(kind)], body)
    if not isinstance(file, str | Path):
        file.writelines(pieces)
        return
    with files.writing_own(file, is_own=_is_own(kind), what=kind) as stream:
        stream.writelines(piece.encode() for piece in pieces)


def check(file: str | Path, kind: Kind) -> None:
    """Raise at once what `write` would raise for this file: see files.check_own."""
    files.check_own(file, is_own=_is_own(kind), what=kind)


def _mark(kind: Kind) -> str:
    """The start of every page of this kind, by which it is recognised as one that may be replaced."""
    return f'<!doctype html>\n<html lang="en">\n<!-- clipsearch {kind} -->\n'


def _is_own(kind: Kind) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(_mark(kind).encode())


def environment(*folders: Path) -> Environment:
    """The templates in `folders` and in this one, in which every value is made printable and escaped."""
    made = Environment(
        loader=FileSystemLoader((*folders, _HERE)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters |= {
        "basename": os.path.basename,
        "data_url": _data_url,
        "day": lambda hit: day_text(hit.taken_at, hit.taken_offset, hit.taken_source),
        "dirname": os.path.dirname,
        "file_url": _file_url,
        "home_path": home_path,
        "model_name": model_name,
        "part_of": part_of,
        "place": lambda hit: place_text(hit.lat, hit.lon) + from_source(hit.place_source),
        "sha256": _sha256,
        "size": size,
        "stars": stars,
        "taken": _taken,
        "thousands": "{:,}".format,
    }
    return made


def _finalize(value: object) -> object:
    """What a template shows of any value: text without control characters and direction marks, before escaping."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _taken(hit: Hit) -> str:
    if hit.taken_at is None:
        return ""
    when = date_text(hit.taken_at, hit.taken_offset, hit.taken_source).replace("T", " ", 1)
    return when + from_source(hit.taken_source)


def _file_url(path: str) -> str:
    return f"file://{urllib.parse.quote(os.fsencode(path))}"


def _data_url(image: Image.Image | bytes, *, quality: int = 80) -> Markup:
    """The image itself, as a JPEG, or the JPEG itself."""
    data = base64.b64encode(image if isinstance(image, bytes) else jpeg(image, quality=quality))
    return Markup(f"data:image/jpeg;base64,{data.decode('ascii')}")


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    """The hash by which a content security policy allows an inline style or script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
