"""Compares what walks find with what the catalog knows.

A walk and the catalog's files are two streams in the byte order of paths, so one merge tells new, changed, unchanged
and unseen apart, however many files there are. What a run has to read stands in a temporary table (`work`), what
no walk found in another (`unseen`) until the run knows whether it moved; `judging` then decides about the rest.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from clipsearch.catalog import pending
from clipsearch.catalog.catalog import Catalog
from clipsearch.files import span, upwards
from clipsearch.images.tiles import Tiles
from clipsearch.indexing.missing import Verdicts, Walked, mount_above
from clipsearch.indexing.roots import Area, Roots
from clipsearch.indexing.scanner import Rules, Walk
from clipsearch.types import Candidate, FileState, Problem

RACY_NS = 2_000_000_000
"""A file written this shortly before it was read may change again within one tick of its clock (git's racy rule)."""

SKEW_NS = 24 * 3600 * 1_000_000_000
"""A file from the future is racy too, up to a day: its server's clock may run ahead of ours."""

UNKNOWN_MTIME = -1
"""Recorded for such a file: it equals no file's time, so that the next run looks again."""

FOUND_STEP = 500
"""Progress is told of every so many pictures found."""


@dataclass(frozen=True, slots=True)
class Work:
    """A file to read. `content_id` and `state` are what the catalog has for its path (None: nothing).

    `owing` means that the file itself is unchanged, but its content lacks a vector or a failure is due again.
    `elsewhere` means that no walk of this run came by: it may not even be there now.
    """

    path: bytes
    size: int
    mtime_ns: int
    content_id: int | None
    state: FileState | None
    owing: bool
    elsewhere: bool = False


@dataclass(slots=True)
class Counts:
    """What the comparison alone can tell."""

    unchanged: int = 0
    restored: int = 0
    failed_before: int = 0
    unsupported: int = 0
    missing: int = 0
    offline: int = 0
    excluded: int = 0
    problems: list[Problem] = field(default_factory=list)


# What a content owes the run, one byte each: a library of a million is compared with a megabyte at hand.
_PAID, _OWES, _FAILED, _UNSUPPORTED = range(4)


class Reconciler:
    """One run's comparison. `encoder_id` is the encoder that contents must have vectors of, for the views of `tiles`.

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
        suffixes: Collection[str],
        own: bytes,
        rehash: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.counts = Counts()
        self.catalog = catalog
        self._encoder_id = encoder_id or 0
        self._pending = pending.condition(tiles)
        self._decoder = decoder
        self._suffixes = suffixes
        self._never = _identity(own)
        self._rehash = rehash
        self._stop = stop
        self._walked: list[Walked] = []
        self._verdicts = Verdicts(catalog, roots, self._walked, suffixes)
        for statement in _TEMPORARY.split(";"):
            catalog.conn.execute(statement)

    # Comparing

    def scan(self, areas: list[Area], *, found: Callable[[int], None] = lambda n: None) -> None:
        """Walk all areas. `found` hears how many pictures were met so far. Ends early when `stop()` is true."""
        standing = self._standing()
        mount_of = functools.lru_cache(maxsize=256)(mount_above)  # Named files share their folders.
        total = 0
        for area in areas:
            if self._stop():
                return
            root = area.root
            rules = Rules(root.path, root.options)
            walk = Walk(area.start, rules, self._suffixes, area.skip, self._never, self._stop)
            walked = Walked(area, walk, mount_of(os.path.dirname(root.path) if root.is_file else root.path))
            self._walked.append(walked)
            total = self._merge(walked, standing, total, found)
            self.counts.problems += walk.problems()
        found(total)
        self._verdicts.mark_zones()

    def _standing(self) -> bytearray:
        """What every content owes, by its id."""
        conn = self.catalog.conn
        standing = bytearray(int(conn.execute("SELECT coalesce(max(id), 0) FROM contents").fetchone()[0]) + 1)
        for content_id, state, decoder in conn.execute(
            f"SELECT id, state, decoder FROM contents c WHERE state NOT IN ('ok', 'partial') OR {self._pending}",
            (self._encoder_id,),
        ):
            if state in ("ok", "partial") or decoder != self._decoder:
                standing[content_id] = _OWES
            else:
                standing[content_id] = _FAILED if state == "failed" else _UNSUPPORTED
        return standing

    def _merge(self, walked: Walked, standing: bytearray, total: int, found: Callable[[int], None]) -> int:
        """Compare one walk with the catalog; the number of pictures met, added to `total`."""
        tallies = [0, 0, 0, 0]
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
                self._add_work(candidate, None, None, owing=False)
                continue
            file_id, _, size, mtime_ns, state, content_id = row
            row = next(rows, None)
            same = mtime_ns == candidate.mtime_ns and size == candidate.size and content_id is not None
            owes = standing[content_id] if same and content_id is not None else _OWES
            if owes == _OWES or self._rehash:
                self._add_work(candidate, content_id, state, owing=same and owes == _OWES)
            elif state == "present":
                tallies[owes] += 1
            else:
                self.catalog.conn.execute("INSERT INTO temp.back (file_id) VALUES (?)", (file_id,))
                self.counts.restored += 1
        self.counts.unchanged += tallies[_PAID]
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
                yield Candidate(start, about.st_size, about.st_mtime_ns)
        except OSError:
            pass  # The judgement looks at what is gone once more.
        walked.walk.complete = True

    def _rows(self, area: Area) -> Iterator[tuple[int, bytes, int, int, FileState, int | None]]:
        """The catalog's files in an area, less those that belong to areas inside it, in the byte order of paths."""
        for where, values in (
            ("path = ?", (area.start,)),
            ("path >= ? AND path < ?", span(area.start)),
        ):
            for row in self.catalog.conn.execute(
                f"SELECT id, path, size, mtime_ns, state, content_id FROM files WHERE {where} ORDER BY path", values
            ):
                if not area.skip or not any(at in area.skip for at in upwards(row[1])):
                    yield row

    def _add_unseen(self, row: tuple[int, bytes, int, int, FileState, int | None]) -> None:
        file_id, path, _, _, state, content_id = row
        self.catalog.conn.execute(
            "INSERT INTO temp.unseen (file_id, path, content_id, state, area) VALUES (?, ?, ?, ?, ?)",
            (file_id, path, content_id, state, len(self._walked) - 1),
        )

    def _add_work(self, candidate: Candidate, content_id: int | None, state: FileState | None, *, owing: bool) -> None:
        self.catalog.conn.execute(
            "INSERT OR IGNORE INTO temp.work (path, size, mtime_ns, content_id, state, owing, elsewhere) "
            "VALUES (?, ?, ?, ?, ?, ?, 0)",
            (candidate.path, candidate.size, candidate.mtime_ns, content_id, state, owing),
        )

    # What is to be read

    def add_owing_elsewhere(self) -> None:
        """Also read every file whose content owes the encoder a view, wherever it is."""
        self.catalog.conn.execute(
            f"""INSERT OR IGNORE INTO temp.work (path, size, mtime_ns, content_id, state, owing, elsewhere)
            SELECT f.path, f.size, f.mtime_ns, f.content_id, f.state, 1, 1
            FROM files f JOIN contents c ON c.id = f.content_id
            WHERE f.state IN ('present', 'unreadable') AND c.state IN ('ok', 'partial')
              AND f.id NOT IN (SELECT file_id FROM temp.unseen)
              AND {self._pending}""",
            (self._encoder_id,),
        )

    def work(self, *, chunk: int = 1000) -> Iterator[Work]:
        """What is to be read, in the byte order of paths; the catalog may be written to meanwhile."""
        last: bytes = b""
        while True:
            rows = self.catalog.conn.execute(
                "SELECT path, size, mtime_ns, content_id, state, owing, elsewhere FROM temp.work WHERE path > ? "
                "ORDER BY path LIMIT ?",
                (last, chunk),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            for path, size, mtime_ns, content_id, state, owing, elsewhere in rows:
                yield Work(path, size, mtime_ns, content_id, state, bool(owing), bool(elsewhere))

    def count_work(self) -> int:
        return int(self.catalog.conn.execute("SELECT count(*) FROM temp.work").fetchone()[0])

    # Recording what the comparison found

    def restore(self) -> None:
        """Files that are back, unchanged, are present again; nothing has to be read for that."""
        if self.counts.restored:
            self.catalog.conn.execute(
                "UPDATE files SET state = 'present', reason = NULL WHERE id IN (SELECT file_id FROM temp.back)"
            )

    def take_moved(self, content_id: int, path: bytes) -> bool:
        """Whether a file with this content vanished from another path; that file's row is removed, as it moved.

        A file on a drive that is away has not vanished: then this one is a copy.
        """
        conn = self.catalog.conn
        row = conn.execute(
            "SELECT file_id FROM temp.unseen WHERE content_id = ? AND NOT moved AND NOT zone AND path != ? "
            "ORDER BY state = 'missing', path LIMIT 1",
            (content_id, path),
        ).fetchone()
        if row is None:
            row = conn.execute(
                "SELECT id FROM files WHERE content_id = ? AND state = 'missing' AND path != ? ORDER BY id LIMIT 1",
                (content_id, path),
            ).fetchone()
        if row is None:
            return False
        conn.execute("UPDATE temp.unseen SET moved = 1 WHERE file_id = ?", row)
        conn.execute("DELETE FROM files WHERE id = ?", row)
        return True

    # Judging

    def foresee(self) -> None:
        """Count what `judge` would say if no file had moved; records nothing."""
        self._count(self._verdicts.pass_judgement())

    def judge(self) -> None:
        """Record of every file that no walk found whether it is excluded, offline or missing; in a transaction.

        Only for runs whose walks all ended. Roots and mount points are looked at once more.
        """
        self._verdicts.mark_zones()
        self._count(self._verdicts.pass_judgement(record=True))
        self._verdicts.remember_mounts()

    def _count(self, verdicts: dict[str, int]) -> None:
        self.counts.missing += verdicts["missing"]
        self.counts.offline += verdicts["offline"]
        self.counts.excluded += verdicts["excluded"]

    def scanned_roots(self) -> list[bytes]:
        return [w.area.root.path for w in self._walked if w.walk.complete and w.area.start == w.area.root.path]


def _identity(folder: bytes) -> tuple[int, int] | None:
    try:
        about = os.stat(folder)
    except OSError:
        return None
    return about.st_dev, about.st_ino


_TEMPORARY = """
DROP TABLE IF EXISTS temp.work;
DROP TABLE IF EXISTS temp.unseen;
DROP TABLE IF EXISTS temp.back;
CREATE TEMP TABLE work (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, content_id INTEGER, state TEXT, owing INTEGER,
    elsewhere INTEGER
) WITHOUT ROWID;
CREATE TEMP TABLE unseen (
    file_id INTEGER PRIMARY KEY, path BLOB UNIQUE, content_id INTEGER, state TEXT, area INTEGER,
    moved INTEGER DEFAULT 0, zone INTEGER DEFAULT 0
);
CREATE INDEX temp.unseen_content ON unseen (content_id);
CREATE TEMP TABLE back (file_id INTEGER PRIMARY KEY)
"""
