"""Filters: a small typed value that becomes one parameterised SQL condition over contents and files."""

from __future__ import annotations

import fnmatch
import math
import os
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.contents import BLANK
from clipsearch.catalog.embeddings import CHUNK, finite_rows, stacked
from clipsearch.catalog.files import LIVE
from clipsearch.errors import UsageError
from clipsearch.files import composed, span
from clipsearch.types import MAX_INTEGER, HitState, is_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EARTH_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""

_GLOB, _ESCAPED = re.compile(rb"[*?\[]"), re.compile(rb"\[([*?\[])\]")


def has_glob(place: bytes) -> bool:
    """Whether a place of `Filter.within` may be a glob, by what is not escaped in it."""
    return _GLOB.search(_ESCAPED.sub(b"", place)) is not None


def escaped(folder: bytes) -> bytes:
    """A folder as a glob that stands for nothing else: "[", "*" and "?" in brackets."""
    return _GLOB.sub(rb"[\g<0>]", folder)


def unescaped(place: bytes) -> bytes:
    """The folder that `escaped` was given."""
    return _ESCAPED.sub(rb"\1", place)


@dataclass(frozen=True, slots=True)
class Near:
    """Within `km` of a place; degrees, north and east positive."""

    lat: float
    lon: float
    km: float

    def __post_init__(self) -> None:
        """Raises UsageError for a place that is not on the globe, and for a distance that is not finite and above 0."""
        if not (abs(self.lat) <= 90 and abs(self.lon) <= 180 and 0 < self.km < math.inf):
            given = f"{self.lat:g},{self.lon:g},{self.km:g}"
            raise UsageError(f"`near`: {given}: latitude within ±90, longitude within ±180, kilometres above 0")


@dataclass(frozen=True, slots=True)
class Filter:
    """All given conditions must hold; `within` and `formats` list alternatives.

    within: folders (all below them), or globs over whole paths, where `*` also matches slashes. A name that contains
    "[", "*" or "?" is tried as both; `escaped` makes it a folder only.
    taken: ISO moments [from, to), compared as text with an image's local time.
    indexed_since: ISO, compared with when a content was added (UTC).
    blank: also images of one colour, which match only with this or with `state`.
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
    state: HitState | None = None
    blank: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for a text that is not valid UTF-8."""
        for text in (self.camera, self.indexed_since, *(self.taken or ()), *self.formats):
            if text is not None and not is_text(text):
                raise UsageError(f"{text}: not valid UTF-8, and cannot be searched for")

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
            add("distance_km(c.lat, c.lon, ?, ?) <= ?", *map(float, (self.near.lat, self.near.lon, self.near.km)))
        if self.formats:
            add(f"c.format IN ({','.join('?' * len(self.formats))})", *self.formats)
        if self.min_size is not None:
            add("c.width >= ? AND c.height >= ?", *(max(0, min(side, MAX_INTEGER)) for side in self.min_size))
        if self.landscape:
            add("c.width > c.height")
        if self.portrait:
            add("c.width < c.height")
        if self.indexed_since is not None:
            add("c.added_at >= ?", self.indexed_since)
        if self.state is not None:
            add("c.state = ?", self.state)
        elif not self.blank:
            add("c.reason IS NOT ?", BLANK)
        return " AND ".join(terms), values

    def where_file(self) -> tuple[str, list[object]]:
        """The condition on `f` (files) alone, with its parameters."""
        terms: list[str] = []
        values: list[object] = []
        for place in self.within:
            folder = unescaped(place)
            terms.append("f.path = ? OR (f.path >= ? AND f.path < ?)")
            values += [folder, *span(folder)]
            # A folder may have such characters in its name, and be offline: what looks like a glob is tried as both.
            if has_glob(place):
                terms.append("path_matches(f.path, ?)")
                values.append(place)
        return f"({' OR '.join(terms)})" if terms else "1", values


def install(conn: sqlite3.Connection) -> None:
    """Register the functions that `Filter.where` uses."""
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
    if _compiled(os.fsdecode(glob)).match(os.fsdecode(path)):
        return True
    return not (glob.isascii() or path.isascii()) and _compiled(composed(glob)).match(composed(path)) is not None


@lru_cache(maxsize=64)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(glob))


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
    """The contents that pass and have a finite vector of the whole image, and these vectors, shape (n, dim)."""
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
        some = stacked([vector for _, vector in part], row.info.dim)
        finite = finite_rows(some)
        if finite is not None:
            part, some = [one for one, good in zip(part, finite, strict=True) if good], some[finite]
        vectors[len(ids) : len(ids) + len(part)] = some
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
