"""Paths as the catalog keeps them: bytes, absolute, compared in the byte order of the whole path."""

from __future__ import annotations

import os
from collections.abc import Iterator

from clipsearch.errors import UsageError

PathLike = str | bytes | os.PathLike[str]


def absolute(path: PathLike) -> bytes:
    """A path as the catalog keeps it: absolute, without `..`, symbolic links left as they are.

    Raises UsageError for an empty one, which would mean the working folder: most likely a variable is not set.
    """
    if not os.fspath(path):
        raise UsageError("a path is empty; write . for the folder that you are in")
    return os.path.abspath(os.path.expanduser(os.fsencode(path)))


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
