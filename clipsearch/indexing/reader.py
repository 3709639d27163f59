"""Reads one file for an index run: its bytes once, their digest, and the pixels of the pending views.

Runs in the decoder threads. What it returns is all that the recorder needs: the pixels, or why the file failed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from clipsearch.catalog.catalog import Catalog
from clipsearch.encoders.base import Encoder
from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError, reason
from clipsearch.files import UNKNOWN_MTIME, mtime_of
from clipsearch.images import tiles
from clipsearch.images.lookahead import Budget
from clipsearch.images.open import decoder_version, open_image
from clipsearch.images.tiles import Tiles, View
from clipsearch.indexing.reconcile import RACY_NS, SKEW_NS, Work
from clipsearch.types import ContentState, ImageFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.images.picture import Picture

IN_MEMORY_BYTES = 256 * 2**20
"""Larger files are hashed in pieces and decoded from their descriptor."""

_PIECE = 4 * 2**20


@dataclass(frozen=True, slots=True)
class _Tried:
    work: Work


class Done(_Tried):
    """Its content was pending and is no longer, by another copy of the file; it was not opened."""


class Changing(_Tried):
    """The file changed while it was read."""


class Truncated(_Tried):
    """The file ends early; `Reader.read(…, truncated=True)` decodes what exists."""


@dataclass(frozen=True, slots=True)
class Unread(_Tried):
    """The file cannot be read now; nothing is recorded about its content. `vanished`: it no longer exists."""

    reason: str
    vanished: bool = False


@dataclass(frozen=True, slots=True)
class _Hashed(_Tried):
    size: int
    mtime_ns: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Known(_Hashed):
    """The content is in the catalog and not pending."""

    content_id: int
    state: ContentState


@dataclass(frozen=True, slots=True)
class Broken(_Hashed):
    """The content cannot be decoded: `state` is "failed" or "unsupported"."""

    state: ContentState
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded(_Hashed):
    """Pixels for the encoder, uint8 of shape (n, 3, S, S): one for each of `views`."""

    facts: ImageFacts
    views: tuple[View, ...]
    pixels: NDArray[np.uint8]
    state: ContentState
    reason: str | None


Outcome = Done | Unread | Changing | Known | Broken | Truncated | Decoded


class Reader:
    """Reads files for one run. `catalog` is a reading connection of its own, shared by the threads.

    `tiles`: which views an image has; `budget` limits what is decoded ahead. `opened` counts the files whose
    bytes were read.
    """

    def __init__(
        self, catalog: Catalog, encoder: Encoder, encoder_id: int, *, tiles: Tiles, max_pixels: int, budget: Budget
    ) -> None:
        self.decoder = decoder_version(max_pixels)
        self.opened = 0
        self._catalog = catalog
        self._encoder = encoder
        self._encoder_id = encoder_id
        self._tiles = tiles
        self._max_pixels = max_pixels
        self._budget = budget
        self._lock = threading.Lock()

    def read(self, work: Work, *, turn: int = 0, truncated: bool = False) -> Outcome:
        """Read, hash and decode one file, ahead of its `turn`. What is wrong with it is returned, not raised.

        What comes back as `Decoded` has taken its views from the budget, unless it is `truncated`.
        """
        if work.pending and not truncated and work.content_id is not None and self._is_done(work.content_id):
            return Done(work)
        try:
            # A FIFO that took the file's place since the walk would block without O_NONBLOCK.
            descriptor = os.open(work.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            with os.fdopen(descriptor, "rb") as file:
                return self._read(work, file, turn, truncated=truncated)
        except FileNotFoundError:
            return Unread(work, "it vanished before it was read", vanished=True)
        except OSError as exc:
            return Unread(work, reason(exc))
        except MemoryError:
            return Unread(work, "not enough memory to decode it now")

    def _read(self, work: Work, file: BinaryIO, turn: int, *, truncated: bool) -> Outcome:
        if not truncated:  # A truncated file was counted when it was set aside.
            with self._lock:
                self.opened += 1
        started_ns = time.time_ns()
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            return Unread(work, "no longer a regular file")
        data: bytes | None
        if before.st_size <= IN_MEMORY_BYTES:
            data = file.read(before.st_size)  # A file that keeps growing ends here.
            digest = hashlib.sha256(data).digest()
        else:
            data = None
            digest = _digest(file)
        if _changed(before, os.fstat(file.fileno())):
            return Changing(work)
        racy = started_ns - RACY_NS < before.st_mtime_ns < started_ns + SKEW_NS
        hashed = work, before.st_size, UNKNOWN_MTIME if racy else mtime_of(before), digest
        known = self._known(digest)
        if known is not None:
            return Known(*hashed, *known)
        if data is None:
            file.seek(0)
        elif not data:
            return Broken(*hashed, "failed", "the file is empty")
        outcome = self._decode(hashed, file if data is None else data, turn, truncated=truncated)
        if data is None and _changed(before, os.fstat(file.fileno())):
            if isinstance(outcome, Decoded) and not truncated:
                self._budget.release(len(outcome.views))
            return Changing(work)
        return outcome

    def _decode(
        self, hashed: tuple[Work, int, int, bytes], source: bytes | BinaryIO, turn: int, *, truncated: bool
    ) -> Outcome:
        taken = 0
        try:
            image = open_image(source, max_pixels=self._max_pixels, truncated=truncated)
            views = self._pending_views(hashed[-1], image)
            if not truncated:
                self._budget.take(turn, len(views))
                taken = len(views)
            pixels, views = self._prepare(image, views)
            taken = 0
        except TruncatedImageError as exc:
            if not truncated:
                return Truncated(hashed[0])
            return Broken(*hashed, "failed", str(exc))
        except UnsupportedImageError as exc:
            return Broken(*hashed, "unsupported", str(exc))
        except ImageError as exc:
            cause = exc.__cause__
            if isinstance(cause, OSError) and cause.errno is not None:
                raise cause from exc  # The disk's failure, not the image's: Pillow's own errors have no number.
            return Broken(*hashed, "failed", str(exc))
        finally:
            self._budget.release(taken)
        state: ContentState = "partial" if truncated else "ok"
        reason = "the file ends early; what there is was indexed" if truncated else None
        return Decoded(*hashed, image.facts, views, pixels, state, reason)

    def _pending_views(self, digest: bytes, image: Picture) -> tuple[View, ...]:
        """The views without a vector in the catalog; at least one."""
        views = tiles.views(image.facts.width, image.facts.height, self._tiles)
        with self._lock:
            row = self._catalog.contents.by_digest(digest)
            held = self._catalog.embeddings.existing_views(row[0], self._encoder_id) if row else set()
        return tuple(view for view in views if view.number not in held) or views

    def _prepare(self, image: Picture, views: Sequence[View]) -> tuple[NDArray[np.uint8], tuple[View, ...]]:
        """Pixels (n, 3, S, S) of the views: decoded once, or twice where a tile needs a larger draft than the whole.

        Where that is too large for the limit, the whole image stands in for the tile, so that it is not pending again.
        """
        import numpy as np

        pixels, shown = [], []
        for view in views:
            try:
                pixels.append(self._encoder.prepare(image, box=view.box))
                shown.append(view)
            except ImageError as exc:
                if view.box is None or isinstance(exc, TruncatedImageError) or isinstance(exc.__cause__, OSError):
                    raise
                pixels.append(self._encoder.prepare(image))
                shown.append(View(view.number, None))
        return np.stack(pixels), tuple(shown)

    def _is_done(self, content_id: int) -> bool:
        with self._lock:
            return not self._catalog.embeddings.has_pending_views(content_id, self._encoder_id, self._tiles)

    def _known(self, digest: bytes) -> tuple[int, ContentState] | None:
        """The content with this digest, if it is not pending: it has its vectors, or a failure that is not retried."""
        with self._lock:
            row = self._catalog.contents.by_digest(digest)
            if row is None:
                return None
            content_id, state, decoder = row
            if state in ("ok", "partial"):
                settled = not self._catalog.embeddings.has_pending_views(content_id, self._encoder_id, self._tiles)
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
