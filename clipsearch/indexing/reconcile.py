"""Compares what walks find with what the catalog knows.

A walk and the catalog's files are two streams in the byte order of paths, so one merge tells new, changed, unchanged
and unseen files apart, however many there are. A temporary table (`work`) lists the files to read, another (`unseen`)
those that no walk found, until the run knows whether they moved; `missing` then decides about the rest.
"""

from __future__ import annotations

import functools
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator

from clipsearch.catalog import pending
from clipsearch.catalog.catalog import Catalog
from clipsearch.files import mtime_of, span, upwards
from clipsearch.images.limits import Limits
from clipsearch.images.open import READER_REVISION
from clipsearch.images.tiles import Tiles
from clipsearch.indexing import notices, placeholders, skipped
from clipsearch.indexing.filesystems import FileSystems
from clipsearch.indexing.missing import Looks, MissingFiles, Walked, mounts_above
from clipsearch.indexing.path_facts import PathFactsReader, sidecars_in
from clipsearch.indexing.results import Counts, Problem
from clipsearch.indexing.roots import Area, Roots
from clipsearch.indexing.rules import Rules
from clipsearch.indexing.scanner import Walk
from clipsearch.indexing.worklist import Worklist
from clipsearch.types import Candidate, FileState

FOUND_STEP = 500
"""Progress is reported once for this many files."""


_Row = tuple[int, bytes, int, int, FileState, int | None, int | None, str | None]
"""A file of the catalog:
id, path, size, mtime_ns, state, content_id, ctime_ns, sidecars. The last two may be unknown."""


# What a content needs, one byte each: a library of a million is compared with a megabyte.
_DONE, _FAILED, _UNSUPPORTED, _PENDING, _STALE = range(5)
"""From `_PENDING` on, its file must be read. Stale: its facts were read by an older reader."""


class Reconciler:
    """One run's comparison. `encoder_id`: the encoder by which contents need vectors, for the views of `tiles`.

    `own` is the library's folder, which no walk enters. Raises what SQLite raises.
    """

    def __init__(
        self,
        catalog: Catalog,
        roots: Roots,
        *,
        encoder_id: int | None,
        tiles: Tiles,
        decoder: str,
        limits: Limits,
        suffixes: Collection[str],
        own: bytes,
        rehash: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.counts = Counts()
        self.catalog = catalog
        self.path_facts = PathFactsReader(catalog)
        self._encoder_id = encoder_id or 0
        self._pending_condition = pending.condition(tiles)
        self._decoder = decoder
        self._limits = limits
        self._suffixes = suffixes
        self._never = _identity(own)
        self._rehash = rehash
        self._stop = stop
        self._walked: list[Walked] = []
        self._lost: Counter[bytes] = Counter()
        self._file_systems = FileSystems()
        beside = functools.partial(sidecars_in, file_systems=self._file_systems)
        self._beside = functools.lru_cache(maxsize=16)(beside)  # Named files share their folders.
        self.worklist = Worklist(catalog.conn)
        self._missing = MissingFiles(catalog, roots, self._walked, suffixes)
        for statement in _TEMPORARY.split(";"):
            catalog.conn.execute(statement)

    # Comparing

    def scan(self, areas: list[Area], *, found: Callable[[int], None] = lambda n: None) -> None:
        """Walk all areas. `found` receives the number of files so far. Ends early when `stop()` is true."""
        states = self._content_states()
        looks = Looks()
        mounts_of = functools.lru_cache(maxsize=256)(mounts_above)  # Named files share their folders.
        total = 0
        for area in areas:
            if self._stop():
                return
            root = area.root
            rules = Rules(root.path, root.options)
            walk = Walk(area.start, rules, self._suffixes, area.skip, self._never, self._stop, self._file_systems)
            place = os.path.dirname(root.path) if root.is_file else root.path
            start = area.start if os.path.isdir(area.start) else os.path.dirname(area.start)
            walked = Walked(area, walk, mounts_of(start, place, looks))
            self._walked.append(walked)
            total = self._merge(walked, states, total, found)
            self.counts.failed += walk.problems()
        found(total)
        self._missing.mark_zones()
        self._missing.add_mounts()

    def _content_states(self) -> bytearray:
        """What every content needs, by its id."""
        conn = self.catalog.conn
        states = bytearray(int(conn.execute("SELECT coalesce(max(id), 0) FROM contents").fetchone()[0]) + 1)
        for content_id, state, decoder, is_pending in conn.execute(
            f"SELECT id, state, decoder, {self._pending_condition} FROM contents c "
            "WHERE state NOT IN ('ok', 'partial') "
            f"OR facts_revision IS NULL OR facts_revision < ? OR {self._pending_condition}",
            (self._encoder_id, READER_REVISION),
        ):
            if state in ("ok", "partial"):
                states[content_id] = _PENDING if is_pending else _STALE
            elif not self._limits.settle(decoder, self._decoder):
                states[content_id] = _PENDING
            else:
                states[content_id] = _FAILED if state == "failed" else _UNSUPPORTED
        for content_id in pending.failed(self.catalog, self._encoder_id):
            if content_id < len(states):
                states[content_id] = states[content_id] or _FAILED
        return states

    def _merge(self, walked: Walked, states: bytearray, total: int, found: Callable[[int], None]) -> int:
        """Compare one walk with the catalog; `total` plus the number of files found."""
        before = total
        tallies = [0, 0, 0]
        rows = self._rows(walked.area)
        row = next(rows, None)
        for candidate in self._candidates(walked):
            path = candidate.path
            while row is not None and row[1] < path:
                self._add_unseen(row)
                row = next(rows, None)
            total += 1
            if total % FOUND_STEP == 0:
                found(total)
            if row is None or row[1] != path:
                self.worklist.add(candidate)
                continue
            file_id, _, size, mtime_ns, state, content_id, ctime_ns, sidecars = row
            row = next(rows, None)
            same = mtime_ns == candidate.mtime_ns and size == candidate.size and content_id is not None
            # Of a file that is back, the change time says only that it was away.
            changed = state == "present" and _differ(ctime_ns, candidate.ctime_ns)
            known = states[content_id] if same and content_id is not None else _PENDING
            if known >= _PENDING or changed or self._rehash:
                again = known == _PENDING or (known == _STALE and not self._rehash)
                touched = known < _PENDING and changed and not self._rehash
                self.worklist.add(candidate, content_id, state, pending=same and again and not changed, touched=touched)
                continue
            if ctime_ns != candidate.ctime_ns and candidate.ctime_ns is not None:
                self.catalog.conn.execute("INSERT INTO temp.stamps VALUES (?, ?)", (file_id, candidate.ctime_ns))
            if sidecars != candidate.sidecars:
                self.catalog.conn.execute("INSERT INTO temp.beside VALUES (?, ?)", (path, candidate.sidecars))
                self.counts.facts += 1
            if state == "present":
                tallies[known] += 1
            else:
                self.catalog.conn.execute("INSERT INTO temp.back (file_id) VALUES (?)", (file_id,))
                self.counts.restored += 1
        walked.walk.found = total - before
        self.counts.unchanged += tallies[_DONE]
        self.counts.failed_before += tallies[_FAILED]
        self.counts.unsupported += tallies[_UNSUPPORTED]
        while row is not None and walked.walk.complete:
            self._add_unseen(row)
            row = next(rows, None)
        return total

    def _candidates(self, walked: Walked) -> Iterator[Candidate]:
        start, root = walked.area.start, walked.area.root
        try:
            about = os.stat(start)
            if stat.S_ISDIR(about.st_mode) and not root.is_file:
                yield from walked.walk
                return
            if stat.S_ISREG(about.st_mode) and (root.is_file or start != root.path):
                if not about.st_size:
                    walked.walk.stands_in(start, placeholders.EMPTY)
                else:
                    folder, name = os.path.split(start)
                    beside = self._beside(folder, folder if root.is_file else root.path, root.options)
                    kept = self._file_systems.kept(about, start)
                    stamps = about.st_size, mtime_of(about), kept.ctime_ns
                    yield Candidate(start, *stamps, beside.get(name, ""), kept.link)
        except OSError:
            pass  # `missing` looks at what is gone once more.
        walked.walk.complete = True

    def _rows(self, area: Area) -> Iterator[_Row]:
        """The catalog's files in an area, less those that belong to areas inside it, in the byte order of paths."""
        for where, values in (
            ("path = ?", (area.start,)),
            ("path >= ? AND path < ?", span(area.start)),
        ):
            for row in self.catalog.conn.execute(
                "SELECT id, path, size, mtime_ns, state, content_id, ctime_ns, sidecars FROM files "
                f"WHERE {where} ORDER BY path",
                values,
            ):
                if not area.skip or not any(at in area.skip for at in upwards(row[1])):
                    yield row

    def _add_unseen(self, row: _Row) -> None:
        file_id, path, _, _, state, content_id, *_ = row
        self.catalog.conn.execute(
            "INSERT INTO temp.unseen (file_id, path, content_id, state, area) VALUES (?, ?, ?, ?, ?)",
            (file_id, path, content_id, state, len(self._walked) - 1),
        )

    # Files to read

    def add_pending_elsewhere(self) -> None:
        """Also read every other file whose content is pending, wherever it is."""
        self.worklist.add_pending_elsewhere(self._pending_condition, self._encoder_id)

    # Recording what the comparison found

    def restore(self) -> None:
        """Files that are back, unchanged, are present again without being read; those without a change time get it."""
        self.catalog.conn.execute(
            "UPDATE files SET ctime_ns = (SELECT s.ctime_ns FROM temp.stamps s WHERE s.file_id = files.id) "
            "WHERE id IN (SELECT file_id FROM temp.stamps)"
        )
        if self.counts.restored:
            self.catalog.conn.execute(
                "UPDATE files SET state = 'present', reason = NULL WHERE id IN (SELECT file_id FROM temp.back)"
            )

    def take_moved(self, content_id: int, path: bytes) -> bool:
        """Whether a file with this content vanished from another path; that file's row is removed, as it moved.

        A file on an offline drive has not vanished, nor has one that this run has found again: then this is a copy.
        """
        conn = self.catalog.conn
        row = conn.execute(
            "SELECT file_id FROM temp.unseen WHERE content_id = ? AND NOT moved AND NOT zone AND path != ? "
            "ORDER BY state = 'missing', path LIMIT 1",
            (content_id, path),
        ).fetchone()
        if row is None:
            row = conn.execute(
                "SELECT id FROM files f WHERE content_id = ? AND state = 'missing' AND path != ? "
                "AND NOT EXISTS (SELECT 1 FROM temp.work w WHERE w.path = f.path) ORDER BY id LIMIT 1",
                (content_id, path),
            ).fetchone()
        if row is None:
            return False
        conn.execute("UPDATE temp.unseen SET moved = 1 WHERE file_id = ?", row)
        conn.execute("DELETE FROM files WHERE id = ?", row)
        return True

    def is_lost(self, path: bytes) -> bool:
        """Whether a file cannot be read because a folder above it has disappeared; such folders are reported."""
        folder = self._missing.lost_above(path)
        if folder is not None:
            self._lost[folder] += 1
        return folder is not None

    # Missing files

    def count_missing(self) -> None:
        """Count what `record_missing` would record if no file had moved."""
        self._count(self._missing.decide())

    def record_missing(self) -> None:
        """Record for every file that no walk found whether it is excluded, offline or missing; in a transaction.

        Only for runs whose walks are complete. Roots and mount points are checked once more.
        """
        self._missing.mark_zones()
        self._count(self._missing.decide(record=True))
        self._missing.remember_mounts()

    def _count(self, decisions: dict[str, int]) -> None:
        self.counts.missing += decisions["missing"]
        self.counts.offline += decisions["offline"]
        self.counts.excluded += decisions["excluded"]
        self.counts.unreachable = self._missing.unreachable()

    # What was skipped

    def count_skipped(self) -> None:
        """Count what is no image, was lost with its folder, or is not supported, and why. Call it once, at the end."""
        conn, counts = self.catalog.conn, self.counts
        counts.failed += [_lost(folder, files) for folder, files in sorted(self._lost.items())]
        counts.ignored = skipped.ignored(self._walked)
        counts.left_out = skipped.left_out(self._walked)
        counts.placeholders = skipped.placeholders(self._walked)
        counts.without_images = skipped.without_images(self._walked, conn)
        if counts.unsupported:
            counts.unsupported_reasons = skipped.unsupported_reasons(self._walked, conn, decoder=self._decoder)

    def notices(self, given: Collection[str] | None) -> list[str]:
        """What to say about the files of this run. `given`: the exclusions that it was given. Call it at its end."""
        found = notices.about_exclusions(self._walked, given)
        found += notices.about_ignore_files(self._walked)
        return [
            *self._missing.leaving.notices(),
            *found,
            *notices.about_times(self.catalog.conn),
            *self.path_facts.notices(),
        ]

    def scanned_roots(self) -> list[bytes]:
        return [w.area.root.path for w in self._walked if w.walk.complete and w.area.start == w.area.root.path]


def _differ(before: int | None, now: int | None) -> bool:
    """Whether two change times are known, and not the same."""
    return before != now and before is not None and now is not None


def _lost(folder: bytes, files: int) -> Problem:
    what = "one file in it was" if files == 1 else f"{files:,} files in it were"
    return Problem(os.fsdecode(folder), f"it disappeared during the run; {what} not read")


def _identity(folder: bytes) -> tuple[int, int] | None:
    try:
        about = os.stat(folder)
    except OSError:
        return None
    return about.st_dev, about.st_ino


_TEMPORARY = """
DROP TABLE IF EXISTS temp.unseen;
DROP TABLE IF EXISTS temp.back;
DROP TABLE IF EXISTS temp.stamps;
DROP TABLE IF EXISTS temp.beside;
CREATE TEMP TABLE unseen (
    file_id INTEGER PRIMARY KEY, path BLOB UNIQUE, content_id INTEGER, state TEXT, area INTEGER,
    moved INTEGER DEFAULT 0, zone INTEGER DEFAULT 0
);
CREATE INDEX temp.unseen_content ON unseen (content_id);
CREATE INDEX temp.unseen_area ON unseen (area, path);
CREATE TEMP TABLE back (file_id INTEGER PRIMARY KEY);
CREATE TEMP TABLE stamps (file_id INTEGER PRIMARY KEY, ctime_ns INTEGER);
CREATE TEMP TABLE beside (path BLOB PRIMARY KEY, sidecars TEXT) WITHOUT ROWID
"""
