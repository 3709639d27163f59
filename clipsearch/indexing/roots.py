"""Which folders and files a library knows, with which scan options, and which of them a run walks."""

from __future__ import annotations

import bisect
import contextlib
import functools
import json
import os
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from clipsearch.catalog.catalog import Catalog
from clipsearch.errors import UsageError, reason
from clipsearch.files import below, is_within, upwards
from clipsearch.indexing.scanner import Rules, ScanOptions, begins_as_image, has_slash, has_suffix


@dataclass(frozen=True, slots=True)
class GivenOptions:
    """Scan options as a run was given them; None leaves what the root has."""

    exclude: tuple[str, ...] | None = None
    hidden: bool | None = None
    follow_symlinks: bool | None = None
    all_files: bool | None = None

    def over(self, old: ScanOptions, root: bytes) -> ScanOptions:
        """What the root at `root` has from now on; exclusions given as ./name or full paths become relative to it."""
        return ScanOptions(
            exclude=old.exclude if self.exclude is None else tuple(_relative(g, root) for g in self.exclude),
            hidden=old.hidden if self.hidden is None else self.hidden,
            follow_symlinks=old.follow_symlinks if self.follow_symlinks is None else self.follow_symlinks,
            all_files=old.all_files if self.all_files is None else self.all_files,
        )


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that is scanned again by every plain run, or a file that was named (`is_file`)."""

    path: bytes
    options: ScanOptions = field(default_factory=ScanOptions)
    is_file: bool = False
    mounts: tuple[bytes, ...] = ()
    """Mount points when they were last seen: folders in it, itself, or one above it."""


@dataclass(frozen=True, slots=True)
class Area:
    """What one walk covers: `start` is `root.path` or a folder or file in it; `skip` belongs to other areas."""

    root: Root
    start: bytes
    skip: frozenset[bytes]


class Roots:
    """The roots of a catalog, read once; `save` writes what changed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.all: dict[bytes, Root] = {}
        for path, options, mounts in catalog.conn.execute("SELECT path, options, mounts FROM roots"):
            known = json.loads(options)
            is_file = known.get("is_file", False)
            scan = ScanOptions(
                exclude=tuple(known["exclude"]),
                hidden=known["hidden"],
                follow_symlinks=known["follow_symlinks"],
                all_files=known.get("all_files", False),  # Rows of schema 1 do not have it.
            )
            self.all[path] = Root(path, scan, is_file, tuple(os.fsencode(m) for m in json.loads(mounts)))
        self._saved = dict(self.all)

    def save(self, *, scanned: Iterable[bytes] = (), now: str | None = None) -> None:
        """Write the roots that changed; `scanned` ones get `now` as the time of their last complete walk."""
        conn = self._catalog.conn
        conn.executemany("DELETE FROM roots WHERE path = ?", [(path,) for path in self._saved if path not in self.all])
        conn.executemany(
            "INSERT INTO roots (path, options, mounts) VALUES (?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET options = excluded.options, mounts = excluded.mounts",
            [_as_row(root) for root in self.all.values() if self._saved.get(root.path) != root],
        )
        conn.executemany("UPDATE roots SET scanned_at = ? WHERE path = ?", [(now, path) for path in scanned])
        self._saved = dict(self.all)

    def owner(self, path: bytes) -> Root | None:
        """The innermost root that `path` lies in, or is."""
        return next((self.all[at] for at in upwards(path) if at in self.all), None)

    def put(self, root: Root) -> None:
        self.all[root.path] = root

    def plan(self, paths: Iterable[bytes], given: GivenOptions, *, suffixes: Collection[str], own: bytes) -> list[Area]:
        """The areas to walk for `paths`, or for all roots where there are none; adds the roots that are new.

        They come in the byte order of their starts and share no file. `own` is the library's folder. Raises UsageError
        for a path in there, and for one that does not exist and is no known root.
        """
        starts: dict[bytes, Root] = {}
        real_own = os.path.realpath(own)
        real_folder = functools.lru_cache(maxsize=64)(os.path.realpath)
        for path in paths:
            if is_within(_real_path(path, real_folder), real_own):
                raise UsageError(f"{os.fsdecode(path)}: the library's own folder is never indexed; name another one")
            starts[path] = self._root_for(path, given, suffixes)
        if not starts:
            for root in list(self.all.values()):
                if not root.is_file:
                    self.put(replace(root, options=given.over(root.options, root.path)))
            starts = dict(self.all)
        self._absorb(suffixes)
        outermost = [s for s in starts if s in self.all or not any(at in starts for at in upwards(s) if at != s)]
        known = sorted(self.all)
        areas: dict[bytes, Area] = {}
        for start in outermost:
            for at in (start, *_inside(known, start)):
                areas[at] = Area(self.owner(at) or starts[start], at, frozenset(_inside(known, at)))
        return [areas[start] for start in sorted(areas)]

    def _root_for(self, path: bytes, given: GivenOptions, suffixes: Collection[str]) -> Root:
        """The root of a named path: a known one if it walks there, or a new one."""
        known = self.all.get(path)
        mounts = known.mounts if known else ()
        try:
            mode = os.stat(path).st_mode
        except OSError as exc:
            if known is not None:
                return known  # An unplugged drive, say: its files become offline.
            raise UsageError(f"{os.fsdecode(path)}: {reason(exc)}") from exc
        owner = self.owner(path)
        if owner is not None and owner.is_file:
            owner = None  # Where a named file was, a folder is now.
        if stat.S_ISDIR(mode):
            options = given.over(_inherited(owner, path) if owner else ScanOptions(), path)
            if owner is not None and owner.path != path and given.over(owner.options, owner.path) == owner.options:
                rules = Rules(owner.path, owner.options)
                if rules.reaches(path):
                    return owner
            root = Root(path, options, mounts=mounts)
        elif stat.S_ISREG(mode):
            if owner is not None and owner.path != path and _walks_to(owner, path, suffixes):
                return owner
            root = Root(path, is_file=True, mounts=mounts)
        else:
            raise UsageError(f"{os.fsdecode(path)}: neither a folder nor a regular file")
        self.put(root)
        return root

    def _absorb(self, suffixes: Collection[str]) -> None:
        """Drop roots whose every file the next outer one walks to."""
        for path in sorted(self.all, key=len, reverse=True):
            root = self.all[path]
            owner = self.owner(os.path.dirname(path)) if path != b"/" else None
            if owner is None or owner.is_file:
                continue
            if root.is_file:
                covered = _walks_to(owner, path, suffixes)
            else:
                covered = _covers(owner.options, root.options) and Rules(owner.path, owner.options).reaches(path)
            if covered:
                del self.all[path]
                self.put(replace(owner, mounts=tuple(sorted({*owner.mounts, *root.mounts}))))


def _relative(pattern: str, root: bytes) -> str:
    for prefix in ("./", os.fsdecode(below(root))):
        if pattern.startswith(prefix):
            return "/" + pattern[len(prefix) :]
    return pattern


def _as_row(root: Root) -> tuple[bytes, str, str]:
    options = {
        "exclude": root.options.exclude,
        "hidden": root.options.hidden,
        "follow_symlinks": root.options.follow_symlinks,
        "all_files": root.options.all_files,
    } | ({"is_file": True} if root.is_file else {})
    return root.path, json.dumps(options), json.dumps([os.fsdecode(m) for m in root.mounts])


def _covers(outer: ScanOptions, inner: ScanOptions) -> bool:
    """Whether a walk by `outer` comes to all that one by `inner` does, and takes in nothing that `inner` excludes.

    An exclusion with a slash belongs to its root's folder and can stand for nothing in another one.
    """
    return (
        set(outer.exclude) == set(inner.exclude)
        and not any(has_slash(g) for g in outer.exclude)
        and outer.hidden >= inner.hidden
        and outer.follow_symlinks >= inner.follow_symlinks
        and outer.all_files >= inner.all_files
    )


def _inherited(owner: Root, path: bytes) -> ScanOptions:
    """The options of a root that is made inside `owner`: its own, less what has a meaning only there."""
    if owner.path == path:
        return owner.options
    return replace(owner.options, exclude=tuple(g for g in owner.options.exclude if not has_slash(g)))


def _walks_to(root: Root, path: bytes, suffixes: Collection[str]) -> bool:
    is_image = has_suffix(path, suffixes)
    if root.options.all_files and not is_image:
        with contextlib.suppress(OSError):
            is_image = begins_as_image(path)
    return is_image and Rules(root.path, root.options).reaches(path)


def _inside(known: list[bytes], folder: bytes) -> list[bytes]:
    """Those of `known`, which is sorted, that lie in `folder`; itself not among them."""
    prefix = below(folder)
    start, end = bisect.bisect_left(known, prefix), bisect.bisect_left(known, prefix[:-1] + b"0")
    return [path for path in known[start:end] if path != folder]


def _real_path(path: bytes, real_folder: Callable[[bytes], bytes]) -> bytes:
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(real_folder(folder), name)
