"""Files of captions, in the formats that data sets are distributed in; told apart by what stands in them.

- CSV or TSV of `path,caption`, with a head or without: Flickr8k's captions.txt, and what open_clip trains on
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
from typing import TYPE_CHECKING, Any

from clipsearch.errors import UsageError, reason
from clipsearch.evaluating.datasets import Captioned
from clipsearch.paths import absolute

if TYPE_CHECKING:
    from clipsearch.library import PathLike

PATH_NAMES = ("path", "filepath", "file_path", "image", "image_name", "image_path", "file_name", "filename", "file")
CAPTION_NAMES = ("caption", "captions", "comment", "text", "title", "sentence")
"""What the columns of the path and of the caption are called in a head, or the keys of an object, in any case."""

_TOKEN = re.compile(r"([^\t]+)#\d+\t")
_BARE_COMMENT = re.compile(r"\s*\d+\s+(\S.*)")
"""A line of Flickr30k's results.csv, as it is distributed, lacks its second bar: 2199200615.jpg| 4   A dog runs …"""


class _BadLineError(Exception):
    """What is wrong with a line, by its number from 1."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number


def read_captions(file: PathLike, *, images: PathLike | None = None) -> Captioned:
    """Pictures and captions of a file. `images` is the folder that its paths start from; else the file's own.

    Rows with the same path belong to one picture. The pictures themselves are not looked at. Raises UsageError, with
    the number of the line, for what is in none of the formats.
    """
    path = absolute(file)
    name = os.fsdecode(path)
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read()
    except UnicodeDecodeError as exc:
        raise UsageError(f"{name}: not a text in UTF-8") from exc
    except OSError as exc:
        raise UsageError(f"{name}: {reason(exc)}") from exc
    base = absolute(images) if images is not None else os.path.dirname(path)
    try:
        rows = list(_rows(text))
    except _BadLineError as exc:
        raise UsageError(f"{name}: line {exc.number}: {exc}") from exc
    if not rows:
        raise UsageError(f"{name}: no captions in it")
    places: dict[bytes, int] = {}
    pictures = [places.setdefault(os.path.join(base, os.fsencode(picture)), len(places)) for picture, _ in rows]
    return Captioned(tuple(places), tuple(caption for _, caption in rows), tuple(pictures))


def _rows(text: str) -> Iterator[tuple[str, str]]:
    """(path, caption), in the file's order."""
    first = text.lstrip().split("\n", 1)[0]
    if first.startswith(("{", "[")):
        yield from _json_rows(text)
    elif _TOKEN.match(first):
        yield from _checked(_token_rows(text))
    elif re.match(r"\w+\s*\|", first):
        yield from _checked(_bar_rows(text))
    elif "\t" in first:
        yield from _checked(_columns(_tab_rows(text)))
    else:
        yield from _checked(_columns(_comma_rows(text)))


def _checked(rows: Iterable[tuple[int, str, str]]) -> Iterator[tuple[str, str]]:
    for number, path, caption in rows:
        if not path.strip():
            raise _BadLineError(number, "no path")
        if not caption.strip():
            raise _BadLineError(number, f"no caption for {path.strip()}")
        yield path.strip(), caption.strip()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # Not splitlines, which also cuts at characters that captions hold, such as U+2028.
    return ((i, line.rstrip("\r")) for i, line in enumerate(text.split("\n"), 1) if line.strip())


def _token_rows(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(text):
        found = _TOKEN.match(line)
        if not found:
            raise _BadLineError(number, "not NAME#NUMBER, a tab and a caption, as the first line is")
        yield number, found[1], line[found.end() :]


def _bar_rows(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(text):
        parts = line.split("|", 2)
        if number == 1:
            continue  # the head
        if len(parts) == 3:
            yield number, parts[0], parts[2]
        elif len(parts) == 2 and (bare := _BARE_COMMENT.fullmatch(parts[1])):
            yield number, parts[0], bare[1]
        else:
            raise _BadLineError(number, "not a name, a number and a comment with | between")


def _tab_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(text):
        yield number, [_unquoted(field) for field in line.split("\t")]


def _unquoted(field: str) -> str:
    """A field without the quotes around all of it; a caption may well begin with a quoted word."""
    if len(field) < 2 or not (field[0] == field[-1] == '"') or '"' in field[1:-1].replace('""', ""):
        return field
    return field[1:-1].replace('""', '"')


def _comma_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield reader.line_num, row
    except csv.Error as exc:
        raise _BadLineError(reader.line_num, f"not CSV: {exc}") from exc


def _columns(rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, str, str]]:
    """The path and the caption of each row: where the head says, else the first and the second of two."""
    columns: tuple[int, int] | None = None
    width = 0
    for number, row in rows:
        if columns is None:
            columns, width = _head(row), len(row)
            if columns is not None:
                continue
            if width != 2:
                raise _BadLineError(number, f"{width} columns and no head that names them: path,caption")
            columns = (0, 1)
        if len(row) != width:
            raise _BadLineError(
                number, f"{len(row)} columns where the first line has {width}; quote commas in captions"
            )
        yield number, row[columns[0]], row[columns[1]]


def _head(row: list[str]) -> tuple[int, int] | None:
    names = [field.strip().lower() for field in row]
    found = [next((names.index(n) for n in known if n in names), None) for known in (PATH_NAMES, CAPTION_NAMES)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _json_rows(text: str) -> Iterator[tuple[str, str]]:
    try:
        whole = json.loads(text)
    except ValueError:
        yield from _checked(_object_rows(_parsed_lines(text)))
        return
    if isinstance(whole, dict) and isinstance(whole.get("annotations"), list):
        yield from _coco_rows(whole)
    else:
        yield from _checked(_object_rows([(1, item) for item in (whole if isinstance(whole, list) else [whole])]))


def _parsed_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(text):
        try:
            yield number, json.loads(line)
        except ValueError as exc:
            raise _BadLineError(number, f"not JSON: {exc}") from exc


def _object_rows(objects: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, str, str]]:
    for number, item in objects:
        named = {str(key).lower(): value for key, value in item.items()} if isinstance(item, dict) else {}
        path = next((named[key] for key in PATH_NAMES if key in named), None)
        captions = next((named[key] for key in CAPTION_NAMES if key in named), None)
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(path, str) or not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
            raise _BadLineError(number, 'not an object with "path" and "caption"')
        yield from ((number, path, caption) for caption in captions)


def _coco_rows(whole: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Microsoft COCO's format for captions: cocodataset.org/#format-data, sections 1 and 5."""
    try:
        names = {image["id"]: str(image["file_name"]) for image in whole["images"]}
        for item in whole["annotations"]:
            yield names[item["image_id"]], str(item["caption"]).strip()
    except (KeyError, TypeError) as exc:
        why = f"not COCO's captions: {exc} is missing" if isinstance(exc, KeyError) else f"not COCO's captions: {exc}"
        raise _BadLineError(1, why) from exc
