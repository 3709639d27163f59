"""Which date, place, caption, keywords and rating an image has: those of its bytes, or those of its first path.

A row of `files` holds the best that belongs to its path: from a sidecar, otherwise from Takeout's JSON, otherwise from
the name. A sidecar is what people correct a file with, so it comes before the bytes; everything else comes after them.
"""

from __future__ import annotations

from typing import Final

from clipsearch.catalog.files import LIVE, ORDER

SIDECAR, TAKEOUT, NAME = "sidecar", "takeout", "name"
"""Sources of the facts of a path."""

PATH: Final = (
    f"LEFT JOIN files p ON p.id = (SELECT id FROM files WHERE content_id = c.id AND state IN {LIVE} "
    f"ORDER BY {ORDER} LIMIT 1)"
)
"""Joins the first path of a content `c` as `p`; what the expressions below need."""


def _of(column: str, known: str, source: str) -> str:
    return f"CASE WHEN p.{source} = '{SIDECAR}' OR c.{known} IS NULL THEN p.{column} ELSE c.{column} END"


EXPRESSIONS: Final = {
    **{name: _of(name, "taken_at", "taken_source") for name in ("taken_at", "taken_offset", "taken_source")},
    **{name: _of(name, "lat", "place_source") for name in ("lat", "lon", "place_source")},
    "caption": _of("caption", "caption", "caption_source"),
    "rating": "coalesce(p.rating, c.rating)",  # Only sidecars give these to a path.
    "keywords": "coalesce(p.keywords, c.keywords)",
}
"""SQL for each fact that a content shows, by its name in `image_facts.ImageFacts`; `keywords` is a JSON list."""

BYTES = "image"
"""The source of captions, keywords and ratings in an image's bytes: which of them is not recorded."""

SOURCES: Final = {
    "taken": EXPRESSIONS["taken_source"],
    "place": EXPRESSIONS["place_source"],
    "caption": f"CASE WHEN p.caption_source = '{SIDECAR}' OR c.caption IS NULL THEN p.caption_source "
    f"ELSE '{BYTES}' END",
    **{
        name: f"CASE WHEN p.{name} IS NOT NULL THEN '{SIDECAR}' WHEN c.{name} IS NOT NULL THEN '{BYTES}' END"
        for name in ("keywords", "rating")
    },
}
"""SQL for where these facts were found."""

_UTC = ("gps", TAKEOUT)
"""Sources that tell the time in UTC only."""

UTC: Final = (
    "({taken_source} IN (" + ", ".join(f"'{source}'" for source in _UTC) + ") "
    f"OR ({{taken_source}} = '{NAME}' AND {{taken_offset}} = 0))"
)
"""SQL for `is_utc`, with its columns in braces."""


def is_utc(source: str | None, offset: int | None) -> bool:
    """Whether a date is in UTC, so that the local time of the exposure is unknown. Pixel phones name files by UTC."""
    return source in _UTC or (source == NAME and offset == 0)
