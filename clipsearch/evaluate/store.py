"""The vectors that evaluations have computed, kept in the cache directory, so that a second one encodes nothing.

Best effort: a store that cannot be opened or written keeps nothing, and costs time, never an answer.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.catalog.embeddings import from_bytes, to_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STORE_NAME = "evaluated.db"

MAX_VECTORS = 250_000
"""Kept for each encoder, half a gigabyte at 512 dimensions; the oldest go first."""

_BUSY_S = 5.0
"""Another evaluation commits a batch in far less."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    fingerprint TEXT, key BLOB, vector BLOB, curtailed INTEGER, kept INTEGER, PRIMARY KEY (fingerprint, key)
) WITHOUT ROWID;
"""

_PART = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A unit vector (dim,); `curtailed` where the file ended early, or the text was too long."""

    vector: NDArray[np.float32]
    curtailed: bool = False


class VectorStore:
    """An open store, or one that could not be opened and holds nothing. Keys are SHA-256 of what was encoded."""

    def __init__(self, folder: Path | None) -> None:
        self._conn: sqlite3.Connection | None = None
        if folder is None:
            return
        with contextlib.suppress(OSError, sqlite3.Error):
            folder.mkdir(parents=True, exist_ok=True)
            conn = sqlite3.connect(folder / STORE_NAME, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                conn.execute("PRAGMA journal_mode = WAL")
                conn.execute("PRAGMA synchronous = NORMAL")
                conn.executescript(_SCHEMA)
            except sqlite3.Error:
                conn.close()
                raise
            self._conn = conn

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def get(self, fingerprint: str, keys: Iterable[bytes], *, dim: int) -> dict[bytes, Kept]:
        """What is kept of an encoder, by key."""
        found: dict[bytes, Kept] = {}
        if self._conn is None:
            return found
        wanted = list(dict.fromkeys(keys))
        try:
            for start in range(0, len(wanted), _PART):
                part = wanted[start : start + _PART]
                for key, vector, curtailed in self._conn.execute(
                    f"SELECT key, vector, curtailed FROM vectors WHERE fingerprint = ? AND key IN "
                    f"({','.join('?' * len(part))})",
                    (fingerprint, *part),
                ):
                    if len(vector) == 4 * dim:
                        found[key] = Kept(from_bytes(vector), bool(curtailed))
        except sqlite3.Error:
            return {}
        return found

    def put(self, fingerprint: str, vectors: Mapping[bytes, Kept]) -> None:
        """Keep vectors by key, in one transaction: they outlive a kill."""
        if self._conn is None or not vectors:
            return
        now = int(time.time())
        try:
            with self._conn:
                self._conn.execute("BEGIN IMMEDIATE")
                self._conn.executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
                    [(fingerprint, key, to_bytes(kept.vector), kept.curtailed, now) for key, kept in vectors.items()],
                )
        except sqlite3.Error:
            return

    def trim(self, fingerprint: str, *, limit: int = MAX_VECTORS) -> None:
        """Drop the oldest of an encoder's vectors beyond `limit`."""
        if self._conn is None:
            return
        with contextlib.suppress(sqlite3.Error):
            self._conn.execute(
                "DELETE FROM vectors WHERE fingerprint = ?1 AND key IN (SELECT key FROM vectors WHERE fingerprint = ?1 "
                "ORDER BY kept DESC, key LIMIT -1 OFFSET ?2)",
                (fingerprint, limit),
            )
