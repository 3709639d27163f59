"""The file of an image: the first of its paths that still is that image, open to be read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.contents import ContentRow
from clipsearch.errors import ImageError, UsageError, reason
from clipsearch.files import mtime_of, open_seen


@dataclass(frozen=True, slots=True)
class Original:
    """digest: SHA-256 in hex. `status` is of the open `file`, which the caller closes; `path` is where it was found."""

    digest: str
    format: str | None
    path: str
    file: BinaryIO
    status: os.stat_result


def recorded(catalog: Catalog, content_id: int) -> tuple[ContentRow, bytes, Mapping[bytes, int]]:
    """An image, its digest, and the times of its files by path. Raises UsageError where there is no such image."""
    with catalog.reading():
        digest = catalog.contents.digest(content_id)
        if digest is None:
            raise UsageError("the library has no such image", path=f"id:{content_id}")
        return catalog.contents.with_files([content_id])[content_id], digest, catalog.files.mtimes(content_id)


def open_original(known: ContentRow, digest: bytes, mtimes: Mapping[bytes, int]) -> Original:
    """The first file that still is what was `recorded`. Raises ImageError."""
    error = ImageError("all of its files are missing", path=f"id:{known.id}")
    for path, mtime_ns in mtimes.items():
        name = os.fsdecode(path)
        try:
            file, status = _opened(path, known.bytes, mtime_ns, digest)
            return Original(digest.hex(), known.format, name, file, status)
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
