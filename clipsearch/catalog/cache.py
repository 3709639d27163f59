"""Caches of vectors in SQLite files, such as `cache.db` beside the catalog. Losing one costs time, never an answer.

Everything in here is best effort: a file that cannot be opened or written, or is busy, is done without.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.catalog.connections import inode
from clipsearch.catalog.embeddings import from_bytes, to_bytes
from clipsearch.catalog.files import batches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CACHE_NAME = "cache.db"

MAX_TEXTS = 10_000
"""Text embeddings kept for each encoder; the oldest go first."""

BUSY_S = 0.1
"""Seconds to wait for another process, or thread, that writes: most are done in 0.001."""

_MARK_BYTES = 16_384
"""Longer than the first line of a `search.relevance.Baseline`, which tells its images."""

MAX_PROTOTYPES = 20_000
"""Labels' prototypes kept for each encoder, the oldest go first: 41 MB at 512 dimensions."""

_SCHEMA = """
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS texts (
    fingerprint TEXT, text TEXT, vector BLOB, kept INTEGER, PRIMARY KEY (fingerprint, text)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prototypes (
    fingerprint TEXT, key BLOB, vector BLOB, kept INTEGER, PRIMARY KEY (fingerprint, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS texts_by_age ON texts (fingerprint, kept DESC, text);
CREATE INDEX IF NOT EXISTS prototypes_by_age ON prototypes (fingerprint, kept DESC, key);
CREATE TABLE IF NOT EXISTS facts (
    fingerprint TEXT, name TEXT, count INTEGER, data BLOB, PRIMARY KEY (fingerprint, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checked (sha256 TEXT, stat TEXT, PRIMARY KEY (sha256, stat)) WITHOUT ROWID;
"""

_ERRORS = (sqlite3.Error, OSError)


class VectorFile:
    """Tables of vectors by an encoder's fingerprint and a key, in a file made by `schema`.

    Without a path, or where the file cannot be opened, it holds nothing; `damage` is what SQLite finds wrong with it.
    `timeout`: seconds to wait for another process.
    """

    def __init__(self, path: Path | None, schema: str, *, timeout: float) -> None:
        self.damage: str | None = None
        self._conn: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            conn = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        except sqlite3.DatabaseError:
            return
        try:
            conn.executescript(schema)
        except sqlite3.DatabaseError as exc:
            if not isinstance(exc, sqlite3.OperationalError):  # That would be a busy file, for instance.
                self.damage = str(exc)
            conn.close()
            return
        self._conn = conn

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _rows(self, statement: str, values: Iterable[object]) -> list[Any]:
        if self._conn is None:
            return []
        try:
            return self._conn.execute(statement, tuple(values)).fetchall()
        except _ERRORS:
            return []

    def _vectors(
        self, table: str, key: str, fingerprint: str, keys: Iterable[Any], *, dim: int, more: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        """key, vector (dim,), and the columns `more`; vectors of another length are left out."""
        for part, marks in batches(list(dict.fromkeys(keys))):
            for name, data, *others in self._rows(
                f"SELECT {key}, vector{more} FROM {table} WHERE fingerprint = ? AND {key} IN ({marks})",
                (fingerprint, *part),
            ):
                if len(data) == 4 * dim:
                    yield name, from_bytes(data), *others

    def _put(self, table: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Insert or replace rows, in one transaction."""
        values = list(rows)
        if self._conn is None or not values:
            return
        try:
            with self._conn:
                self._conn.execute("BEGIN IMMEDIATE")
                marks = ", ".join("?" * len(values[0]))
                self._conn.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)
        except _ERRORS:
            return

    def _trim(self, table: str, key: str, fingerprint: str, limit: int) -> None:
        """Drop the oldest of an encoder's rows beyond `limit`."""
        self._rows(
            f"DELETE FROM {table} WHERE fingerprint = ?1 AND {key} IN (SELECT {key} FROM {table} "
            f"WHERE fingerprint = ?1 ORDER BY kept DESC, {key} LIMIT -1 OFFSET ?2)",
            (fingerprint, limit),
        )


class QueryCache(VectorFile):
    """What queries learn about a library: an open `cache.db`; `folder` None holds and keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / CACHE_NAME if folder and _is_writable(folder) else None
        super().__init__(self._path, _SCHEMA, timeout=BUSY_S)
        self._inode = inode(self._path)

    def is_replaced(self) -> bool:
        """Whether the file is no longer the one that was opened."""
        return self._inode != inode(self._path)

    def clear(self) -> bool:
        """Forget everything; False where the file cannot be written.

        The file stays: a process that has a removed one open could damage the next (sqlite.org/howtocorrupt.html).
        """
        if self._conn is None:
            return False
        try:
            with self._conn:
                self._conn.execute("BEGIN IMMEDIATE")
                for table in ("texts", "prototypes", "facts", "checked"):
                    self._conn.execute(f"DELETE FROM {table}")
            self._conn.execute("VACUUM")
        except _ERRORS:
            return False
        return True

    def texts(self, fingerprint: str, texts: Iterable[str], *, dim: int) -> dict[str, NDArray[np.float32]]:
        """Unit vectors (dim,) of those texts that an encoder was asked for before, by text."""
        return dict(self._vectors("texts", "text", fingerprint, texts, dim=dim))

    def put_texts(self, fingerprint: str, vectors: Mapping[str, NDArray[np.float32]], *, now: int) -> None:
        """Keep vectors by text. `now`: seconds since the epoch."""
        self._put("texts", ((fingerprint, text, to_bytes(vector), now) for text, vector in vectors.items()))
        self._trim("texts", "text", fingerprint, MAX_TEXTS)

    def prototypes(self, fingerprint: str, keys: Iterable[bytes], *, dim: int) -> dict[bytes, NDArray[np.float32]]:
        """Prototypes (dim,) of labels that were classified by before, by what they were made from."""
        return dict(self._vectors("prototypes", "key", fingerprint, keys, dim=dim))

    def put_prototypes(self, fingerprint: str, vectors: Mapping[bytes, NDArray[np.float32]], *, now: int) -> None:
        """Keep prototypes by their key, a digest; `trim_prototypes` after the last. `now`: seconds since the epoch."""
        self._put("prototypes", ((fingerprint, key, to_bytes(vector), now) for key, vector in vectors.items()))

    def trim_prototypes(self, fingerprint: str) -> None:
        """Drop the oldest of an encoder's prototypes beyond MAX_PROTOTYPES."""
        self._trim("prototypes", "key", fingerprint, MAX_PROTOTYPES)

    def fact(self, fingerprint: str, name: str) -> tuple[int, bytes] | None:
        """(count, data) that was kept under a name for an encoder; `count`: how many vectors it was made of."""
        rows = self._rows("SELECT count, data FROM facts WHERE fingerprint = ? AND name = ?", (fingerprint, name))
        return None if not rows else (int(rows[0][0]), bytes(rows[0][1]))

    def fact_mark(self, fingerprint: str, name: str) -> object:
        """What changes with a fact, from its first bytes: reading the whole of a large one takes 1 ms."""
        query = f"SELECT count, substr(data, 1, {_MARK_BYTES}) FROM facts WHERE fingerprint = ? AND name = ?"
        return self._rows(query, (fingerprint, name))

    def put_fact(self, fingerprint: str, name: str, count: int, data: bytes) -> None:
        self._put("facts", [(fingerprint, name, count, data)])

    def checked(self, sha256: str) -> list[tuple[int, int, int]]:
        """The stats (size, mtime_ns, inode) under which a snapshot's hash was found right."""
        try:
            stats = (json.loads(stat) for (stat,) in self._rows("SELECT stat FROM checked WHERE sha256 = ?", (sha256,)))
            return [(size, mtime_ns, inode) for size, mtime_ns, inode in stats]
        except (ValueError, TypeError):
            return []

    def note_checked(self, sha256: str, stat: tuple[int, int, int]) -> None:
        self._put("checked", [(sha256, json.dumps(list(stat)))])


def _is_writable(folder: Path) -> bool:
    path = folder / CACHE_NAME
    return os.access(folder, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


NO_CACHE = QueryCache(None)
"""Holds nothing and keeps nothing."""
