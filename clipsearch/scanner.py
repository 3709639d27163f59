"""Walks folders for pictures with `os.scandir`, in the byte order of their full paths, with constant memory.

The order is what lets `reconcile` compare a walk with the catalog in one merge of two sorted streams.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from clipsearch.errors import UsageError
from clipsearch.types import Candidate, Problem


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What a root's walk leaves out and goes into; stored with the root.

    `exclude` holds globs: one without a slash is matched against every file and folder name, one with a slash
    against the path below the root. `*` also matches slashes. `hidden` takes names that begin with a dot in, and
    `follow_symlinks` links to files and folders.
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    follow_symlinks: bool = False


class Rules:
    """`ScanOptions`, compiled for one root: whether its walk reaches a path."""

    def __init__(self, root: bytes, options: ScanOptions) -> None:
        self.root = root
        self.options = options
        names = [g for g in options.exclude if "/" not in g.rstrip("/")]
        paths = [g for g in options.exclude if "/" in g.rstrip("/")]
        self._name = _compile(names)
        self._path = _compile([g.lstrip("/") for g in paths])

    def allows(self, path: bytes, name: bytes) -> bool:
        """Whether the entry `name` at `path` passes, its parents taken for granted."""
        if not self.options.hidden and name.startswith(b"."):
            return False
        if self._name is not None and self._name.match(os.fsdecode(name)):
            return False
        return not (self._path is not None and self._path.match(os.fsdecode(path[len(self.root) :].lstrip(b"/"))))

    def reaches(self, path: bytes) -> bool:
        """Whether the walk from the root would come to `path`; looks at the disk for symbolic links only."""
        if path == self.root:
            return True
        prefix = below(self.root)
        if not path.startswith(prefix):
            return False
        at = prefix.rstrip(b"/")
        for name in path[len(prefix) :].split(b"/"):
            at = at + b"/" + name
            if not self.allows(at, name):
                return False
            if not self.options.follow_symlinks and os.path.islink(at):
                return False
        return True


def below(folder: bytes) -> bytes:
    """The prefix of every path inside `folder`."""
    return folder if folder.endswith(b"/") else folder + b"/"


def is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(below(folder))


def _compile(globs: list[str]) -> re.Pattern[str] | None:
    if not globs:
        return None
    try:
        return re.compile("|".join(fnmatch.translate(g.rstrip("/")) for g in globs))
    except re.error as exc:
        raise UsageError(f"--exclude {' '.join(globs)}: not a glob that can be used: {exc}") from exc


@dataclass(slots=True)
class Walk:
    """One walk over a root or a folder in it, and what it met on its way.

    `unreadable` are folders that could not be listed, `empty` folders without any entry, `mounts` folders on another
    device than their parent. `complete` is true once the iterator has been used up.
    """

    start: bytes
    rules: Rules
    suffixes: Collection[str]
    skip: frozenset[bytes] = frozenset()
    """Folders that are not entered: other roots inside this one, the library itself."""
    unreadable: dict[bytes, str] = field(default_factory=dict)
    empty: set[bytes] = field(default_factory=set)
    mounts: set[bytes] = field(default_factory=set)
    folders: int = 0
    complete: bool = False
    _visited: set[tuple[int, int]] = field(default_factory=set)

    def __iter__(self) -> Iterator[Candidate]:
        device = os.stat(self.start).st_dev
        suffixes = {os.fsencode(s) for s in self.suffixes}
        stack: list[tuple[Iterator[tuple[bytes, os.DirEntry[bytes]]], int]] = [
            (iter(self._listing(self.start)), device)
        ]
        while stack:
            entries, device = stack[-1]
            item = next(entries, None)
            if item is None:
                stack.pop()
                continue
            _, entry = item
            try:
                if entry.is_dir(follow_symlinks=self.rules.options.follow_symlinks):
                    own = self._enter(entry, device)
                    if own is not None:
                        stack.append((iter(self._listing(entry.path)), own))
                elif os.path.splitext(entry.name)[1].lower() in suffixes:
                    candidate = self._candidate(entry)
                    if candidate is not None:
                        yield candidate
            except OSError as exc:
                self.unreadable[entry.path] = exc.strerror or str(exc)
        self.complete = True

    def problems(self) -> list[Problem]:
        return [
            Problem(os.fsdecode(path), f"the folder cannot be read: {reason}")
            for path, reason in sorted(self.unreadable.items())
        ]

    def _listing(self, folder: bytes) -> list[tuple[bytes, os.DirEntry[bytes]]]:
        """The entries of a folder that the rules allow, in the byte order of the paths below them."""
        self.folders += 1
        entries = []
        seen_any = False
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    seen_any = True
                    if self.rules.allows(entry.path, entry.name):
                        entries.append((_sort_key(entry), entry))
        except OSError as exc:
            self.unreadable[folder] = exc.strerror or str(exc)
            return []
        if not seen_any:
            self.empty.add(folder)
        entries.sort(key=lambda pair: pair[0])
        return entries

    def _enter(self, entry: os.DirEntry[bytes], parent_device: int) -> int | None:
        """The device of a folder that is to be walked, None for one that is not."""
        if entry.path in self.skip:
            return None
        about = entry.stat(follow_symlinks=self.rules.options.follow_symlinks)
        if self.rules.options.follow_symlinks:
            if entry.is_symlink() and self._reached_anyway(entry.path):
                return None
            identity = (about.st_dev, about.st_ino)
            if identity in self._visited:
                return None
            self._visited.add(identity)
        if about.st_dev != parent_device:
            self.mounts.add(entry.path)
        return about.st_dev

    def _reached_anyway(self, link: bytes) -> bool:
        """Whether a link leads to a folder that this walk comes to by its real path, itself included (a loop)."""
        target = os.path.realpath(link)
        start = os.path.realpath(self.start)
        if is_within(start, target):
            return True
        if not is_within(target, start):
            return False
        return self.rules.reaches(self.start + target[len(start) :])

    def _candidate(self, entry: os.DirEntry[bytes]) -> Candidate | None:
        if entry.is_symlink() and not self.rules.options.follow_symlinks:
            return None
        about = entry.stat()
        if not stat.S_ISREG(about.st_mode):
            return None
        return Candidate(entry.path, about.st_size, about.st_mtime_ns)


def pictures_in(paths: Iterable[bytes], *, suffixes: Collection[str]) -> Iterator[bytes]:
    """Files as they are named, and the pictures in folders, each folder in the byte order of its paths.

    Raises UsageError for a path that does not exist.
    """
    for path in paths:
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as exc:
            raise UsageError(f"{os.fsdecode(path)}: {(exc.strerror or str(exc)).lower()}") from exc
        if is_folder:
            yield from (c.path for c in Walk(path, Rules(path, ScanOptions()), suffixes))
        else:
            yield path


def _sort_key(entry: os.DirEntry[bytes]) -> bytes:
    # A folder sorts as its children do, with a slash behind its name: "a.jpg" comes before "a/x".
    try:
        return entry.name + b"/" if entry.is_dir() else entry.name
    except OSError:
        return entry.name
