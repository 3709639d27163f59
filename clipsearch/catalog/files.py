"""The files that a catalog knows, by path; `clipsearch.files` is about those on a disk."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar, get_args

from clipsearch.files import below, mtime_of, span
from clipsearch.types import MAX_INTEGER, Candidate, ContentState, FileState

if TYPE_CHECKING:
    from clipsearch.catalog.path_facts import PathFacts

LIVE = "('present', 'offline', 'unreadable')"
"""File states that make a content a hit, as SQL. Missing files are no hits."""

ORDER = "state != 'present', path"
"""The order of a content's files, as SQL: the first one stands for it."""

Value = TypeVar("Value", int, bytes)


class FileRow(NamedTuple):
    path: bytes
    content_id: int | None
    state: FileState


class OfStem(NamedTuple):
    """A live file among those of one stem: its content, with the format and, unless it is in UTC, the exposure."""

    path: bytes
    content_id: int
    format: str | None
    taken_at: str | None


def state_now(path: bytes, state: FileState) -> FileState:
    """The state of a file that was in `state` when the catalog saw it last: it may have gone, or be back.

    A missing one stays missing until a run finds it.
    """
    if state == "missing":
        return state
    try:
        about = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "offline"
    except OSError as exc:
        return "unreadable" if exc.errno in (errno.EACCES, errno.EPERM) else "offline"
    if not stat.S_ISREG(about.st_mode) or not about.st_size:  # An empty file stands for one in the cloud.
        return "offline"
    is_readable = os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
    return "present" if is_readable else "unreadable"


class Files:
    """The files of one catalog, through its connection. What changes them belongs into a transaction."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    def put(
        self,
        path: bytes,
        *,
        content_id: int | None,
        size: int,
        mtime_ns: int,
        ctime_ns: int | None = None,
        state: FileState = "present",
        reason: str | None = None,
    ) -> None:
        self._conn.execute(
            """INSERT INTO files (path, content_id, size, mtime_ns, ctime_ns, state, reason)
            VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (path) DO UPDATE SET content_id = excluded.content_id, size = excluded.size,
                mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, state = excluded.state,
                reason = excluded.reason""",
            (path, content_id, size, mtime_ns, ctime_ns, state, reason),
        )

    def put_facts(self, path: bytes, sidecars: str, facts: PathFacts) -> None:
        """Replace the facts that belong to the path of a known file. sidecars: see `Candidate`."""
        columns = ", ".join(f"{name} = ?" for name in facts._fields)
        self._conn.execute(f"UPDATE files SET sidecars = ?, {columns} WHERE path = ?", (sidecars, *facts, path))

    # Looking files up

    def at(self, path: bytes) -> FileRow | None:
        row = self._conn.execute("SELECT path, content_id, state FROM files WHERE path = ?", (path,)).fetchone()
        return None if row is None else FileRow(*row)

    def below(self, path: bytes, states: Sequence[FileState] = get_args(FileState)) -> list[FileRow]:
        """The file at a path, or the files below it, in one of these states; by path."""
        rows = self._conn.execute(
            "SELECT path, content_id, state FROM files WHERE (path = ? OR (path >= ? AND path < ?)) "
            f"AND state IN ({','.join('?' * len(states))}) ORDER BY path",
            (path, *span(path), *states),
        )
        return [FileRow(*row) for row in rows]

    def of_content(self, content_id: int) -> list[FileRow]:
        rows = self._conn.execute(
            "SELECT path, content_id, state FROM files WHERE content_id = ? ORDER BY path", (content_id,)
        )
        return [FileRow(*row) for row in rows]

    def live_paths(self, content_id: int) -> list[bytes]:
        query = f"SELECT path FROM files WHERE content_id = ? AND state IN {LIVE} ORDER BY path"
        return [path for (path,) in self._conn.execute(query, (content_id,))]

    def mtimes(self, content_id: int) -> dict[bytes, int]:
        """The modification times of the live files of a content by path, in ORDER (`files.mtime_of`)."""
        query = f"SELECT path, mtime_ns FROM files WHERE content_id = ? AND state IN {LIVE} ORDER BY {ORDER}"
        return dict(self._conn.execute(query, (content_id,)).fetchall())

    def of_stem(self, folder: bytes, stem: bytes) -> list[OfStem]:
        """The live images in a folder whose names are `stem` and a suffix; those of one colour not among them."""
        start = below(folder) + stem
        rows = self._conn.execute(
            "SELECT f.path, c.id, c.format, iif(c.taken_source IN ('gps', 'modified'), NULL, c.taken_at) "
            "FROM files f JOIN contents c ON c.id = f.content_id WHERE f.path > ? AND f.path < ? "
            "AND instr(substr(f.path, ?), x'2e') = 0 AND instr(substr(f.path, ?), x'2f') = 0 "  # no other . or /
            f"AND f.state IN {LIVE} AND c.state IN ('ok', 'partial') AND c.reason IS NOT 'blank'",
            (start + b".", start + b"/", len(start) + 2, len(start) + 2),
        )
        return [OfStem(*row) for row in rows]

    def in_state(self, state: FileState) -> list[tuple[bytes, str | None]]:
        """(path, reason) of files, by path."""
        return self._conn.execute("SELECT path, reason FROM files WHERE state = ? ORDER BY path", (state,)).fetchall()

    def with_content_in_state(self, state: ContentState) -> list[tuple[bytes, str | None]]:
        """(path, reason of the content) of live files whose content is in a state, by path."""
        return self._conn.execute(
            f"SELECT f.path, c.reason FROM files f JOIN contents c ON c.id = f.content_id "
            f"WHERE c.state = ? AND f.state IN {LIVE} ORDER BY f.path",
            (state,),
        ).fetchall()

    def of_contents_from(self, digits: str, *, most: int = 20) -> dict[int, bytes]:
        """The first path of live contents whose ids begin with the decimal `digits`; the shortest ids come first."""
        first, last = (int(digits), int(digits)) if digits else (1, MAX_INTEGER)
        found: dict[int, bytes] = {}
        while last <= MAX_INTEGER and len(found) < most:
            found |= self._conn.execute(
                "SELECT content_id, min(path) FROM files "
                f"WHERE content_id BETWEEN ? AND ? AND state IN {LIVE} GROUP BY content_id LIMIT ?",
                (first, last, most - len(found)),
            ).fetchall()
            first, last = 10 * first, 10 * last + 9
        return found

    def one_per_image(self) -> list[bytes]:
        """The first path of each image that can be read now, ascending."""
        rows = self._conn.execute(
            "SELECT min(f.path) FROM files f JOIN contents c ON c.id = f.content_id "
            "WHERE f.state = 'present' AND c.state IN ('ok', 'partial') GROUP BY c.id ORDER BY 1"
        )
        return [path for (path,) in rows]

    def unchanged(self, candidates: Sequence[Candidate]) -> dict[bytes, int]:
        """The contents of those files that have the size and time under which the catalog saw them last, by path."""
        found: dict[bytes, int] = {}
        now = {candidate.path: (candidate.size, candidate.mtime_ns) for candidate in candidates}
        for part, marks in batches(list(now)):
            for path, size, mtime_ns, content_id in self._conn.execute(
                f"SELECT path, size, mtime_ns, content_id FROM files WHERE path IN ({marks})", part
            ):
                if content_id is not None and now[path] == (size, mtime_ns):
                    found[path] = content_id
        return found

    def unchanged_content(self, path: bytes) -> int | None:
        """The content of a file on the disk that is as the catalog saw it last: opening it would tell nothing new."""
        try:
            about = os.stat(path)
        except (OSError, ValueError):  # A name with a zero byte in it is a ValueError.
            return None
        return self.unchanged([Candidate(path, about.st_size, mtime_of(about))]).get(path)

    # Changing what is known of them

    def move(self, path: bytes, target: bytes, state: FileState) -> bool:
        """Record a file under another path; where `target` has a row, that row stays, and False is returned."""
        if self.at(target) is not None:
            self._conn.execute("DELETE FROM files WHERE path = ?", (path,))
            return False
        # A copy has another change time than its original.
        self._conn.execute(
            "UPDATE files SET path = ?, state = ?, ctime_ns = NULL WHERE path = ?", (target, state, path)
        )
        return True

    def restore(self, path: bytes) -> None:
        """Record that a file is back, as it was."""
        self._conn.execute("UPDATE files SET state = 'present', reason = NULL WHERE path = ?", (path,))

    def remove_below(self, path: bytes) -> int:
        """Remove the file at a path, or the files below it; how many."""
        return self._conn.execute(
            "DELETE FROM files WHERE path = ? OR (path >= ? AND path < ?)", (path, *span(path))
        ).rowcount

    def remove_missing(self) -> int:
        return self._conn.execute("DELETE FROM files WHERE state = 'missing'").rowcount


def batches(values: Sequence[Value], size: int = 500) -> Iterator[tuple[list[Value], str]]:
    """`values` in lists that fit into one SQL statement, each with its question marks."""
    for start in range(0, len(values), size):
        part = list(values[start : start + size])
        yield part, ",".join("?" * len(part))
