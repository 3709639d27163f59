"""Connections to a catalog's file: for its writer, for readers, and for readers who may not write beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.errors import ClipsearchError, DamagedError, UsageError

if TYPE_CHECKING:
    from clipsearch.images.tiles import Tiles

ATTEMPTS = 5

SEE_DOCTOR = "`clipsearch doctor` shows more"

Stats = tuple[tuple[int, int, int] | None, ...]
"""(size, mtime_ns, inode) of a catalog and of its WAL, None for one that does not exist."""


@contextmanager
def damage_translated(folder: Path) -> Iterator[None]:
    """Turn what SQLite finds wrong while a library in `folder` is used into our errors.

    Raises DamagedError for a malformed catalog, ClipsearchError where the disk or the system is in the way.
    """
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise ClipsearchError(f"the catalog in {folder} cannot be used now: {exc}") from exc
    except sqlite3.DatabaseError as exc:
        if type(exc) is not sqlite3.DatabaseError:
            raise
        raise DamagedError(f"the catalog in {folder} is damaged ({exc})", advice=SEE_DOCTOR) from exc


def connect(path: Path, *, writable: bool, immutable: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any thread. `immutable` promises that nothing changes the file."""
    query = "mode=rwc" if writable else "mode=ro"
    uri = f"file:{_quoted(path)}?{query}{'&immutable=1' if immutable else ''}"
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False)
    if not writable:
        # SQLite before 3.51.3 may damage a WAL that two connections checkpoint at once: only the writer does.
        conn.execute("PRAGMA wal_autocheckpoint = 0")
    conn.create_function("view_count", 3, _view_count, deterministic=True)  # for the conditions of `pending`
    return conn


def _view_count(width: int | None, height: int | None, mode: Tiles) -> int:
    from clipsearch.images.tiles import count_views  # Only a library with tiles pays for it.

    return count_views(width, height, mode)


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path.absolute()))


def stats(path: Path) -> Stats:
    """What a catalog and its WAL are like now; other `Stats` later mean that it has changed."""
    found: list[tuple[int, int, int] | None] = []
    for each in (path, _wal(path)):
        try:
            about = each.stat()
            found.append((about.st_size, about.st_mtime_ns, about.st_ino))
        except FileNotFoundError:
            found.append(None)
    return tuple(found)


def inode(path: Path | None) -> int | None:
    """The inode of a file, which another one in its place does not have; None where there is none."""
    try:
        return path.stat().st_ino if path else None
    except OSError:
        return None


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def connect_unwritable(path: Path) -> tuple[sqlite3.Connection, Path | None, Stats]:
    """A connection to a catalog in a folder where SQLite cannot make its shared-memory file, and what it was read as.

    Without a WAL the catalog is read as it lies. With one that holds something, both are copied and read there.
    """
    before = stats(path)
    if not before[1] or before[1][0] == 0:
        return connect(path, writable=False, immutable=True), None, before
    scratch = Path(tempfile.mkdtemp(prefix="clipsearch-"))
    try:
        for _ in range(ATTEMPTS):
            for source in (path, _wal(path)):
                shutil.copyfile(source, scratch / source.name)
            after = stats(path)
            if after == before:
                return connect(scratch / path.name, writable=False), scratch, before
            before = after  # A writer was at work: what was copied may not belong together.
        raise UsageError(f"{path} changes too often to be copied, and its folder cannot be written", advice="try again")
    except BaseException as exc:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(exc, OSError):
            raise UsageError(f"{path} cannot be copied to be read: {exc.strerror or exc}") from exc
        raise
