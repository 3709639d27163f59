"""Ties snapshot files to the catalog: when one is due, what it covers, and how a query gets one it can trust.

A snapshot covers the embeddings of one encoder with seq ≤ its watermark; what is newer is the tail, which a search
scans in SQLite. So adding one picture to a million writes one row, and no file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.files import Stamp
from clipsearch.vectors.engines import AUTO, choose_engine, open_snapshot, write_snapshot
from clipsearch.vectors.index import DamagedSnapshot, OpenedSnapshot, SnapshotFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Probes = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A published snapshot: the file, and what it must be to be trusted. `details` hold the engine's name."""

    encoder_id: int
    file: str
    previous: str | None
    revision: int
    watermark: int
    count: int
    bytes: int
    sha256: str
    stat: Stamp
    details: Mapping[str, Any]

    @property
    def engine(self) -> str:
        return str(self.details["engine"])


MIN_TAIL, MAX_TAIL, TAIL_SHARE = 256, 4096, 20
"""A tail is published past max(256, min(4096, N / 20)) vectors: reading 4,096 rows costs a cold query 50 ms."""

SMALL = 2048
"""Up to so many vectors are read from SQLite faster than FAISS is imported (20 ms against 40)."""

DEAD_SHARE = 5
"""A snapshot is rebuilt when more than a fifth of its vectors are no longer in the catalog."""


def tail_limit(count: int) -> int:
    """The longest tail that a snapshot of `count` vectors is left with."""
    return max(MIN_TAIL, min(MAX_TAIL, count // TAIL_SHARE))


def current(catalog: Catalog, encoder_id: int) -> SnapshotRow | None:
    """The snapshot of an encoder's vectors that was published last."""
    row = catalog.conn.execute(
        "SELECT encoder_id, file, previous, revision, watermark, count, bytes, sha256, stat, details "
        "FROM snapshots WHERE encoder_id = ?",
        (encoder_id,),
    ).fetchone()
    if row is None:
        return None
    return replace(SnapshotRow(*row), stat=tuple(json.loads(row[8])), details=json.loads(row[9]))


def _record(catalog: Catalog, row: SnapshotRow) -> None:
    catalog.conn.execute(
        "INSERT OR REPLACE INTO snapshots (encoder_id, file, previous, revision, watermark, count, bytes, sha256, "
        "stat, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.encoder_id,
            row.file,
            row.previous,
            row.revision,
            row.watermark,
            row.count,
            row.bytes,
            row.sha256,
            json.dumps(list(row.stat)),
            json.dumps(dict(row.details)),
        ),
    )


def engine_choice(catalog: Catalog) -> str:
    """The engine that an index run asked for last; AUTO chooses by size."""
    return catalog.meta("engine") or AUTO


def count_about(catalog: Catalog, row: EncoderRow) -> int:
    """An encoder's vectors, as far as a query may wait for it: those that the snapshot covers, and the tail.

    Vectors that were dropped since it was written, a fifth at most, are counted with. A pass over a million rows would
    take 85 ms.
    """
    snapshot = current(catalog, row.id)
    if snapshot is None:
        return catalog.embeddings.count(row.id)
    return snapshot.count + catalog.embeddings.count(row.id, after=snapshot.watermark)


def publish_if_due(catalog: Catalog, row: EncoderRow, *, final: bool, probes: Probes | None = None) -> bool:
    """Publish a snapshot of the encoder's vectors if one is due; whether it was.

    In the middle of a run (`final` false) only once the tail has outgrown the snapshot, so that the cost of all
    snapshots together stays a small multiple of the last one's. `probes` gives text vectors, shape (m, dim), that an
    approximate engine is tuned with. Needs the library's lock. Raises SnapshotError where it cannot be written.
    """
    last = catalog.embeddings.last_seq(row.id)
    old = current(catalog, row.id)
    if last == 0:
        return False
    if old is None:
        due = final or catalog.embeddings.count(row.id) > MIN_TAIL
    else:
        # seq grows with every encoder's vectors, so its distance bounds the tail from above: often enough to say no.
        limit = tail_limit(old.count)
        tail = 0 if last - old.watermark <= limit else catalog.embeddings.count(row.id, after=old.watermark)
        due = tail > limit and (final or tail > old.count)
        if final and not due:
            due = (
                _is_damaged(catalog, old)
                or _dead(catalog, old) * DEAD_SHARE > old.count
                or old.engine != choose_engine(old.count, engine_choice(catalog))
            )
    if due:
        publish(catalog, row, probes=probes)
    return due


def publish(catalog: Catalog, row: EncoderRow, *, probes: Probes | None = None) -> SnapshotRow:
    """Write a snapshot of all the encoder's vectors, record it, and remove files that are no longer needed."""
    from clipsearch.vectors import snapshot_file

    old = current(catalog, row.id)
    watermark = catalog.embeddings.last_seq(row.id)
    count = catalog.embeddings.count(row.id, until=watermark)
    revision = old.revision + 1 if old else 1
    written = write_snapshot(
        catalog.folder,
        f"vectors-{row.id}-{revision}{snapshot_file.SUFFIX}",
        dim=row.info.dim,
        count=count,
        chunks=lambda: catalog.embeddings.chunks(row.id, until=watermark),
        engine=engine_choice(catalog),
        probes=probes,
        previous=_file(old) if old else None,
    )
    new = SnapshotRow(
        encoder_id=row.id,
        file=written.name,
        previous=old.file if old else None,
        revision=revision,
        watermark=watermark,
        count=written.count,
        bytes=written.bytes,
        sha256=written.sha256,
        stat=written.stat,
        details={"engine": written.engine, **written.details},
    )
    with catalog.transaction():
        _record(catalog, new)
    remove_strays(catalog)
    return new


def remove_strays(catalog: Catalog) -> None:
    """Remove snapshot files that no row names, as current or previous. Needs the library's lock."""
    from clipsearch.vectors import snapshot_file

    named = catalog.conn.execute("SELECT file, previous FROM snapshots").fetchall()
    snapshot_file.remove_strays(catalog.folder, keep={name for pair in named for name in pair if name})


def open_trusted(catalog: Catalog, row: SnapshotRow, cache: QueryCache, *, dim: int) -> OpenedSnapshot:
    """Map a snapshot. Its hash is taken only where its stat is new, and that is noted.

    What a small one covers is read from SQLite once its file is known to be sound: that takes less time than importing
    FAISS. Raises DamagedSnapshot.
    """
    trusted = cache.checked(row.sha256)
    if row.count > SMALL:
        opened = open_snapshot(catalog.folder, _file(row), dim=dim, trusted=trusted)
    else:
        opened = _read_small(catalog, row, dim=dim, trusted=trusted)
    if opened.hashed:
        cache.note_checked(row.sha256, opened.stat)
    return opened


def _read_small(
    catalog: Catalog, row: SnapshotRow, *, dim: int, trusted: Collection[tuple[int, int, int]]
) -> OpenedSnapshot:
    from clipsearch.vectors import exact, snapshot_file

    stat, hashed = snapshot_file.verify(catalog.folder, _file(row), trusted=trusted)
    ids, vectors = catalog.embeddings.between(row.encoder_id, dim=dim, until=row.watermark)
    return OpenedSnapshot(exact.ExactIndex(ids, vectors), stat, hashed)


def check(catalog: Catalog, row: SnapshotRow) -> None:
    """Hash a snapshot, whatever its stat. Raises DamagedSnapshot where it is not what was published."""
    from clipsearch.vectors import snapshot_file

    snapshot_file.verify(catalog.folder, replace(_file(row), stat=(-1, -1, -1)))


def _file(row: SnapshotRow) -> SnapshotFile:
    details = dict(row.details)
    engine = details.pop("engine")
    return SnapshotFile(row.file, row.bytes, row.sha256, row.stat, row.count, engine, details)


def _is_damaged(catalog: Catalog, row: SnapshotRow) -> bool:
    """Whether the file is not what was published; where it is, but its stat is new, the stat is recorded."""
    from clipsearch.vectors import snapshot_file

    try:
        stat, hashed = snapshot_file.verify(catalog.folder, _file(row))
    except DamagedSnapshot:
        return True
    if hashed:
        with catalog.transaction():
            _record(catalog, replace(row, stat=stat))
    return False


def _dead(catalog: Catalog, row: SnapshotRow) -> int:
    """Vectors of a snapshot that the catalog no longer holds."""
    return row.count - catalog.embeddings.count(row.encoder_id, until=row.watermark)
