"""Which folders and files a library knows, with which scan options, and which of them a run walks."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace

from clipsearch.catalog import Catalog
from clipsearch.errors import UsageError
from clipsearch.scanner import Rules, ScanOptions, is_within


@dataclass(frozen=True, slots=True)
class GivenOptions:
    """Scan options as a run was given them; None leaves what the root has."""

    exclude: tuple[str, ...] | None = None
    hidden: bool | None = None
    follow_symlinks: bool | None = None

    def over(self, old: ScanOptions) -> ScanOptions:
        return ScanOptions(
            exclude=old.exclude if self.exclude is None else self.exclude,
            hidden=old.hidden if self.hidden is None else self.hidden,
            follow_symlinks=old.follow_symlinks if self.follow_symlinks is None else self.follow_symlinks,
        )


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that is scanned again by every plain run, or a file that was named (`is_file`)."""

    path: bytes
    options: ScanOptions = field(default_factory=ScanOptions)
    is_file: bool = False
    mounts: tuple[bytes, ...] = ()
    """Folders in it that were on another device than their parent when they were last seen."""


@dataclass(frozen=True, slots=True)
class Area:
    """What one walk covers: `start` is `root.path` or a folder or file in it; `skip` belongs to other areas."""

    root: Root
    start: bytes
    skip: frozenset[bytes]


def absolute(path: str | bytes | os.PathLike[str]) -> bytes:
    """A path as the catalog keeps it: absolute, without `..`, symbolic links left as they are."""
    return os.path.abspath(os.path.expanduser(os.fsencode(path)))


class Roots:
    """The roots of a catalog, read once; `save` writes what changed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.all: dict[bytes, Root] = {}
        for path, options, mounts in catalog.conn.execute("SELECT path, options, mounts FROM roots"):
            known = json.loads(options)
            is_file = known.pop("is_file", False)
            scan = ScanOptions(**{**known, "exclude": tuple(known.get("exclude", ()))})
            self.all[path] = Root(path, scan, is_file, tuple(os.fsencode(m) for m in json.loads(mounts)))

    def save(self, *, scanned: Iterable[bytes] = (), now: str | None = None) -> None:
        """Write all roots; `scanned` ones get `now` as the time of their last complete walk."""
        conn = self._catalog.conn
        for (path,) in conn.execute("SELECT path FROM roots").fetchall():
            if path not in self.all:
                conn.execute("DELETE FROM roots WHERE path = ?", (path,))
        for root in self.all.values():
            options = asdict(root.options) | ({"is_file": True} if root.is_file else {})
            conn.execute(
                "INSERT INTO roots (path, options, mounts) VALUES (?, ?, ?) "
                "ON CONFLICT (path) DO UPDATE SET options = excluded.options, mounts = excluded.mounts",
                (root.path, json.dumps(options), json.dumps([os.fsdecode(m) for m in root.mounts])),
            )
        for path in scanned:
            conn.execute("UPDATE roots SET scanned_at = ? WHERE path = ?", (now, path))

    def owner(self, path: bytes) -> Root | None:
        """The innermost root that `path` lies in, or is."""
        inside = [r for r in self.all.values() if is_within(path, r.path)]
        return max(inside, key=lambda r: len(r.path), default=None)

    def put(self, root: Root) -> None:
        self.all[root.path] = root

    def plan(self, paths: Iterable[bytes], given: GivenOptions, *, suffixes: Collection[str], own: bytes) -> list[Area]:
        """The areas to walk for `paths`, or for all roots where there are none; adds the roots that are new.

        `own` is the library's folder, which no walk enters. Raises UsageError for a path that does not exist and is
        no known root.
        """
        starts: dict[bytes, Root] = {}
        wanted = list(paths)
        if wanted:
            for path in wanted:
                root = self._root_for(path, given, suffixes)
                starts[path] = root
        else:
            for root in list(self.all.values()):
                if not root.is_file:
                    self.put(replace(root, options=given.over(root.options)))
            starts = {r.path: r for r in self.all.values()}
        self._absorb(suffixes)
        covered = {p for p in starts if any(q != p and is_within(p, q) for q in starts)}
        areas: dict[bytes, Area] = {}
        for start in starts:
            if start in covered and start not in self.all:
                continue
            for at in [start, *(r.path for r in self.all.values() if r.path != start and is_within(r.path, start))]:
                root = self.owner(at) or starts[start]
                nested = {r.path for r in self.all.values() if r.path != at and is_within(r.path, at)}
                areas[at] = Area(root, at, frozenset(nested | {own}))
        return [areas[start] for start in sorted(areas)]

    def _root_for(self, path: bytes, given: GivenOptions, suffixes: Collection[str]) -> Root:
        known = self.all.get(path)
        try:
            mode = os.stat(path).st_mode
        except OSError as exc:
            if known is not None:
                return known  # An unplugged drive, say: its files become offline.
            raise UsageError(f"{os.fsdecode(path)}: {(exc.strerror or str(exc)).lower()}") from exc
        if stat.S_ISDIR(mode):
            owner = known or self.owner(path)
            options = given.over(owner.options if owner else ScanOptions())
            inherits = owner is not None and not owner.is_file and options == owner.options
            if owner is not None and known is None and inherits and Rules(owner.path, options).reaches(path):
                return owner
            root = Root(path, options, mounts=known.mounts if known else ())
        elif stat.S_ISREG(mode):
            owner = self.owner(path)
            if owner is not None and not owner.is_file and _walks_to(owner, path, suffixes):
                return owner
            root = Root(path, is_file=True)
        else:
            raise UsageError(f"{os.fsdecode(path)}: neither a folder nor a regular file")
        self.put(root)
        return root

    def _absorb(self, suffixes: Collection[str]) -> None:
        """Drop roots that the next outer one covers entirely."""
        for root in sorted(self.all.values(), key=lambda r: len(r.path), reverse=True):
            outer = [r for r in self.all.values() if r.path != root.path and is_within(root.path, r.path)]
            if not outer:
                continue
            owner = max(outer, key=lambda r: len(r.path))
            if owner.is_file:
                continue
            if root.is_file:
                covered = _walks_to(owner, root.path, suffixes)
            else:
                covered = root.options == owner.options and Rules(owner.path, owner.options).reaches(root.path)
            if covered:
                del self.all[root.path]
                self.put(replace(owner, mounts=tuple(sorted({*owner.mounts, *root.mounts}))))


def _walks_to(root: Root, path: bytes, suffixes: Collection[str]) -> bool:
    has_suffix = os.fsdecode(os.path.splitext(path)[1]).lower() in suffixes
    return has_suffix and Rules(root.path, root.options).reaches(path)
