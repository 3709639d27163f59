"""Decides about files that no walk found: excluded by the scan options, offline, or missing.

An unplugged drive must not empty a library. So the files of a root that is gone or empty are offline, as are those of a
folder that cannot be read and of one that was a mount point, and they stay hits. Any other file that is gone is
missing, with or without its folder.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from clipsearch.catalog.catalog import Catalog
from clipsearch.files import is_within, span, upwards
from clipsearch.indexing.filesystems import FileSystems
from clipsearch.indexing.leaving import Leaving
from clipsearch.indexing.results import Unreachable
from clipsearch.indexing.roots import Area, Root, Roots
from clipsearch.indexing.scanner import GONE, Walk, begins_as_image, has_suffix
from clipsearch.types import FileState


@dataclass(frozen=True, slots=True)
class Walked:
    """A walk with the area it was for. `mounts` are the mount points that held its start when the walk began."""

    area: Area
    walk: Walk
    mounts: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class _Unseen:
    file_id: int
    path: bytes
    state: FileState
    zone: int
    """0, or the number of what keeps the file from being missing, counted from 1."""
    is_picture: bool
    """Whether it has been a hit, unlike a file that has failed."""


class MissingFiles:
    """The files that one run's walks did not find; reads and marks the temporary table `unseen` of the reconciler."""

    def __init__(self, catalog: Catalog, roots: Roots, walked: list[Walked], suffixes: Collection[str]) -> None:
        self._catalog = catalog
        self._roots = roots
        self._walked = walked
        self._suffixes = suffixes
        self._causes: list[bytes] = []
        self._lost: set[bytes] = set()
        self._offline: Counter[bytes] = Counter()
        self.leaving = Leaving()

    def mark_zones(self) -> None:
        """Mark what is below a root, mount point or folder that cannot be read now."""
        looks = Looks()
        for index, walked in enumerate(self._walked):
            for folder, cause in self._zones(walked, looks).items():
                self._causes.append(cause)
                self._catalog.conn.execute(
                    "UPDATE temp.unseen SET zone = ? WHERE area = ? AND (path = ? OR (path >= ? AND path < ?))",
                    (len(self._causes), index, folder, *span(folder)),
                )

    def _zones(self, walked: Walked, looks: Looks) -> dict[bytes, bytes]:
        """Folders below which no file counts as missing, possibly the root or a named file, and the cause of each."""
        root = walked.area.root
        zones = {folder: folder for folder in walked.walk.unreadable}
        # A named file is missing when its folder exists and is not empty.
        place = os.path.dirname(root.path) if root.is_file else root.path
        if looks.is_away(place):
            zones[root.path] = place
        mounts = {*root.mounts, *walked.walk.mounts, *walked.mounts}
        zones |= {mount: mount for mount in mounts if looks.is_unmounted(mount)}
        # What keeps a whole root away is the cause of all that is away in it.
        causes = set(zones.values())
        return {zone: [at for at in upwards(zone) if at in causes][-1] for zone in zones}

    def decide(self, *, record: bool = False) -> dict[str, int]:
        """How many files are excluded, offline and missing, without those that were missing before.

        `record` stores it, and drops the rows of excluded files; call inside a transaction then.
        """
        counts = {"excluded": 0, "offline": 0, "missing": 0, "dropped": 0}
        self._offline.clear()
        for index, walked in enumerate(self._walked):
            if not walked.walk.complete:
                continue
            for unseen in self._unseen(index):
                decision = self._decision(walked, unseen)
                if decision is None:
                    continue
                if unseen.state != "missing":
                    counts[decision] += 1
                    if decision == "offline" and unseen.zone:
                        self._offline[self._causes[unseen.zone - 1]] += 1
                if record:
                    self._record(unseen, decision)
        if record and counts["dropped"]:
            self._drop_empty()
        return counts

    def unreachable(self) -> list[Unreachable]:
        """The folders whose files were found offline, but for those that a walk has reported as unreadable."""
        told = {folder for walked in self._walked for folder in walked.walk.unreadable}
        return [
            Unreachable(os.fsdecode(folder), files, _why(folder))
            for folder, files in sorted(self._offline.items())
            if folder not in told
        ]

    def lost_above(self, path: bytes) -> bytes | None:
        """The root, mount point or folder above a file that has disappeared since the walk; None for none."""
        known = next((at for at in upwards(path) if at in self._lost), None)
        if known is not None:
            return known
        root, looks = self._roots.owner(path), Looks()
        places: list[bytes] = []
        if root is not None:
            places += [root.path] if not root.is_file and looks.is_away(root.path) else []
            places += [mount for mount in root.mounts if is_within(path, mount) and looks.is_unmounted(mount)]
        places += [at for at in upwards(os.path.dirname(path)) if _is_absent(at)]
        if not places:
            return None
        self._lost.add(min(places, key=len))
        return min(places, key=len)

    def _unseen(self, index: int) -> Iterator[_Unseen]:
        for file_id, path, state, zone, is_picture in self._catalog.conn.execute(
            "SELECT u.file_id, u.path, u.state, zone, c.state IN ('ok', 'partial') FROM temp.unseen u "
            "LEFT JOIN contents c ON c.id = u.content_id WHERE area = ? AND NOT moved ORDER BY u.path",
            (index,),
        ):
            yield _Unseen(file_id, path, state, zone, bool(is_picture))

    def _decision(self, walked: Walked, unseen: _Unseen) -> str | None:
        """None: undecided, for instance a file that came after the walk."""
        left = walked.walk.rules.left_out(unseen.path)
        if left is not None:
            if unseen.is_picture and unseen.state != "missing":
                self.leaving.add(unseen.path, left, older=walked.area.root.older)
            return "excluded"
        if unseen.path in walked.walk.emptied:
            return "offline" if unseen.is_picture else "dropped"
        if unseen.zone:
            return "offline"
        if _is_gone(unseen.path):
            return "missing"
        return None if self._is_walked(walked, unseen.path) else "excluded"

    def _is_walked(self, walked: Walked, path: bytes) -> bool:
        """Whether a walk would now find this file by this path."""
        root = walked.area.root
        if root.is_file:
            return True
        if not has_suffix(path, self._suffixes):
            if not root.options.all_files:
                return False
            with contextlib.suppress(OSError):  # What cannot be read stays as it is.
                if not begins_as_image(path):
                    return False
        # A file behind a link was skipped because the walk had another path to it.
        return os.path.realpath(path) == os.path.realpath(root.path) + path[len(root.path) :]

    def _drop_empty(self) -> None:
        """Forget the content of empty files, which older versions took for a damaged image, with the last of them."""
        self._catalog.conn.execute(
            "DELETE FROM contents WHERE bytes = 0 AND NOT EXISTS (SELECT 1 FROM files WHERE content_id = contents.id)"
        )

    def _record(self, unseen: _Unseen, decision: str) -> None:
        conn = self._catalog.conn
        if decision in ("excluded", "dropped"):
            conn.execute("DELETE FROM files WHERE id = ?", (unseen.file_id,))
        elif unseen.state != "missing":  # A missing file stays missing when its drive goes away.
            conn.execute("UPDATE files SET state = ?, reason = NULL WHERE id = ?", (decision, unseen.file_id))

    def add_mounts(self) -> None:
        """Store with each root the mount points that its walk has seen, before anything can go away."""
        for walked in self._walked:
            root = self._roots.all.get(walked.area.root.path)
            if root is not None:
                self._put_mounts(root, {*root.mounts, *walked.walk.mounts, *walked.mounts})

    def remember_mounts(self) -> None:
        """Store with each root the mount points that were seen, and absent ones with offline files below."""
        looks = Looks()
        for walked in self._walked:
            root = self._roots.all.get(walked.area.root.path)
            if root is None or not walked.walk.complete:
                continue
            mounts = {*walked.walk.mounts, *(mount for mount in walked.mounts if not looks.is_unmounted(mount))}
            for mount in root.mounts:
                passed_by = is_within(mount, root.path) and not is_within(mount, walked.area.start)
                if passed_by or (looks.is_unmounted(mount) and self._holds_offline(mount)):
                    mounts.add(mount)
            self._put_mounts(root, mounts)

    def _put_mounts(self, root: Root, mounts: set[bytes]) -> None:
        if mounts != set(root.mounts):
            self._roots.put(replace(root, mounts=tuple(sorted(mounts))))

    def _holds_offline(self, folder: bytes) -> bool:
        return (
            self._catalog.conn.execute(
                "SELECT 1 FROM files WHERE path >= ? AND path < ? AND state = 'offline' LIMIT 1",
                span(folder),
            ).fetchone()
            is not None
        )


class Looks:
    """The state of folders now; each is read once."""

    def __init__(self) -> None:
        self._away: dict[bytes, bool] = {}
        self._file_systems = FileSystems()

    def is_away(self, folder: bytes) -> bool:
        """Whether a folder is gone, empty or unreadable."""
        if folder not in self._away:
            try:
                with os.scandir(folder) as entries:
                    self._away[folder] = next(entries, None) is None
            except OSError:
                self._away[folder] = True
        return self._away[folder]

    def is_unmounted(self, mount: bytes) -> bool:
        """Whether a former mount point is absent, or a plain folder now."""
        return self.is_away(mount) or not self.is_mount(mount)

    def is_mount(self, folder: bytes) -> bool:
        try:
            device, above = os.stat(folder).st_dev, os.stat(os.path.dirname(folder)).st_dev
        except OSError:
            return False
        return self._file_systems.is_mount(folder, device, above)


def mounts_above(path: bytes, root: bytes, looks: Looks) -> frozenset[bytes]:
    """The mount points from `path` up to `root`, both included, and the innermost one above the root."""
    found = set()
    for at in upwards(path):
        if at != b"/" and looks.is_mount(at):
            found.add(at)
            if not is_within(at, root) or at == root:
                break
    return frozenset(found)


def _why(folder: bytes) -> Literal["gone", "empty", "unmounted"]:
    try:
        with os.scandir(folder) as entries:
            return "empty" if next(entries, None) is None else "unmounted"
    except OSError as exc:
        return "gone" if exc.errno in GONE else "unmounted"


def may_be_mount(folder: bytes) -> bool:
    """Whether a folder is a mount point, or so empty or absent that it may be one."""
    looks = Looks()
    return looks.is_away(folder) or looks.is_mount(folder)


def _is_absent(path: bytes) -> bool:
    """Whether there is certainly nothing at a path."""
    try:
        os.lstat(path)
    except OSError as exc:
        return exc.errno in GONE
    return False


def _is_gone(path: bytes) -> bool:
    """Whether there is certainly no regular file at a path."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError as exc:
        return exc.errno in GONE
