"""Snapshot files on disk: published whole or not at all, known by their hash. What they hold is no matter here."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path

from clipsearch.vectors import DamagedSnapshot, FileStat, SnapshotError, SnapshotFile

SUFFIX = ".faiss"
TEMPORARY = ".tmp"

Write = Callable[[bytes], object]


def file_stat(path: Path) -> FileStat:
    """Size, mtime and inode of `path`. Raises OSError."""
    seen = path.stat()
    return seen.st_size, seen.st_mtime_ns, seen.st_ino


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(
    folder: Path, name: str, *, produce: Callable[[Write], None], check: Callable[[Path], None]
) -> tuple[FileStat, str]:
    """Write `folder`/`name` through `produce`, which is handed a `write`; the stat and the SHA-256 of what was written.

    The bytes go to a temporary file in `folder`, are flushed to the disk and read back; `check` then looks at that
    file and raises what it likes. Only after that does the name appear. Whatever goes wrong, nothing is left behind.
    Raises SnapshotError where the file system refuses.
    """
    if not name.endswith(SUFFIX) or Path(name).name != name:
        raise ValueError(f"A snapshot is named like library-7{SUFFIX}, not {name!r}")
    path, temporary = folder / name, folder / (name + TEMPORARY)
    try:
        digest = hashlib.sha256()
        with temporary.open("wb") as file:

            def write(data: bytes) -> None:
                digest.update(data)
                file.write(data)

            produce(write)
            file.flush()
            os.fsync(file.fileno())
        if file_sha256(temporary) != digest.hexdigest():
            raise SnapshotError(f"{path} does not read back as it was written; check the disk")
        check(temporary)
        temporary.replace(path)
        flush_folder(folder)
        return file_stat(path), digest.hexdigest()
    except OSError as exc:
        raise SnapshotError(
            f"The vector index cannot be written to {path}: {exc.strerror or exc}. "
            "The catalog is complete; make room or mend the folder and index again"
        ) from exc
    finally:
        with contextlib.suppress(OSError):  # it would hide why there is something to remove
            temporary.unlink()


def verify(folder: Path, snapshot: SnapshotFile, *, trusted: Collection[FileStat] = ()) -> tuple[FileStat, bool]:
    """The stat of `snapshot`'s file, and whether its hash had to be taken: its stat is neither recorded nor `trusted`.

    Raises DamagedSnapshot where the file is gone, or its size or hash is another.
    """
    path = folder / snapshot.name
    try:
        stat = file_stat(path)
        if stat[0] != snapshot.bytes:
            raise DamagedSnapshot(f"{path} has {stat[0]:,} bytes instead of {snapshot.bytes:,}")
        if stat == snapshot.stat or stat in trusted:
            return stat, False
        if file_sha256(path) != snapshot.sha256:
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
        if entry.name.endswith((SUFFIX, SUFFIX + TEMPORARY)) and entry.name not in keep and not entry.is_dir():
            entry.unlink(missing_ok=True)
            gone.append(entry.name)
    return tuple(gone)


def flush_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
