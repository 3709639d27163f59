"""Files by which people and other programs mark what is not to be shown: .nomedia, .immichignore …"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import NamedTuple

from clipsearch.errors import UsageError, reason
from clipsearch.files import head
from clipsearch.indexing.patterns import Patterns, compiled

CLOSING = (b".nomedia", b".noimage")
"""A file of such a name leaves out its folder and everything below, whatever it contains."""

LISTING = (b".immichignore", b".ppignore")
"""Files of such a name contain patterns of gitignore, for their folder and everything below."""

NAMES = frozenset((*CLOSING, *LISTING))

MAX_BYTES = 64 * 1024
MAX_PATTERNS = 1000
"""Each is compared with every path below, so a larger file would keep a scan busy for hours."""

Notify = Callable[[bytes, str], object]
"""Receives the path of an ignore file, and what is wrong with it."""


class IgnoreFile(NamedTuple):
    """The patterns of one folder, whose path has `length` bytes with the slash behind it."""

    length: int
    patterns: Patterns


IgnoreFiles = tuple[IgnoreFile, ...]
"""Those that apply in a folder, its own first: as in git, the innermost that matches decides."""


def ignores(files: IgnoreFiles, path: bytes, *, is_folder: bool) -> bool:
    """Whether they leave out a file or folder whose parents they do not."""
    for file in files:
        decided = file.patterns.excludes(os.fsdecode(path[file.length :]) + "/" * is_folder)
        if decided is not None:
            return decided
    return False


def closes(names: Collection[bytes]) -> bool:
    """Whether a folder that contains these names is left out."""
    return any(name in names for name in CLOSING)


def inside(outer: IgnoreFiles, folder: bytes, names: Collection[bytes], notify: Notify) -> IgnoreFiles:
    """What applies in a folder that contains these names; `outer` applies to the folder itself."""
    lines = [line for name in LISTING if name in names for line in _usable_lines(os.path.join(folder, name), notify)]
    if not lines:
        return outer
    return IgnoreFile(len(os.path.join(folder, b"")), compiled(tuple(lines), "gitignore")), *outer


def _usable_lines(path: bytes, notify: Notify) -> list[str]:
    """The patterns in a file. One that cannot be used costs itself; a file that cannot be read, or is huge, all."""
    try:
        text = head(path, MAX_BYTES).decode("utf-8", "surrogateescape")
    except OSError as exc:
        notify(path, f"the ignore file cannot be read ({reason(exc)}); its folder is indexed as if it were not there")
        return []
    lines = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    if len(text) >= MAX_BYTES or len(lines) > MAX_PATTERNS:
        limits = f"more than {MAX_PATTERNS:,} patterns or {MAX_BYTES // 1024} KiB"
        notify(path, f"the ignore file has {limits}; its folder is indexed as if it were not there")
        return []
    usable = {line: _is_usable(line) for line in lines}
    if broken := next((line for line, is_usable in usable.items() if not is_usable), None):
        notify(path, f"the ignore file contains a line that is not a pattern and is not applied: {broken[:80]}")
    return [line for line in lines if usable[line]]


def _is_usable(line: str) -> bool:
    try:
        compiled((line,), "gitignore")
    except UsageError:
        return False
    return True
