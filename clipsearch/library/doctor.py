"""Looks a library over: the catalog, its snapshots, the versions at work."""

from __future__ import annotations

import contextlib
import platform
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from clipsearch.catalog import pending, snapshots
from clipsearch.catalog.cache import CACHE_NAME, QueryCache
from clipsearch.catalog.catalog import CATALOG_NAME, Catalog, EncoderRow
from clipsearch.errors import ClipsearchError
from clipsearch.library.results import Finding
from clipsearch.vectors.index import DamagedSnapshot

PACKAGES = ("torch", "open-clip-torch", "faiss-cpu", "onnxruntime", "pillow", "numpy")


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
        owed = pending.count(catalog, row.id)
        if owed and str(row.id) in (catalog.meta("encoder_id"), catalog.meta("filling_id")):
            what = "pictures" if catalog.tiles() == "none" else "pictures, or views of their parts"
            yield Finding("note", f"{row.info.spec} lacks {owed} {what}", "clipsearch index encodes them")


def _examine_snapshot(catalog: Catalog, row: EncoderRow) -> Finding:
    snapshot = snapshots.current(catalog, row.id)
    if snapshot is None:
        if not catalog.embeddings.count(row.id):
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
