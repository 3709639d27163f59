"""Walks folders for images with `os.scandir`, in the byte order of their full paths, with constant memory.

The order is what lets `reconcile` compare a walk with the catalog in one merge of two sorted streams.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from clipsearch.errors import UsageError, reason
from clipsearch.files import below, is_within, mtime_of
from clipsearch.images.open import HEAD_BYTES
from clipsearch.images.sniff import image_format
from clipsearch.indexing import sidecars
from clipsearch.indexing.ignored import KINDS, SIDECAR, UNREADABLE, kind_of
from clipsearch.indexing.results import Problem
from clipsearch.types import Candidate

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Errors that say there is nothing at a path, rather than that it cannot be looked at."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What a root's walk leaves out and goes into; stored with the root.

    `exclude` holds globs: one without a slash is matched against every file and folder name, one with a slash
    against the path below the root. `*` also matches slashes. `hidden` takes names that begin with a dot in,
    `follow_symlinks` links to files and folders, and `all_files` images without an image's suffix, which are found by
    their first bytes.
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    follow_symlinks: bool = False
    all_files: bool = False


class Rules:
    """`ScanOptions`, compiled for one root: whether its walk reaches a path."""

    def __init__(self, root: bytes, options: ScanOptions) -> None:
        self.root = root
        self.options = options
        self._name = _compile([g for g in options.exclude if not has_slash(g)])
        self._path = _compile([g.lstrip("/") for g in options.exclude if has_slash(g)])
        self.excludes = bool(options.exclude)
        self._judged = (b"", False)

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
        if not path.startswith(below(self.root)):
            return False
        folder, name = os.path.split(path)
        if self._judged[0] != folder:  # Files come folder by folder.
            self._judged = (folder, self._enters(folder))
        return self._judged[1] and self._passes(path, name)

    def _enters(self, folder: bytes) -> bool:
        at = below(self.root).rstrip(b"/")
        for name in folder[len(at) + 1 :].split(b"/") if folder != self.root else ():
            at = at + b"/" + name
            if not self._passes(at, name):
                return False
        return True

    def _passes(self, path: bytes, name: bytes) -> bool:
        return self.allows(path, name) and (self.options.follow_symlinks or not os.path.islink(path))


def has_slash(pattern: str) -> bool:
    """Whether an exclusion is matched against paths below its root, not against single names."""
    return "/" in pattern.rstrip("/")


def _compile(globs: list[str]) -> re.Pattern[str] | None:
    if not globs:
        return None
    try:
        return re.compile("|".join(fnmatch.translate(g.rstrip("/")) for g in globs))
    except re.error as exc:
        raise UsageError(f"`exclude`: {' '.join(globs)} cannot be used as globs: {exc}") from exc


Listing = Iterator[tuple[bytes, os.DirEntry[bytes]]]


@dataclass(slots=True)
class Walk:
    """One walk over a root or a folder in it, and what it met on its way.

    `unreadable` are folders (or links) that could not be read, with the reason; `empty` folders without any
    entry; `mounts` folders on another device than their parent; `ignored` the number of files that the rules allow and
    that are not images, by kind; `found` the number of images, which the caller sets. `complete` is true once the
    iterator has been used up.
    """

    start: bytes
    rules: Rules
    suffixes: Collection[str]
    skip: frozenset[bytes] = frozenset()
    """Folders that are not entered, and files that are not yielded: other roots inside this one."""
    never: tuple[int, int] | None = None
    """Device and inode of a folder that is not entered under any name: the library itself."""
    stop: Callable[[], bool] = lambda: False
    """Asked before each folder; once it is true, the walk ends and stays incomplete."""
    unreadable: dict[bytes, str] = field(default_factory=dict)
    empty: set[bytes] = field(default_factory=set)
    mounts: set[bytes] = field(default_factory=set)
    ignored: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    found: int = 0
    complete: bool = False
    _visited: set[tuple[int, int]] = field(default_factory=set)
    _endings: frozenset[bytes] = frozenset()
    _examines: bool = False
    _sidecars: dict[bytes, str] = field(default_factory=dict)
    """Those of the images that were listed and not yet yielded, by path."""

    def __iter__(self) -> Iterator[Candidate]:
        """Images in the byte order of their paths. Raises OSError where `start` itself is not there."""
        about = os.stat(self.start)
        self._visited.add((about.st_dev, about.st_ino))
        self._examines = self.rules.options.all_files
        self._endings = frozenset(os.fsencode(s[1:]) for s in self.suffixes)
        stack: list[tuple[Listing, int]] = [(self._listing(self.start), about.st_dev)]
        while stack:
            entries, device = stack[-1]
            for key, entry in entries:
                if key.endswith(b"/"):
                    own = self._enter(entry, device)
                    if own is not None:
                        if self.stop():
                            return
                        stack.append((self._listing(entry.path), own))
                        break
                else:
                    candidate = self._candidate(entry)
                    if candidate is not None:
                        yield candidate
            else:
                stack.pop()
        self.complete = True

    def problems(self) -> list[Problem]:
        return [
            Problem(os.fsdecode(path), f"the folder cannot be read: {reason}")
            for path, reason in sorted(self.unreadable.items())
        ]

    def _listing(self, folder: bytes) -> Listing:
        """The folders and images in a folder that the rules allow, in the byte order of the paths below them.

        With `all_files`, also the files that may be images.
        """
        rules, follow, all_files = self.rules, self.rules.options.follow_symlinks, self.rules.options.all_files
        hidden, excludes, endings = rules.options.hidden, rules.excludes, self._endings
        entries = []
        beside = []
        seen_any = False
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    seen_any = True
                    name = entry.name
                    if name.startswith(b".") and not hidden:
                        continue
                    # A folder sorts as its children do, with a slash behind its name: "a.jpg" comes before "a/x".
                    if self._is_dir(entry, follow):
                        key = name + b"/"
                    else:
                        key = name
                        stem, _, ending = name.rpartition(b".")
                        if ending.lower() not in endings or not stem.strip(b"."):
                            if ending.lower() in sidecars.ENDINGS:
                                beside.append(entry)
                                continue
                            if not all_files:
                                self._ignore(entry)
                                continue
                    if not excludes or rules.allows(entry.path, name):
                        entries.append((key, entry))
        except OSError as exc:
            self._cannot(folder, exc)
            return iter(())
        if not seen_any:
            self.empty.add(folder)
        if beside:
            entries += self._attach(entries, beside)
        entries.sort(key=itemgetter(0))
        return iter(entries)

    def _attach(
        self, entries: Sequence[tuple[bytes, os.DirEntry[bytes]]], beside: Sequence[os.DirEntry[bytes]]
    ) -> Listing:
        """Note the sidecars of the images in a folder. What is left of `beside`, and may be an image, is returned."""
        allowed = [entry for entry in beside if self._is_file(entry)]
        images = {key: entry.path for key, entry in entries if not key.endswith(b"/")}
        found, used = sidecars.of_folder(images, allowed)
        self._sidecars |= {images[name]: stamps for name, stamps in found.items()}
        for entry in allowed:
            if entry.name in used:
                self.ignored[SIDECAR] += 1
            elif self._examines:
                yield entry.name, entry
            else:
                self.ignored[kind_of(_ending(entry.name))] += 1

    def _is_dir(self, entry: os.DirEntry[bytes], follow: bool) -> bool:
        try:
            return entry.is_dir(follow_symlinks=follow)
        except OSError as exc:  # A link that leads through a folder that may not be searched, say.
            self._cannot(entry.path, exc)
            return False

    def _enter(self, entry: os.DirEntry[bytes], parent_device: int) -> int | None:
        """The device of a folder that is to be walked, None for one that is not."""
        if entry.path in self.skip:
            return None
        follow = self.rules.options.follow_symlinks
        try:
            about = entry.stat(follow_symlinks=follow)
        except OSError as exc:
            self._cannot(entry.path, exc)
            return None
        identity = (about.st_dev, about.st_ino)
        if identity == self.never:
            return None
        if follow:
            if (entry.is_symlink() and self._reached_anyway(entry.path)) or identity in self._visited:
                return None
            self._visited.add(identity)
        if about.st_dev != parent_device:
            self.mounts.add(entry.path)
        return about.st_dev

    def _reached_anyway(self, link: bytes) -> bool:
        """Whether a link leads to a folder that the root's walk comes to by its real path, or that holds the root."""
        target = os.path.realpath(link)
        root = os.path.realpath(self.rules.root)
        if is_within(root, target):
            return True
        return is_within(target, root) and self.rules.reaches(self.rules.root + target[len(root) :])

    def _candidate(self, entry: os.DirEntry[bytes]) -> Candidate | None:
        try:
            if not entry.is_file(follow_symlinks=self.rules.options.follow_symlinks) or entry.path in self.skip:
                return None
            if self._examines and not self._is_image(entry):
                return None
            about = entry.stat()
        except OSError as exc:
            # A folder that may be listed but not searched hides all its files, not only this one.
            self._cannot(entry.path if entry.is_symlink() else os.path.dirname(entry.path), exc)
            return None
        beside = self._sidecars.pop(entry.path, "") if self._sidecars else ""
        return Candidate(entry.path, about.st_size, mtime_of(about), about.st_ctime_ns, beside)

    def _ignore(self, entry: os.DirEntry[bytes]) -> None:
        """Count what is not an image, if it is a file that the rules allow."""
        if self._is_file(entry):
            self.ignored[kind_of(_ending(entry.name))] += 1

    def _is_file(self, entry: os.DirEntry[bytes]) -> bool:
        """Whether the rules allow an entry, and it is a file."""
        rules = self.rules
        with contextlib.suppress(OSError):  # A link that `_is_dir` has reported.
            is_file = entry.is_file(follow_symlinks=rules.options.follow_symlinks) and entry.path not in self.skip
            return is_file and (not rules.excludes or rules.allows(entry.path, entry.name))
        return False

    def _is_image(self, entry: os.DirEntry[bytes]) -> bool:
        """Whether a file has an image's suffix or content. Others are counted."""
        ending = _ending(entry.name)
        if ending in self._endings:
            return True
        try:
            if begins_as_image(entry.path):
                return True
        except OSError as exc:
            if exc.errno not in GONE:
                self.ignored[UNREADABLE] += 1
            return False
        self.ignored[kind_of(ending)] += 1
        return False

    def _cannot(self, path: bytes, exc: OSError) -> None:
        if exc.errno not in GONE:  # What has just vanished is not unreadable.
            self.unreadable[path] = reason(exc)


def has_suffix(path: bytes, suffixes: Collection[str]) -> bool:
    """Whether a walk takes the file at `path` for an image without examining its content."""
    return os.fsdecode(os.path.splitext(path)[1]).lower() in suffixes


def begins_as_image(path: bytes) -> bool:
    """Whether the first bytes of a regular file are those of an image. Raises OSError where it cannot be read."""
    # A FIFO that took the file's place since the walk would block without O_NONBLOCK.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and image_format(os.read(descriptor, HEAD_BYTES)) is not None
    finally:
        os.close(descriptor)


def _ending(name: bytes) -> bytes:
    """The suffix in lower case, without its dot; empty for a name without one."""
    stem, _, ending = name.rpartition(b".")
    return ending.lower() if stem.strip(b".") else b""


def images_in(paths: Iterable[bytes], *, suffixes: Collection[str], problems: list[Problem]) -> Iterator[bytes]:
    """Files as they are named, and the images in folders, each folder in the byte order of its paths.

    Adds folders that cannot be read to `problems`. Raises UsageError for a path that does not exist.
    """
    for path in paths:
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as exc:
            raise UsageError(f"{os.fsdecode(path)}: {reason(exc)}") from exc
        if not is_folder:
            yield path
            continue
        walk = Walk(path, Rules(path, ScanOptions()), suffixes)
        yield from (c.path for c in walk)
        problems += [Problem(os.fsdecode(folder), why) for folder, why in sorted(walk.unreadable.items())]
