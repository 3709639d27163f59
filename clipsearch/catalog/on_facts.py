"""Conditions on the facts of an image, which are in its bytes or belong to its first path (`catalog.facts`)."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from clipsearch.catalog import facts
from clipsearch.catalog.functions import folded

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
        both = f"({self.rough or 1}) AND {self.condition}"
        return both.format_map(_columns("c")), (*self.rough_values, *self.values)

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
    inside = "{taken_at} >= ? AND {taken_at} || '~' <= ?"
    utc_inside = "local_time_within({taken_at}, {lat}, {lon}, ?, ?)"
    return OnFact(
        "taken_at",
        f"CASE WHEN {facts.UTC} THEN {utc_inside} ELSE {inside} END",
        (low, high, low, high),
        rough=f"CASE WHEN {facts.UTC} THEN {{taken_at}} BETWEEN ? AND ? ELSE {inside} END",
        rough_values=(_moved(low, -2), _moved(high, 33) + "~", low, high),
    )


def _moved(bound: str, days: int) -> str:
    """A day well before a bound, or well after it, even if that is a month: no time zone moves a date that far."""
    try:
        whole = datetime.date.fromisoformat((bound.rstrip("~") + "-01-01")[:10])
        if len(bound.rstrip("~")) == 4 and days > 0:
            whole = whole.replace(month=12)
        return (whole + datetime.timedelta(days)).isoformat()
    except (ValueError, OverflowError):
        return "" if days < 0 else "~"


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
