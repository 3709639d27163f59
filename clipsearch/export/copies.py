"""Puts the pictures of an answer into a folder, as copies or as links. Nothing that is there is ever overwritten."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clipsearch.display.thumbnails import open_hit
from clipsearch.errors import ClipsearchError, ImageError, UsageError, reason
from clipsearch.types import Hit, Problem

__all__ = ["HandOut", "Handed", "hand_out"]

_NAME_BYTES = 255
"""Bytes of a file's name on every common file system."""

_SUFFIX_BYTES = 16
"""What follows a dot is a word of the name if it is longer."""

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Handed:
    """A picture in the folder. `existed`: the same picture was there already, and was left alone."""

    source: str
    target: str
    existed: bool = False


@dataclass(frozen=True, slots=True)
class HandOut:
    """What came of it: the hits in their order, but for those whose file could not be read."""

    folder: str
    handed: tuple[Handed, ...]
    failed: tuple[Problem, ...]


def hand_out(hits: Iterable[Hit], folder: str | Path, *, link: bool = False) -> HandOut:
    """Copy the hits' files into `folder`, which is made if missing; with `link`, link to them instead.

    Files keep their names, times and permissions. A name that is taken gets a number (`dog.jpg`, `dog-2.jpg`), unless
    what has it is this very picture. Links are symbolic and absolute. A hit that has no readable file is reported.
    Raises UsageError where the folder cannot be made, ClipsearchError where it cannot be written to; what was complete
    by then stays.
    """
    target = os.path.abspath(folder)
    try:
        os.makedirs(target, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"cannot make the folder {target}: {reason(exc)}") from exc
    handed: list[Handed] = []
    failed: list[Problem] = []
    for hit in hits:
        try:
            path, file = open_hit(hit)
        except ImageError as exc:
            failed.append(Problem(hit.path, str(exc)))
            continue
        with file:
            try:
                handed.append(_link(path, target) if link else _copy(path, file, target))
            except _SourceError as exc:
                failed.append(Problem(path, str(exc)))
            except OSError as exc:
                raise ClipsearchError(_stopped(exc, target, len(handed), link=link)) from exc
    return HandOut(target, tuple(handed), tuple(failed))


class _SourceError(Exception):
    """The picture's own file failed while it was read; the folder is not to blame."""


def _stopped(exc: OSError, folder: str, done: int, *, link: bool) -> str:
    why = reason(exc)
    if link and exc.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
        why = "its file system takes no links; --copy-to copies instead"
    return f"cannot write to {folder}: {why} ({done:,} {'picture' if done == 1 else 'pictures'} done)"


def _copy(source: str, file: BinaryIO, folder: str) -> Handed:
    before = os.fstat(file.fileno())
    for name in _names(source):
        target = os.path.join(folder, name)
        try:
            # Nobody else may read it before it has the permissions of its source.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            if target == source or _is_copy(target, file, before):
                return Handed(source, target, existed=True)
            continue
        try:
            with os.fdopen(descriptor, "wb") as copy:
                _pour(file, copy)
            _keep_facts(source, before, target)
        except BaseException:
            # Half a picture is worse than none, on Ctrl-C too.
            os.unlink(target)
            raise
        return Handed(source, target)
    raise AssertionError("names do not end")


def _pour(file: BinaryIO, copy: BinaryIO) -> None:
    file.seek(0)
    while piece := _read(file):
        copy.write(piece)


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(_PIECE)
    except OSError as exc:
        raise _SourceError(reason(exc)) from exc


def _keep_facts(source: str, before: os.stat_result, target: str) -> None:
    # A drive for cameras (FAT) refuses modes, and extended attributes; the times are what matters.
    with contextlib.suppress(OSError):
        shutil.copystat(source, target)
    with contextlib.suppress(OSError):
        os.chmod(target, stat.S_IMODE(before.st_mode) & 0o777)
    with contextlib.suppress(OSError):
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))


def _is_copy(target: str, file: BinaryIO, before: os.stat_result) -> bool:
    """Whether `target` is this picture: the very file, or one of the same bytes. A link to it is no copy."""
    try:
        with open(os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as other:
            there = os.fstat(other.fileno())
            if os.path.samestat(there, before):
                return True
            if not stat.S_ISREG(there.st_mode) or there.st_size != before.st_size:
                return False
            file.seek(0)
            while piece := _read(file):
                if other.read(len(piece)) != piece:
                    return False
            return True
    except OSError:
        return False


def _link(source: str, folder: str) -> Handed:
    for name in _names(source):
        target = os.path.join(folder, name)
        try:
            os.symlink(source, target)
        except FileExistsError:
            if _is_link_to(target, source):
                return Handed(source, target, existed=True)
            continue
        return Handed(source, target)
    raise AssertionError("names do not end")


def _is_link_to(target: str, source: str) -> bool:
    """Whether `target` leads to the file already, or is that file."""
    with contextlib.suppress(OSError):
        return os.path.samefile(target, source)
    return False


def _names(source: str) -> Iterator[str]:
    """`dog.jpg`, `dog-2.jpg`, `dog-3.jpg` …; never longer than a file system takes."""
    name = os.path.basename(source)
    yield name
    stem, suffix = (os.fsencode(part) for part in os.path.splitext(name))
    if len(suffix) > _SUFFIX_BYTES:
        stem, suffix = stem + suffix, b""
    for number in itertools.count(2):
        mark = b"-%d" % number
        room = _NAME_BYTES - len(mark) - len(suffix)
        yield os.fsdecode(_cut(stem, room) + mark + suffix)


def _cut(stem: bytes, room: int) -> bytes:
    """The first `room` bytes, no character of UTF-8 cut in half."""
    if len(stem) <= room:
        return stem
    while room > 0 and stem[room] & 0xC0 == 0x80:
        room -= 1
    return stem[:room]
