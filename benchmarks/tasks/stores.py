"""Large libraries without large folders: rows of a catalog with made-up vectors, as an index run would leave them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog import Catalog
from clipsearch.library import Library

CHUNK = 10_000
PER_CLUSTER = 50
"""Vectors around one centre, on average: a person's photographs come in series."""


def fill(library: str, count: int, engine: str) -> Callable[[], dict[str, Any]]:
    """Add `count` contents, each with a file that isn't there and a vector of the answering encoder.

    The files lie in no root, so no run looks for them. What is left to do, the snapshot, is done by the next index run.
    """

    def write() -> dict[str, Any]:
        catalog = Catalog.open(Path(library), writable=True)
        encoder = catalog.answering()
        assert encoder is not None
        conn = catalog.conn
        with catalog.transaction():
            catalog.set_meta("engine", engine)
            first = int(conn.execute("SELECT coalesce(max(id), 0) + 1 FROM contents").fetchone()[0])
            for start, rows in vectors(count, encoder.info.dim):
                ids = range(first + start, first + start + len(rows))
                conn.executemany(
                    "INSERT INTO contents (id, digest, bytes, format, width, height, state, decoder, added_at) "
                    "VALUES (?, ?, 100000, 'JPEG', 500, 375, 'ok', 'made up', '2026-01-01T00:00:00+00:00')",
                    ((i, hashlib.sha256(b"%d" % i).digest()) for i in ids),
                )
                conn.executemany(
                    "INSERT INTO files (path, content_id, size, mtime_ns, state) VALUES (?, ?, 100000, 1, 'present')",
                    ((b"/nowhere/%04d/picture-%07d.jpg" % (i // 1000, i), i) for i in ids),
                )
                conn.executemany(
                    "INSERT INTO embeddings (content_id, encoder_id, vector) VALUES (?, ?, ?)",
                    ((i, encoder.id, row.tobytes()) for i, row in zip(ids, rows, strict=True)),
                )
        catalog.close()
        return {"count": count}

    return write


def vectors(count: int, dim: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Unit vectors in one cone, in clusters of unequal size, a chunk at a time with its place.

    Made up: an approximate index has it easier with clusters than with real embeddings, harder than without any.
    """
    random = np.random.default_rng(0)
    cone = _unit(random.standard_normal((1, dim), dtype=np.float32))
    centres = _unit(random.standard_normal((max(1, count // PER_CLUSTER), dim), dtype=np.float32))
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        chosen = (len(centres) * random.random(size) ** 1.5).astype(np.int64)
        spread = _unit(random.standard_normal((size, dim), dtype=np.float32))
        yield start, _unit(0.6 * cone + 0.6 * centres[chosen] + 0.6 * spread)


def snapshot(library: str) -> Callable[[], dict[str, Any]]:
    """What a library says of the snapshot that answers: engine, nprobe, recall."""

    def ask() -> dict[str, Any]:
        with Library.open(library) as opened:
            status = opened.info().encoders[0]
        details = json.loads(json.dumps(dict(status.snapshot_details), default=str))
        return {"engine": status.engine, "vectors": status.vectors, "tail": status.tail, **details}

    return ask


def warm(library: str, queries: int) -> Callable[[], dict[str, float]]:
    """Questions to a library that stays open, whose words it has embedded before: seconds a query, the median."""
    import statistics
    import time

    opened = Library.open(library)
    words = "a photo of a red boat"
    opened.query(words)

    def ask() -> dict[str, float]:
        times = []
        for _ in range(queries):
            begun = time.perf_counter()
            hits = opened.query(words).hits
            times.append(time.perf_counter() - begun)
            assert len(hits) == 10
        return {"seconds": statistics.median(times)}

    return ask


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
