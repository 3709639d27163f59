"""Reads one file for an index run: its bytes once, their digest, and the pixels of the pending views.

Runs in the decoder threads. What it returns is all that the recorder needs: the pixels, or why the file failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.contents import BLANK, Entry
from clipsearch.encoders.base import Encoder
from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError, reason
from clipsearch.files import UNKNOWN_MTIME, mtime_of
from clipsearch.images import tiles
from clipsearch.images.lookahead import Budget
from clipsearch.images.open import READER_REVISION, decoder_version, open_image
from clipsearch.images.tiles import Tiles, View
from clipsearch.indexing.reconcile import RACY_NS, SKEW_NS, Work
from clipsearch.types import ContentState, HitState, ImageFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.images.picture import Picture

IN_MEMORY_BYTES = 256 * 2**20
"""Larger files are hashed in pieces and decoded from their descriptor."""

_COMPARED = 512
"""The longer side, in pixels, at which two decodes of a file are compared."""

_PIECE = 4 * 2**20


@dataclass(frozen=True, slots=True)
class _Tried:
    work: Work


class Done(_Tried):
    """Its content was pending and is no longer, by another copy of the file; it was not opened."""


@dataclass(frozen=True, slots=True)
class Reread(_Tried):
    """The facts of a known content, by a newer reader than its last; its pixels are those that have been encoded."""

    size: int
    mtime_ns: int
    content_id: int
    facts: ImageFacts
    state: HitState
    reason: str | None


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
    """Pixels for the encoder, uint8 of shape (n, 3, S, S): one for each of `views`.

    `corrects`: an older reader decoded other pixels, so that the content's old vectors must go.
    """

    facts: ImageFacts
    views: tuple[View, ...]
    pixels: NDArray[np.uint8]
    state: ContentState
    reason: str | None
    corrects: bool


Outcome = Done | Unread | Changing | Known | Reread | Broken | Truncated | Decoded


class _Kept(NamedTuple):
    """What the catalog has of a content, and what must be read again from its bytes; None: nothing."""

    entry: Entry
    need: Literal["pixels", "facts"] | None


class Reader:
    """Reads files for one run. `catalog` is a reading connection of its own, shared by the threads.

    `load` gives the encoder when pixels are needed. `tiles`: which views an image has; `budget` limits what is decoded
    ahead. `opened` counts the files that were opened.
    """

    def __init__(
        self,
        catalog: Catalog,
        load: Callable[[], Encoder],
        encoder_id: int,
        *,
        tiles: Tiles,
        max_pixels: int,
        budget: Budget,
    ) -> None:
        self.decoder = decoder_version(max_pixels)
        self.opened = 0
        self._catalog = catalog
        self._load = load
        self._encoder_id = encoder_id
        self._tiles = tiles
        self._max_pixels = max_pixels
        self._budget = budget
        self._lock = threading.Lock()

    def read(self, work: Work, *, turn: int = 0, truncated: bool = False) -> Outcome:
        """Read, hash and decode one file, ahead of its `turn`. What is wrong with it is returned, not raised.

        What comes back as `Decoded` has taken its views from the budget, unless it is `truncated`.
        """
        kept = None
        if work.pending and not truncated and work.content_id is not None:
            kept = self._kept(content_id=work.content_id)
            if kept is not None and kept.need is None:
                return Done(work)
        try:
            # A FIFO that took the file's place since the walk would block without O_NONBLOCK.
            descriptor = os.open(work.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            with os.fdopen(descriptor, "rb") as file:
                if not truncated:  # A truncated file was counted when it was set aside.
                    with self._lock:
                        self.opened += 1
                if kept is not None and kept.need == "facts" and (reread := self._reread(work, file, kept.entry)):
                    return reread
                return self._read(work, file, turn, truncated=truncated)
        except FileNotFoundError:
            return Unread(work, "it vanished before it was read", vanished=True)
        except OSError as exc:
            return Unread(work, reason(exc))
        except MemoryError:
            return Unread(work, "not enough memory to decode it now")

    def _reread(self, work: Work, file: BinaryIO, entry: Entry) -> Reread | None:
        """The facts in the header of an unchanged file; None where the whole file must be read."""
        about = os.fstat(file.fileno())
        if entry.state == "ok" and stat.S_ISREG(about.st_mode) and _matches(work, about):
            with contextlib.suppress(ImageError):  # `_read` gets the same error, and reports it.
                image = open_image(file, max_pixels=self._max_pixels)
                if not image.changed_since(entry.revision):
                    return Reread(work, work.size, work.mtime_ns, entry.id, image.facts, "ok", _remark(image))
        file.seek(0)
        return None

    def _read(self, work: Work, file: BinaryIO, turn: int, *, truncated: bool) -> Outcome:
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
        kept = self._kept(digest=digest)
        if kept is not None and kept.need is None:
            return Known(*hashed, kept.entry.id, kept.entry.state)
        if data is None:
            file.seek(0)
        elif not data:
            return Broken(*hashed, "failed", "the file is empty")
        outcome = self._decode(hashed, kept, file if data is None else data, turn, truncated=truncated)
        if data is None and _changed(before, os.fstat(file.fileno())):
            if isinstance(outcome, Decoded) and not truncated:
                self._budget.release(len(outcome.views))
            return Changing(work)
        return outcome

    def _decode(
        self,
        hashed: tuple[Work, int, int, bytes],
        kept: _Kept | None,
        source: bytes | BinaryIO,
        turn: int,
        *,
        truncated: bool,
    ) -> Outcome:
        work, size, mtime_ns, _ = hashed
        taken = 0
        try:
            image = open_image(source, max_pixels=self._max_pixels, truncated=truncated)
            state: HitState = "partial" if truncated else "ok"
            corrects = kept is not None and self._corrects(image, kept.entry, source, truncated=truncated)
            if kept is not None and kept.need == "facts" and not corrects:
                remark = _remark(image, truncated=truncated)
                return Reread(work, size, mtime_ns, kept.entry.id, image.facts, state, remark)
            views = self._missing_views(image, None if corrects or kept is None else kept.entry.id)
            if not truncated:
                self._budget.take(turn, len(views))
                taken = len(views)
            pixels, views = self._prepare(image, views)
            taken = 0
            remark = _remark(image, pixels[0], truncated=truncated)
        except TruncatedImageError as exc:
            if not truncated:
                return Truncated(work)
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
        return Decoded(*hashed, image.facts, views, pixels, state, remark, corrects)

    def _corrects(self, image: Picture, entry: Entry, source: bytes | BinaryIO, *, truncated: bool) -> bool:
        """Whether an older reader decoded other pixels of `source`, from which `image` comes. Raises ImageError."""
        if entry.revision >= READER_REVISION:
            return False
        if image.changed_since(entry.revision):
            return True
        if entry.state != "partial" or truncated:
            return False
        # An older reader took it for truncated. If it is complete, what that reader skipped may be all the same.
        cut = open_image(source, max_pixels=self._max_pixels, truncated=True)
        return image.upright(max_side=_COMPARED).tobytes() != cut.upright(max_side=_COMPARED).tobytes()

    def _missing_views(self, image: Picture, content_id: int | None) -> tuple[View, ...]:
        """The views without a vector in the catalog; at least one."""
        views = tiles.views(image.facts.width, image.facts.height, self._tiles)
        if content_id is None:
            return views
        with self._lock:
            held = self._catalog.embeddings.existing_views(content_id, self._encoder_id)
        return tuple(view for view in views if view.number not in held) or views

    def _prepare(self, image: Picture, views: Sequence[View]) -> tuple[NDArray[np.uint8], tuple[View, ...]]:
        """Pixels (n, 3, S, S) of the views: decoded once, or twice where a tile needs a larger draft than the whole.

        Where that is too large for the limit, the whole image stands in for the tile, so that it is not pending again.
        """
        import numpy as np

        encoder = self._load()
        pixels, shown = [], []
        for view in views:
            try:
                pixels.append(encoder.prepare(image, box=view.box))
                shown.append(view)
            except ImageError as exc:
                if view.box is None or isinstance(exc, TruncatedImageError) or isinstance(exc.__cause__, OSError):
                    raise
                pixels.append(encoder.prepare(image))
                shown.append(View(view.number, None))
        return np.stack(pixels), tuple(shown)

    def _kept(self, *, digest: bytes = b"", content_id: int = 0) -> _Kept | None:
        """What is known of the content with this digest, or else this id; None if it is new."""
        with self._lock:
            contents = self._catalog.contents
            entry = contents.by_digest(digest) if digest else contents.by_id(content_id)
            if entry is None:
                return None
            if entry.state not in ("ok", "partial"):
                return _Kept(entry, None if entry.decoder == self.decoder else "pixels")
            if self._catalog.embeddings.has_pending_views(entry.id, self._encoder_id, self._tiles):
                return _Kept(entry, "pixels")
            return _Kept(entry, "facts" if entry.revision < READER_REVISION else None)


def _remark(image: Picture, pixels: NDArray[np.uint8] | None = None, *, truncated: bool = False) -> str | None:
    """The reason recorded for an image that was decoded, if there is anything to say; `pixels` are of one view."""
    if truncated:
        return "the file ends early; what there is was indexed"
    return BLANK if image.is_blank(pixels) else None


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.digest()


def _matches(work: Work, about: os.stat_result) -> bool:
    return (work.size, work.mtime_ns) == (about.st_size, mtime_of(about))


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino)
