"""What a library holds: counts, encoders, lists of files, and everything about one picture."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from clipsearch.catalog.catalog import CATALOG_NAME, Catalog, EncoderRow
from clipsearch.catalog.embeddings import LIVE, read_box
from clipsearch.errors import UsageError
from clipsearch.indexing.roots import Roots
from clipsearch.library.results import EncoderStatus, LibraryInfo, ListedFile, ListedState, Shown
from clipsearch.types import ImageFacts


def info(catalog: Catalog) -> LibraryInfo:
    """Counts, encoders, sizes and roots; call inside one reading transaction."""
    last_run = catalog.meta("last_run")
    return LibraryInfo(
        path=str(catalog.folder),
        library_id=catalog.meta("library_id") or "",
        schema_version=int(catalog.meta("schema_version") or 0),
        contents=catalog.count_by_state("contents"),
        files=catalog.count_by_state("files"),
        roots=tuple(os.fsdecode(path) for path in sorted(Roots(catalog).all)),
        encoders=tuple(_encoder_status(catalog, row) for row in catalog.encoders()),
        catalog_bytes=sum(
            p.stat().st_size for p in catalog.folder.glob(f"{CATALOG_NAME}*") if not p.name.endswith("-shm")
        ),
        last_run=json.loads(last_run) if last_run else None,
        fallback=catalog.meta("fallback"),
        tiles=catalog.tiles(),
    )


def _encoder_status(catalog: Catalog, row: EncoderRow) -> EncoderStatus:
    snapshot = catalog.snapshot(row.id)
    role: Literal["answering", "filling", "kept"] = "kept"
    if catalog.meta("encoder_id") == str(row.id):
        role = "answering"
    elif catalog.meta("filling_id") == str(row.id):
        role = "filling"
    return EncoderStatus(
        info=row.info,
        role=role,
        vectors=catalog.embeddings.count(row.id),
        owed=catalog.count_owed(row.id),
        engine=str(snapshot.details["engine"]) if snapshot else "none",
        snapshot_bytes=snapshot.bytes if snapshot else 0,
        tail=catalog.embeddings.count(row.id, after=snapshot.watermark if snapshot else 0),
        snapshot_details=snapshot.details if snapshot else {},
    )


def list_files(catalog: Catalog, state: ListedState) -> Iterator[ListedFile]:
    """Files in a state, by path, with the reason that is recorded for it."""
    if state in ("missing", "offline", "unreadable"):
        rows = catalog.conn.execute("SELECT path, reason FROM files WHERE state = ? ORDER BY path", (state,))
    else:
        rows = catalog.conn.execute(
            f"SELECT f.path, c.reason FROM files f JOIN contents c ON c.id = f.content_id "
            f"WHERE c.state = ? AND f.state IN {LIVE} ORDER BY f.path",
            (state,),
        )
    for path, reason in rows:
        yield ListedFile(os.fsdecode(path), reason)


def content_at(catalog: Catalog, path: bytes) -> int:
    """The id of the content that was last seen at `path`. Raises UsageError where none was."""
    row = catalog.conn.execute("SELECT content_id FROM files WHERE path = ?", (path,)).fetchone()
    if row is None or row[0] is None:
        raise UsageError(f"{os.fsdecode(path)}: the library does not know it; clipsearch index adds it")
    return int(row[0])


def describe(catalog: Catalog, content_id: int) -> Shown:
    """All that the catalog holds of a content, without its neighbours. Raises UsageError for an unknown id."""
    row = catalog.conn.execute(
        "SELECT digest, bytes, state, reason, decoder, added_at, format, width, height, taken_at, taken_offset, "
        "camera, lat, lon, exif FROM contents WHERE id = ?",
        (content_id,),
    ).fetchone()
    if row is None:
        raise UsageError(f"id:{content_id}: the library holds no such picture")
    digest, size, state, reason, decoder, added_at, *plain, exif = row
    facts = replace(ImageFacts(*plain), exif=json.loads(exif) if exif else {}) if plain[0] else None
    files = catalog.conn.execute("SELECT path, state FROM files WHERE content_id = ? ORDER BY path", (content_id,))
    views = catalog.conn.execute(
        "SELECT n.spec, e.view, e.box FROM embeddings e JOIN encoders n ON n.id = e.encoder_id "
        "WHERE e.content_id = ? ORDER BY n.id, e.view",
        (content_id,),
    )
    return Shown(
        id=content_id,
        digest=digest.hex(),
        bytes=size,
        facts=facts,
        state=state,
        reason=reason,
        decoder=decoder,
        added_at=added_at,
        files=tuple((os.fsdecode(path), state) for path, state in files),
        views=tuple((spec, view, read_box(box) if box else None) for spec, view, box in views),
    )
