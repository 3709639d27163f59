"""Filters: a small typed value that becomes one parameterised SQL condition over contents and files."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.catalog import facts
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.contents import BLANK
from clipsearch.catalog.embeddings import CHUNK, finite_rows, stacked
from clipsearch.catalog.files import LIVE
from clipsearch.errors import UsageError
from clipsearch.files import span
from clipsearch.types import MAX_INTEGER, HitState, is_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.catalog.on_facts import OnFact

_FEW = 4
"""Files of a folder are looked up first if they are fewer than a quarter of all: then it is faster (`matching`)."""

_GLOB, _ESCAPED = rb"[*?\[]", rb"\[([*?\[])\]"


_BEGINNING = re.compile(rb"(?:[^*?\[\x80-\xff]|\[[*?\[]\])*/")
"""The folders at the beginning of a glob that have one name only: composed letters have two."""

_MATCHES = "path_matches(f.path, ?)"


def _folder_of(glob: bytes) -> bytes:
    """A folder that holds all that a glob matches; empty for none, or the whole file system."""
    match = _BEGINNING.match(glob)
    return unescaped(match[0])[:-1] if match else b""


def has_glob(place: bytes) -> bool:
    """Whether a place of `Filter.within` may be a glob, by what is not escaped in it."""
    return re.search(_GLOB, re.sub(_ESCAPED, b"", place)) is not None


def escaped(folder: bytes) -> bytes:
    """A folder as a glob that stands for nothing else: "[", "*" and "?" in brackets."""
    return re.sub(_GLOB, rb"[\g<0>]", folder)


def unescaped(place: bytes) -> bytes:
    """The folder that `escaped` was given."""
    return re.sub(_ESCAPED, rb"\1", place)


class Where(NamedTuple):
    """What to join to `contents c`, a condition on it, and its parameters. narrows: it may leave few contents."""

    join: str
    condition: str
    values: list[object]
    narrows: bool


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
    taken: dates or ISO moments [from, to), compared as text with an image's local time; a year, a month or a day passes
    if all of it lies inside.
    rating: the fewest and the most stars, from -1 (rejected) to 5; images without a rating have 0.
    tags: whole keywords, which the image must all have. caption, name, camera: parts of the image's caption, of its
    file's name and of its camera's. Case and accents do not matter.
    indexed_since: ISO, compared with when a content was added (UTC).
    blank: also images of one colour, which match only with this or with `state`.
    as_text: no place in `within` is looked up in the file system, where it might have another name.
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
    tags: tuple[str, ...] = ()
    rating: tuple[int, int] | None = None
    caption: str | None = None
    name: str | None = None
    as_text: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for a text that is empty or not valid UTF-8, and for ratings that do not exist."""
        for parameter, words in (("caption", (self.caption,)), ("name", (self.name,)), ("tags", self.tags)):
            if any(word is not None and not word.strip() for word in words):
                raise UsageError(f"`{parameter}`: the text to look for is empty")
        texts = (self.camera, self.indexed_since, self.caption, self.name, *(self.taken or ()), *self.formats)
        for text in (*texts, *self.tags):
            if text is not None and not is_text(text):
                raise UsageError(f"{text}: not valid UTF-8, and cannot be searched for")
        if self.rating is not None and not -1 <= self.rating[0] <= self.rating[1] <= 5:
            raise UsageError(f"`rating`: {self.rating[0]}..{self.rating[1]}: stars are from -1 to 5, the fewest first")

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))

    def where(self, *, by_path: bool, by_bytes: bool) -> Where:
        """The condition on `c` (contents): one of its live files must match `where_file`, too.

        by_path: look up these files first. by_bytes: no path has facts of the kinds that are asked for. The cheap
        conditions come first.
        """
        terms: list[str] = []
        values: list[object] = []

        def add(term: str, given: Iterable[object] = ()) -> None:
            terms.append(term)
            values.extend(given)

        file_condition, file_values = self.where_file()
        live = f"FROM files f WHERE f.state IN {LIVE} AND {file_condition}"
        if by_path:
            add(f"c.id IN (SELECT f.content_id {live})", file_values)
        if self.formats:
            add(f"c.format IN ({','.join('?' * len(self.formats))})", self.formats)
        if self.min_size is not None:
            add("c.width >= ? AND c.height >= ?", (max(0, min(side, MAX_INTEGER)) for side in self.min_size))
        if self.landscape:
            add("c.width > c.height")
        if self.portrait:
            add("c.width < c.height")
        if self.indexed_since is not None:
            add("c.added_at >= ?", [self.indexed_since])
        if self.state is not None:
            add("c.state = ?", [self.state])
        elif not self.blank:
            add("c.reason IS NOT ?", [BLANK])
        if self.camera is not None:
            add("contains_folded(c.camera, ?)", [folded(self.camera)])
        wanted, narrows = self.on_facts(), True
        has_path = bool(wanted) and not by_bytes
        if not by_path:
            for fact in wanted:
                add(*(fact.of_bytes() if by_bytes else fact.possible()))
            narrows = len(terms) > 1
            if has_path and file_condition == "1":
                add("p.id IS NOT NULL")
            else:
                add(f"EXISTS (SELECT 1 {live} AND f.content_id = c.id)", file_values)
        if has_path:
            for fact in wanted:
                add(*fact.exact())
        return Where(facts.PATH if has_path else "", " AND ".join(terms), values, narrows)

    def on_facts(self) -> list[OnFact]:
        """The conditions on facts that a path may have, too."""
        from clipsearch.catalog import on_facts  # Takes 1 ms, and plain queries do without.

        found = [on_facts.tagged(tag) for tag in self.tags]
        if self.taken is not None:
            found.append(on_facts.taken(*self.taken))
        if self.near is not None:
            found.append(on_facts.near(self.near.lat, self.near.lon, self.near.km))
        if self.rating is not None:
            found.append(on_facts.rated(*self.rating))
        if self.caption is not None:
            found.append(on_facts.captioned(self.caption))
        return found

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
                start = _folder_of(place)
                terms.append(f"(f.path >= ? AND f.path < ? AND {_MATCHES})" if start else _MATCHES)
                values += [*span(start), place] if start else [place]
        condition = f"({' OR '.join(terms)})" if terms else "1"
        if self.name is not None:
            return f"{condition} AND name_contains(f.path, ?)", [*values, folded(self.name)]
        return condition, values


def folded(text: str) -> str:
    """`functions.folded`."""
    from clipsearch.catalog import functions  # Takes 1 ms, and plain queries do without.

    return functions.folded(text)


def install(conn: sqlite3.Connection) -> None:
    """Register the functions that conditions use."""
    from clipsearch.catalog import functions

    functions.install(conn)


def matching(catalog: Catalog, encoder_id: int, chosen: Filter) -> NDArray[np.int64]:
    """The seq of every embedding of an encoder whose content passes, ascending, shape (n,)."""
    import numpy as np

    install(catalog.conn)
    where = _where(catalog.conn, chosen)
    # SQLite keeps the order of a CROSS JOIN. The index of embeddings that it then uses has all that is read of them.
    if where.narrows:
        tables = f"contents c {where.join} CROSS JOIN embeddings e ON e.encoder_id = ? AND e.content_id = c.id"
    else:
        tables = f"embeddings e CROSS JOIN contents c ON e.encoder_id = ? AND e.content_id = c.id {where.join}"
    rows = catalog.conn.execute(f"SELECT e.seq FROM {tables} WHERE {where.condition}", (encoder_id, *where.values))
    return np.sort(np.fromiter((seq for (seq,) in rows), np.int64))


def _where(conn: sqlite3.Connection, chosen: Filter) -> Where:
    """The condition of a filter, in the form that is the fastest for this catalog."""
    if _begins_with_files(conn, chosen):
        return chosen.where(by_path=True, by_bytes=False)
    known = {f"{fact.known} IS NOT NULL" for fact in chosen.on_facts()}
    known |= {"lat IS NOT NULL"} if chosen.taken else set()  # A place tells the time zone of a date.
    some = f"SELECT EXISTS (SELECT 1 FROM files WHERE {' OR '.join(known or ['0'])})"
    return chosen.where(by_path=False, by_bytes=not conn.execute(some).fetchone()[0])


def _begins_with_files(conn: sqlite3.Connection, chosen: Filter) -> bool:
    """Whether to look up the files that match first: where every file must be looked at, or few lie in a folder."""
    condition, values = chosen.where_file()
    if condition == "1":
        return False
    if "(f.path," in condition:  # A function.
        return True
    most = int(conn.execute("SELECT coalesce(max(id), 0) FROM files").fetchone()[0]) // _FEW
    some = f"SELECT 1 FROM files f WHERE {condition} LIMIT ?"
    return int(conn.execute(f"SELECT count(*) FROM ({some})", (*values, most + 1)).fetchone()[0]) <= most


def matching_vectors(catalog: Catalog, row: EncoderRow, chosen: Filter) -> tuple[list[int], NDArray[np.float32]]:
    """The contents that pass and have a finite vector of the whole image, and these vectors, shape (n, dim)."""
    import numpy as np

    install(catalog.conn)
    where = _where(catalog.conn, chosen)
    vectors = np.empty((catalog.embeddings.count_images(row.id), row.info.dim), np.float32)
    ids: list[int] = []
    found = catalog.conn.execute(
        f"SELECT c.id, e.vector FROM embeddings e JOIN contents c ON c.id = e.content_id {where.join} "
        f"WHERE e.encoder_id = ? AND e.view = 0 AND {where.condition}",
        (row.id, *where.values),
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
    if chosen is None or not (chosen.within or chosen.name):
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
