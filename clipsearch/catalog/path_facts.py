"""The facts of a path, as a row of `files` has them. Queries do without this class."""

from __future__ import annotations

from typing import NamedTuple


class PathFacts(NamedTuple):
    """The facts that belong to a path: columns of `files`. `keywords` is a JSON list.

    The sources are those of `catalog.facts`.
    """

    taken_at: str | None
    taken_offset: int | None
    taken_source: str | None
    lat: float | None
    lon: float | None
    place_source: str | None
    caption: str | None
    caption_source: str | None
    keywords: str | None
    rating: int | None
