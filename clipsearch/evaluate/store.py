"""The vectors that evaluations have computed, kept in the cache directory, so that a second one encodes nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.catalog.cache import VectorFile
from clipsearch.catalog.embeddings import to_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STORE_NAME = "evaluated.db"

MAX_VECTORS = 250_000
"""Kept for each encoder, half a gigabyte at 512 dimensions; the oldest go first."""

_BUSY_S = 5.0
"""Another evaluation commits a batch in far less."""

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS vectors (
    fingerprint TEXT, key BLOB, vector BLOB, curtailed INTEGER, kept INTEGER, PRIMARY KEY (fingerprint, key)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A unit vector (dim,); `truncated` where the file ended early, or the text was too long."""

    vector: NDArray[np.float32]
    truncated: bool = False


class VectorStore(VectorFile):
    """An open store, or one that could not be opened and holds nothing. Keys are SHA-256 of what was encoded."""

    def __init__(self, folder: Path) -> None:
        with contextlib.suppress(OSError):  # Then it cannot be opened either.
            folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / STORE_NAME, _SCHEMA, timeout=_BUSY_S)

    def get(self, fingerprint: str, keys: Iterable[bytes], *, dim: int) -> dict[bytes, Kept]:
        """What is kept of an encoder, by key."""
        found = self._vectors("vectors", "key", fingerprint, keys, dim=dim, more=", curtailed")
        return {key: Kept(vector, bool(truncated)) for key, vector, truncated in found}

    def put(self, fingerprint: str, vectors: Mapping[bytes, Kept]) -> None:
        """Keep vectors by key, in one transaction: they outlive a kill."""
        now = int(time.time())
        rows = ((fingerprint, key, to_bytes(one.vector), one.truncated, now) for key, one in vectors.items())
        self._put("vectors", rows)

    def trim(self, fingerprint: str, *, limit: int = MAX_VECTORS) -> None:
        """Drop the oldest of an encoder's vectors beyond `limit`."""
        self._trim("vectors", "key", fingerprint, limit)
