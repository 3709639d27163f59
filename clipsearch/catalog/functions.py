"""The functions that filters call from SQL: distances, matching paths, words whatever their case and accents, dates."""

from __future__ import annotations

import calendar
import fnmatch
import json
import math
import os
import re
import sqlite3
from functools import lru_cache

from clipsearch.catalog.local_time import local_text
from clipsearch.files import composed

EARTH_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""

_DAKUTEN = "\u3099\u309a"
"""Marks that make another letter in Japanese: they are not accents."""


def install(conn: sqlite3.Connection) -> None:
    """Register the functions that `Filter` uses."""
    for name, function in (
        ("path_matches", _path_matches),
        ("name_contains", _name_contains),
        ("distance_km", distance_km),
        ("contains_folded", _contains_folded),
        ("has_keyword", _has_keyword),
        ("local_time_within", _local_time_within),
    ):
        conn.create_function(name, function.__code__.co_argcount, function, deterministic=True)


def distance_km(lat1: float | None, lon1: float | None, lat2: float, lon2: float) -> float | None:
    """Great-circle distance of two places in degrees, by the haversine formula (Sinnott 1984); None without a place."""
    if lat1 is None or lon1 is None:
        return None
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half = math.sin((phi2 - phi1) / 2) ** 2
    half += math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def folded(text: str) -> str:
    """A text without its case and accents: what is equal in this form counts as the same."""
    if text.isascii():
        return text.lower()
    import unicodedata  # 1 ms, which plain queries do not need.

    apart = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in apart if not unicodedata.combining(c) or c in _DAKUTEN)
    return unicodedata.normalize("NFC", bare.casefold())


def _contains_folded(text: str | None, part: str) -> bool:
    return text is not None and part in folded(text)


def _has_keyword(keywords: str | None, word: str) -> bool:
    return keywords is not None and word in _keywords(keywords)


@lru_cache(maxsize=4096)
def _keywords(keywords: str) -> frozenset[str]:
    return frozenset(map(folded, json.loads(keywords)))


def _local_time_within(taken_at: str, lat: float | None, lon: float | None, low: str, high: str) -> bool:
    """Whether a date in UTC, in local time, lies inside; all of it, where it is a day or less exact."""
    local = local_text(taken_at, 0, "gps", lat=lat, lon=lon)
    return first_moment(local) >= low and last_moment(local) + "~" <= high


def first_moment(date: str) -> str:
    """The beginning of a year, a month, a day, an hour or a minute, in seconds."""
    return date + "0000-01-01T00:00:00"[len(date) :]


def last_moment(date: str) -> str:
    """The end of it, in seconds."""
    if len(date) == 7:
        date += f"-{calendar.monthrange(int(date[:4]), int(date[5:]))[1]}"
    return date + "0000-12-31T23:59:59"[len(date) :]


def _name_contains(path: bytes, part: str) -> bool:
    return part in folded(os.fsdecode(path.rpartition(b"/")[2]))


def _path_matches(path: bytes, glob: bytes) -> bool:
    if _compiled(os.fsdecode(glob)).match(os.fsdecode(path)):
        return True
    return not (glob.isascii() or path.isascii()) and _compiled(composed(glob)).match(composed(path)) is not None


@lru_cache(maxsize=64)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(glob))
