"""What narrows a search: a small typed filter that becomes one parameterised SQL condition over contents and files."""

from __future__ import annotations

import fnmatch
import math
import os
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.embeddings import CHUNK, stacked
from clipsearch.catalog.files import LIVE
from clipsearch.errors import UsageError
from clipsearch.files import absolute, span
from clipsearch.types import MAX_INTEGER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EARTH_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Near:
    """Within `km` of a place; degrees, north and east positive."""

    lat: float
    lon: float
    km: float


@dataclass(frozen=True, slots=True)
class Filter:
    """Everything that is given must hold; `within` and `formats` name alternatives.

    within: folders (all below them), or globs over whole paths, where `*` also matches slashes.
    taken: ISO moments [from, to), compared as text with a picture's local time: see `parse_taken`.
    indexed_since: ISO, compared with when a content was added (UTC).
    """

    within: tuple[bytes, ...] = ()
    taken: tuple[str, str] | None = None
    camera: str | None = None
    near: Near | None = None
    formats: tuple[str, ...] = ()
    min_size: tuple[int, int] | None = None
    landscape: bool = False
    portrait: bool = False
    indexed_since: str | None = None
    state: str | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))

    def where(self) -> tuple[str, list[object]]:
        """The condition on `c` (contents), with its parameters: one of its live files must match `where_file`, too."""
        terms: list[str] = []
        values: list[object] = []

        def add(term: str, *given: object) -> None:
            terms.append(term)
            values.extend(given)

        on_files, file_values = self.where_file()
        add(
            f"EXISTS (SELECT 1 FROM files f WHERE f.content_id = c.id AND f.state IN {LIVE} AND {on_files})",
            *file_values,
        )
        if self.taken is not None:
            add("c.taken_at >= ? AND c.taken_at < ?", *self.taken)
        if self.camera is not None:
            add("contains_folded(c.camera, ?)", self.camera.casefold())
        if self.near is not None:
            add("distance_km(c.lat, c.lon, ?, ?) <= ?", self.near.lat, self.near.lon, self.near.km)
        if self.formats:
            add(f"c.format IN ({','.join('?' * len(self.formats))})", *self.formats)
        if self.min_size is not None:
            add("c.width >= ? AND c.height >= ?", *self.min_size)
        if self.landscape:
            add("c.width > c.height")
        if self.portrait:
            add("c.width < c.height")
        if self.indexed_since is not None:
            add("c.added_at >= ?", self.indexed_since)
        if self.state is not None:
            add("c.state = ?", self.state)
        return " AND ".join(terms), values

    def where_file(self) -> tuple[str, list[object]]:
        """The condition on `f` (files) alone, with its parameters."""
        terms: list[str] = []
        values: list[object] = []
        for place in self.within:
            terms.append("f.path = ? OR (f.path >= ? AND f.path < ?)")
            values += [place, *span(place)]
            # A folder may have such characters in its name, and be offline: what looks like a glob is tried as both.
            if _GLOB.search(os.fsdecode(place)):
                terms.append("path_matches(f.path, ?)")
                values.append(place)
        return f"({' OR '.join(terms)})" if terms else "1", values


def install(conn: sqlite3.Connection) -> None:
    """Teach a connection the functions that `Filter.where` uses."""
    conn.create_function("path_matches", 2, _path_matches, deterministic=True)
    conn.create_function("distance_km", 4, distance_km, deterministic=True)
    conn.create_function("contains_folded", 2, _contains_folded, deterministic=True)


def distance_km(lat1: float | None, lon1: float | None, lat2: float, lon2: float) -> float | None:
    """Great-circle distance of two places in degrees, by the haversine formula (Sinnott 1984); None without a place."""
    if lat1 is None or lon1 is None:
        return None
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half = math.sin((phi2 - phi1) / 2) ** 2
    half += math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def _contains_folded(text: str | None, part: str) -> bool:
    return text is not None and part in text.casefold()


def _path_matches(path: bytes, glob: bytes) -> bool:
    return _compiled(glob).match(os.fsdecode(path)) is not None


@lru_cache(maxsize=64)
def _compiled(glob: bytes) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(os.fsdecode(glob)))


def matching(catalog: Catalog, encoder_id: int, chosen: Filter) -> NDArray[np.int64]:
    """The seq of every embedding of an encoder whose content passes, ascending, shape (n,)."""
    import numpy as np

    install(catalog.conn)
    condition, values = chosen.where()
    rows = catalog.conn.execute(
        f"SELECT e.seq FROM embeddings e JOIN contents c ON c.id = e.content_id "
        f"WHERE e.encoder_id = ? AND {condition} ORDER BY e.seq",
        (encoder_id, *values),
    )
    return np.array([seq for (seq,) in rows], np.int64)


def matching_vectors(catalog: Catalog, row: EncoderRow, chosen: Filter) -> tuple[list[int], NDArray[np.float32]]:
    """The contents that pass and have a vector of the whole image, and these vectors, shape (n, dim)."""
    import numpy as np

    install(catalog.conn)
    condition, values = chosen.where()
    vectors = np.empty((catalog.embeddings.count_images(row.id), row.info.dim), np.float32)
    ids: list[int] = []
    found = catalog.conn.execute(
        "SELECT c.id, e.vector FROM embeddings e JOIN contents c ON c.id = e.content_id "
        f"WHERE e.encoder_id = ? AND e.view = 0 AND {condition}",
        (row.id, *values),
    )
    while part := found.fetchmany(CHUNK):
        vectors[len(ids) : len(ids) + len(part)] = stacked([vector for _, vector in part], row.info.dim)
        ids += [content_id for content_id, _ in part]
    return ids, vectors[: len(ids)]


def paths_inside(catalog: Catalog, content_ids: Sequence[int], chosen: Filter | None) -> set[bytes] | None:
    """The paths of these contents that lie where the filter looks; None where it looks everywhere."""
    if chosen is None or not chosen.within:
        return None
    install(catalog.conn)
    condition, values = chosen.where_file()
    found: set[bytes] = set()
    for content_id in content_ids:
        rows = catalog.conn.execute(
            f"SELECT f.path FROM files f WHERE f.content_id = ? AND {condition}", (content_id, *values)
        )
        found.update(path for (path,) in rows)
    return found


# From words on a command line


def parse_within(places: Sequence[str]) -> tuple[bytes, ...]:
    """Folders and globs; a relative one is taken from here, a glob without a slash matches at any depth."""
    return tuple(
        b"*/" + os.fsencode(place) if _GLOB.search(place) and "/" not in place else absolute(place) for place in places
    )


def parse_taken(text: str) -> tuple[str, str]:
    """ISO moments [from, to) of `2021`, `2021-05`, `2021-05-03`, or two of them as `A..B`, both included; one may lack.

    Raises UsageError.
    """
    first, dots, last = text.partition("..")
    if not dots:
        last = first
    if not first and not last:
        raise UsageError(f"--taken {text}: give a date, like 2021, 2021-05 or 2021-05-03..2021-06")
    low = _checked(first, text) if first else ""
    high = _following(_checked(last, text)) if last else "~"
    if low >= high:
        raise UsageError(f"--taken {text}: ends before it begins")
    return low, high


def _checked(day: str, text: str) -> str:
    try:
        if not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", day):
            raise ValueError(day)
        date.fromisoformat((day + "-01-01")[:10] if len(day) < 10 else day)
    except ValueError as exc:
        raise UsageError(f"--taken {text}: {day!r} is no date; write 2021, 2021-05 or 2021-05-03") from exc
    return day


def _following(day: str) -> str:
    """The first moment after a year, month or day, as text that sorts right."""
    # "2021-05-03T…" < "2021-05-03~" for every time of that day, and so for months and years.
    return day + "~"


def parse_near(text: str) -> Near:
    """`LAT,LON,KM` in degrees and kilometres. Raises UsageError."""
    try:
        lat, lon, km = (float(part) for part in text.split(","))
    except ValueError as exc:
        raise UsageError(f"--near {text}: give latitude, longitude and kilometres: 48.86,2.35,10") from exc
    if not (abs(lat) <= 90 and abs(lon) <= 180 and 0 < km < math.inf):
        raise UsageError(f"--near {text}: latitude within ±90, longitude within ±180, kilometres above 0")
    return Near(lat, lon, km)


def parse_size(text: str) -> tuple[int, int]:
    """`WxH` in pixels of the upright picture. Raises UsageError."""
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text.strip())
    if match is None:
        raise UsageError(f"--min-size {text}: give width and height in pixels: 1920x1080")
    return min(int(match[1]), MAX_INTEGER), min(int(match[2]), MAX_INTEGER)


def parse_since(text: str) -> str:
    """An ISO date or moment, in UTC where it names no zone. Raises UsageError."""
    from datetime import UTC

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"--indexed-since {text}: give a date like 2026-01-31") from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="seconds")
