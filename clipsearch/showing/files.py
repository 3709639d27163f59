"""Writes a page or a plot whole or not at all, and never over anything but an earlier one of its kind."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from clipsearch.errors import ClipsearchError, UsageError, reason

__all__ = ["check_place", "refuse_others", "replacing", "write_bytes"]

_HEAD = 4096
"""Bytes from a file's start that say what it is."""


@contextlib.contextmanager
def replacing(file: str | Path, *, head: str, what: str) -> Iterator[TextIO]:
    """A text stream whose content takes the place of `file` once it is complete; a link to it stays one.

    Only a file that begins with `head` is replaced. Raises UsageError where another is in the way, ClipsearchError
    where writing fails; both call it a `what`.
    """
    with _replacing(file, lambda found: found.startswith(head.encode()), what) as binary:
        stream = io.TextIOWrapper(binary, encoding="utf-8")
        try:
            yield stream
            stream.flush()
        finally:
            stream.detach()


def write_bytes(file: str | Path, data: bytes, *, mark: bytes, what: str) -> None:
    """Put `data` in the place of `file`, as `replacing` does; one that holds `mark` near its start is replaced."""
    with _replacing(file, lambda found: mark in found, what) as stream:
        stream.write(data)


@contextlib.contextmanager
def _replacing(file: str | Path, is_own: Callable[[bytes], bool], what: str) -> Iterator[BinaryIO]:
    path = os.path.realpath(file)
    try:
        if refuse_others(path, is_own, what=what):
            with open(path, "wb") as stream:
                yield stream
            return
        with _moved_to(path) as stream:
            yield stream
    except OSError as exc:
        raise ClipsearchError(f"cannot write the {what} {path}: {reason(exc)}") from exc


@contextlib.contextmanager
def _moved_to(path: str) -> Iterator[BinaryIO]:
    folder, name = os.path.split(path)
    # The process's number keeps two runs apart; the part behind it, what a killed run with that number left.
    part = os.path.join(folder, f".{name[:100]}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        with open(part, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise


def refuse_others(path: str, is_own: Callable[[bytes], bool], *, what: str) -> bool:
    """Whether `path` is no regular file (a pipe, say). A mistyped name must not cost a photograph.

    `is_own` is told the first bytes of a file that is there. Raises UsageError for a folder and for another's file.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a folder; name a file for the {what}")
    if not stat.S_ISREG(found.st_mode):
        return True
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
    if head and not is_own(head):
        raise UsageError(f"{path} exists and is no {what} of clipsearch; choose another name")
    return False


def check_place(file: str | Path, is_own: Callable[[bytes], bool], *, what: str) -> None:
    """Refuse a `what` that could not be put there, before there is one: minutes of work must not be lost for a name.

    Raises UsageError where another file is in the way, ClipsearchError where the folder is none that can be written.
    """
    path = os.path.realpath(file)
    try:
        if refuse_others(path, is_own, what=what):
            return
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            raise ClipsearchError(f"cannot write the {what} {path}: there is no folder {folder}; make it first")
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise ClipsearchError(f"cannot write the {what} {path}: the folder {folder} may not be written to")
    except OSError as exc:
        raise ClipsearchError(f"cannot write the {what} {path}: {reason(exc)}") from exc
