"""Finds a folder or file under the name by which the catalog knows it: one place may be named in several ways.

Names differ in links on the way, in Unicode's composed and decomposed letters, and, where the file system does not
tell them apart, in upper and lower case.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace

from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.files import LIVE
from clipsearch.catalog.filters import Filter, escaped, has_glob, unescaped
from clipsearch.files import below, composed, is_within, span, upwards

_LIVE = f"state IN {LIVE}"

_PLAIN = re.compile(rb"(?:[^*?\[]|\[[*?\[]\])*/")
"""The folders at the beginning of a glob that are no globs themselves."""


def resolved(catalog: Catalog, where: Filter | None) -> Filter | None:
    """A filter with all names by which the catalog may know its places."""
    if where is None or not where.within:
        return where
    looks = not where.as_text
    within = dict.fromkeys(name for place in where.within for name in _alternatives(catalog.conn, place, looks=looks))
    return replace(where, within=tuple(within))


def without_links(place: bytes) -> bytes:
    """A place of a filter as the file system has it: for a server, which looks up no names that it is sent."""
    if not has_glob(place):
        return escaped(os.path.realpath(unescaped(place)))
    head, rest = _head(place)
    return below(escaped(os.path.realpath(head))) + rest if head else place


def known(catalog: Catalog, ways: Sequence[bytes]) -> bytes:
    """The name by which the catalog knows a place, whatever became of its files; the first of `ways` for none."""
    conn = catalog.conn
    for way in ways:
        if _has(conn, "files", way) or _has(conn, "roots", way):
            return way
    return next((name for way in ways for name in _others(conn, way, "1")), ways[0])


def _alternatives(conn: sqlite3.Connection, place: bytes, *, looks: bool) -> Iterator[bytes]:
    """All names of a place. `looks`: also by what is at it in the file system."""
    yield place
    whole = unescaped(place)
    if _has(conn, "files", whole, _LIVE):
        return
    if not has_glob(place):
        yield from map(escaped, _others(conn, whole, _LIVE, looks=looks))
        return
    head, rest = _head(place)
    if head and not _has(conn, "files", head, _LIVE):
        for name in _others(conn, head, _LIVE, looks=looks):
            yield below(escaped(name)) + rest


def _head(glob: bytes) -> tuple[bytes, bytes]:
    """The folders at the beginning of a glob, if it has any, and the rest."""
    plain = _PLAIN.match(glob)
    return (unescaped(plain[0].rstrip(b"/") or b"/"), glob[plain.end() :]) if plain else (b"", glob)


def _has(conn: sqlite3.Connection, table: str, place: bytes, condition: str = "1") -> bool:
    found = conn.execute(
        f"SELECT 1 FROM {table} WHERE (path = ? OR (path >= ? AND path < ?)) AND {condition} LIMIT 1",
        (place, *span(place)),
    )
    return found.fetchone() is not None


def _others(conn: sqlite3.Connection, place: bytes, condition: str, *, looks: bool = True) -> list[bytes]:
    """Other names of a place that lead to files in a state; without links first, then in another spelling."""
    real = os.path.realpath(place) if looks else place
    names = [name for name in _linked(conn, place, real) if _has(conn, "files", name, condition)]
    return names or _respelled(conn, place, condition, folds=looks and _ignores_case(place))


def _linked(conn: sqlite3.Connection, place: bytes, real: bytes) -> Iterator[bytes]:
    """A place without links on its way, and as it is reached from roots that are named through links."""
    if real != place:
        yield real
    for (root,) in conn.execute("SELECT path FROM roots WHERE options NOT LIKE '%\"is_file\": true%' ORDER BY path"):
        real_root = os.path.realpath(root)
        if real_root != root:
            if is_within(real, real_root):
                yield root + real[len(real_root) :]
            elif is_within(real_root, real):
                yield root


def _respelled(conn: sqlite3.Connection, place: bytes, condition: str, *, folds: bool) -> list[bytes]:
    """The names of known places that differ from `place` only in the form of their letters."""
    if place.isascii() and not folds:
        return []
    depth, wanted = place.count(b"/") + 1, _spelling(place, folds=folds)
    names: dict[bytes, None] = {}
    for (path,) in conn.execute(f"SELECT path FROM files WHERE {condition} ORDER BY path"):
        name = b"/".join(path.split(b"/", depth)[:depth])
        if name not in names and _spelling(name, folds=folds) == wanted:
            names[name] = None
    return list(names)


def _spelling(name: bytes, *, folds: bool) -> str:
    return composed(name).casefold() if folds else composed(name)


def _ignores_case(place: bytes) -> bool:
    """Whether the file system takes names for the same that differ in case, as far as can be seen at a place."""
    for at in upwards(place):
        folder, name = os.path.split(at)
        if name.swapcase() != name:
            try:
                about = os.stat(at)
            except OSError:
                continue  # It may be on a drive that is away.
            try:
                return os.path.samestat(about, os.stat(os.path.join(folder, name.swapcase())))
            except OSError:
                return False
    return False
