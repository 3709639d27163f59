"""Maintenance of a library: prune and forget."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clipsearch.catalog import places, snapshots
from clipsearch.catalog.cache import CACHE_NAME, QueryCache
from clipsearch.catalog.catalog import Catalog
from clipsearch.errors import UsageError
from clipsearch.files import PathLike, below, is_within, ways
from clipsearch.indexing.patterns import literal
from clipsearch.indexing.roots import Roots
from clipsearch.library.results import Pruned

FREE_SHARE = 4
"""The catalog is rewritten when more than a quarter of its pages are free."""


def prune(catalog: Catalog, *, encoder: str | None = None, cache: bool = False) -> Pruned:
    """Remove missing files, contents that no file has, an encoder's vectors, the query cache. Needs the lock."""
    with catalog.transaction():
        dropped = _drop_encoder(catalog, encoder) if encoder is not None else 0
        files = catalog.files.remove_missing()
        contents, orphaned = catalog.contents.drop_orphans()
    snapshots.remove_strays(catalog)
    for row in catalog.encoders():
        snapshots.publish_if_due(catalog, row, final=True)
    if cache:  # Only now: it holds the prompts that snapshots are tuned with.
        _clear_cache(catalog.folder)
    catalog.compact(free_share=FREE_SHARE)
    return Pruned(files, contents, dropped + orphaned, encoder, cache)


def _clear_cache(folder: Path) -> None:
    if (folder / CACHE_NAME).exists():
        with contextlib.closing(QueryCache(folder)) as cache:
            cleared = cache.clear()
        for name in (CACHE_NAME, f"{CACHE_NAME}-journal") if not cleared else ():
            (folder / name).unlink(missing_ok=True)


def _drop_encoder(catalog: Catalog, spec: str) -> int:
    rows = [row for row in catalog.encoders() if row.info.spec == spec or row.info.fingerprint == spec]
    if not rows:
        held = ", ".join(row.info.spec for row in catalog.encoders())
        raise UsageError(f"the library has no embeddings of {spec} (it has {held})")
    used = {catalog.meta("encoder_id"), catalog.meta("filling_id")}
    unused = [row for row in rows if str(row.id) not in used]
    if not unused:
        raise UsageError(f"{spec} is in use", advice="indexing with another `model` replaces it first")
    return sum(catalog.drop_encoder(row.id) for row in unused)


def forget(catalog: Catalog, paths: Sequence[PathLike]) -> int:
    """Drop files and folders, and never scan them again; how many files that were. Needs the lock.

    A folder inside a root becomes an exclusion of that root. Raises UsageError for a path that nothing is known of.
    """
    roots = Roots(catalog)
    forgotten = 0
    with catalog.transaction():
        for path in (places.known(catalog, ways(given)) for given in paths):
            inside = [r for r in roots.all.values() if is_within(r.path, path)]
            for root in inside:
                del roots.all[root.path]
            owner = roots.owner(path)
            if owner is not None:
                relative = os.fsdecode(path[len(below(owner.path)) :])
                pattern = literal(relative, owner.options.exclude_style)
                options = replace(owner.options, exclude=(*owner.options.exclude, pattern))
                roots.put(replace(owner, options=options))
            gone = catalog.files.remove_below(path)
            if not gone and not inside:
                raise UsageError("the library has no files there", path=os.fsdecode(path))
            forgotten += gone
        roots.save()
    return forgotten
