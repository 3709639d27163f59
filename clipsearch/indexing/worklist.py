"""The files that a run reads: a temporary table, since a first run may read millions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from clipsearch.types import Candidate, FileState

CHUNK = 1000


class Work(NamedTuple):
    """A file to read. `content_id` and `state` are what the catalog has for its path (None: nothing).

    `pending` means that the file itself is unchanged, but its content is pending or its failure is to be retried;
    `touched`, that neither its size nor its modification time has changed, but something else about it.
    `elsewhere` means that no walk of this run found it: it may not exist any more. link: what all the names of one
    file have in common, if it has several and all are read for the same reason.
    """

    path: bytes
    size: int
    mtime_ns: int
    content_id: int | None
    state: FileState | None
    pending: bool
    touched: bool = False
    elsewhere: bool = False
    ctime_ns: int | None = None
    sidecars: str = ""
    link: str | None = None


_COLUMNS = ", ".join(Work._fields)
_INSERT = f"INSERT OR IGNORE INTO temp.work ({_COLUMNS}) VALUES ({', '.join('?' * len(Work._fields))})"


class Worklist:
    """The files that one run reads, in the byte order of paths, through the connection of its catalog."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        for statement in _TABLE.split(";"):
            conn.execute(statement)

    def add(
        self,
        candidate: Candidate,
        content_id: int | None = None,
        state: FileState | None = None,
        *,
        pending: bool = False,
        touched: bool = False,
    ) -> None:
        """A file that a walk has found; see `Work`."""
        path, size, mtime_ns, ctime_ns, sidecars, link = candidate
        if link is not None and pending:
            link = f"{link}:{content_id}"
        self._conn.execute(
            _INSERT, (path, size, mtime_ns, content_id, state, pending, touched, False, ctime_ns, sidecars, link)
        )

    def add_pending_elsewhere(self, condition: str, encoder_id: int) -> None:
        """Also read every other file whose content is pending by a `condition` on `c`, wherever it is."""
        self._conn.execute(
            f"""INSERT OR IGNORE INTO temp.work ({_COLUMNS})
            SELECT f.path, f.size, f.mtime_ns, f.content_id, f.state, 1, 0, 1,
                f.ctime_ns, coalesce(f.sidecars, ''), NULL
            FROM files f JOIN contents c ON c.id = f.content_id
            WHERE f.state IN ('present', 'unreadable') AND c.state IN ('ok', 'partial')
              AND f.id NOT IN (SELECT file_id FROM temp.unseen)
              AND {condition}""",
            (encoder_id,),
        )

    def __len__(self) -> int:
        return int(self._conn.execute("SELECT count(*) FROM temp.work").fetchone()[0])

    def __iter__(self) -> Iterator[Work]:
        """One name of each file, the first; the catalog may be written to meanwhile."""
        last = b""
        while rows := self._conn.execute(
            f"SELECT {_COLUMNS} FROM temp.work w WHERE path > ? "
            "AND NOT EXISTS (SELECT 1 FROM temp.work o WHERE o.link = w.link AND o.path < w.path) "
            "ORDER BY path LIMIT ?",
            (last, CHUNK),
        ).fetchall():
            last = rows[-1][0]
            yield from map(_work, rows)

    def other_names(self, work: Work) -> list[Work]:
        """The other names of a file that the list gave under its first one."""
        if work.link is None:
            return []
        rows = self._conn.execute(
            f"SELECT {_COLUMNS} FROM temp.work WHERE link = ? AND path > ? ORDER BY path", (work.link, work.path)
        )
        return [_work(row) for row in rows]


def _work(row: tuple[Any, ...]) -> Work:
    work = Work(*row)
    return work._replace(pending=bool(work.pending), touched=bool(work.touched), elsewhere=bool(work.elsewhere))


_TABLE = """
DROP TABLE IF EXISTS temp.work;
CREATE TEMP TABLE work (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, content_id INTEGER, state TEXT, pending INTEGER,
    touched INTEGER, elsewhere INTEGER, ctime_ns INTEGER, sidecars TEXT, link TEXT
) WITHOUT ROWID;
CREATE INDEX temp.work_link ON work (link, path) WHERE link IS NOT NULL
"""
