"""The cache directory: converted towers, and facts about files that are too dear to work out each time.

Everything in it can be deleted at any moment and is made again. Where it cannot be written, nothing is remembered
and the work is done anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

CACHE_VARIABLE = "CLIPSEARCH_CACHE"

Fact = TypeVar("Fact", str, list[str], dict[str, str])


def cache_dir() -> Path:
    """The folder for what can be made again: `$CLIPSEARCH_CACHE`, else the platform's own. It may not exist yet."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("clipsearch")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes `path`'s place, on disk, when the block ends well.

    Raises OSError where the folder cannot be written.
    """
    import tempfile  # its random numbers and archives would cost every query that writes nothing

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's or a folder's content is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamp(path: Path) -> list[int]:
    """Size, modification time and inode: while they stay the same, the content is taken to be the same too."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, taken anew."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered(path: Path, kind: str, compute: Callable[[Path], Fact]) -> Fact:
    """`compute(path)`, a JSON-able fact about the file, or what it gave last time while the file's stamp is the same.

    `kind` names the fact, with a version that changes when `compute` does: "sha256", "fingerprint-1".
    Raises what `compute` raises, and OSError where the file cannot be looked at.
    """
    path = path.absolute()
    name = hashlib.sha256(kind.encode() + b"\0" + os.fsencode(path)).hexdigest()[:40]
    record = cache_dir() / "facts" / f"{name}.json"
    before = stamp(path)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(record.read_bytes())
        if known["stamp"] == before and known["kind"] == kind and known["path"] == os.fsencode(path).hex():
            return known["fact"]  # type: ignore[no-any-return]
    fact = compute(path)
    if stamp(path) == before:
        known = {"kind": kind, "path": os.fsencode(path).hex(), "stamp": before, "fact": fact}
        with contextlib.suppress(OSError), replacing(record) as temporary:
            temporary.write_text(json.dumps(known))
    return fact


def remembered_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, from memory while the file's stamp is the same."""
    return str(remembered(path, "sha256", file_sha256))
