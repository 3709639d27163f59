"""Conditions on the facts of an image, which are in its bytes or belong to its first path (`catalog.facts`)."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from clipsearch.catalog import facts, functions
from clipsearch.catalog.functions import folded

_LOCAL = "local_time_within({taken_at}, {lat}, {lon}, ?, ?)"

Added = tuple[str, tuple[object, ...]]
"""A condition and its parameters."""


class OnFact(NamedTuple):
    """A condition in SQL, with columns in braces, and its parameters. `known`: the column of a table that has the fact.

    rough: a condition that is no stricter and needs no other fact, where there is one; with its own parameters.
    """

    known: str
    condition: str
    values: tuple[object, ...]
    rough: str = ""
    rough_values: tuple[object, ...] = ()

    def exact(self) -> Added:
        """What holds for a content `c` with the first path `p` (`facts.PATH`), and the parameters."""
        return self.condition.format_map(facts.EXPRESSIONS), self.values

    def of_bytes(self) -> Added:
        """What holds for a content `c` if no path has such facts."""
        return self.condition.format_map(_columns("c")), self.values

    def possible(self) -> Added:
        """What holds in any case, and is much cheaper than to find first paths: the bytes pass, or some file does."""
        rough, values = (self.rough, self.rough_values) if self.rough else (self.condition, self.values)
        passes = rough.format_map(_columns("f"))
        files = f"SELECT f.content_id FROM files f WHERE f.{self.known} IS NOT NULL AND {passes}"
        return f"({rough.format_map(_columns('c'))} OR c.id IN ({files}))", (*values, *values)


def _columns(table: str) -> dict[str, str]:
    return {name: f"{table}.{name}" for name in facts.EXPRESSIONS}


def taken(low: str, high: str) -> OnFact:
    """Dates that lie between two in local time, the latter excluded; of a year, a month or a day, all of it."""
    first = "{taken_at} || substr('0000-01-01T00:00:00', length({taken_at}) + 1)"
    month = "date({taken_at} || '-01', '+1 month', '-1 day')"
    day = f"CASE length({{taken_at}}) WHEN 4 THEN {{taken_at}} || '-12-31' WHEN 7 THEN {month} ELSE {{taken_at}} END"
    inside = f"{first} >= ? AND {day} || substr('T23:59:59', max(1, length({{taken_at}}) - 9)) || '~' <= ?"
    low = functions.first_moment(low) if low else ""
    if high != "~":
        high = functions.last_moment(high[:-1]) + "~" if high.endswith("~") else functions.first_moment(high)
    near = "{taken_at} BETWEEN ? AND ?"
    # What is in UTC is brought to local time only where that matters. SQLite evaluates all of an AND, but for WHEN.
    utc = f"WHEN ({near}) IS NOT TRUE THEN 0 WHEN {inside} THEN 1 ELSE {_LOCAL}"
    widened = (_moved(low, -2), _moved(high, 2) + "~")
    narrowed = (_moved(low, 2), _moved(high, -2))
    return OnFact(
        "taken_at",
        f"CASE WHEN {facts.UTC} IS NOT TRUE THEN {inside} {utc} END",
        (low, high, *widened, *narrowed, low, high),
        rough=f"CASE WHEN {facts.UTC} THEN {near} ELSE {inside} END",
        rough_values=(*widened, low, high),
    )


def _moved(bound: str, days: int) -> str:
    """A day before or after that of a bound. Between two days apart, time zones do not matter."""
    try:
        return (datetime.date.fromisoformat(bound[:10]) + datetime.timedelta(days)).isoformat()
    except (ValueError, OverflowError):
        return bound


def near(lat: float, lon: float, km: float) -> OnFact:
    """Places within a distance."""
    return OnFact("lat", "distance_km({lat}, {lon}, ?, ?) <= ?", (float(lat), float(lon), float(km)))


def rated(least: int, most: int) -> OnFact:
    """Stars. An image without a rating is one that nobody has rated, as is one with 0."""
    return OnFact("rating", "coalesce({rating}, 0) BETWEEN ? AND ?", (least, most))


def tagged(tag: str) -> OnFact:
    """A whole keyword, whatever its case and accents."""
    return OnFact("keywords", "has_keyword({keywords}, ?)", (folded(tag.strip()),))


def captioned(part: str) -> OnFact:
    """A part of the caption, whatever its case and accents."""
    return OnFact("caption", "contains_folded({caption}, ?)", (folded(part),))
