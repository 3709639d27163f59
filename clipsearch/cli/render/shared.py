"""What every result has in common: paths and problems as JSON."""

from __future__ import annotations

import binascii
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from clipsearch.cli import output

if TYPE_CHECKING:
    from clipsearch.library.results import ListedFile
    from clipsearch.types import Problem


SCHEMA_VERSION = 1
"""Goes up when a key of the JSON output changes its meaning or goes away; new keys may come at any time."""

SHOWN_PROBLEMS = 10

NOT_CLIP = "builtin (works offline; not CLIP)"


def path_keys(path: str, *, name: str = "path") -> dict[str, str]:
    """A path for JSON: readable, and where that loses bytes, those in base64 too."""
    readable = os.fsencode(path).decode("utf-8", "replace")
    if readable == path:
        return {name: path}
    return {name: readable, f"{name}_b64": in_base64(path)}


def in_base64(path: str) -> str:
    return binascii.b2a_base64(os.fsencode(path), newline=False).decode("ascii")


def problems_json(problems: Iterable[Problem | ListedFile]) -> list[dict[str, Any]]:
    return [{**path_keys(p.path), "reason": clean(p.reason)} for p in problems]


def clean(text: str | None) -> str | None:
    """A message for JSON, which has no way to write lone surrogates; see `output.as_options`."""
    return (
        None if text is None else output.as_options(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )
