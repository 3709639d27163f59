"""Reads what a server answers, which is JSON as `export.json` writes it, into the values that a local query returns.

Nothing in it is taken for granted: another program may have answered. Keys that are not known are ignored.
"""

from __future__ import annotations

import binascii
import json
import os
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

from clipsearch.errors import ClipsearchError
from clipsearch.export.json import SCHEMA_VERSION
from clipsearch.types import (
    MAX_INTEGER,
    EncoderInfo,
    Hit,
    Notice,
    Partner,
    Preprocess,
    QueryResult,
    Seen,
    Total,
    is_text,
)

PROBLEM = "application/problem+json"

_NUMBER, _NOTHING = (int, float), type(None)
_HIT: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "bytes", "view"), (int,)),
    **dict.fromkeys(("format", "taken_at", "taken_source", "place_source", "caption"), (str, _NOTHING)),
    **dict.fromkeys(("width", "height", "taken_offset", "rating"), (int, _NOTHING)),
    **dict.fromkeys(("relevance", "lat", "lon"), (*_NUMBER, _NOTHING)),
    **dict.fromkeys(("offline", "unreadable"), (bool,)),
    "score": _NUMBER,
    "state": (str,),
}
"""The types of those fields of a hit that are in JSON as they are in Python."""

_ABOUT: dict[str, tuple[type, ...]] = {
    **{"model": (str,), "score_kind": (str,), "is_clip": (bool,), "weak_below": (*_NUMBER, _NOTHING)},
    **{"relevant_total": (int, _NOTHING), "relevant_total_exact": (bool, _NOTHING)},
}
"""The same for the answer itself."""


class MalformedError(ClipsearchError):
    """The text is not what a server of this version, or a later one, answers."""


class NewerError(MalformedError):
    """The text has keys whose meaning has changed since this version."""


def query_result(text: bytes, query: str) -> QueryResult:
    """The answer to a query, whose first term is called `query`. Raises MalformedError."""
    try:
        value = json.loads(text)
        if value["schema_version"] != SCHEMA_VERSION:
            raise NewerError(f"schema_version {value['schema_version']!r}")
        return _result(value, query)
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise MalformedError(f"it cannot be read ({type(exc).__name__}: {str(exc)[:60]})") from exc


def query_results(lines: Sequence[bytes], queries: Sequence[str]) -> tuple[QueryResult, ...]:
    """The answers to several queries, one on each line. Raises MalformedError."""
    if len(lines) != len(queries):
        raise MalformedError(f"it has {len(lines)} lines for {len(queries)} queries")
    return tuple(query_result(line, query) for line, query in zip(lines, queries, strict=True))


def problem(text: bytes) -> tuple[str, int | None] | None:
    """The detail of a problem, and the exit code for it if there is one; None for anything else."""
    try:
        value = json.loads(text)
        detail, code = value["detail"], value.get("exit_code")
        return (detail, code) if is_text(detail) and isinstance(code, int | None) else None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _result(value: Mapping[str, Any], query: str) -> QueryResult:
    about = _checked(value, _ABOUT)
    count = about.get("relevant_total")
    notices: Any = zip(*(map(_text, value.get(name, ())) for name in ("notice_kinds", "notices")), strict=True)
    model = EncoderInfo(
        spec=about["model"],
        is_clip=about["is_clip"],
        details={"weak_below": about.get("weak_below")},
        fingerprint="",  # From here on, what no output has.
        dim=0,
        logit_scale=1.0,
        logit_bias=None,
        preprocess=Preprocess(0),
    )
    return QueryResult(
        query,
        model,
        tuple(_hit(each) for each in value["hits"]),
        tuple(Notice(kind, notice) for kind, notice in notices),
        about["score_kind"],
        None if count is None else Total(count, bool(about.get("relevant_total_exact"))),
    )


def _hit(value: Mapping[str, Any]) -> Hit:
    paths, coded = value["paths"], value.get("paths_b64")
    explain = [_checked(each, {"label": (str,), "score": _NUMBER}) for each in value.get("explain", ())]
    also = [_checked(each, {"id": (int,), "format": (str, _NOTHING)}) for each in value.get("also", ())]
    box: Any = tuple(map(index, value.get("box") or ())) or None
    left, top, right, bottom = box or (0, 0, 1, 1)
    hit = Hit(
        path=_path(value),
        paths=tuple(map(_readable, paths) if coded is None else map(_from_base64, coded)),
        explain=tuple(Seen(**each) for each in explain),
        also=tuple(Partner(path=_path(raw), **each) for raw, each in zip(value.get("also", ()), also, strict=True)),
        box=box,
        keywords=tuple(map(_text, value.get("keywords", ()))),
        **_checked(value, _HIT),
    )
    # Other boxes, bars and stars would be drawn without end.
    is_inside = 0 <= left < right <= (hit.width or 1) and 0 <= top < bottom <= (hit.height or 1)
    if not (is_inside and 0 <= (hit.relevance or 0) <= 1 and -1 <= (hit.rating or 0) <= 5):
        raise ValueError("box, relevance or rating")
    return hit


def _checked(value: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """The values that `kinds` names, as far as there are any. Raises TypeError, ValueError for others than expected."""
    found = {name: value[name] for name in kinds if name in value}
    for name, each in found.items():
        if type(each) not in kinds[name]:
            raise TypeError(f"{name} is not {' or '.join(kind.__name__ for kind in kinds[name])}")
        if isinstance(each, str):
            _text(each)
        if isinstance(each, int | float) and not abs(each) <= MAX_INTEGER:
            raise ValueError(f"{name} is no number")
    return found


def _text(text: object) -> str:
    if not isinstance(text, str) or not is_text(text):
        raise TypeError("not a text")
    return text


def _path(value: Mapping[str, Any]) -> str:
    coded = value.get("path_b64")
    return _readable(value["path"]) if coded is None else _from_base64(coded)


def _readable(path: object) -> str:
    """A path that lost nothing when it was made text."""
    return os.fsdecode(_text(path).encode())


def _from_base64(coded: str) -> str:
    return os.fsdecode(binascii.a2b_base64(coded, strict_mode=True))
