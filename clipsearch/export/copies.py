"""Puts the images of a result into a folder, as copies or links. Existing files are never overwritten."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from clipsearch.display.thumbnails import WithPaths, open_first
from clipsearch.errors import ClipsearchError, ImageError, UsageError, reason
from clipsearch.indexing.results import Problem

_NAME_BYTES = 255
"""Maximum bytes of a file name on all common file systems."""

_SUFFIX_BYTES = 16
"""A longer suffix is treated as part of the name."""

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class ExportedCopy:
    """An image in the folder. `existed`: the same image was already there and was not touched."""

    source: str
    target: str
    existed: bool = False


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The exported images in their order, and those whose file could not be read."""

    folder: str
    handed: tuple[ExportedCopy, ...]
    failed: tuple[Problem, ...]


def export_copies(images: Iterable[WithPaths], folder: str | Path, *, link: bool = False) -> ExportResult:
    """Copy the files of hits or classifications into `folder`, created if missing; with `link`, link to them instead.

    Files keep their names, times and permissions. If a name is taken by another file, a number is added (`dog.jpg`,
    `dog-2.jpg`). Links are symbolic and absolute. An image without a readable file is reported as failed.
    Raises UsageError if the folder cannot be created, ClipsearchError if it cannot be written to; files that are
    complete by then stay.
    """
    target = os.path.abspath(folder)
    try:
        os.makedirs(target, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"cannot create the folder {target}: {reason(exc)}") from exc
    handed: list[ExportedCopy] = []
    failed: list[Problem] = []
    for image in images:
        try:
            path, file = open_first(image)
        except ImageError as exc:
            failed.append(Problem(image.path, str(exc)))
            continue
        with file:
            try:
                handed.append(_hand(path, file, target, link=link))
            except _SourceError as exc:
                failed.append(Problem(path, str(exc)))
            except OSError as exc:
                raise ClipsearchError(_stopped(exc, target, len(handed), link=link)) from exc
    return ExportResult(target, tuple(handed), tuple(failed))


class _SourceError(Exception):
    """Reading the image failed; the folder is not to blame."""


def _stopped(exc: OSError, folder: str, done: int, *, link: bool) -> str:
    why = reason(exc)
    if link and exc.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
        why = "its file system does not support links; `copy_to` copies instead"
    return f"cannot write to {folder}: {why} ({done:,} {'picture' if done == 1 else 'pictures'} done)"


def _hand(source: str, file: BinaryIO, folder: str, *, link: bool) -> ExportedCopy:
    if link:
        return _place(source, folder, partial(os.symlink, source), partial(_leads_to, source))
    return _place(source, folder, partial(_copy, source, file), partial(_is_copy, source))


def _place(source: str, folder: str, create: Callable[[str], None], is_same: Callable[[str], bool]) -> ExportedCopy:
    """Let `create` make the target under the first free name; one that exists and `is_same` is left alone."""
    for name in _names(source):
        target = os.path.join(folder, name)
        try:
            create(target)
        except FileExistsError:
            if target == source or is_same(target):
                return ExportedCopy(source, target, existed=True)
        else:
            return ExportedCopy(source, target)
    raise AssertionError("there is always another name")


def _copy(source: str, file: BinaryIO, target: str) -> None:
    # Nobody else may read it before it has the permissions of its source.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as copy:
            while piece := _read(file):
                copy.write(piece)
        _keep_facts(source, os.fstat(file.fileno()), target)
    except BaseException:
        # Half an image is worse than none, on Ctrl-C too.
        os.unlink(target)
        raise


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(_PIECE)
    except OSError as exc:
        raise _SourceError(reason(exc)) from exc


def _keep_facts(source: str, before: os.stat_result, target: str) -> None:
    # A FAT drive refuses modes and extended attributes; the times are what matters.
    with contextlib.suppress(OSError):
        shutil.copystat(source, target)
    with contextlib.suppress(OSError):
        os.chmod(target, stat.S_IMODE(before.st_mode) & 0o777)
    with contextlib.suppress(OSError):
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))


def _is_copy(source: str, target: str) -> bool:
    """Whether `target` has the same bytes. A link is not a copy."""
    with contextlib.suppress(OSError):
        return not os.path.islink(target) and filecmp.cmp(source, target, shallow=False)
    return False


def _leads_to(source: str, target: str) -> bool:
    """Whether `target` is a link to the source, or another name of it."""
    with contextlib.suppress(OSError):
        return os.path.samefile(target, source)
    return False


def _names(source: str) -> Iterator[str]:
    """`dog.jpg`, `dog-2.jpg`, `dog-3.jpg` …; never longer than _NAME_BYTES, except the source's own name."""
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
    """The first `room` bytes, without cutting a UTF-8 character in half."""
    if len(stem) <= room:
        return stem
    while room > 0 and stem[room] & 0xC0 == 0x80:
        room -= 1
    return stem[:room]
