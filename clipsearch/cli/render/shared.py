"""What all renderers share: the schema version, and paths, messages and rows as JSON, CSV and text."""

from __future__ import annotations

import binascii
import csv
import io
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from clipsearch.cli import output

if TYPE_CHECKING:
    from clipsearch.evaluate.results import Missed
    from clipsearch.indexing.results import Problem
    from clipsearch.library.results import ListedFile


SCHEMA_VERSION = 1
"""Increases when a key of the JSON output changes its meaning or is removed; keys may be added at any time."""

SHOWN_PROBLEMS = 10

NOT_CLIP = "builtin (works offline; not CLIP)"


def fields(value: object, names: str) -> dict[str, Any]:
    """The fields of a value whose keys in JSON are their own names, separated by blanks, in that order."""
    return {name: getattr(value, name) for name in names.split()}


def path_keys(path: str, *, name: str = "path") -> dict[str, str]:
    """A path for JSON: readable, and also in base64 where that loses bytes."""
    readable = os.fsencode(path).decode("utf-8", "replace")
    if readable == path:
        return {name: path}
    return {name: readable, f"{name}_b64": in_base64(path)}


def in_base64(path: str) -> str:
    return binascii.b2a_base64(os.fsencode(path), newline=False).decode("ascii")


def problems_json(problems: Iterable[Problem | ListedFile | Missed]) -> list[dict[str, Any]]:
    return [{**path_keys(p.path), "reason": clean(p.reason)} for p in problems]


def clean(text: str | None) -> str | None:
    """A message for JSON, which cannot contain lone surrogates; see `output.as_options`."""
    return (
        None if text is None else output.as_options(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )


def message(text: str) -> str:
    """A message of the library for a terminal, within a result."""
    return output.printable(output.as_options(text))


def csv_text(rows: Iterable[Sequence[object]], *, end: str = "\n") -> str:
    """Rows as CSV, None as an empty field; `end` ends each line."""
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)
    return text.getvalue()
