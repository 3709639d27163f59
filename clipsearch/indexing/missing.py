"""Decides about files that no walk found: excluded by the scan options, offline, or missing.

An unplugged drive must not empty a library. So a file counts as missing only where its folder exists without it;
whatever looks like an absent drive leaves its files offline, and they stay hits.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from clipsearch.catalog.catalog import Catalog
from clipsearch.files import is_within, span, upwards
from clipsearch.indexing.roots import Area, Roots
from clipsearch.indexing.scanner import GONE, Walk, begins_as_image, has_suffix
from clipsearch.types import FileState


@dataclass(frozen=True, slots=True)
class Walked:
    """A walk with the area it was for. `mount` is the mount point that held the area's root when the walk began."""

    area: Area
    walk: Walk
    mount: bytes | None


@dataclass(frozen=True, slots=True)
class _Unseen:
    file_id: int
    path: bytes
    state: FileState
    zone: bool


class MissingFiles:
    """The files that one run's walks did not find; reads and marks the temporary table `unseen` of the reconciler."""

    def __init__(self, catalog: Catalog, roots: Roots, walked: list[Walked], suffixes: Collection[str]) -> None:
        self._catalog = catalog
        self._roots = roots
        self._walked = walked
        self._suffixes = suffixes

    def mark_zones(self) -> None:
        """Mark what is below a root, mount point or folder that cannot be read now."""
        looks = _Looks()
        for index, walked in enumerate(self._walked):
            for folder in self._zones(walked, looks):
                self._catalog.conn.execute(
                    "UPDATE temp.unseen SET zone = 1 WHERE area = ? AND (path = ? OR (path >= ? AND path < ?))",
                    (index, folder, *span(folder)),
                )

    def _zones(self, walked: Walked, looks: _Looks) -> set[bytes]:
        """Folders below which no file counts as missing, possibly the root or a named file."""
        root = walked.area.root
        zones = set(walked.walk.unreadable)
        # A named file is missing when its folder exists and is not empty.
        if looks.is_away(os.path.dirname(root.path) if root.is_file else root.path):
            zones.add(root.path)
        mounts = {*root.mounts, *walked.walk.mounts}
        if walked.mount is not None:
            mounts.add(walked.mount)
        return zones | {mount for mount in mounts if looks.is_unmounted(mount)}

    def decide(self, *, record: bool = False) -> dict[str, int]:
        """How many files are excluded, offline and missing, without those that were missing before.

        `record` stores it, and drops the rows of excluded files; call inside a transaction then.
        """
        counts = {"excluded": 0, "offline": 0, "missing": 0}
        for index, walked in enumerate(self._walked):
            if not walked.walk.complete:
                continue
            emptied = self._emptied(index, walked)
            for unseen in self._unseen(index):
                decision = self._decision(walked, unseen, emptied)
                if decision is None:
                    continue
                counts[decision] += unseen.state != "missing"
                if record:
                    self._record(unseen, decision)
        return counts

    def _unseen(self, index: int) -> Iterator[_Unseen]:
        for file_id, path, state, zone in self._catalog.conn.execute(
            "SELECT file_id, path, state, zone FROM temp.unseen WHERE area = ? AND NOT moved ORDER BY path", (index,)
        ):
            yield _Unseen(file_id, path, state, bool(zone))

    def _decision(self, walked: Walked, unseen: _Unseen, emptied: Collection[bytes]) -> str | None:
        """None: undecided, for instance a file that came after the walk."""
        if not walked.walk.rules.reaches(unseen.path):
            return "excluded"
        if unseen.zone or (emptied and any(at in emptied for at in upwards(unseen.path))):
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

    def _record(self, unseen: _Unseen, decision: str) -> None:
        conn = self._catalog.conn
        if decision == "excluded":
            conn.execute("DELETE FROM files WHERE id = ?", (unseen.file_id,))
        elif unseen.state != "missing":  # A missing file stays missing when its drive goes away.
            conn.execute("UPDATE files SET state = ?, reason = NULL WHERE id = ?", (decision, unseen.file_id))

    def _emptied(self, index: int, walked: Walked) -> set[bytes]:
        """Folders that are empty now and whose files mostly were not found elsewhere: something is not mounted."""
        balance = dict.fromkeys(walked.walk.empty, 0)
        if balance:
            for path, moved in self._catalog.conn.execute(
                "SELECT path, moved FROM temp.unseen WHERE area = ? AND state != 'missing'", (index,)
            ):
                for at in upwards(path):
                    if at in balance:
                        balance[at] += -1 if moved else 1
        return {folder for folder, count in balance.items() if count > 0}

    def remember_mounts(self) -> None:
        """Store with each root the mount points that were seen, and absent ones with offline files below."""
        looks = _Looks()
        for walked in self._walked:
            root = self._roots.all.get(walked.area.root.path)
            if root is None or not walked.walk.complete:
                continue
            mounts = set(walked.walk.mounts)
            if walked.mount is not None and not looks.is_unmounted(walked.mount):
                mounts.add(walked.mount)
            for mount in root.mounts:
                passed_by = is_within(mount, root.path) and not is_within(mount, walked.area.start)
                if passed_by or (looks.is_unmounted(mount) and self._holds_offline(mount)):
                    mounts.add(mount)
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


class _Looks:
    """The state of folders now; each is read once."""

    def __init__(self) -> None:
        self._away: dict[bytes, bool] = {}

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
        return self.is_away(mount) or not _is_mount(mount)


def mount_above(path: bytes) -> bytes | None:
    """The innermost mount point that contains `path`, itself included; None for the top of the file system."""
    for at in upwards(path):
        if _is_mount(at):
            return at
    return None


def may_be_mount(folder: bytes) -> bool:
    """Whether a folder is a mount point, or so empty or absent that it may be one."""
    return _Looks().is_away(folder) or _is_mount(folder)


def _is_mount(folder: bytes) -> bool:
    try:
        return os.stat(folder).st_dev != os.stat(os.path.dirname(folder)).st_dev
    except OSError:
        return False


def _is_gone(path: bytes) -> bool:
    """Whether there is certainly no regular file at a path."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError as exc:
        return exc.errno in GONE
