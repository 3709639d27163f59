"""What keeps a library in order: info, lists of files, prune, forget, reroot and doctor."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import platform
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from clipsearch import snapshots
from clipsearch.cache import CACHE_NAME, QueryCache
from clipsearch.catalog import CATALOG_NAME, LIVE, Catalog, EncoderRow, read_box
from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.files import below, is_within, span
from clipsearch.indexing.roots import Root, Roots
from clipsearch.reports import EncoderStatus, Finding, LibraryInfo, ListedFile, Shown
from clipsearch.types import ImageFacts
from clipsearch.vectors import DamagedSnapshot

ListedState = Literal["failed", "unsupported", "partial", "missing", "offline", "unreadable"]

PACKAGES = ("torch", "open-clip-torch", "faiss-cpu", "onnxruntime", "pillow", "numpy")

FREE_SHARE = 4
"""The catalog is rewritten when more than a quarter of its pages are free."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` removed."""

    files: int
    contents: int
    vectors: int
    encoder: str | None
    cache: bool


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
        vectors=catalog.count_vectors(row.id),
        owed=catalog.count_owed(row.id),
        engine=str(snapshot.details["engine"]) if snapshot else "none",
        snapshot_bytes=snapshot.bytes if snapshot else 0,
        tail=catalog.count_vectors(row.id, after=snapshot.watermark if snapshot else 0),
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


def prune(catalog: Catalog, *, encoder: str | None = None, cache: bool = False) -> Pruned:
    """Remove missing files, contents that no file has, an encoder's vectors, the query cache. Needs the lock."""
    conn = catalog.conn
    with catalog.transaction():
        dropped = _drop_encoder(catalog, encoder) if encoder is not None else 0
        files = conn.execute("DELETE FROM files WHERE state = 'missing'").rowcount
        orphans = "SELECT id FROM contents c WHERE NOT EXISTS (SELECT 1 FROM files f WHERE f.content_id = c.id)"
        dropped += conn.execute(f"DELETE FROM embeddings WHERE content_id IN ({orphans})").rowcount
        contents = conn.execute(f"DELETE FROM contents WHERE id IN ({orphans})").rowcount
    if cache:
        for name in (CACHE_NAME, f"{CACHE_NAME}-journal"):
            (catalog.folder / name).unlink(missing_ok=True)
    snapshots.remove_strays(catalog)
    for row in catalog.encoders():
        snapshots.publish_if_due(catalog, row, final=True)
    free = conn.execute("PRAGMA freelist_count").fetchone()[0]
    if free * FREE_SHARE > conn.execute("PRAGMA page_count").fetchone()[0]:
        conn.execute("VACUUM")
    return Pruned(files, contents, dropped, encoder, cache)


def _drop_encoder(catalog: Catalog, spec: str) -> int:
    rows = [row for row in catalog.encoders() if row.info.spec == spec or row.info.fingerprint == spec]
    if not rows:
        held = ", ".join(row.info.spec for row in catalog.encoders())
        raise UsageError(f"the library holds no vectors of {spec}; it holds {held}")
    used = {catalog.meta("encoder_id"), catalog.meta("filling_id")}
    unused = [row for row in rows if str(row.id) not in used]
    if not unused:
        raise UsageError(f"{spec} is in use; clipsearch index --model OTHER replaces it first")
    return sum(catalog.drop_encoder(row.id) for row in unused)


def forget(catalog: Catalog, paths: Sequence[bytes]) -> int:
    """Drop files and folders, and never scan them again; how many files that were. Needs the lock.

    A folder inside a root becomes an exclusion of that root. Raises UsageError for a path that nothing is known of.
    """
    roots = Roots(catalog)
    forgotten = 0
    with catalog.transaction():
        for path in paths:
            inside = [r for r in roots.all.values() if is_within(r.path, path)]
            for root in inside:
                del roots.all[root.path]
            owner = roots.owner(path)
            if owner is not None:
                relative = os.fsdecode(path[len(below(owner.path)) :])
                pattern = "/" + glob.escape(relative)
                options = replace(owner.options, exclude=(*owner.options.exclude, pattern))
                roots.put(replace(owner, options=options))
            gone = catalog.conn.execute(
                "DELETE FROM files WHERE path = ? OR (path >= ? AND path < ?)", (path, *span(path))
            ).rowcount
            if not gone and not inside:
                raise UsageError(f"{os.fsdecode(path)}: nothing in the library is there")
            forgotten += gone
        roots.save()
    return forgotten


def reroot(catalog: Catalog, old: bytes, new: bytes) -> int:
    """Move what is known below `old` to `new`; how many files that were. Needs the lock.

    Where `new` has a row, that row stays. Raises UsageError where `new` is no folder or nothing is known below `old`.
    """
    if not os.path.isdir(new):
        raise UsageError(f"{os.fsdecode(new)}: no such folder; mount or make it first")
    if is_within(old, new) or is_within(new, old):
        raise UsageError("the old and the new folder lie within one another; index the new one instead")
    roots = Roots(catalog)
    conn = catalog.conn
    moved = 0
    with catalog.transaction():
        rows = conn.execute(
            "SELECT id, path, state FROM files WHERE path = ? OR (path >= ? AND path < ?)", (old, *span(old))
        ).fetchall()
        inside = [r for r in roots.all.values() if is_within(r.path, old)]
        if not rows and not inside:
            raise UsageError(f"{os.fsdecode(old)}: nothing in the library is there")
        for file_id, path, state in rows:
            target = new + path[len(old) :]
            if conn.execute("SELECT 1 FROM files WHERE path = ?", (target,)).fetchone():
                conn.execute("DELETE FROM files WHERE id = ?", (file_id,))
                continue
            back = state in ("offline", "missing") and os.path.isfile(target)
            conn.execute(
                "UPDATE files SET path = ?, state = ? WHERE id = ?", (target, "present" if back else state, file_id)
            )
            moved += 1
        for root in inside:
            del roots.all[root.path]
            target = new + root.path[len(old) :]
            if target not in roots.all:
                mounts = tuple(new + m[len(old) :] for m in root.mounts if is_within(m, old))
                roots.put(Root(target, root.options, root.is_file, mounts))
        roots.save()
    return moved


def doctor(folder: Path) -> tuple[Finding, ...]:
    """Look a library over. Raises nothing for what is wrong with it: that is what it reports."""
    findings = [_versions()]
    try:
        catalog = Catalog.open(folder)
    except ClipsearchError as exc:
        advice = "restore catalog.db from a backup, or move the folder away and index anew"
        return (*findings, Finding("problem", str(exc).removesuffix("; clipsearch doctor says more"), advice))
    try:
        findings += _examine(catalog)
    except sqlite3.DatabaseError as exc:
        findings.append(Finding("problem", f"the catalog cannot be read: {exc}", "restore it from a backup"))
    finally:
        catalog.close()
    return tuple(findings)


def _examine(catalog: Catalog) -> Iterator[Finding]:
    wrong = catalog.quick_check()
    for text in wrong:
        yield Finding("problem", f"catalog: {text}", "restore catalog.db from a backup, or index into a new library")
    if wrong:
        return
    yield Finding("ok", f"catalog: sound, {catalog.folder / CATALOG_NAME}")
    files, contents = catalog.count_by_state("files"), catalog.count_by_state("contents")
    yield Finding("ok", f"files: {_counted(files)}; contents: {_counted(contents)}")
    if files.get("missing"):
        yield Finding("note", f"{files['missing']} files are missing", "clipsearch prune forgets them")
    if files.get("offline"):
        yield Finding("note", f"{files['offline']} files are offline", "mount their drive and run clipsearch index")
    fallback = catalog.meta("fallback")
    if fallback:
        yield Finding(
            "note", f"the built-in encoder answers, which is not CLIP: {fallback}", "clipsearch index --model default"
        )
    if (catalog.folder / CACHE_NAME).exists():
        with contextlib.closing(QueryCache(catalog.folder)) as cache:
            if cache.damage:
                told = f"what queries have learnt cannot be read ({cache.damage}): they learn it anew each time"
                yield Finding("note", told, "clipsearch prune --cache removes it")
    for row in catalog.encoders():
        yield _examine_snapshot(catalog, row)
        owed = catalog.count_owed(row.id)
        if owed and str(row.id) in (catalog.meta("encoder_id"), catalog.meta("filling_id")):
            what = "pictures" if catalog.tiles() == "none" else "pictures, or views of their parts"
            yield Finding("note", f"{row.info.spec} lacks {owed} {what}", "clipsearch index encodes them")


def _examine_snapshot(catalog: Catalog, row: EncoderRow) -> Finding:
    snapshot = catalog.snapshot(row.id)
    if snapshot is None:
        if not catalog.count_vectors(row.id):
            return Finding("ok", f"{row.info.spec}: no vectors yet")
        return Finding("note", f"{row.info.spec}: no snapshot yet", "clipsearch index writes it")
    try:
        snapshots.check(catalog, snapshot)
    except DamagedSnapshot as exc:
        return Finding(
            "problem", f"{row.info.spec}: {exc}", "queries answer from the catalog; clipsearch index writes it anew"
        )
    return Finding("ok", f"{row.info.spec}: snapshot {snapshot.file} with {snapshot.count} vectors, hash right")


def _versions() -> Finding:
    found = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for package in ("clipsearch", *PACKAGES):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return Finding("ok", ", ".join(found))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
