"""Snapshot files on disk, whatever engine wrote them: published whole or not at all, known by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch import files
from clipsearch.files import TEMPORARY, Stamp
from clipsearch.vectors.index import DamagedSnapshot, SnapshotError, SnapshotFile

if TYPE_CHECKING:
    from clipsearch.vectors.index import Write

SUFFIX = ".faiss"
"""Of every snapshot, whatever its engine: the first engines were FAISS's. The catalog records which one wrote it."""


def publish(
    folder: Path, name: str, *, produce: Callable[[Write], None], check: Callable[[Path], None]
) -> tuple[Stamp, str]:
    """Write `folder`/`name` through `produce`, which is handed a `write`; the stat and the SHA-256 of what was written.

    The bytes go to a temporary file in `folder`, are flushed to the disk and read back; `check` then checks that
    file and may raise. Only after that does the name appear. If anything fails, nothing is left behind.
    Raises SnapshotError where the file system refuses.
    """
    if not name.endswith(SUFFIX) or Path(name).name != name:
        raise ValueError(f"A snapshot is named like library-7{SUFFIX}, not {name!r}")
    path = folder / name
    try:
        digest = hashlib.sha256()
        with files.replacing(path) as temporary:
            with temporary.open("wb") as file:

                def write(data: bytes) -> None:
                    digest.update(data)
                    file.write(data)

                produce(write)
            files.sync(temporary)
            if files.sha256(temporary) != digest.hexdigest():
                raise SnapshotError(f"{path} does not read back as it was written", advice="check the disk")
            check(temporary)
        return files.stamp(path), digest.hexdigest()
    except OSError as exc:
        raise SnapshotError(
            f"cannot write the vector index to {path}: {exc.strerror or exc}",
            advice="the catalog is complete; make room or fix the folder, then index again",
        ) from exc


def verify(folder: Path, snapshot: SnapshotFile, *, trusted: Collection[Stamp] = ()) -> tuple[Stamp, bool]:
    """The stat of `snapshot`'s file, and whether its hash had to be taken: its stat is neither recorded nor `trusted`.

    Raises DamagedSnapshot where the file is gone, or its size or hash is another.
    """
    path = folder / snapshot.name
    try:
        stat = files.stamp(path)
        if stat[0] != snapshot.bytes:
            raise DamagedSnapshot(f"{path} has {stat[0]:,} bytes instead of {snapshot.bytes:,}")
        if stat == snapshot.stat or stat in trusted:
            return stat, False
        if files.sha256(path) != snapshot.sha256:
            raise DamagedSnapshot(f"{path} is not the file that was published: its hash differs")
        return stat, True
    except OSError as exc:
        raise DamagedSnapshot(f"{path} cannot be read: {exc.strerror or exc}") from exc


def remove_strays(folder: Path, *, keep: Collection[str]) -> tuple[str, ...]:
    """Remove snapshots and leftovers of interrupted writes in `folder` whose name is not in `keep`; the names removed.

    Only for the holder of the writer's lock. Raises OSError.
    """
    gone = []
    for entry in sorted(folder.iterdir()):
        unfinished = SUFFIX in entry.name and entry.name.endswith(TEMPORARY)
        if (unfinished or entry.name.endswith(SUFFIX)) and entry.name not in keep and not entry.is_dir():
            entry.unlink(missing_ok=True)
            gone.append(entry.name)
    return tuple(gone)
