"""Large libraries without large folders: rows of a catalog with made-up vectors, as an index run would leave them."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.encode import encoder_of
from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.snapshots import current, open_trusted
from clipsearch.encoders import prompts
from clipsearch.library.library import Library
from clipsearch.search.neighbours import SPARE
from clipsearch.vectors.index import VectorIndex

CHUNK = 10_000
PER_CLUSTER = 50
"""Vectors around one centre, on average: a person's photographs come in series."""

TOPICS = 1000
"""Everyday things that the made-up pictures are of, in the directions that the encoder's own texts have."""


def fill(library: str, count: int, engine: str) -> Callable[[], dict[str, Any]]:
    """Add `count` contents, each with a file that isn't there and a vector of the answering encoder.

    The files lie in no root, so no run looks for them. What is left to do, the snapshot, is done by the next index run.
    """

    texts = encoder_of(library).encode_texts(prompts.everyday(TOPICS))
    topics = unit(texts - texts.mean(axis=0))

    def write() -> dict[str, Any]:
        catalog = Catalog.open(Path(library), writable=True)
        encoder = catalog.active()
        assert encoder is not None
        conn = catalog.conn
        with catalog.transaction():
            catalog.set_meta("engine", engine)
            first = int(conn.execute("SELECT coalesce(max(id), 0) + 1 FROM contents").fetchone()[0])
            for start, rows in vectors(count, topics):
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


def vectors(count: int, topics: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Unit vectors like those of photographs, a chunk at a time with its place. `topics` are unit rows (n, dim).

    They lie in a cone of their own, apart from the texts', in clusters of unequal size, each about two topics; so words
    have true neighbours. An approximate index has to visit about a tenth of its lists for them: random vectors without
    topics make it visit all, clusters alone hardly any.
    """
    random = np.random.default_rng(0)
    dim, clusters = topics.shape[1], max(1, count // PER_CLUSTER)

    def directions(number: int) -> NDArray[np.float32]:
        return unit(random.standard_normal((number, dim), dtype=np.float32))

    first, second = (topics[random.integers(0, len(topics), clusters)] for _ in range(2))
    centres = unit(first + 0.7 * second + 0.5 * directions(clusters))
    cone = directions(1)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        chosen = (clusters * random.random(size) ** 1.5).astype(np.int64)
        yield start, unit(0.6 * cone + 0.6 * centres[chosen] + 0.5 * directions(size))


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1."""
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled.astype(np.float32, copy=False)


def snapshot(library: str) -> Callable[[], dict[str, Any]]:
    """What a library says of the snapshot that answers: engine, nprobe, recall."""

    def ask() -> dict[str, Any]:
        with Library.open(library) as opened:
            status = opened.info().encoders[0]
        details = json.loads(json.dumps(dict(status.snapshot_details), default=str))
        return {"engine": status.engine, "vectors": status.vectors, "tail": status.tail, **details}

    return ask


def warm(library: str, queries: int) -> Callable[[], dict[str, float]]:
    """Questions to a library that stays open, whose words it has embedded before: seconds a query, the median.

    engine_s: of that the search of the snapshot alone.
    """
    index, known = _snapshot_index(library)
    opened = Library.open(library)
    words = "a photo of a red boat"
    opened.query(words)

    def ask() -> dict[str, float]:
        times, searches = [], []
        for _ in range(queries):
            begun = time.perf_counter()
            hits = opened.query(words).hits
            times.append(time.perf_counter() - begun)
            assert len(hits) == 10
            begun = time.perf_counter()
            index.search(known, 10 + SPARE)
            searches.append(time.perf_counter() - begun)
        return {"seconds": statistics.median(times), "engine_s": statistics.median(searches)}

    return ask


def _snapshot_index(library: str) -> tuple[VectorIndex, NDArray[np.float32]]:
    """The answering encoder's snapshot, mapped, and a vector of the library to ask with, shape (1, dim)."""
    catalog = Catalog.open(Path(library))
    encoder = catalog.active()
    assert encoder is not None
    row = current(catalog, encoder.id)
    assert row is not None
    opened = open_trusted(catalog, row, QueryCache(catalog.folder), dim=encoder.info.dim)
    _, vectors = next(catalog.embeddings.chunks(encoder.id))
    return opened.index, vectors[:1].copy()
