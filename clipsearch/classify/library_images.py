"""Which images are classified, and their vectors as one matrix.

Stored vectors are read set-wise: a file that is unchanged since it was indexed is neither opened nor looked up on its
own, and an offline image has its stored vector. Only new files are decoded and encoded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog import filters, pending, places
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.filters import Filter
from clipsearch.classify.prototypes import Report, Step, quiet
from clipsearch.errors import ImageError, UsageError, reason
from clipsearch.files import mtime_of
from clipsearch.images.sniff import IMAGE_SUFFIXES
from clipsearch.indexing.placeholders import original
from clipsearch.indexing.rules import Rules, ScanOptions
from clipsearch.indexing.scanner import GONE, Walk
from clipsearch.search.terms import Image, Indexed
from clipsearch.types import Candidate, FileState, Notice

if TYPE_CHECKING:
    from clipsearch.search.embed import Embedder


@dataclass(frozen=True, slots=True)
class Item:
    """An image to classify. `row` is its row among the vectors, or None with a reason.

    `away`: its file cannot be reached now, and the library's data are used. A folder that cannot be read is an item,
    too, with the reason.
    """

    path: bytes
    paths: tuple[bytes, ...] = ()
    content_id: int | None = None
    away: bool = False
    row: int | None = None
    reason: str | None = None
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Gathered:
    """Images in their order, and their vectors: unit rows of shape (n, dim), float32, n of them with a row."""

    items: tuple[Item, ...]
    vectors: NDArray[np.float32]
    notices: tuple[Notice, ...] = ()


def whole_library(catalog: Catalog, row: EncoderRow, *, where: Filter | None = None) -> Gathered:
    """Every live image of a library that `where` leaves, by path; exact copies are one image."""
    where = places.resolved(catalog, where)
    ids, vectors = filters.matching_vectors(catalog, row, where or Filter())
    rows = {content_id: place for place, content_id in enumerate(ids)}
    contents = catalog.contents.with_files(ids)
    inside = filters.paths_inside(catalog, ids, where)
    items = []
    for content_id, content in contents.items():
        files = content.files
        if inside is not None:
            files = tuple(sorted(files, key=lambda file: file[0] not in inside))
        paths = tuple(path for path, _ in files)
        away = all(state != "present" for _, state in files)
        items.append(Item(paths[0], paths, content_id, away, rows[content_id]))
    items.sort(key=lambda item: item.paths)
    notices = []
    unseen = pending.count_without_vectors(catalog, row.id) if where is None else 0
    if unseen:
        have = "image has" if unseen == 1 else "images have"
        text = f"{unseen:,} {have} no embedding by {row.info.spec} yet; `clipsearch index` adds them"
        notices.append(Notice("switching", text))
    offline = sum(item.away for item in items)
    if offline:
        text = f"{offline:,} of these {len(items):,} {_are(offline)} offline: none of their paths can be read now"
        notices.append(Notice("offline", text))
    return Gathered(tuple(items), vectors, tuple(notices))


def named(paths: Sequence[bytes], embedder: Embedder, *, progress: Report = quiet) -> Gathered:
    """Files as they are named, and the images in folders, each folder in the byte order of its paths.

    For a missing path, what the library knows at it or below is used. Raises UsageError where that is nothing.
    """
    catalog, row = embedder.catalog, embedder.row
    found: list[Candidate | Item] = []
    empty: list[bytes] = []
    for path in paths:
        found += _at(path, catalog, empty)
    candidates = [candidate for candidate in found if isinstance(candidate, Candidate)]
    known = catalog.files.unchanged(candidates) if catalog else {}
    items = [one if isinstance(one, Item) else Item(one.path, (one.path,), known.get(one.path)) for one in found]
    held = {item.content_id for item in items if item.content_id is not None}
    stored = catalog.embeddings.vectors_of(sorted(held), row.id) if catalog else {}
    gathered = _filled(items, stored, embedder, progress=progress)
    if not empty:
        return gathered
    files = "1 file is a placeholder" if len(empty) == 1 else f"{len(empty):,} files are placeholders"
    text = f"{files} without content on this computer, not classified: {os.fsdecode(empty[0])}" + " …" * (
        len(empty) > 1
    )
    return replace(gathered, notices=(*gathered.notices, Notice("partial", text)))


def chosen(terms: Sequence[Image | Indexed], embedder: Embedder) -> Gathered:
    """Images of the library by their ids, and the bytes of others. Raises UsageError for an unknown id."""
    ids = [term.id for term in terms if isinstance(term, Indexed)]
    contents = embedder.catalog.contents.with_files(ids) if embedder.catalog else {}
    items, vectors = [], [np.empty((0, embedder.row.info.dim), np.float32)]
    for term in terms:
        item = Item(os.fsencode(str(term)))
        if isinstance(term, Indexed) and term.id in contents:
            files = contents[term.id].files
            paths = tuple(path for path, _ in files) or (item.path,)  # Its last file may be gone.
            item = Item(paths[0], paths, term.id, all(state != "present" for _, state in files))
        try:
            vectors.append(embedder.term(term)[None])
            item = replace(item, row=len(vectors) - 2)
        except ImageError as exc:
            item = replace(item, reason=exc.reason)
        items.append(item)
    return Gathered(tuple(items), np.concatenate(vectors))


def _filled(
    items: Sequence[Item],
    stored: Mapping[int, NDArray[np.float32]],
    embedder: Embedder,
    *,
    progress: Report,
) -> Gathered:
    """Items with their row in the matrix; those without a stored vector are read and encoded."""
    row = embedder.row
    readable = [item.path for item in items if item.content_id not in stored and not item.away and item.reason is None]
    new = iter(embedder.images(readable))
    vectors = np.empty((len(items), row.info.dim), np.float32)
    placed: list[Item] = []
    count = done = 0
    for item in items:
        vector = None if item.content_id is None else stored.get(item.content_id)
        if vector is None and item.away:
            item = replace(item, reason=f"unreachable now, and the library has no embedding by {row.info.spec} for it")
        elif vector is None and item.reason is None:
            embedded = next(new)
            item = replace(item, reason=embedded.reason, partial=embedded.partial)
            vector = embedded.vector
            done += 1
            progress(Step("pictures", done, len(readable)))
        if vector is not None:
            vectors[count] = vector
            item = replace(item, row=count)
            count += 1
        placed.append(item)
    notices = [
        Notice("partial", f"{os.fsdecode(item.path)} is truncated; only its existing part was classified")
        for item in placed
        if item.partial
    ]
    away = sum(item.away and item.row is not None for item in placed)
    if away:
        one = "its stored vector was" if away == 1 else "their stored vectors were"
        text = f"{away:,} of these images {_are(away)} unreachable now; {one} used"
        notices.append(Notice("offline", text))
    return Gathered(tuple(placed), vectors[:count], tuple(notices))


def _at(path: bytes, catalog: Catalog | None, empty: list[bytes]) -> Iterable[Candidate | Item]:
    """What is at a path: a file, the images in a folder, or what the library knows of either.

    Folders that cannot be read come as items with a reason, so that they do not look empty. Files that only stand for
    images are added to `empty`.
    """
    try:
        about = os.stat(path)
    except OSError as exc:
        remembered = _remembered(path, catalog) if exc.errno in GONE else []
        if remembered:
            return remembered
        raise UsageError(reason(exc), path=os.fsdecode(path)) from exc
    if not stat.S_ISDIR(about.st_mode):
        return [Candidate(path, about.st_size, mtime_of(about))]
    walk = Walk(path, Rules(path, ScanOptions()), IMAGE_SUFFIXES)
    walked = list(walk)
    shut = [Item(at, (at,), reason=why) for at, why in sorted(walk.unreadable.items())]
    there = {candidate.path for candidate in walked}
    away = [item for item in _remembered(path, catalog, away=True) if item.path not in there]
    away = [item for item in away if item.path in walk.emptied or not os.path.lexists(item.path)]
    known = {item.path for item in away}
    empty += [at for at in sorted(walk.placeholders) if original(at) not in known]
    return [*walked, *away, *shut]


def _remembered(path: bytes, catalog: Catalog | None, *, away: bool = False) -> list[Item]:
    """Live files that the library has seen at a path or below it, in their order; with `away`, no present ones."""
    states: tuple[FileState, ...] = ("offline", "unreadable") if away else ("present", "offline", "unreadable")
    found = catalog.files.below(path, states) if catalog else []
    return [Item(file.path, (file.path,), file.content_id, away=True) for file in found if file.content_id is not None]


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
