"""Health checks of a library: its catalog, its snapshots, and the versions of what it needs."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from clipsearch.catalog import pending, snapshots
from clipsearch.catalog.cache import CACHE_NAME, QueryCache
from clipsearch.catalog.catalog import CATALOG_NAME, Catalog, EncoderRow
from clipsearch.errors import ClipsearchError
from clipsearch.indexing.roots import files_in_no_root
from clipsearch.library.results import Finding
from clipsearch.search import fitted
from clipsearch.vectors.index import DamagedSnapshot

PACKAGES = ("torch", "open-clip-torch", "faiss-cpu", "onnxruntime", "pillow", "numpy")


def doctor(folder: Path) -> tuple[Finding, ...]:
    """Check a library. What is wrong with it is reported, not raised."""
    findings = [_versions()]
    try:
        catalog = Catalog.open(folder)
    except ClipsearchError as exc:
        advice = "restore catalog.db from a backup, or move the folder away and index again"
        return (*findings, Finding("problem", exc.reason, advice))
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
    yield Finding("ok", f"catalog: OK, {catalog.folder / CATALOG_NAME}")
    files, contents = catalog.count_by_state("files"), catalog.count_by_state("contents")
    yield Finding("ok", f"files: {_counted(files)}; contents: {_counted(contents)}")
    if files.get("missing"):
        yield Finding("note", f"{files['missing']} files are missing", "`clipsearch prune` forgets them")
    if files.get("offline"):
        yield Finding("note", f"{files['offline']} files are offline", "mount their drive and run `clipsearch index`")
    count, path = files_in_no_root(catalog)
    if count:
        what = f"{count} files are in no indexed folder: whether they change or are deleted goes unnoticed"
        advice = f"`clipsearch index FOLDER` adds theirs, such as {os.fsdecode(os.path.dirname(path))}"
        yield Finding("note", what, advice)
    fallback = catalog.meta("fallback")
    if fallback:
        yield Finding(
            "note",
            f"the built-in encoder is active, which is not CLIP: {fallback}",
            'indexing with `model="default"` switches to CLIP',
        )
    if (catalog.folder / CACHE_NAME).exists():
        with contextlib.closing(QueryCache(catalog.folder)) as cache:
            if cache.damage:
                damage = f"the query cache cannot be read and is not used: {cache.damage}"
                yield Finding("note", damage, "pruning with `cache=True` removes it")
    for row in catalog.encoders():
        yield _examine_snapshot(catalog, row)
        yield from _examine_vectors(catalog, row)
        if fit := fitted.recall(catalog, row.id):
            about = f"{fit.images} images with {fit.labels} labels"
            yield Finding(
                "note",
                f"{row.info.spec}: the constants of relevant and unknown were fitted to {about}",
                "evaluating relevance with `reset=True` goes back to the built-in ones",
            )
        count = pending.count(catalog, row.id)
        if count and str(row.id) in (catalog.meta("encoder_id"), catalog.meta("filling_id")):
            what = "images" if catalog.tiles() == "none" else "images or parts of images"
            yield Finding("note", f"{row.info.spec}: {count} {what} are pending", "`clipsearch index` encodes them")


def _examine_vectors(catalog: Catalog, row: EncoderRow) -> Iterator[Finding]:
    wrong = catalog.embeddings.count_not_finite(row.id)
    if wrong:
        yield Finding(
            "problem",
            f"{row.info.spec}: vectors that are not finite numbers: {wrong}; queries leave these images out",
            "restore catalog.db from a backup, or index into a new library",
        )
    failed = len(pending.failed(catalog, row.id))
    if failed:
        yield Finding(
            "note",
            f"{row.info.spec}: images that got no finite vector: {failed}",
            "indexing with another `device` or `model` encodes them",
        )


def _examine_snapshot(catalog: Catalog, row: EncoderRow) -> Finding:
    snapshot = snapshots.current(catalog, row.id)
    if snapshot is None:
        if not catalog.embeddings.count(row.id):
            return Finding("ok", f"{row.info.spec}: no vectors yet")
        return Finding("note", f"{row.info.spec}: no snapshot yet", "`clipsearch index` writes it")
    try:
        snapshots.check(catalog, snapshot)
    except DamagedSnapshot as exc:
        return Finding(
            "problem",
            f"{row.info.spec}: {exc}",
            "`clipsearch index` writes it again; until then queries read the catalog",
        )
    return Finding(
        "ok", f"{row.info.spec}: snapshot {snapshot.file.name} with {snapshot.file.count} vectors, checksum OK"
    )


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
