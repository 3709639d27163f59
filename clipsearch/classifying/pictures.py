"""Which pictures are classified, and their vectors as one matrix.

What a library holds is taken from it set-wise: a file that is as it was seen last is neither opened nor looked up by
itself, and a picture that is offline has the vector that was stored. Only what is new is decoded and encoded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipsearch import filters, images, query
from clipsearch.catalog import LIVE, Catalog, EncoderRow
from clipsearch.classifying.prototypes import Report, Step, quiet
from clipsearch.errors import UsageError, reason
from clipsearch.filters import Filter
from clipsearch.indexing.scanner import GONE, Rules, ScanOptions, Walk
from clipsearch.paths import span
from clipsearch.types import Candidate, FileState

if TYPE_CHECKING:
    from clipsearch.query import LoadEncoder

PART = 500
"""Paths or ids in one SQL statement."""

Value = TypeVar("Value", int, bytes)


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that is to be classified. `row` is its place among the vectors, or None with a reason.

    `away`: its file is not there, and what is known of it is what the library has seen.
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
    state: FileState


def whole_library(catalog: Catalog, row: EncoderRow, *, where: Filter | None = None) -> Gathered:
    """Every live picture of a library that `where` leaves, by path; exact copies are one picture."""
    condition, values = where.where() if where else (_LIVE_CONTENT, [])
    filters.install(catalog.conn)
    stored: dict[int, bytes] = dict(
        catalog.conn.execute(
            "SELECT c.id, e.vector FROM embeddings e JOIN contents c ON c.id = e.content_id "
            f"WHERE e.encoder_id = ? AND e.view = 0 AND {condition}",
            (row.id, *values),
        )
    )
    contents = catalog.contents(list(stored))
    inside = filters.paths_inside(catalog.conn, list(stored), where) if where and where.within else None
    found = []
    for content_id, content in contents.items():
        files = content.files
        if inside is not None:
            files = tuple(sorted(files, key=lambda file: file[0] not in inside))
        found.append((tuple(path for path, _ in files), content_id, all(state != "present" for _, state in files)))
    found.sort()
    items = tuple(
        Item(paths[0], paths, content_id, away, place) for place, (paths, content_id, away) in enumerate(found)
    )
    notices = []
    owed = catalog.count_owed(row.id) if where is None else 0
    if owed:
        notices.append(f"{owed:,} pictures have no vector of {row.info.spec} yet; clipsearch index encodes them")
    offline = sum(item.away for item in items)
    if offline:
        notices.append(f"{offline:,} of these {len(items):,} are offline: no path of theirs can be read now")
    rows = [stored[content_id] for _, content_id, _ in found]
    return Gathered(items, _matrix(rows, row.info.dim), tuple(notices))


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
    stored = _vectors_of([item.content_id for item in items if item.content_id is not None], catalog, row)
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
    lacking = [item for item in items if item.content_id not in stored]
    readable = [item.path for item in lacking if not item.away]
    new = iter(query.embed_pictures(readable, catalog, row, load))
    rows: list[bytes] = []
    placed: list[Item] = []
    done = 0
    for item in items:
        vector = None if item.content_id is None else stored.get(item.content_id)
        if vector is None and item.away:
            item = replace(item, reason=f"not there now, and the library has no vector of {row.info.spec} for it")
        elif vector is None:
            embedded = next(new)
            item = replace(item, reason=embedded.reason, partial=embedded.partial)
            vector = None if embedded.vector is None else embedded.vector.astype("<f4").tobytes()
            done += 1
            report(Step("pictures", done, len(readable)))
        if vector is not None:
            item = replace(item, row=len(rows))
            rows.append(vector)
        placed.append(item)
    notices = [
        f"{os.fsdecode(item.path)} ends early; what there is of it was classified" for item in placed if item.partial
    ]
    away = sum(item.away and item.row is not None for item in placed)
    if away:
        notices.append(f"{away:,} of these pictures are not there now; their stored vectors were used")
    return Gathered(tuple(placed), _matrix(rows, row.info.dim), tuple(notices))


def _at(path: bytes, catalog: Catalog | None) -> Iterable[Candidate | Item]:
    """What is at a path: a file, the pictures of a folder, or what the library remembers of either."""
    try:
        about = os.stat(path)
    except OSError as exc:
        remembered = _remembered(path, catalog, LIVE) if exc.errno in GONE else []
        if remembered:
            return remembered
        raise UsageError(f"{os.fsdecode(path)}: {reason(exc)}") from exc
    if not stat.S_ISDIR(about.st_mode):
        return [Candidate(path, about.st_size, about.st_mtime_ns)]
    walked = list(Walk(path, Rules(path, ScanOptions()), images.PICTURE_SUFFIXES))
    there = {candidate.path for candidate in walked}
    away = [item for item in _remembered(path, catalog, "('offline', 'unreadable')") if item.path not in there]
    return [*walked, *(item for item in away if not os.path.lexists(item.path))]


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
    for part in _parts(paths) if catalog else ():
        rows = catalog.conn.execute(  # type: ignore[union-attr]
            f"SELECT path, size, mtime_ns, content_id, state FROM files WHERE path IN ({_marks(part)})", part
        )
        seen.update((path, _Seen(*rest)) for path, *rest in rows)
    return seen


def _vectors_of(content_ids: Sequence[int], catalog: Catalog | None, row: EncoderRow) -> dict[int, bytes]:
    """Vectors of whole pictures, by content."""
    stored: dict[int, bytes] = {}
    for part in _parts(list(dict.fromkeys(content_ids))) if catalog else ():
        rows = catalog.conn.execute(  # type: ignore[union-attr]
            "SELECT content_id, vector FROM embeddings WHERE encoder_id = ? AND view = 0 "
            f"AND content_id IN ({_marks(part)})",
            (row.id, *part),
        )
        stored.update(rows)
    return stored


def _parts(values: Sequence[Value]) -> Iterable[Sequence[Value]]:
    return (values[start : start + PART] for start in range(0, len(values), PART))


def _marks(part: Sequence[object]) -> str:
    return ",".join("?" * len(part))


def _matrix(rows: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), dim)
