"""The file of an image: the first of its paths that still is that image, open to be read."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import BinaryIO

from clipsearch.catalog.catalog import Catalog
from clipsearch.errors import ImageError, UsageError, reason
from clipsearch.files import mtime_of, open_seen


@dataclass(frozen=True, slots=True)
class Original:
    """digest: SHA-256 in hex. `status` is of the open `file`, which the caller closes; `path` is where it was found."""

    id: int
    digest: str
    format: str | None
    path: str
    file: BinaryIO
    status: os.stat_result


def open_original(catalog: Catalog, content_id: int) -> Original:
    """See `Library.original`, which raises the same."""
    with catalog.reading():
        digest = catalog.contents.digest(content_id)
        if digest is None:
            raise UsageError("the library has no such image", path=f"id:{content_id}")
        known, paths = catalog.contents.with_files([content_id])[content_id], catalog.files.mtimes(content_id)
    error = ImageError("all of its files are missing", path=f"id:{content_id}")
    for path, mtime_ns in paths.items():
        name = os.fsdecode(path)
        try:
            file, status = _opened(path, known.bytes, mtime_ns, digest)
            return Original(content_id, digest.hex(), known.format, name, file, status)
        except OSError as exc:
            error = ImageError(reason(exc), path=name)
    raise error


def _opened(path: bytes, size: int, mtime_ns: int, digest: bytes) -> tuple[BinaryIO, os.stat_result]:
    """A file, open, and its status, if its size and time are those that the catalog recorded, or else its hash.

    It records no time of a file that was written just before it was read. Raises OSError.
    """
    descriptor = open_seen(path)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):  # Of a folder, `fdopen` would raise.
        os.close(descriptor)
        raise OSError("not a regular file")
    file = os.fdopen(descriptor, "rb")
    try:
        if status.st_size != size:
            raise OSError("it has changed since it was indexed")
        if mtime_of(status) != mtime_ns:
            if hashlib.file_digest(file, "sha256").digest() != digest:
                raise OSError("it has changed since it was indexed")
            file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, status
