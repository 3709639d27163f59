"""Walks folders for images with `os.scandir`, in the byte order of their full paths, with constant memory.

The order is what lets `reconcile` compare a walk with the catalog in one merge of two sorted streams.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from clipsearch.errors import UsageError, reason
from clipsearch.files import head, is_within, mtime_of
from clipsearch.images.open import HEAD_BYTES
from clipsearch.images.sniff import image_format
from clipsearch.indexing import excludes, ignorefiles, placeholders, sidecars
from clipsearch.indexing.filesystems import FileSystems
from clipsearch.indexing.ignored import KINDS, MOVING, SIDECAR, UNREADABLE, kind_of
from clipsearch.indexing.ignorefiles import IgnoreFiles
from clipsearch.indexing.results import Problem
from clipsearch.indexing.rules import COUNTED, HIDDEN, IGNORE_FILE, LeftOut, Rules, ScanOptions
from clipsearch.types import Candidate

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Errors that say there is nothing at a path, rather than that it cannot be looked at."""


Entry = os.DirEntry[bytes]
Listing = Iterator[tuple[bytes, Entry]]


@dataclass(slots=True)
class Walk:
    """One walk over a root or a folder in it, and what it met on its way.

    `unreadable` are folders (or links) that could not be read, with the reason; `empty` folders without any
    entry; `mounts` folders on another device than their parent; `ignored` the number of files that the rules allow and
    that are not images, by kind; `left_out` that of folders (True) and images (False) that the rules leave out, by
    reason (`rules.COUNTED`), where what is in such a folder is not counted; `placeholders` are files without content,
    with what they are, and `emptied` the images that they stand for; `found` is the number of images, which the caller
    sets. `complete` is true once the iterator has been used up.
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
    file_systems: FileSystems = field(default_factory=FileSystems)
    unreadable: dict[bytes, str] = field(default_factory=dict)
    empty: set[bytes] = field(default_factory=set)
    mounts: set[bytes] = field(default_factory=set)
    ignored: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    left_out: Counter[tuple[str, bool]] = field(default_factory=Counter)
    placeholders: dict[bytes, str] = field(default_factory=dict)
    emptied: set[bytes] = field(default_factory=set)
    found: int = 0
    complete: bool = False
    _visited: set[tuple[int, int]] = field(default_factory=set)
    _counting: set[int] = field(default_factory=set)
    """Devices on which a file has been seen that occupies blocks."""
    _endings: frozenset[bytes] = frozenset()
    _follows: bool = False
    _examines: bool = False
    _sidecars: dict[bytes, str] = field(default_factory=dict)
    """Those of the images that were listed and not yet yielded, by path."""

    def __iter__(self) -> Iterator[Candidate]:
        """Images in the byte order of their paths. Raises OSError where `start` itself is not there."""
        about = os.stat(self.start)
        self._visited.add((about.st_dev, about.st_ino))
        self._examines, self._follows = self.rules.options.all_files, self.rules.options.follow_symlinks
        self._endings = frozenset(os.fsencode(s[1:]) for s in self.suffixes)
        above = self.rules.inside(os.path.dirname(self.start)) if self.start != self.rules.root else ()
        stack = [(*self._listing(self.start, () if isinstance(above, LeftOut) else above), about.st_dev)]
        while stack:
            entries, files, device = stack[-1]
            for key, entry in entries:
                if key.endswith(b"/"):
                    own = self._enter(entry, device)
                    if own is not None:
                        if self.stop():
                            return
                        stack.append((*self._listing(entry.path, files), own))
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

    def stands_in(self, path: bytes, what: str) -> None:
        """Note a file that only stands for an image."""
        self.placeholders[path] = what
        self.emptied.add(placeholders.original(path))

    def _listing(self, folder: bytes, outer: IgnoreFiles) -> tuple[Listing, IgnoreFiles]:
        """The folders and images in a folder that the rules allow, in the byte order of the paths below them.

        With `all_files`, also the files that may be images. And the ignore files that apply in it, after `outer`.
        """
        hidden, follow, endings, dot = self.rules.options.hidden, self._follows, self._endings, ord(".")
        folders: list[Entry] = []
        images: list[tuple[bytes, Entry]] = []
        others: list[Entry] = []
        dotted: list[Entry] = []
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    name = entry.name
                    if name[0] == dot:
                        dotted.append(entry)
                        if not hidden:
                            continue
                    try:
                        is_folder = entry.is_dir(follow_symlinks=follow)
                    except OSError as exc:  # A link that leads through a folder that may not be searched, say.
                        self._cannot(entry.path, exc)
                        is_folder = False
                    if is_folder:
                        folders.append(entry)
                        continue
                    stem, _, ending = name.rpartition(b".")
                    if ending.lower() in endings and stem.strip(b"."):
                        images.append((name, entry))
                    else:
                        others.append(entry)
        except OSError as exc:
            self._cannot(folder, exc)
            return iter(()), outer
        if not (folders or images or others or dotted):
            self.empty.add(folder)
        return self._judged(folder, outer, folders, images, others, dotted)

    def _judged(
        self,
        folder: bytes,
        outer: IgnoreFiles,
        folders: Sequence[Entry],
        images: list[tuple[bytes, Entry]],
        others: Sequence[Entry],
        dotted: Sequence[Entry],
    ) -> tuple[Listing, IgnoreFiles]:
        """What the rules allow of a folder's entries; the rest is counted. `dotted` are those that begin with a dot."""
        rules, hidden = self.rules, self.rules.options.hidden
        names = [entry.name for entry in dotted if entry.name in ignorefiles.NAMES]
        files = rules.files_inside(folder, names, outer)
        if files is None:
            self.left_out[IGNORE_FILE, True] += 1
            return iter(()), outer
        parent = os.path.basename(folder)
        if not hidden:
            for entry in dotted:
                self._count_hidden(entry, parent, files)
        each = bool(rules.judges_files or files or (hidden and dotted) or excludes.is_package(parent))
        if each:
            images = [item for item in images if self._allows(item[1], parent, files, is_folder=False)]
        if others:
            allowed = [e for e in others if self._is_file(e) and (not each or self._takes(e, parent, files))]
            rest = self._without_sidecars(allowed, images)
            images += [(entry.name, entry) for entry in self._maybe_images(rest, images)]
        # A folder sorts as its children do, with a slash behind its name: "a.jpg" comes before "a/x".
        images += [(e.name + b"/", e) for e in folders if self._allows(e, parent, files, is_folder=True)]
        images.sort(key=itemgetter(0))
        return iter(images), files

    def _allows(self, entry: Entry, parent: bytes, files: IgnoreFiles, *, is_folder: bool) -> bool:
        """Whether the rules allow a folder or an image; it is counted if they do not."""
        why = self.rules.judge(entry.path, entry.name, parent, files, is_folder=is_folder)
        if why in COUNTED and entry.path not in self.skip:
            self.left_out[why, is_folder] += 1
        return why is None

    def _takes(self, entry: Entry, parent: bytes, files: IgnoreFiles) -> bool:
        """Whether the rules allow a file that need not be an image."""
        return self.rules.judge(entry.path, entry.name, parent, files, is_folder=False) is None

    def _count_hidden(self, entry: Entry, parent: bytes, files: IgnoreFiles) -> None:
        """Count an entry that begins with a dot, if it is left out by default or stands for a file in the cloud."""
        with contextlib.suppress(OSError):
            is_folder = entry.is_dir(follow_symlinks=False)
            why = self.rules.judge(entry.path, entry.name, parent, files, is_folder=is_folder)
            is_image = _ending(entry.name) in self._endings
            if why == HIDDEN and not is_folder:
                # Without opening it: it is not indexed in any case.
                if is_image and self.rules.options.default_excludes and excludes.may_be_apple_double(entry.name):
                    why = excludes.APPLE_DOUBLE
                elif is_stub := placeholders.stands_for(entry.name, self._endings):
                    self.stands_in(entry.path, is_stub)
            if why in COUNTED and (is_folder or is_image):
                self.left_out[why, is_folder] += 1

    def _without_sidecars(self, others: list[Entry], images: Sequence[tuple[bytes, Entry]]) -> list[Entry]:
        """Note the sidecars of the images in a folder; what is left of its `others` is returned."""
        beside = [entry for entry in others if entry.name.rpartition(b".")[2].lower() in sidecars.ENDINGS]
        if not beside:
            return others
        paths = {name: entry.path for name, entry in images}
        found, used = sidecars.of_folder(paths, beside, self.file_systems)
        self._sidecars |= {paths[name]: stamps for name, stamps in found.items()}
        self.ignored[SIDECAR] += len(used)
        return [entry for entry in others if entry.name not in used]

    def _maybe_images(self, others: Sequence[Entry], images: Sequence[tuple[bytes, Entry]]) -> Iterator[Entry]:
        """Of a folder's files without an image's suffix, those that may be images; the others are counted."""
        beside: set[tuple[bytes, bytes]] = set()
        for entry in others:
            ending = _ending(entry.name)
            kind = kind_of(ending)
            if ending in MOVING:
                beside = beside or {_stem_and_ending(name) for name, _ in images}
                stem, _ = _stem_and_ending(entry.name)
                if any((stem, image) in beside for image in MOVING[ending]):
                    continue
            if stub := placeholders.stands_for(entry.name, self._endings):
                self.stands_in(entry.path, stub)
            elif self._examines:
                yield entry
            else:
                self.ignored[kind] += 1

    def _enter(self, entry: Entry, parent_device: int) -> int | None:
        """The device of a folder that is to be walked, None for one that is not."""
        if entry.path in self.skip:
            return None
        try:
            about = entry.stat(follow_symlinks=self._follows)
        except OSError as exc:
            self._cannot(entry.path, exc)
            return None
        identity = (about.st_dev, about.st_ino)
        if identity == self.never:
            return None
        if self._follows:
            if (entry.is_symlink() and self._reached_anyway(entry.path)) or identity in self._visited:
                return None
            self._visited.add(identity)
        if self.file_systems.is_mount(entry.path, about.st_dev, parent_device):
            self.mounts.add(entry.path)
        return about.st_dev

    def _reached_anyway(self, link: bytes) -> bool:
        """Whether a link leads to a folder that the root's walk comes to by its real path, or that holds the root."""
        target = os.path.realpath(link)
        root = os.path.realpath(self.rules.root)
        if is_within(root, target):
            return True
        return is_within(target, root) and self.rules.reaches(self.rules.root + target[len(root) :], is_folder=True)

    def _candidate(self, entry: Entry) -> Candidate | None:
        try:
            if not entry.is_file(follow_symlinks=self._follows) or (self.skip and entry.path in self.skip):
                return None
            if self._examines and not self._is_image(entry):
                return None
            about = entry.stat()
        except OSError as exc:
            # A folder that may be listed but not searched hides all its files, not only this one.
            self._cannot(entry.path if entry.is_symlink() else os.path.dirname(entry.path), exc)
            return None
        if not about.st_size:
            self.stands_in(entry.path, placeholders.EMPTY)
            return None
        beside = self._sidecars.pop(entry.path, "") if self._sidecars else ""
        if about.st_nlink == 1 and about.st_dev in self.file_systems.with_change_times:  # Most files, in less time.
            return Candidate(entry.path, about.st_size, mtime_of(about), about.st_ctime_ns, beside)
        kept = self.file_systems.kept(about, entry.path)
        return Candidate(entry.path, about.st_size, mtime_of(about), kept.ctime_ns, beside, kept.link)

    def _is_file(self, entry: Entry) -> bool:
        with contextlib.suppress(OSError):  # A link that `_listing` has reported.
            return entry.is_file(follow_symlinks=self._follows) and entry.path not in self.skip
        return False

    def _is_image(self, entry: Entry) -> bool:
        """Whether a file has an image's suffix or content. Others are counted."""
        ending = _ending(entry.name)
        about = entry.stat()
        if about.st_blocks:
            self._counting.add(about.st_dev)
        if ending in self._endings:
            return True
        try:
            if placeholders.is_hollow(entry.path, about, counted=about.st_dev in self._counting):
                self.stands_in(entry.path, placeholders.HOLLOW)
                return False
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
    return image_format(head(path, HEAD_BYTES)) is not None


def _stem_and_ending(name: bytes) -> tuple[bytes, bytes]:
    """Both in lower case, without the dot between them."""
    stem, _, ending = name.lower().rpartition(b".")
    return stem, ending


def _ending(name: bytes) -> bytes:
    """The suffix in lower case, without its dot; empty for a name without one."""
    stem, _, ending = name.rpartition(b".")
    return ending.lower() if stem.strip(b".") else b""


def images_in(paths: Iterable[bytes], *, suffixes: Collection[str], problems: list[Problem]) -> Iterator[bytes]:
    """Files as they are named, and the images in folders, each folder in the byte order of its paths.

    Adds folders that cannot be read, and images without content, to `problems`. Raises UsageError for a path that does
    not exist.
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
        problems += [Problem(os.fsdecode(at), why) for at, why in sorted((walk.unreadable | walk.placeholders).items())]
