"""What the command line prints with --json, and the server answers: results as dicts, and their text."""

from __future__ import annotations

import binascii
import json
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from clipsearch.export.options import as_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipsearch.evaluate.results import Missed
    from clipsearch.image_facts import ImageFacts
    from clipsearch.indexing.results import Problem
    from clipsearch.library.results import ListedFile, Shown
    from clipsearch.types import Hit, QueryResult

_NOT_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

SCHEMA_VERSION = 1
"""Increases when a key of the JSON output changes its meaning or is removed; keys may be added at any time."""

FACTS = "format width height taken_at taken_offset taken_source camera lat lon place_source"


def text(value: dict[str, Any], *, indent: int | None = 2) -> str:
    """One JSON object and a newline, without characters that could control a terminal."""
    written = json.dumps(value, ensure_ascii=False, indent=indent)
    return _NOT_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", written) + "\n"


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
    """A message for JSON, which cannot contain lone surrogates; see `as_options`."""
    return None if text is None else as_options(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def hit_json(hit: Hit) -> dict[str, Any]:
    paths = [path_keys(path) for path in hit.paths]
    value: dict[str, Any] = {"id": hit.id, **path_keys(hit.path), "paths": [keys["path"] for keys in paths]}
    if any("path_b64" in keys for keys in paths):
        value["paths_b64"] = [in_base64(path) for path in hit.paths]
    value |= fields(hit, "score bytes format width height taken_at state offline unreadable")
    value["explain"] = [fields(seen, "label score") for seen in hit.explain]
    value["also"] = [{"id": each.id, **path_keys(each.path), "format": each.format} for each in hit.also]
    value |= fields(hit, "relevance view box taken_offset taken_source lat lon place_source caption")
    return value | {"keywords": list(hit.keywords), "rating": hit.rating}


def query_json(result: QueryResult) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "query": clean(result.query),
        "model": result.model.spec,
        "is_clip": result.model.is_clip,
        "weak_below": result.model.details.get("weak_below"),
        "score_kind": result.kind,
        "hits": [hit_json(hit) for hit in result.hits],
        "relevant_total": result.relevant and result.relevant.count,
        "relevant_total_exact": result.relevant and result.relevant.exact,
        "notices": [clean(text) for text in result.notices],
        "notice_kinds": [notice.kind for notice in result.notices],
    }


def show_json(shown: Shown) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        **fields(shown, "id digest bytes"),
        "facts": shown.facts and _facts_json(shown.facts, shown.sources),
        **fields(shown, "state reason decoder added_at"),
        "files": [{**path_keys(path), "state": state} for path, state in shown.files],
        "views": [{"model": spec, "view": view, "box": box} for spec, view, box in shown.views],
        "neighbours": [hit_json(hit) for hit in shown.neighbours],
    }


def _facts_json(facts: ImageFacts, sources: Mapping[str, str]) -> dict[str, Any]:
    value = fields(facts, FACTS)
    for name in ("caption", "keywords", "rating"):
        value |= {name: getattr(facts, name), f"{name}_source": sources.get(name)}
    return value | {"keywords": list(facts.keywords), "exif": facts.exif}
