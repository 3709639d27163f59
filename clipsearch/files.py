"""Files and paths: paths as bytes, files that are replaced as a whole, their hash and their stamp."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from clipsearch.errors import ClipsearchError, UsageError, reason
from clipsearch.types import MAX_INTEGER

PathLike = str | bytes | os.PathLike[str]

Stamp = tuple[int, int, int]
"""Size in bytes, mtime in nanoseconds, inode: while they stay the same, a file is taken to be unchanged."""

EARLIEST, LATEST = -MAX_INTEGER, MAX_INTEGER
"""The first and last modification time that the catalog can hold, in nanoseconds since 1970: in 1677 and 2262."""

UNKNOWN_MTIME = EARLIEST - 1
"""Recorded where a file's time cannot be trusted: no file has it (`mtime_of`), so the next run reads the file again."""

TEMPORARY = ".tmp"
"""The suffix of a file that is still being written; see `replacing`."""

_HEAD = 4096
"""Bytes from the start of a file that show whether it is one of ours."""


# Paths, as the catalog keeps them: bytes, absolute, compared in the byte order of the whole path


def absolute(path: PathLike) -> bytes:
    """A path as the catalog keeps it: absolute, without `..`, symbolic links left as they are.

    Raises UsageError for a name that no file system allows, and for an empty one, which would mean the working folder:
    most likely a variable is not set.
    """
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError as exc:
        raise UsageError("a path cannot contain lone surrogates", path=str(path)) from exc
    if not name:
        raise UsageError("a path is empty; write . for the folder that you are in")
    if b"\0" in name:
        raise UsageError("a path cannot contain a zero byte", path=os.fsdecode(name))
    # As text, because `expanduser` fails on bytes with a user's name that is not ASCII.
    return _normal(os.path.abspath(os.fsencode(os.path.expanduser(os.fsdecode(name)))))


def _normal(path: bytes) -> bytes:
    path = os.path.normpath(path)
    return path[1:] if path.startswith(b"//") else path  # POSIX lets two slashes stand for something else.


def ways(path: PathLike) -> tuple[bytes, ...]:
    """`absolute`, and what the path means where a shell followed a link to the working folder. Raises UsageError."""
    place, name = absolute(path), os.fsencode(path)
    shown = os.environb.get(b"PWD", b"")
    if name.startswith((b"/", b"~")) or not shown.startswith(b"/"):
        return (place,)
    try:
        is_here = os.path.samefile(shown, b".")
    except OSError:
        return (place,)
    logical = _normal(os.path.join(shown, name))
    return (place,) if logical == place or not is_here else (place, logical)


def composed(name: bytes) -> str:
    """A name with composed letters (Unicode NFC): some systems write "é" as one character, and some as two."""
    if name.isascii():
        return name.decode()
    import unicodedata  # Few names need it.

    return unicodedata.normalize("NFC", os.fsdecode(name))


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with its `~` or `~user` replaced; unchanged if there is no such home folder, as in a shell."""
    return Path(os.path.expanduser(path))


def below(folder: bytes) -> bytes:
    """The prefix of every path inside `folder`."""
    return folder if folder.endswith(b"/") else folder + b"/"


def span(folder: bytes) -> tuple[bytes, bytes]:
    """The half-open range, in the byte order of paths, of every path inside `folder`."""
    return below(folder), below(folder)[:-1] + b"0"


def is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(below(folder))


def upwards(path: bytes) -> Iterator[bytes]:
    """A path, its folder, and so on up to the top."""
    while True:
        yield path
        folder = os.path.dirname(path)
        if folder == path:
            return
        path = folder


# What a file is


def stamp(path: Path) -> Stamp:
    """The stamp of `path`. Raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def mtime_of(status: os.stat_result) -> int:
    """A modification time as the catalog keeps it, in nanoseconds: within EARLIEST and LATEST."""
    time = status.st_mtime_ns
    if EARLIEST <= time <= LATEST:  # Of every file of a scan: min and max would take four times as long.
        return time
    return LATEST if time > 0 else EARLIEST


def sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_seen(path: bytes) -> int:
    """A descriptor to read a file that was seen before. A FIFO in its place does not block. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)


def head(path: bytes, size: int) -> bytes:
    """The first bytes of a regular file; nothing of anything else. Raises OSError."""
    descriptor = open_seen(path)
    try:
        return os.read(descriptor, size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


# Writing


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def making_folder(path: Path) -> Iterator[None]:
    """Make a folder, with its parents, for the block to fill. Raises OSError where that is not possible.

    If the block fails, the new folders that are still empty are removed.
    """
    new = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path`, on disk, when the block ends well.

    Whatever goes wrong, the file that was at `path` stays, and nothing is left behind. Raises OSError where the folder
    cannot be written.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.{os.urandom(4).hex()}{TEMPORARY}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        with contextlib.suppress(PermissionError):  # a folder may be writable, but not readable
            sync(path.parent)
    finally:
        with contextlib.suppress(OSError):  # it would hide why there is something to remove
            temporary.unlink()


@contextlib.contextmanager
def writing_own(file: str | Path, *, is_own: Callable[[bytes], bool], what: str) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of `file`, whole or not at all; a symbolic link to it stays one.

    Only a new file, or one for whose first bytes `is_own` is true, is written: a mistyped name must not cost a
    photograph. Raises UsageError where another file is in the way, ClipsearchError where writing fails; both call it a
    `what`.
    """
    path = Path(os.path.realpath(file))
    try:
        if _is_special(path, is_own, what=what):
            with path.open("wb") as stream:
                yield stream
            return
        with replacing(path) as temporary, temporary.open("wb") as stream:
            yield stream
    except OSError as exc:
        raise ClipsearchError(f"cannot write the {what} {path}: {reason(exc)}") from exc


def check_own(file: str | Path, *, is_own: Callable[[bytes], bool], what: str) -> None:
    """Refuse a place that `writing_own` could not write to, before there is anything to write.

    Minutes of work must not be lost for a name. Raises UsageError where another file is in the way, ClipsearchError
    where the folder does not exist or cannot be written.
    """
    path = Path(os.path.realpath(file))
    try:
        if _is_special(path, is_own, what=what):
            return
        folder = path.parent
        if not folder.is_dir():
            raise ClipsearchError(f"cannot write the {what} {path}: there is no folder {folder}; make it first")
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise ClipsearchError(f"cannot write the {what} {path}: the folder {folder} may not be written to")
    except OSError as exc:
        raise ClipsearchError(f"cannot write the {what} {path}: {reason(exc)}") from exc


def _is_special(path: Path, is_own: Callable[[bytes], bool], *, what: str) -> bool:
    """Whether `path` exists and is a pipe or device, say. Raises UsageError for a folder or another program's file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder; name a file for the {what}")
    if not stat.S_ISREG(mode):
        return True
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if head and not is_own(head):
        raise UsageError(f"{path} exists and is not a clipsearch {what}; choose another name")
    return False
