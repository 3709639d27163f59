"""Compares what walks find with what the catalog knows, and judges the files that no walk found.

A walk and the catalog's files are two streams in the byte order of paths, so one merge tells new, changed, unchanged
and unseen apart, however many files there are. What a run has to read stands in a temporary table (`work`), what
no walk found in another (`unseen`) until the run knows whether it moved.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace

from clipsearch.catalog import LIVE, Catalog
from clipsearch.roots import Area, Roots
from clipsearch.scanner import Rules, Walk, below, is_within
from clipsearch.types import Candidate, FileState, Problem

RACY_NS = 2_000_000_000
"""A file written this shortly before it was read may change again within one tick of its clock (git's racy rule)."""

UNKNOWN_MTIME = -1
"""Recorded for such a file: it equals no file's time, so that the next run looks again."""


@dataclass(frozen=True, slots=True)
class Work:
    """A file to read. `content_id` and `state` are what the catalog has for its path (None: nothing).

    `owing` means that the file itself is unchanged, but its content lacks a vector or a failure is due again.
    """

    path: bytes
    size: int
    mtime_ns: int
    content_id: int | None
    state: FileState | None
    owing: bool


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


@dataclass(slots=True)
class _Walked:
    area: Area
    walk: Walk
    gone: bool = False


class Reconciler:
    """One run's comparison. `encoder_id` is the encoder that contents must have a vector of."""

    def __init__(
        self,
        catalog: Catalog,
        roots: Roots,
        *,
        encoder_id: int | None,
        decoder: str,
        suffixes: Collection[str],
        rehash: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.catalog = catalog
        self.roots = roots
        self.counts = Counts()
        self._encoder_id = encoder_id
        self._decoder = decoder
        self._suffixes = suffixes
        self._rehash = rehash
        self._stop = stop
        self._walked: list[_Walked] = []
        for statement in _TEMPORARY.split(";"):
            catalog.conn.execute(statement)

    # Comparing

    def scan(self, areas: list[Area], *, found: Callable[[int], None] = lambda n: None) -> None:
        """Walk all areas. `found` hears how many pictures were met so far. Ends early when `stop()` is true."""
        total = 0
        for area in areas:
            walked = _Walked(
                area, Walk(area.start, Rules(area.root.path, area.root.options), self._suffixes, area.skip)
            )
            self._walked.append(walked)
            for candidate, row in self._merge(walked):
                if candidate is not None:
                    total += 1
                    if total % 1000 == 0:
                        found(total)
                        if self._stop():
                            return
                self._compare(candidate, row)
            self.counts.problems += walked.walk.problems()
        found(total)
        self._mark_offline_zones()

    def add_owing_elsewhere(self) -> None:
        """Also read every present file whose content owes the encoder a vector, wherever it is."""
        self.catalog.conn.execute(
            """INSERT OR IGNORE INTO temp.work (path, size, mtime_ns, content_id, state, owing)
            SELECT f.path, f.size, f.mtime_ns, f.content_id, f.state, 1
            FROM files f JOIN contents c ON c.id = f.content_id
            WHERE f.state = 'present' AND c.state IN ('ok', 'partial')
              AND f.id NOT IN (SELECT file_id FROM temp.unseen)
              AND NOT EXISTS (SELECT 1 FROM embeddings e
                              WHERE e.encoder_id = ? AND e.content_id = c.id AND e.view = 0)""",
            (self._encoder_id,),
        )

    def work(self, *, chunk: int = 1000) -> Iterator[Work]:
        """What is to be read, in the byte order of paths; the catalog may be written to meanwhile."""
        last: bytes = b""
        while True:
            rows = self.catalog.conn.execute(
                "SELECT path, size, mtime_ns, content_id, state, owing FROM temp.work WHERE path > ? "
                "ORDER BY path LIMIT ?",
                (last, chunk),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            for path, size, mtime_ns, content_id, state, owing in rows:
                yield Work(path, size, mtime_ns, content_id, state, bool(owing))

    def count_work(self) -> int:
        return int(self.catalog.conn.execute("SELECT count(*) FROM temp.work").fetchone()[0])

    def _merge(self, walked: _Walked) -> Iterator[tuple[Candidate | None, tuple[object, ...] | None]]:
        candidates = iter(self._candidates(walked))
        rows = self._rows(walked.area)
        candidate, row = next(candidates, None), next(rows, None)
        while candidate is not None or row is not None:
            if row is None or (candidate is not None and candidate.path < row[1]):  # type: ignore[operator]
                yield candidate, None
                candidate = next(candidates, None)
            elif candidate is None or candidate.path > row[1]:  # type: ignore[operator]
                yield None, row
                row = next(rows, None)
            else:
                yield candidate, row
                candidate, row = next(candidates, None), next(rows, None)

    def _candidates(self, walked: _Walked) -> Iterator[Candidate]:
        start, skip = walked.area.start, walked.area.skip
        try:
            about = os.stat(start)
            if stat.S_ISDIR(about.st_mode):
                yield from (c for c in walked.walk if c.path not in skip)
                return
            if stat.S_ISREG(about.st_mode):
                yield Candidate(start, about.st_size, about.st_mtime_ns)
            walked.walk.complete = True
        except OSError:
            walked.gone = True
            walked.walk.complete = True

    def _rows(self, area: Area) -> Iterator[tuple[object, ...]]:
        """The catalog's files in an area, less those that belong to areas inside it."""
        inner = sorted(area.skip)
        for row in self.catalog.conn.execute(
            f"""SELECT f.id, f.path, f.size, f.mtime_ns, f.state, f.content_id, c.state, c.decoder,
                    EXISTS (SELECT 1 FROM embeddings e
                            WHERE e.encoder_id = {self._encoder_id or 0} AND e.content_id = c.id AND e.view = 0)
            FROM files f LEFT JOIN contents c ON c.id = f.content_id
            WHERE f.path >= ? AND f.path < ?
            ORDER BY f.path""",
            (area.start, below(area.start)[:-1] + b"0"),
        ):
            if is_within(row[1], area.start) and not any(is_within(row[1], folder) for folder in inner):
                yield row

    def _compare(self, candidate: Candidate | None, row: tuple[object, ...] | None) -> None:
        if candidate is None:
            if row is not None:
                file_id, path, _, _, state, content_id, *_ = row
                self.catalog.conn.execute(
                    "INSERT INTO temp.unseen (file_id, path, content_id, state, area) VALUES (?, ?, ?, ?, ?)",
                    (file_id, path, content_id, state, len(self._walked) - 1),
                )
            return
        if row is None:
            self._add_work(candidate, None, None, owing=False)
            return
        file_id, _, size, mtime_ns, state, content_id, content_state, decoder, has_vector = row
        same = (size, mtime_ns) == (candidate.size, candidate.mtime_ns) and content_id is not None
        if content_state in ("ok", "partial"):
            owes = not has_vector
        else:
            owes = decoder != self._decoder
        if not same or owes or self._rehash or state == "unreadable":
            self._add_work(candidate, content_id, state, owing=same and owes)
            return
        if state != "present":
            self.catalog.conn.execute("INSERT INTO temp.back (file_id) VALUES (?)", (file_id,))
            self.counts.restored += 1
        elif content_state == "failed":
            self.counts.failed_before += 1
        elif content_state == "unsupported":
            self.counts.unsupported += 1
        else:
            self.counts.unchanged += 1

    def _add_work(self, candidate: Candidate, content_id: object, state: object, *, owing: bool) -> None:
        self.catalog.conn.execute(
            "INSERT OR IGNORE INTO temp.work (path, size, mtime_ns, content_id, state, owing) VALUES (?, ?, ?, ?, ?, ?)",
            (candidate.path, candidate.size, candidate.mtime_ns, content_id, state, owing),
        )

    # Recording what the comparison found

    def restore(self) -> None:
        """Files that are back, unchanged, are present again; nothing has to be read for that."""
        self.catalog.conn.execute(
            "UPDATE files SET state = 'present', reason = NULL WHERE id IN (SELECT file_id FROM temp.back)"
        )

    def take_moved(self, content_id: int, path: bytes) -> bool:
        """Whether a file with this content vanished from another path; that file's row is removed, as it moved."""
        conn = self.catalog.conn
        row = conn.execute(
            "SELECT file_id FROM temp.unseen WHERE content_id = ? AND NOT moved AND NOT zone AND path != ? "
            "ORDER BY path LIMIT 1",
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

    def judge(self) -> None:
        """Say of every file that no walk found whether it is excluded, offline or missing; call inside a transaction.

        Only for runs whose walks all ended. Roots and mount points are looked at once more.
        """
        self._mark_offline_zones()
        conn = self.catalog.conn
        for index, walked in enumerate(self._walked):
            if not walked.walk.complete:
                continue
            rules = Rules(walked.area.root.path, walked.area.root.options)
            emptied = self._emptied_folders(walked)
            for file_id, path, state, zone in conn.execute(
                "SELECT file_id, path, state, zone FROM temp.unseen WHERE area = ? AND NOT moved ORDER BY path",
                (index,),
            ).fetchall():
                if not rules.reaches(path):
                    conn.execute("DELETE FROM files WHERE id = ?", (file_id,))
                    self.counts.excluded += 1
                elif zone or any(is_within(path, folder) for folder in emptied):
                    self._set_state(file_id, "offline")
                    self.counts.offline += state != "missing"
                elif not _is_regular(path):
                    self._set_state(file_id, "missing")
                    self.counts.missing += state != "missing"
            self._remember_mounts(walked)

    def scanned_roots(self) -> list[bytes]:
        return [w.area.root.path for w in self._walked if w.walk.complete and w.area.start == w.area.root.path]

    def _set_state(self, file_id: int, state: FileState) -> None:
        # A missing file stays missing when its drive goes away; only what was a hit can be offline.
        self.catalog.conn.execute(
            "UPDATE files SET state = ?, reason = NULL WHERE id = ? AND (? != 'offline' OR state != 'missing')",
            (state, file_id, state),
        )

    def _mark_offline_zones(self) -> None:
        for index, walked in enumerate(self._walked):
            for folder in self._zones(walked):
                self.catalog.conn.execute(
                    "UPDATE temp.unseen SET zone = 1 WHERE area = ? AND (path = ? OR (path >= ? AND path < ?))",
                    (index, folder, below(folder), below(folder)[:-1] + b"0"),
                )

    def _zones(self, walked: _Walked) -> set[bytes]:
        """Folders below which nothing can be said to be missing."""
        root = walked.area.root
        zones = set(walked.walk.unreadable)
        if root.is_file:
            # A named file is missing when its folder is there and shows other things, else its drive is away.
            folder = os.path.dirname(root.path)
            if _is_away(folder):
                zones.add(root.path)
            return zones
        if _is_away(root.path):
            zones.add(root.path)
        for mount in {*root.mounts, *walked.walk.mounts}:
            if _is_away(mount) or not _is_mount(mount):
                zones.add(mount)
        return zones

    def _emptied_folders(self, walked: _Walked) -> list[bytes]:
        """Folders that are empty now and whose files turned up nowhere: most likely something is not mounted."""
        moved = [
            path
            for (path,) in self.catalog.conn.execute("SELECT path FROM temp.unseen WHERE moved AND content_id NOT NULL")
        ]
        return [f for f in walked.walk.empty if not any(is_within(path, f) for path in moved)]

    def _remember_mounts(self, walked: _Walked) -> None:
        root = self.roots.all.get(walked.area.root.path)
        if root is None or root.is_file:
            return
        mounts = set(walked.walk.mounts)
        if walked.area.start == root.path and not walked.gone and _is_mount(root.path):
            mounts.add(root.path)
        for mount in root.mounts:
            away = _is_away(mount) or not _is_mount(mount)
            elsewhere = not is_within(mount, walked.area.start)
            if elsewhere or (away and self._has_files(mount)):
                mounts.add(mount)
        self.roots.put(replace(root, mounts=tuple(sorted(mounts))))

    def _has_files(self, folder: bytes) -> bool:
        return (
            self.catalog.conn.execute(
                f"SELECT 1 FROM files WHERE path >= ? AND path < ? AND state IN {LIVE} LIMIT 1",
                (below(folder), below(folder)[:-1] + b"0"),
            ).fetchone()
            is not None
        )


def _is_away(folder: bytes) -> bool:
    """Whether a folder is gone, empty or unreadable."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def _is_mount(folder: bytes) -> bool:
    try:
        return os.stat(folder).st_dev != os.stat(os.path.dirname(folder)).st_dev
    except OSError:
        return False


def _is_regular(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


_TEMPORARY = """
DROP TABLE IF EXISTS temp.work;
DROP TABLE IF EXISTS temp.unseen;
DROP TABLE IF EXISTS temp.back;
CREATE TEMP TABLE work (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, content_id INTEGER, state TEXT, owing INTEGER
) WITHOUT ROWID;
CREATE TEMP TABLE unseen (
    file_id INTEGER PRIMARY KEY, path BLOB UNIQUE, content_id INTEGER, state TEXT, area INTEGER,
    moved INTEGER DEFAULT 0, zone INTEGER DEFAULT 0
);
CREATE INDEX temp.unseen_content ON unseen (content_id);
CREATE TEMP TABLE back (file_id INTEGER PRIMARY KEY)
"""
