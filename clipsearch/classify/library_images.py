"""Which pictures are classified, and their vectors as one matrix.

What a library holds is taken from it set-wise: a file that is as it was seen last is neither opened nor looked up by
itself, and a picture that is offline has the vector that was stored. Only what is new is decoded and encoded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog import filters
from clipsearch.catalog.catalog import LIVE, Catalog, EncoderRow
from clipsearch.catalog.filters import Filter
from clipsearch.classify.prototypes import Report, Step, quiet
from clipsearch.errors import UsageError, reason
from clipsearch.files import span
from clipsearch.images.sniff import PICTURE_SUFFIXES
from clipsearch.indexing.scanner import GONE, Rules, ScanOptions, Walk
from clipsearch.search.embed import embed_pictures
from clipsearch.types import Candidate

if TYPE_CHECKING:
    from clipsearch.search.embed import LoadEncoder

PART = 500
"""Paths in one SQL statement."""


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that is to be classified. `row` is its place among the vectors, or None with a reason.

    `away`: its file is not there, and what is known of it is what the library has seen. A folder that cannot be read is
    one, too, with the reason.
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
    """Pictures in their order, and their vectors: unit rows of shape (n, dim), float32, n of them with a row."""

    items: tuple[Item, ...]
    vectors: NDArray[np.float32]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as the catalog has it."""

    size: int
    mtime_ns: int
    content_id: int | None


def whole_library(catalog: Catalog, row: EncoderRow, *, where: Filter | None = None) -> Gathered:
    """Every live picture of a library that `where` leaves, by path; exact copies are one picture."""
    condition, values = where.where() if where else (_LIVE_CONTENT, [])
    filters.install(catalog.conn)
    [most] = catalog.conn.execute("SELECT count(*) FROM contents").fetchone()
    vectors = np.empty((most, row.info.dim), "<f4")  # What is not filled takes no memory.
    rows: dict[int, int] = {}
    for content_id, vector in catalog.conn.execute(
        "SELECT c.id, e.vector FROM embeddings e JOIN contents c ON c.id = e.content_id "
        f"WHERE e.encoder_id = ? AND e.view = 0 AND {condition}",
        (row.id, *values),
    ):
        vectors[len(rows)] = np.frombuffer(vector, "<f4")
        rows[content_id] = len(rows)
    contents = catalog.contents(list(rows))
    inside = filters.paths_inside(catalog.conn, list(rows), where) if where and where.within else None
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
    unseen = catalog.count_unseen(row.id) if where is None else 0
    if unseen:
        have = "picture has" if unseen == 1 else "pictures have"
        notices.append(f"{unseen:,} {have} no vector of {row.info.spec} yet; clipsearch index makes them")
    offline = sum(item.away for item in items)
    if offline:
        notices.append(
            f"{offline:,} of these {len(items):,} {_are(offline)} offline: no path of theirs can be read now"
        )
    return Gathered(tuple(items), vectors[: len(rows)], tuple(notices))


_LIVE_CONTENT = f"EXISTS (SELECT 1 FROM files f WHERE f.content_id = c.id AND f.state IN {LIVE})"


def named(
    paths: Sequence[bytes], catalog: Catalog | None, row: EncoderRow, load: LoadEncoder, *, report: Report = quiet
) -> Gathered:
    """Files as they are named, and the pictures in folders, each folder in the byte order of its paths.

    A path that is not there is answered from the library where that has seen pictures at it or below. Raises UsageError
    where it has not.
    """
    found: list[Candidate | Item] = []
    for path in paths:
        found += _at(path, catalog)
    fresh = [candidate for candidate in found if isinstance(candidate, Candidate)]
    known = _as_seen([candidate.path for candidate in fresh], catalog)
    items: list[Item] = []
    for one in found:
        if isinstance(one, Item):
            items.append(one)
            continue
        seen = known.get(one.path)
        same = seen is not None and (seen.size, seen.mtime_ns) == (one.size, one.mtime_ns)
        items.append(Item(one.path, (one.path,), seen.content_id if seen and same else None))
    held = {item.content_id for item in items if item.content_id is not None}
    stored = catalog.vectors_of(sorted(held), row.id) if catalog else {}
    return _filled(items, stored, catalog, row, load, report=report)


def _filled(
    items: Sequence[Item],
    stored: Mapping[int, bytes],
    catalog: Catalog | None,
    row: EncoderRow,
    load: LoadEncoder,
    *,
    report: Report,
) -> Gathered:
    """Items with their place in the matrix; those without a stored vector are read and encoded."""
    readable = [item.path for item in items if item.content_id not in stored and not item.away and item.reason is None]
    new = iter(embed_pictures(readable, catalog, row, load))
    vectors = np.empty((len(items), row.info.dim), "<f4")
    placed: list[Item] = []
    count = done = 0
    for item in items:
        known = None if item.content_id is None else stored.get(item.content_id)
        vector = None if known is None else np.frombuffer(known, "<f4")
        if vector is None and item.away:
            item = replace(item, reason=f"not there now, and the library has no vector of {row.info.spec} for it")
        elif vector is None and item.reason is None:
            embedded = next(new)
            why = embedded.reason and embedded.reason.removeprefix(f"{os.fsdecode(item.path)}: ")
            item = replace(item, reason=why, partial=embedded.partial)
            vector = embedded.vector
            done += 1
            report(Step("pictures", done, len(readable)))
        if vector is not None:
            vectors[count] = vector
            item = replace(item, row=count)
            count += 1
        placed.append(item)
    notices = [
        f"{os.fsdecode(item.path)} ends early; what there is of it was classified" for item in placed if item.partial
    ]
    away = sum(item.away and item.row is not None for item in placed)
    if away:
        one = "its stored vector was" if away == 1 else "their stored vectors were"
        notices.append(f"{away:,} of these pictures {_are(away)} not there now; {one} used")
    return Gathered(tuple(placed), vectors[:count], tuple(notices))


def _at(path: bytes, catalog: Catalog | None) -> Iterable[Candidate | Item]:
    """What is at a path: a file, the pictures of a folder, or what the library remembers of either.

    Folders that cannot be looked into come as items with a reason, so that nobody takes them for empty.
    """
    try:
        about = os.stat(path)
    except OSError as exc:
        remembered = _remembered(path, catalog, LIVE) if exc.errno in GONE else []
        if remembered:
            return remembered
        raise UsageError(f"{os.fsdecode(path)}: {reason(exc)}") from exc
    if not stat.S_ISDIR(about.st_mode):
        return [Candidate(path, about.st_size, about.st_mtime_ns)]
    walk = Walk(path, Rules(path, ScanOptions()), PICTURE_SUFFIXES)
    walked = list(walk)
    shut = [Item(folder, (folder,), reason=why) for folder, why in sorted(walk.unreadable.items())]
    there = {candidate.path for candidate in walked}
    away = [item for item in _remembered(path, catalog, "('offline', 'unreadable')") if item.path not in there]
    return [*walked, *(item for item in away if not os.path.lexists(item.path)), *shut]


def _remembered(path: bytes, catalog: Catalog | None, states: str) -> list[Item]:
    """Files that the library has seen at a path or below it, in their order."""
    if catalog is None:
        return []
    found = catalog.conn.execute(
        f"SELECT path, content_id FROM files WHERE (path = ? OR (path >= ? AND path < ?)) AND state IN {states} "
        "AND content_id IS NOT NULL ORDER BY path",
        (path, *span(path)),
    )
    return [Item(at, (at,), content_id, away=True) for at, content_id in found]


def _as_seen(paths: Sequence[bytes], catalog: Catalog | None) -> dict[bytes, _Seen]:
    seen: dict[bytes, _Seen] = {}
    if catalog is None:
        return seen
    for start in range(0, len(paths), PART):
        part = paths[start : start + PART]
        marks = ",".join("?" * len(part))
        rows = catalog.conn.execute(f"SELECT path, size, mtime_ns, content_id FROM files WHERE path IN ({marks})", part)
        seen.update((path, _Seen(*rest)) for path, *rest in rows)
    return seen


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
