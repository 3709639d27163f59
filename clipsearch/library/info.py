"""What a library contains: counts, encoders, lists of files, and everything about one image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from clipsearch.catalog import pending, places, snapshots
from clipsearch.catalog.catalog import CATALOG_NAME, Catalog, EncoderRow
from clipsearch.catalog.facts import EXPRESSIONS
from clipsearch.catalog.files import state_now
from clipsearch.errors import UsageError
from clipsearch.files import PathLike, ways
from clipsearch.indexing.roots import Roots
from clipsearch.library.results import EncoderStatus, LibraryInfo, ListedFile, ListedState, Shown
from clipsearch.types import MAX_INTEGER


def info(catalog: Catalog) -> LibraryInfo:
    """Counts, encoders, sizes and roots; call inside one reading transaction."""
    last_run = catalog.meta("last_run")
    roots = Roots(catalog).all
    return LibraryInfo(
        path=str(catalog.folder),
        library_id=catalog.meta("library_id") or "",
        schema_version=int(catalog.meta("schema_version") or 0),
        contents=catalog.count_by_state("contents"),
        files=catalog.count_by_state("files"),
        roots=tuple(os.fsdecode(path) for path in sorted(roots)),
        scans={os.fsdecode(path): root.options for path, root in roots.items() if not root.is_file},
        encoders=tuple(_encoder_status(catalog, row) for row in catalog.encoders()),
        catalog_bytes=sum(
            p.stat().st_size for p in catalog.folder.glob(f"{CATALOG_NAME}*") if not p.name.endswith("-shm")
        ),
        last_run=json.loads(last_run) if last_run else None,
        fallback=catalog.meta("fallback"),
        tiles=catalog.tiles(),
    )


def _encoder_status(catalog: Catalog, row: EncoderRow) -> EncoderStatus:
    snapshot = snapshots.current(catalog, row.id)
    file = snapshot.file if snapshot else None
    role: Literal["answering", "filling", "kept"] = "kept"
    if catalog.meta("encoder_id") == str(row.id):
        role = "answering"
    elif catalog.meta("filling_id") == str(row.id):
        role = "filling"
    return EncoderStatus(
        info=row.info,
        role=role,
        vectors=catalog.embeddings.count(row.id),
        owed=pending.count(catalog, row.id),
        engine=file.engine if file else "none",
        snapshot_bytes=file.bytes if file else 0,
        tail=catalog.embeddings.count(row.id, after=snapshot.watermark if snapshot else 0),
        snapshot_details={"engine": file.engine, **file.details} if file else {},
    )


def list_files(catalog: Catalog, state: ListedState) -> Iterator[ListedFile]:
    """Files in a state, by path, with the reason that is recorded for it."""
    if state == "missing" or state == "offline" or state == "unreadable":
        rows = catalog.files.in_state(state)
    else:
        rows = catalog.files.with_content_in_state(state)
    for path, reason in rows:
        yield ListedFile(os.fsdecode(path), reason)


def content_at(catalog: Catalog, image: PathLike) -> int:
    """The id of the content that was last seen at a path. Raises UsageError where none was."""
    path = places.known(catalog, ways(image))
    file = catalog.files.at(path)
    if file is None or file.content_id is None:
        raise UsageError("not in the library", path=os.fsdecode(path), advice="`clipsearch index` adds it")
    return file.content_id


def describe(catalog: Catalog, content_id: int) -> Shown:
    """All that the catalog holds of a content, without its neighbours. Raises UsageError for an unknown id."""
    content = catalog.contents.get(content_id) if 0 < content_id <= MAX_INTEGER else None
    if content is None:
        raise UsageError("the library has no such image", path=f"id:{content_id}")
    row = catalog.contents.with_files([content_id])[content_id]
    facts = content.facts and replace(content.facts, **{name: getattr(row, name) for name in EXPRESSIONS})
    return Shown(
        id=content_id,
        digest=content.digest.hex(),
        bytes=content.size,
        facts=facts,
        sources=catalog.contents.sources(content_id),
        state=content.state,
        reason=content.reason,
        decoder=content.decoder,
        added_at=content.added_at,
        files=tuple(
            (os.fsdecode(file.path), state_now(file.path, file.state)) for file in catalog.files.of_content(content_id)
        ),
        views=tuple(catalog.embeddings.views_of(content_id)),
    )
