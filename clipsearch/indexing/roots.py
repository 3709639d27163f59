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
from typing import Any

from clipsearch.catalog.catalog import Catalog
from clipsearch.errors import UsageError, reason
from clipsearch.files import below, is_within, span, upwards
from clipsearch.indexing.patterns import Style, compiled, is_anchored
from clipsearch.indexing.rules import Rules, ScanOptions
from clipsearch.indexing.scanner import begins_as_image, has_suffix

SWITCHES = ("hidden", "follow_symlinks", "all_files", "default_excludes", "ignore_files")
"""The scan options that are on or off."""


@dataclass(frozen=True, slots=True)
class GivenOptions:
    """Scan options as a run was given them; None leaves what the root has."""

    exclude: tuple[str, ...] | None = None
    hidden: bool | None = None
    follow_symlinks: bool | None = None
    all_files: bool | None = None
    default_excludes: bool | None = None
    ignore_files: bool | None = None

    def over(self, old: ScanOptions, root: bytes) -> ScanOptions:
        """What the root at `root` has from now on; exclusions given as ./name or full paths become relative to it.

        Raises UsageError for exclusions that cannot be used.
        """
        exclude = old.exclude if self.exclude is None else tuple(_relative(p, root) for p in self.exclude)
        style: Style = old.exclude_style if self.exclude is None else "gitignore"
        if exclude:
            compiled(exclude, style)
        return ScanOptions(
            **{name: getattr(old, name) if (new := getattr(self, name)) is None else new for name in SWITCHES},
            exclude=exclude,
            exclude_style=style,
        )


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that is scanned again by every plain run, or a file that was named (`is_file`)."""

    path: bytes
    options: ScanOptions = field(default_factory=ScanOptions)
    is_file: bool = False
    mounts: tuple[bytes, ...] = ()
    """Mount points when they were last seen: folders in it, itself, or one above it."""
    older: bool = False
    """Last scanned completely by a version that had neither default excludes nor ignore files."""


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
            self.all[path] = _from_row(path, json.loads(options), json.loads(mounts))
        self._saved = dict(self.all)
        self._compiled: dict[tuple[bytes, ScanOptions], Rules] = {}

    def save(self, *, scanned: Iterable[bytes] = (), now: str | None = None) -> None:
        """Write the roots that changed; `scanned` ones get `now` as the time of their last complete walk."""
        scanned = list(scanned)
        for path in scanned:
            self.put(replace(self.all[path], older=False))
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
        mounts, older = (known.mounts, known.older) if known else ((), False)
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
            same = owner is not None and given.over(owner.options, owner.path) == owner.options
            if owner is not None and same and owner.path != path and self._rules(owner).reaches(path, is_folder=True):
                return owner
            root = Root(path, options, mounts=mounts, older=older)
        elif stat.S_ISREG(mode):
            if owner is not None and owner.path != path and _walks_to(self._rules(owner), path, suffixes):
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
                covered = _walks_to(self._rules(owner), path, suffixes)
            else:
                covered = _covers(owner.options, root.options) and _reaches_all(self._rules(owner), path)
            if covered:
                del self.all[path]
                self.put(replace(owner, mounts=tuple(sorted({*owner.mounts, *root.mounts}))))

    def _rules(self, root: Root) -> Rules:
        """Those of a root, compiled once: many named files may ask for them."""
        key = root.path, root.options
        if key not in self._compiled:
            self._compiled[key] = Rules(*key)
        return self._compiled[key]


def files_in_no_root(catalog: Catalog) -> tuple[int, bytes]:
    """How many files no root contains, and the first of them: `reroot` of earlier versions left some behind."""
    roots = [root for (root,) in catalog.conn.execute("SELECT path FROM roots")]
    inside = sorted([*((root, root + b"\0") for root in roots), *map(span, roots), (b"\xff", b"\xff")])
    count, first, end = 0, b"", b""
    for start, after in inside:
        found, path = catalog.conn.execute(
            "SELECT count(*), min(path) FROM files WHERE path >= ? AND path < ?", (end, start)
        ).fetchone()
        count, first, end = count + found, first or path or b"", max(end, after)
    return count, first


def _relative(pattern: str, root: bytes) -> str:
    sign, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    for prefix in ("./", os.fsdecode(below(root))):
        if body.startswith(prefix):
            return f"{sign}/{body[len(prefix) :]}"
    return pattern


def _from_row(path: bytes, known: dict[str, Any], mounts: list[str]) -> Root:
    """A root as some version has stored it: those before default excludes had other patterns, too."""
    exclude = tuple(known["exclude"])
    options = ScanOptions(
        exclude=exclude,
        exclude_style=known.get("exclude_style", "fnmatch") if exclude else "gitignore",
        hidden=known["hidden"],
        follow_symlinks=known["follow_symlinks"],
        all_files=known.get("all_files", False),  # Rows of schema 1 do not have it.
        default_excludes=known.get("default_excludes", True),
        ignore_files=known.get("ignore_files", True),
    )
    is_file = known.get("is_file", False)
    older = not is_file and known.get("older", "default_excludes" not in known)
    return Root(path, options, is_file, tuple(os.fsencode(m) for m in mounts), older)


def _as_row(root: Root) -> tuple[bytes, str, str]:
    options: dict[str, Any] = {"exclude": root.options.exclude, "exclude_style": root.options.exclude_style}
    options |= {name: getattr(root.options, name) for name in SWITCHES}
    options |= {"is_file": True} if root.is_file else {}
    options |= {"older": True} if root.older else {}
    return root.path, json.dumps(options), json.dumps([os.fsdecode(m) for m in root.mounts])


def _covers(outer: ScanOptions, inner: ScanOptions) -> bool:
    """Whether a walk by `outer` comes to all that one by `inner` does, and takes in nothing that `inner` excludes.

    An exclusion with a slash belongs to its root's folder and can stand for nothing in another one. The order of
    patterns matters where one takes in again what another one excludes.
    """
    ordered = any(p.startswith("!") for p in outer.exclude)
    return (
        (outer.exclude == inner.exclude if ordered else set(outer.exclude) == set(inner.exclude))
        and outer.exclude_style == inner.exclude_style
        and not any(is_anchored(p, outer.exclude_style) for p in outer.exclude)
        and outer.hidden >= inner.hidden
        and outer.follow_symlinks >= inner.follow_symlinks
        and outer.all_files >= inner.all_files
        and outer.default_excludes <= inner.default_excludes
        and outer.ignore_files <= inner.ignore_files
    )


def _reaches_all(rules: Rules, folder: bytes) -> bool:
    """Whether a walk comes to a folder, and no ignore file above it applies to what is inside."""
    return rules.reaches(folder, is_folder=True) and not rules.inside(os.path.dirname(folder))


def _inherited(owner: Root, path: bytes) -> ScanOptions:
    """The options of a root that is made inside `owner`: its own, less what has a meaning only there."""
    if owner.path == path:
        return owner.options
    style = owner.options.exclude_style
    return replace(owner.options, exclude=tuple(p for p in owner.options.exclude if not is_anchored(p, style)))


def _walks_to(rules: Rules, path: bytes, suffixes: Collection[str]) -> bool:
    is_image = has_suffix(path, suffixes)
    if rules.options.all_files and not is_image:
        with contextlib.suppress(OSError):
            is_image = begins_as_image(path)
    return is_image and rules.reaches(path)


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
