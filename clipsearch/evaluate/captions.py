"""Reads files of captions in common formats; the format is detected from the contents.

- CSV or TSV of `path,caption`, with or without a header: Flickr8k's captions.txt, and what open_clip trains on
- JSON lines of objects with "path" and "caption", which may be a list
- COCO's captions_*.json, with "images" and "annotations"
- Flickr8k.token.txt, also of Flickr30k: `NAME#NUMBER<tab>caption`
- Flickr30k's results.csv: `image_name| comment_number| comment`
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import TYPE_CHECKING, Any

from clipsearch.errors import UsageError, reason
from clipsearch.evaluate.datasets import Captioned
from clipsearch.files import absolute
from clipsearch.types import is_text

if TYPE_CHECKING:
    from clipsearch.files import PathLike

PATH_NAMES = ("path", "filepath", "file_path", "image", "image_name", "image_path", "file_name", "filename", "file")
CAPTION_NAMES = ("caption", "captions", "comment", "text", "title", "sentence")
"""Names of the path and caption columns in a header, or of the keys of an object, in any case."""

_TOKEN = re.compile(r"([^\t]+)#\d+\t")
_BARE_COMMENT = re.compile(r"\s*\d+\s+(\S.*)")
"""One line of Flickr30k's distributed results.csv lacks its second bar: 2199200615.jpg| 4   A dog runs …"""


class _BadRowError(Exception):
    """The place of an invalid row, "line 3", and what is wrong with it."""


def read_captions(file: PathLike, *, images: PathLike | None = None) -> Captioned:
    """Images and captions of a file. Its paths are relative to the folder `images`, by default the file's own.

    Rows with the same path belong to one image. The images themselves are not read. Raises UsageError, with the
    line or item, for a file in none of the formats.
    """
    path = absolute(file)
    name = os.fsdecode(path)
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read()
    except UnicodeDecodeError as exc:
        raise UsageError("not valid UTF-8", path=name) from exc
    except OSError as exc:
        raise UsageError(reason(exc), path=name) from exc
    base = absolute(images) if images is not None else os.path.dirname(path)
    try:
        rows = list(_checked(_rows(text)))
    except _BadRowError as exc:
        raise UsageError(": ".join(exc.args), path=name) from exc
    if not rows:
        raise UsageError("no captions in it", path=name)
    places: dict[bytes, int] = {}
    pictures = [places.setdefault(os.path.join(base, picture), len(places)) for picture, _ in rows]
    return Captioned(tuple(places), tuple(caption for _, caption in rows), tuple(pictures))


def _rows(text: str) -> Iterator[tuple[str, str, str]]:
    """(place, path, caption), in the file's order; errors name the place."""
    first = text.lstrip().split("\n", 1)[0]
    if first.startswith(("{", "[")):
        return _json_rows(text)
    if _TOKEN.match(first):
        return _token_rows(text)
    if re.match(r"\w+\s*\|", first):
        return _bar_rows(text)
    return _columns(_tab_rows(text) if "\t" in first else _comma_rows(text))


def _checked(rows: Iterable[tuple[str, str, str]]) -> Iterator[tuple[bytes, str]]:
    """(path, caption) of valid rows."""
    for place, path, caption in rows:
        path, caption = path.strip(), caption.strip()
        if not path:
            raise _BadRowError(place, "no path")
        if not caption:
            raise _BadRowError(place, f"no caption for {path}")
        # JSON can contain lone surrogates, which neither a name nor a text can.
        try:
            name = os.fsencode(path)
        except UnicodeEncodeError as exc:
            raise _BadRowError(place, f"the path {path} contains a lone surrogate") from exc
        if not is_text(caption):
            raise _BadRowError(place, f"the caption of {path} contains a lone surrogate")
        yield name, caption


def _lines(text: str) -> Iterator[tuple[str, str]]:
    # Not splitlines, which also splits at characters that captions contain, such as U+2028.
    return ((f"line {i}", line.rstrip("\r")) for i, line in enumerate(text.split("\n"), 1) if line.strip())


def _token_rows(text: str) -> Iterator[tuple[str, str, str]]:
    for place, line in _lines(text):
        found = _TOKEN.match(line)
        if not found:
            raise _BadRowError(place, "expected NAME#NUMBER, a tab and a caption, as in the first line")
        yield place, found[1], line[found.end() :]


def _bar_rows(text: str) -> Iterator[tuple[str, str, str]]:
    lines = _lines(text)
    next(lines)  # the head
    for place, line in lines:
        parts = line.split("|", 2)
        if len(parts) == 3:
            yield place, parts[0], parts[2]
        elif len(parts) == 2 and (bare := _BARE_COMMENT.fullmatch(parts[1])):
            yield place, parts[0], bare[1]
        else:
            raise _BadRowError(place, "expected a name, a number and a comment, separated by |")


def _tab_rows(text: str) -> Iterator[tuple[str, list[str]]]:
    for place, line in _lines(text):
        yield place, [_unquoted(field) for field in line.split("\t")]


def _unquoted(field: str) -> str:
    """A field without quotes around the whole of it; a caption may begin with a quoted word."""
    if len(field) < 2 or not (field[0] == field[-1] == '"') or '"' in field[1:-1].replace('""', ""):
        return field
    return field[1:-1].replace('""', '"')


def _comma_rows(text: str) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield f"line {reader.line_num}", row
    except csv.Error as exc:
        raise _BadRowError(f"line {reader.line_num}", f"not CSV: {exc}") from exc


def _columns(rows: Iterable[tuple[str, list[str]]]) -> Iterator[tuple[str, str, str]]:
    """The path and the caption of each row: the columns named in the header, or the two without one."""
    columns: tuple[int, int] | None = None
    width = 0
    for place, row in rows:
        if columns is None:
            columns, width = _head(row), len(row)
            if columns is not None:
                continue
            if width != 2:
                raise _BadRowError(place, f"{width} columns without a header that names them: path,caption")
            columns = (0, 1)
        if len(row) != width:
            raise _BadRowError(place, f"{len(row)} columns, and the first line has {width}; quote commas in captions")
        yield place, row[columns[0]], row[columns[1]]


def _head(row: list[str]) -> tuple[int, int] | None:
    names = [field.strip().lower() for field in row]
    found = [next((names.index(n) for n in known if n in names), None) for known in (PATH_NAMES, CAPTION_NAMES)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _json_rows(text: str) -> Iterator[tuple[str, str, str]]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return _object_rows(_parsed_lines(text))
    if isinstance(whole, dict) and isinstance(whole.get("annotations"), list):
        return _coco_rows(whole)
    if not isinstance(whole, list):
        return _object_rows([("line 1", whole)])
    return _object_rows((f"item {i}", item) for i, item in enumerate(whole, 1))


def _parsed_lines(text: str) -> Iterator[tuple[str, Any]]:
    for place, line in _lines(text):
        try:
            yield place, json.loads(line)
        except ValueError as exc:
            raise _BadRowError(place, f"not JSON: {exc}") from exc
        except RecursionError as exc:
            raise _BadRowError(place, "JSON nested too deeply") from exc


def _object_rows(objects: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for place, item in objects:
        named = {str(key).lower(): value for key, value in item.items()} if isinstance(item, dict) else {}
        path, captions = (next((named[n] for n in names if n in named), None) for names in (PATH_NAMES, CAPTION_NAMES))
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(path, str) or not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
            raise _BadRowError(place, 'expected an object with "path" and "caption"')
        yield from ((place, path, caption) for caption in captions)


def _coco_rows(whole: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Microsoft COCO's format for captions: cocodataset.org/#format-data, sections 1 and 5."""
    images = whole.get("images")
    if not isinstance(images, list):
        raise _BadRowError("COCO's captions", '"annotations" without a list of "images"')
    names: dict[int | str, str] = {}
    for i, image in enumerate(images):
        place = f"images[{i}]"
        names[_member(image, "id", int | str, place)] = _member(image, "file_name", str, place)
    for i, item in enumerate(whole["annotations"]):
        place = f"annotations[{i}]"
        wanted = _member(item, "image_id", int | str, place)
        if wanted not in names:
            raise _BadRowError(place, f"no image has its image_id {wanted!r}")
        yield place, names[wanted], _member(item, "caption", str, place)


def _member(item: object, key: str, kind: type | UnionType, place: str) -> Any:  # noqa: ANN401 - a `kind`
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, kind):
        raise _BadRowError(place, f'"{key}" is missing or invalid')
    return value
