"""`cache.db` beside the catalog: what queries learn. Losing it costs time, never an answer.

Everything in here is best effort: a cache that cannot be written, or is busy, is done without.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.catalog.embeddings import from_bytes, to_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CACHE_NAME = "cache.db"

MAX_TEXTS = 10_000
"""Text embeddings kept for each encoder; the oldest go first."""

MAX_PROTOTYPES = 20_000
"""Labels' prototypes kept for each encoder, the oldest go first: 41 MB at 512 dimensions."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (
    fingerprint TEXT, text TEXT, vector BLOB, kept INTEGER, PRIMARY KEY (fingerprint, text)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prototypes (
    fingerprint TEXT, key BLOB, vector BLOB, kept INTEGER, PRIMARY KEY (fingerprint, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (
    fingerprint TEXT, name TEXT, count INTEGER, data BLOB, PRIMARY KEY (fingerprint, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checked (sha256 TEXT, stat TEXT, PRIMARY KEY (sha256, stat)) WITHOUT ROWID;
"""

_ERRORS = (sqlite3.Error, OSError)


class QueryCache:
    """An open `cache.db`, or one that could not be opened and holds nothing; `damage` says what ails its file."""

    def __init__(self, folder: Path | None) -> None:
        self.damage: str | None = None
        self._conn: sqlite3.Connection | None = None
        if folder is None:
            return
        path = folder / CACHE_NAME
        if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            return
        try:
            conn = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.DatabaseError:
            return
        try:
            conn.execute("PRAGMA synchronous = OFF")
            conn.executescript(_SCHEMA)
        except sqlite3.DatabaseError as exc:
            if not isinstance(exc, sqlite3.OperationalError):  # Else it is busy, say.
                self.damage = str(exc)
            conn.close()
            return
        self._conn = conn

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()

    def texts(self, fingerprint: str, texts: Iterable[str], *, dim: int) -> dict[str, NDArray[np.float32]]:
        """Unit vectors (dim,) of those texts that an encoder was asked for before, by text."""
        found: dict[str, NDArray[np.float32]] = {}
        if self._conn is None:
            return found
        try:
            for text in texts:
                row = self._conn.execute(
                    "SELECT vector FROM texts WHERE fingerprint = ? AND text = ?", (fingerprint, text)
                ).fetchone()
                if row is not None and len(row[0]) == 4 * dim:
                    found[text] = from_bytes(row[0])
        except _ERRORS:
            return {}
        return found

    def put_texts(self, fingerprint: str, vectors: Mapping[str, NDArray[np.float32]], *, now: int) -> None:
        """Keep vectors by text. `now`: seconds since the epoch."""
        self._put("texts", "text", fingerprint, vectors, now=now)
        self._trim("texts", "text", fingerprint, MAX_TEXTS)

    def prototypes(self, fingerprint: str, keys: Iterable[bytes], *, dim: int) -> dict[bytes, NDArray[np.float32]]:
        """Prototypes (dim,) of labels that were classified by before, by what they were made from."""
        found: dict[bytes, NDArray[np.float32]] = {}
        if self._conn is None:
            return found
        wanted = list(keys)
        try:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = self._conn.execute(
                    f"SELECT key, vector FROM prototypes WHERE fingerprint = ? AND key IN ({marks})",
                    (fingerprint, *part),
                )
                found.update((key, from_bytes(data)) for key, data in rows if len(data) == 4 * dim)
        except _ERRORS:
            return {}
        return found

    def put_prototypes(self, fingerprint: str, vectors: Mapping[bytes, NDArray[np.float32]], *, now: int) -> None:
        """Keep prototypes by their key, a digest; `trim_prototypes` after the last. `now`: seconds since the epoch."""
        self._put("prototypes", "key", fingerprint, vectors, now=now)

    def trim_prototypes(self, fingerprint: str) -> None:
        """Drop the oldest of an encoder's prototypes beyond MAX_PROTOTYPES."""
        self._trim("prototypes", "key", fingerprint, MAX_PROTOTYPES)

    def _put(
        self,
        table: str,
        key: str,
        fingerprint: str,
        vectors: Mapping[str, NDArray[np.float32]] | Mapping[bytes, NDArray[np.float32]],
        *,
        now: int,
    ) -> None:
        if self._conn is None:
            return
        try:
            self._conn.execute("BEGIN IMMEDIATE")
            self._conn.executemany(
                f"INSERT OR REPLACE INTO {table} (fingerprint, {key}, vector, kept) VALUES (?, ?, ?, ?)",
                [(fingerprint, name, to_bytes(vector), now) for name, vector in vectors.items()],
            )
            self._conn.execute("COMMIT")
        except _ERRORS:
            self._abandon()

    def _trim(self, table: str, key: str, fingerprint: str, most: int) -> None:
        if self._conn is None:
            return
        try:
            self._conn.execute(
                f"DELETE FROM {table} WHERE fingerprint = ?1 AND {key} IN (SELECT {key} FROM {table} "
                f"WHERE fingerprint = ?1 ORDER BY kept DESC, {key} LIMIT -1 OFFSET ?2)",
                (fingerprint, most),
            )
        except _ERRORS:
            self._abandon()

    def fact(self, fingerprint: str, name: str) -> tuple[int, bytes] | None:
        """(count, data) that was kept under a name for an encoder; `count` says of how many vectors it was made."""
        if self._conn is None:
            return None
        try:
            row = self._conn.execute(
                "SELECT count, data FROM facts WHERE fingerprint = ? AND name = ?", (fingerprint, name)
            ).fetchone()
        except _ERRORS:
            return None
        return None if row is None else (int(row[0]), bytes(row[1]))

    def put_fact(self, fingerprint: str, name: str, count: int, data: bytes) -> None:
        if self._conn is None:
            return
        try:
            self._conn.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", (fingerprint, name, count, data))
        except _ERRORS:
            self._abandon()

    def checked(self, sha256: str) -> list[tuple[int, int, int]]:
        """The stats (size, mtime_ns, inode) under which a snapshot's hash was found right."""
        if self._conn is None:
            return []
        try:
            rows = self._conn.execute("SELECT stat FROM checked WHERE sha256 = ?", (sha256,)).fetchall()
            return [(size, mtime_ns, inode) for size, mtime_ns, inode in (json.loads(row[0]) for row in rows)]
        except (*_ERRORS, ValueError, TypeError):
            return []

    def note_checked(self, sha256: str, stat: tuple[int, int, int]) -> None:
        if self._conn is None:
            return
        try:
            self._conn.execute("INSERT OR IGNORE INTO checked VALUES (?, ?)", (sha256, json.dumps(list(stat))))
        except _ERRORS:
            self._abandon()

    def _abandon(self) -> None:
        if self._conn is not None and self._conn.in_transaction:
            self._conn.execute("ROLLBACK")


NO_CACHE = QueryCache(None)
"""Holds nothing and keeps nothing."""
