"""Where file systems are mounted, and what they keep about a file that can be relied on: its change time, its links."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from clipsearch.files import is_within

_KEEP = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "nilfs2", "reiserfs", "bcachefs", "ufs"),
    *("tmpfs", "overlay"),
}
"""Types of local file systems that keep change times as POSIX wants them. Those of network file systems are made up by
servers or clients; FAT has none, and a driver's own are lost with each unmount."""

_MOUNTS = "/proc/self/mountinfo"


class Kept(NamedTuple):
    """ctime_ns: when a file or its name, mode or links last changed. link: what all names of one file have in common,
    if it has several."""

    ctime_ns: int | None = None
    link: str | None = None


class FileSystems:
    """The file systems that one run meets, each looked up once.

    with_change_times: the devices of those that keep change times, as far as they have been met.
    """

    def __init__(self) -> None:
        self.with_change_times: set[int] = set()
        self._without: set[int] = set()

    @functools.cached_property
    def _mounts(self) -> frozenset[bytes]:
        return frozenset(place for place, _ in _mounted())

    def is_mount(self, folder: bytes, device: int, parent_device: int) -> bool:
        """Whether something is mounted on a folder; `device` tells nothing of a part of the same file system."""
        return device != parent_device or folder in self._mounts

    def kept(self, about: os.stat_result, path: bytes) -> Kept:
        """What can be relied on of a file that has the status `about`."""
        device = about.st_dev
        if device not in self.with_change_times and device not in self._without:
            (self.with_change_times if _type_at(path) in _KEEP else self._without).add(device)
        if device in self._without:
            return Kept()
        return Kept(about.st_ctime_ns, f"{device}:{about.st_ino}" if about.st_nlink > 1 else None)


def _type_at(path: bytes) -> str:
    """The type of the file system that holds a path, such as "ext4"; empty where the system does not tell."""
    real = os.path.realpath(path)
    best, found = b"", ""
    for place, kind in _mounted():
        # Of two on one place, the later one hides the other.
        if len(place) >= len(best) and is_within(real, place):
            best, found = place, kind
    return found


def _mounted() -> Iterator[tuple[bytes, str]]:
    """Where each file system is mounted, and its type; nothing where the system does not tell."""
    with contextlib.suppress(OSError, LookupError, ValueError), open(_MOUNTS, "rb") as lines:
        for line in lines:
            fields, _, about = line.partition(b" - ")
            place = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), fields.split(b" ")[4])
            yield place, about.split(b" ")[0].decode()
