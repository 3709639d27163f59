"""Which files below a root belong to it: the scan options that are stored with the root, applied to paths."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from clipsearch.files import below, head
from clipsearch.indexing import excludes, ignorefiles
from clipsearch.indexing.ignorefiles import IgnoreFiles
from clipsearch.indexing.patterns import Patterns, Style, compiled

HIDDEN, LINK, OUTSIDE = "hidden", "link", "outside"

IGNORE_FILE, EXCLUDE = "ignore_file", "exclude"

COUNTED = (*excludes.KINDS, IGNORE_FILE, EXCLUDE)
"""Reasons to leave out a file or folder that a run counts; what is only hidden, or a link, it does not."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What a root's walk leaves out and goes into; stored with the root.

    `exclude` holds patterns, which `exclude_style` explains. `hidden` takes in names that begin with a dot,
    `follow_symlinks` links to files and folders, and `all_files` images without an image's suffix, which are found by
    their first bytes. `default_excludes` leaves out what is not the user's pictures (`excludes`), and `ignore_files`
    what .nomedia and similar files leave out (`ignorefiles`).
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    follow_symlinks: bool = False
    all_files: bool = False
    default_excludes: bool = True
    ignore_files: bool = True
    exclude_style: Style = "gitignore"


class LeftOut(NamedTuple):
    """Why a walk does not come to a path: a kind of `COUNTED` or another reason, and the file or folder it is about."""

    why: str
    at: bytes


class Rules:
    """`ScanOptions`, compiled for one root: whether its walk reaches a path. They never apply to the root itself.

    `notices` are the ignore files that cannot be used, with what is wrong with them; `unmatched` the numbers of the
    exclusions that no path has matched yet. Raises UsageError for exclusions that cannot be used.
    """

    def __init__(self, root: bytes, options: ScanOptions) -> None:
        self.root = root
        self.options = options
        self.notices: dict[bytes, str] = {}
        self.unmatched = set(range(len(options.exclude)))
        self._length = len(below(root))
        self._exclude: Patterns | None = compiled(options.exclude, options.exclude_style) if options.exclude else None
        self._inside: dict[bytes, IgnoreFiles | LeftOut] = {}

    @property
    def judges_files(self) -> bool:
        """Whether single files must be judged, in any folder."""
        return self._exclude is not None

    # One entry of a folder that the walk is in

    def judge(self, path: bytes, name: bytes, parent: bytes, files: IgnoreFiles, *, is_folder: bool) -> str | None:
        """Why the entry `name` at `path` is left out; None for one that the walk takes.

        `parent` is the name of its folder, in which `files` apply.
        """
        if self._exclude is not None and self._excludes(os.fsdecode(path[self._length :]) + "/" * is_folder):
            return EXCLUDE
        if self.options.default_excludes:
            kind = excludes.folder_kind(name, parent) if is_folder else excludes.file_kind(name, parent)
            if kind is not None:
                return kind
        if name.startswith(b".") and not self.options.hidden:
            return HIDDEN
        if not is_folder and excludes.may_be_apple_double(name) and self._is_apple_double(path):
            return excludes.APPLE_DOUBLE
        return IGNORE_FILE if files and ignorefiles.ignores(files, path, is_folder=is_folder) else None

    def _excludes(self, path: str) -> bool:
        assert self._exclude is not None
        decided = self._exclude.excludes(path)
        if decided is not None and self.unmatched:
            self.unmatched -= {number for number in self.unmatched if self._exclude.matched_by(number, path)}
        return bool(decided)

    def files_inside(self, folder: bytes, names: Collection[bytes], outer: IgnoreFiles) -> IgnoreFiles | None:
        """The ignore files that apply in a folder with entries of these names; None for a folder that is left out."""
        if not names or not self.options.ignore_files:
            return outer
        if folder != self.root and ignorefiles.closes(names):
            return None
        return ignorefiles.inside(outer, folder, names, self.notices.setdefault)

    def _is_apple_double(self, path: bytes) -> bool:
        """Whether a file is left out as macOS's metadata of another one. One that cannot be read may be an image."""
        with contextlib.suppress(OSError):
            return self.options.default_excludes and excludes.is_apple_double(head(path, 4))
        return False

    # Any path below the root

    def reaches(self, path: bytes, *, is_folder: bool = False) -> bool:
        """Whether the walk from the root would come to `path`, and into it if it is a folder."""
        return self.left_out(path, is_folder=is_folder) is None

    def left_out(self, path: bytes, *, is_folder: bool = False) -> LeftOut | None:
        """Why the walk does not come to `path`; looks at the disk for links, ignore files and AppleDouble files."""
        folder, name = os.path.split(path)
        inside = self.inside(path if is_folder or path == self.root else folder)
        if isinstance(inside, LeftOut):
            return inside
        is_file = not is_folder and path != self.root
        return self._entered(path, name, folder, inside, is_folder=False) if is_file else None

    def inside(self, folder: bytes) -> IgnoreFiles | LeftOut:
        """The ignore files that apply in a folder, or why the walk does not come into it."""
        if folder in self._inside:
            return self._inside[folder]
        if folder != self.root and not folder.startswith(below(self.root)):
            return LeftOut(OUTSIDE, folder)
        if self.root not in self._inside:
            self._inside[self.root] = self._applying(self.root, ())
        at, found = self.root, self._inside[self.root]
        for name in folder[self._length :].split(b"/") if folder != self.root else ():
            parent, at, outer = at, os.path.join(at, name), found
            if isinstance(outer, LeftOut):
                break
            if at not in self._inside:
                left = self._entered(at, name, parent, outer, is_folder=True)
                self._inside[at] = left or self._applying(at, outer)
            found = self._inside[at]
        return found

    def _entered(
        self, path: bytes, name: bytes, folder: bytes, files: IgnoreFiles, *, is_folder: bool
    ) -> LeftOut | None:
        why = self.judge(path, name, os.path.basename(folder), files, is_folder=is_folder)
        if why is None and not self.options.follow_symlinks and os.path.islink(path):
            why = LINK
        return None if why is None else LeftOut(why, path)

    def _applying(self, folder: bytes, outer: IgnoreFiles) -> IgnoreFiles | LeftOut:
        names = [n for n in ignorefiles.NAMES if self.options.ignore_files and os.path.lexists(os.path.join(folder, n))]
        files = self.files_inside(folder, names, outer)
        return LeftOut(IGNORE_FILE, folder) if files is None else files
