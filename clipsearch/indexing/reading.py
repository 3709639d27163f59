"""Reads one file for an index run: its bytes once, their digest, and the pixels where the catalog lacks them.

Runs in the decoder threads. What it returns says everything that the writer has to record.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from clipsearch import images
from clipsearch.catalog import Catalog
from clipsearch.encoders import Encoder
from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.indexing.reconcile import RACY_NS, SKEW_NS, UNKNOWN_MTIME, Work
from clipsearch.types import ContentState, ImageFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IN_MEMORY_BYTES = 256 * 2**20
"""Larger files are hashed in pieces and decoded from their descriptor."""

_PIECE = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Settled:
    """The file owed something that another copy of it has paid meanwhile; it was not opened."""

    work: Work


@dataclass(frozen=True, slots=True)
class Unread:
    """The file could not be read, now; nothing is remembered of its content. `vanished`: it is no longer there."""

    work: Work
    reason: str
    vanished: bool = False


@dataclass(frozen=True, slots=True)
class Changing:
    """The file changed while it was read."""

    work: Work


@dataclass(frozen=True, slots=True)
class Known:
    """The content is in the catalog and owes nothing."""

    work: Work
    size: int
    mtime_ns: int
    content_id: int
    state: ContentState


@dataclass(frozen=True, slots=True)
class Broken:
    """The content cannot be decoded: `state` is "failed" or "unsupported"."""

    work: Work
    size: int
    mtime_ns: int
    digest: bytes
    state: ContentState
    reason: str


@dataclass(frozen=True, slots=True)
class Truncated:
    """The file ends early; `Reader.read(…, truncated=True)` decodes what there is."""

    work: Work


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels for the encoder, uint8 of shape (3, S, S)."""

    work: Work
    size: int
    mtime_ns: int
    digest: bytes
    facts: ImageFacts
    pixels: NDArray[np.uint8]
    state: ContentState
    reason: str | None


Outcome = Settled | Unread | Changing | Known | Broken | Truncated | Decoded


class Reader:
    """Reads files for one run. `catalog` is a reading connection of its own, shared by the threads.

    `opened` counts the files whose bytes were read.
    """

    def __init__(self, catalog: Catalog, encoder: Encoder, encoder_id: int, *, max_pixels: int) -> None:
        self.decoder = images.decoder_version(max_pixels)
        self.opened = 0
        self._catalog = catalog
        self._encoder = encoder
        self._encoder_id = encoder_id
        self._max_pixels = max_pixels
        self._lock = threading.Lock()

    def read(self, work: Work, *, truncated: bool = False) -> Outcome:
        """Read, hash and decode one file. Raises nothing for what may be wrong with it."""
        if work.owing and not truncated and work.content_id is not None and self._paid(work.content_id):
            return Settled(work)
        try:
            # A FIFO that took the file's place since the walk would block without O_NONBLOCK.
            descriptor = os.open(work.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            with os.fdopen(descriptor, "rb") as file:
                return self._read(work, file, truncated=truncated)
        except FileNotFoundError:
            return Unread(work, "it vanished before it was read", vanished=True)
        except OSError as exc:
            return Unread(work, (exc.strerror or str(exc)).lower())
        except MemoryError:
            return Unread(work, "not enough memory to decode it now")

    def _read(self, work: Work, file: BinaryIO, *, truncated: bool) -> Outcome:
        if not truncated:  # Else it was counted before it was set aside.
            with self._lock:
                self.opened += 1
        started_ns = time.time_ns()
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            return Unread(work, "no longer a regular file")
        data: bytes | None
        if before.st_size <= IN_MEMORY_BYTES:
            data = file.read(before.st_size)  # A file that grows on ends here.
            digest = hashlib.sha256(data).digest()
        else:
            data = None
            digest = _digest(file)
        if _changed(before, os.fstat(file.fileno())):
            return Changing(work)
        racy = started_ns - RACY_NS < before.st_mtime_ns < started_ns + SKEW_NS
        mtime_ns = UNKNOWN_MTIME if racy else before.st_mtime_ns
        known = self._known(digest)
        if known is not None:
            return Known(work, before.st_size, mtime_ns, *known)
        if data is None:
            file.seek(0)
        elif not data:
            return Broken(work, 0, mtime_ns, digest, "failed", "the file is empty")
        outcome = self._decode(work, data if data is not None else file, before.st_size, mtime_ns, digest, truncated)
        if data is None and _changed(before, os.fstat(file.fileno())):
            return Changing(work)
        return outcome

    def _decode(
        self, work: Work, source: bytes | BinaryIO, size: int, mtime_ns: int, digest: bytes, truncated: bool
    ) -> Outcome:
        try:
            picture = images.open_picture(source, max_pixels=self._max_pixels, truncated=truncated)
            pixels = self._encoder.prepare(picture)
        except TruncatedImageError as exc:
            if not truncated:
                return Truncated(work)
            return Broken(work, size, mtime_ns, digest, "failed", str(exc))
        except UnsupportedImageError as exc:
            return Broken(work, size, mtime_ns, digest, "unsupported", str(exc))
        except ImageError as exc:
            cause = exc.__cause__
            if isinstance(cause, OSError) and cause.errno is not None:
                raise cause from exc  # The disk's failure, not the picture's: Pillow's own errors have no number.
            return Broken(work, size, mtime_ns, digest, "failed", str(exc))
        state: ContentState = "partial" if truncated else "ok"
        reason = "the file ends early; what there is was indexed" if truncated else None
        return Decoded(work, size, mtime_ns, digest, picture.facts, pixels, state, reason)

    def _paid(self, content_id: int) -> bool:
        with self._lock:
            return self._catalog.has_vector(content_id, self._encoder_id)

    def _known(self, digest: bytes) -> tuple[int, ContentState] | None:
        """The content with this digest, if it owes nothing: it has its vector, or a failure that is not due again."""
        with self._lock:
            row = self._catalog.content_by_digest(digest)
            if row is None:
                return None
            content_id, state, decoder = row
            if state in ("ok", "partial"):
                settled = self._catalog.has_vector(content_id, self._encoder_id)
            else:
                settled = decoder == self.decoder
            return (content_id, state) if settled else None


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.digest()


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino)
