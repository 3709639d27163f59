"""Ties snapshot files to the catalog: when one is due, what it covers, and how a query gets one it can trust.

A snapshot covers the embeddings of one encoder with seq ≤ its watermark; newer ones are the tail, which a search scans
in SQLite. So adding one image to a million writes one row, and no file.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.files import Stamp
from clipsearch.vectors.engines import AUTO, choose_engine, open_snapshot, write_snapshot
from clipsearch.vectors.index import DamagedSnapshot, OpenedSnapshot, SnapshotFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    EmbedTexts = Callable[[Sequence[str]], NDArray[np.float32]]
    """Texts → unit rows of shape (m, dim)."""

PROBES = 256
"""Everyday prompts that an approximate engine is tuned with."""

MIN_TAIL, MAX_TAIL, TAIL_SHARE = 256, 4096, 20
"""A tail is published past max(256, min(4096, N / 20)) vectors: reading 4,096 rows costs a cold query 50 ms."""

SMALL = 2048
"""Up to so many vectors are read from SQLite faster than FAISS is imported (20 ms against 40)."""

DEAD_SHARE = 5
"""A snapshot is rebuilt when more than a fifth of its vectors are no longer in the catalog."""


class Snapshot(NamedTuple):
    """A published snapshot: its file, the name of the file before it, and which embeddings it covers."""

    encoder_id: int
    file: SnapshotFile
    previous: str | None
    revision: int
    watermark: int


def current(catalog: Catalog, encoder_id: int) -> Snapshot | None:
    """The snapshot of an encoder's vectors that was published last."""
    row = catalog.conn.execute(
        "SELECT file, bytes, sha256, stat, count, details, previous, revision, watermark FROM snapshots "
        "WHERE encoder_id = ?",
        (encoder_id,),
    ).fetchone()
    if row is None:
        return None
    name, size, sha256, stat, count, stored, *rest = row
    details = json.loads(stored)
    engine = details.pop("engine")
    return Snapshot(
        encoder_id, SnapshotFile(name, size, sha256, tuple(json.loads(stat)), count, engine, details), *rest
    )


def _record(catalog: Catalog, snapshot: Snapshot) -> None:
    file = snapshot.file
    details = json.dumps({"engine": file.engine, **file.details})
    with catalog.transaction():
        catalog.conn.execute(
            "INSERT OR REPLACE INTO snapshots (encoder_id, file, bytes, sha256, stat, count, details, "
            "previous, revision, watermark) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(snapshot.encoder_id, file.name, file.bytes, file.sha256, json.dumps(list(file.stat)), file.count),
                *(details, snapshot.previous, snapshot.revision, snapshot.watermark),
            ),
        )


def tail_limit(count: int) -> int:
    """The longest tail that a snapshot of `count` vectors is left with."""
    return max(MIN_TAIL, min(MAX_TAIL, count // TAIL_SHARE))


def engine_choice(catalog: Catalog) -> str:
    """The engine that an index run asked for last; AUTO chooses by size."""
    return catalog.meta("engine") or AUTO


def count_about(catalog: Catalog, row: EncoderRow) -> int:
    """An encoder's vectors, as far as a query may wait for it: those that the snapshot covers, and the tail.

    Vectors that were dropped since it was written, a fifth at most, are included. A pass over a million rows would
    take 85 ms.
    """
    snapshot = current(catalog, row.id)
    if snapshot is None:
        return catalog.embeddings.count(row.id)
    return snapshot.file.count + catalog.embeddings.count(row.id, after=snapshot.watermark)


def publish_if_due(catalog: Catalog, row: EncoderRow, *, final: bool, embed: EmbedTexts | None = None) -> bool:
    """Publish a snapshot of the encoder's vectors if one is due; whether it was.

    In the middle of a run (`final` false) only once the tail has outgrown the snapshot, so that the cost of all
    snapshots together stays a small multiple of the last one's. An approximate engine is tuned with prompts, from the
    query cache or by `embed`. Needs the library's lock. Raises SnapshotError where it cannot be written.
    """
    last = catalog.embeddings.last_seq(row.id)
    old = current(catalog, row.id)
    if last == 0:
        return False
    if old is None:
        due = final or catalog.embeddings.count(row.id) > MIN_TAIL
    else:
        # seq grows with every encoder's vectors, so its distance bounds the tail from above: often enough to say no.
        limit = tail_limit(old.file.count)
        tail = 0 if last - old.watermark <= limit else catalog.embeddings.count(row.id, after=old.watermark)
        due = tail > limit and (final or tail > old.file.count)
        if final and not due:
            due = (
                _is_damaged(catalog, old)
                or _dead(catalog, old) * DEAD_SHARE > old.file.count
                or old.file.engine != choose_engine(old.file.count, engine_choice(catalog))
            )
    if due:
        publish(catalog, row, embed=embed)
    return due


def publish(catalog: Catalog, row: EncoderRow, *, embed: EmbedTexts | None = None) -> Snapshot:
    """Write a snapshot of all the encoder's vectors, record it, and remove files that are no longer needed."""
    from clipsearch.vectors.snapshot_file import SUFFIX

    old = current(catalog, row.id)
    watermark = catalog.embeddings.last_seq(row.id)
    revision = old.revision + 1 if old else 1
    written = write_snapshot(
        catalog.folder,
        f"vectors-{row.id}-{revision}{SUFFIX}",
        dim=row.info.dim,
        count=catalog.embeddings.count(row.id, until=watermark),
        chunks=lambda: catalog.embeddings.chunks(row.id, until=watermark, zeros=True),
        engine=engine_choice(catalog),
        probes=lambda: _probes(catalog, row, embed),
        previous=old.file if old else None,
    )
    new = Snapshot(row.id, written, old.file.name if old else None, revision, watermark)
    _record(catalog, new)
    remove_strays(catalog)
    return new


def _probes(catalog: Catalog, row: EncoderRow, embed: EmbedTexts | None) -> NDArray[np.float32] | None:
    """The vectors of PROBES prompts (m, dim): as the query cache has them, or by `embed`, for the cache to keep."""
    import numpy as np

    from clipsearch.encoders import prompts  # A query does not pay for it.

    texts, info = prompts.everyday(PROBES), row.info
    with contextlib.closing(QueryCache(catalog.folder)) as cache:
        known = cache.texts(info.fingerprint, texts, dim=info.dim)
        if len(known) == len(texts):
            return np.stack([known[text] for text in texts])
        if embed is None:
            return None
        vectors = embed(texts)
        cache.put_texts(info.fingerprint, dict(zip(texts, vectors, strict=True)), now=int(time.time()))
        return vectors


def remove_strays(catalog: Catalog) -> None:
    """Remove snapshot files that no row names, as current or previous. Needs the library's lock."""
    from clipsearch.vectors import snapshot_file

    named = catalog.conn.execute("SELECT file, previous FROM snapshots").fetchall()
    snapshot_file.remove_strays(catalog.folder, keep={name for pair in named for name in pair if name})


def open_trusted(catalog: Catalog, snapshot: Snapshot, cache: QueryCache, *, dim: int) -> OpenedSnapshot:
    """Map a snapshot. Its hash is taken only where its stat is new, and that is noted.

    What a small one covers is read from SQLite once its file is known to be sound: that takes less time than importing
    FAISS. Raises DamagedSnapshot.
    """
    file = snapshot.file
    trusted = cache.checked(file.sha256)
    if file.count > SMALL:
        opened = open_snapshot(catalog.folder, file, dim=dim, trusted=trusted)
    else:
        opened = _read_small(catalog, snapshot, dim=dim, trusted=trusted)
    if opened.hashed:
        cache.note_checked(file.sha256, opened.stat)
    return opened


def _read_small(catalog: Catalog, snapshot: Snapshot, *, dim: int, trusted: Collection[Stamp]) -> OpenedSnapshot:
    from clipsearch.vectors import exact, snapshot_file

    stat, hashed = snapshot_file.verify(catalog.folder, snapshot.file, trusted=trusted)
    ids, vectors = catalog.embeddings.between(snapshot.encoder_id, dim=dim, until=snapshot.watermark)
    return OpenedSnapshot(exact.ExactIndex(ids, vectors), stat, hashed)


def check(catalog: Catalog, snapshot: Snapshot) -> None:
    """Hash a snapshot, whatever its stat. Raises DamagedSnapshot where it is not what was published."""
    from clipsearch.vectors import snapshot_file

    snapshot_file.verify(catalog.folder, replace(snapshot.file, stat=(-1, -1, -1)))


def _is_damaged(catalog: Catalog, snapshot: Snapshot) -> bool:
    """Whether the file is not what was published; where it is, but its stat is new, the stat is recorded."""
    from clipsearch.vectors import snapshot_file

    try:
        stat, hashed = snapshot_file.verify(catalog.folder, snapshot.file)
    except DamagedSnapshot:
        return True
    if hashed:
        _record(catalog, snapshot._replace(file=replace(snapshot.file, stat=stat)))
    return False


def _dead(catalog: Catalog, snapshot: Snapshot) -> int:
    """Vectors of a snapshot that the catalog no longer holds."""
    return snapshot.file.count - catalog.embeddings.count(snapshot.encoder_id, until=snapshot.watermark)
