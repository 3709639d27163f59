"""Reads one file for an index run, in a decoder process: its digest, and the pixels of the pending views.

What comes back is all that the recorder needs: the pixels, or why the file failed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.contents import BLANK, Entry
from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError, reason
from clipsearch.files import EARLIEST, LATEST, UNKNOWN_MTIME
from clipsearch.image_facts import ImageFacts
from clipsearch.images import decode, tiles
from clipsearch.images.limits import LimitError, Limits
from clipsearch.images.open import IN_MEMORY_BYTES, READER_REVISION, decoder_version
from clipsearch.images.requests import Steps, Task
from clipsearch.images.tiles import Tiles, View
from clipsearch.indexing.worklist import Work, Worklist
from clipsearch.types import ContentState, HitState

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


RACY_NS = 2_000_000_000
"""A file written this shortly before it was read may change again within one tick of its clock (git's racy rule)."""

SKEW_NS = 24 * 3600 * 1_000_000_000
"""A file from the future is racy too, up to a day: its server's clock may be ahead of ours."""


def work_of(task: Task[Outcome]) -> Work:
    """What a task of a `Reader` is about."""
    assert isinstance(task, functools.partial)
    work: Work = task.args[0]
    return work


_TRUNCATED = "the file ends early; what there is was indexed"


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
    """The content cannot be decoded: `state` is "failed" or "unsupported". limit: what it exceeded (LimitError)."""

    state: ContentState
    reason: str
    limit: str = ""


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


Outcome = Done | Unread | Changing | Known | Reread | Broken | Decoded


def under_all_names(outcome: Outcome, worklist: Worklist) -> Iterator[Outcome]:
    """The outcome of reading a file, and what it means for the file's other names in the list."""
    yield outcome
    for work in worklist.other_names(outcome.work):
        if isinstance(outcome, Unread) and outcome.vanished:
            yield Changing(work)  # The file has lost a name meanwhile.
        else:
            yield replace(outcome, work=work)


class _Kept(NamedTuple):
    """What the catalog has of a content, and what must be read again from its bytes; None: nothing."""

    entry: Entry
    need: Literal["pixels", "facts"] | None


class Reader:
    """Reads files for one run. `catalog` is a reading connection of its own.

    `row` is the encoder that pixels are for; `tiles`: which views an image has. `sizes` are those of the contents that
    are known from earlier runs, in bytes.
    """

    def __init__(
        self, catalog: Catalog, row: EncoderRow, *, tiles: Tiles, max_pixels: int, limits: Limits, sizes: Container[int]
    ) -> None:
        self._decoder = decoder_version(max_pixels)
        self._limits = limits
        self._sizes = sizes
        self._catalog = catalog
        self._encoder_id = row.id
        self._preprocess = row.info.preprocess
        self._tiles = tiles
        self._max_pixels = max_pixels

    def task(self, work: Work) -> Task[Outcome]:
        """What reads, hashes and decodes one file. What is wrong with it is returned, not raised."""
        return functools.partial(self._try, work, itertools.count())

    def is_new(self, work: Work) -> bool:
        """Whether a file must be new: no known content has its size."""
        return not work.pending and work.size > 0 and work.size not in self._sizes

    def _try(self, work: Work, tries: Iterator[int]) -> Steps[Outcome]:
        is_first = not next(tries)
        kept = None
        if work.pending and work.content_id is not None:
            kept = self._kept(content_id=work.content_id)
            if kept is not None and kept.need is None:
                return Done(work)
        try:
            if kept is not None and kept.need == "facts":
                reread = yield from self._reread(work, kept.entry)
                if reread is not None:
                    return reread
            return (yield from self._read(work, at_once=is_first and self._tiles == "none" and self.is_new(work)))
        except FileNotFoundError:
            return Unread(work, "it vanished before it was read", vanished=True)
        except (OSError, ImageError) as exc:  # One about the image would be `Broken`.
            return Unread(work, reason(exc))
        except MemoryError:
            return Unread(work, "not enough memory to decode it now")

    def _reread(self, work: Work, entry: Entry) -> Steps[Reread | None]:
        """The facts in the header of an unchanged file; None where the whole file must be read."""
        file = yield from decode.opened(work.path)
        if entry.state != "ok" or not file.regular or (file.size, _mtime(file)) != (work.size, work.mtime_ns):
            return None
        try:
            image = yield from decode.image(max_pixels=self._max_pixels, since=entry.revision)
            if image.changed:
                return None
            remark = yield from self._remark(image)
        except ImageError:
            return None  # `_read` gets the same error, and reports it.
        return Reread(work, work.size, work.mtime_ns, entry.id, image.facts, "ok", remark)

    def _read(self, work: Work, *, at_once: bool) -> Steps[Outcome]:
        """`at_once`: decode the image before its digest is known here; where a decoder has failed on it, not again."""
        preprocess = self._preprocess if at_once else None
        file = yield from decode.read(work.path, preprocess=preprocess, max_pixels=self._max_pixels)
        if not file.regular:
            return Unread(work, "no longer a regular file")
        if file.changed:
            return Changing(work)
        mtime_ns = _mtime(file)
        racy = file.started_ns - RACY_NS < mtime_ns < file.started_ns + SKEW_NS
        hashed = work, file.size, UNKNOWN_MTIME if racy else mtime_ns, file.digest
        kept = self._kept(digest=file.digest)
        if kept is not None and kept.need is None:
            return Known(*hashed, kept.entry.id, kept.entry.state)
        if not file.size:
            return Broken(*hashed, "failed", "the file is empty")
        outcome = yield from self._decode(hashed, kept, image=file.image if kept is None else None)
        if file.size > IN_MEMORY_BYTES and (yield from decode.changed(work.path, file)):
            return Changing(work)
        return outcome

    def _decode(
        self,
        hashed: tuple[Work, int, int, bytes],
        kept: _Kept | None,
        *,
        image: decode.Image | None = None,
        truncated: bool = False,
    ) -> Steps[Outcome]:
        work, size, mtime_ns, _ = hashed
        facts_only = kept is not None and kept.need == "facts"
        whole = self._tiles == "none" and not facts_only
        try:
            image = image or (
                yield from decode.image(
                    max_pixels=self._max_pixels,
                    truncated=truncated,
                    since=None if kept is None or kept.entry.revision >= READER_REVISION else kept.entry.revision,
                    preprocess=self._preprocess if whole else None,
                    counted=True,
                )
            )
            state: HitState = "partial" if truncated else "ok"
            corrects = kept is not None and (yield from self._corrects(image, kept.entry, truncated=truncated))
            if kept is not None and facts_only and not corrects:
                remark = yield from self._remark(image, truncated=truncated)
                return Reread(work, size, mtime_ns, kept.entry.id, image.facts, state, remark)
            views = self._missing_views(image.facts, None if corrects or kept is None else kept.entry.id)
            pixels = image.decoded
            if pixels is None:
                pixels = yield from image.pixels(self._preprocess, [view.box for view in views], counted=True)
            remark = _TRUNCATED if truncated else BLANK if pixels.blank else None
        except TruncatedImageError as exc:
            if not truncated:
                return (yield from self._decode(hashed, kept, truncated=True))
            return Broken(*hashed, "failed", str(exc))
        except UnsupportedImageError as exc:
            return Broken(*hashed, "unsupported", str(exc))
        except ImageError as exc:
            return Broken(*hashed, "failed", str(exc), exc.limit if isinstance(exc, LimitError) else "")
        shown = tuple(View(view.number, None) if i in pixels.whole else view for i, view in enumerate(views))
        return Decoded(*hashed, image.facts, shown, pixels.rows, state, remark, corrects)

    def _corrects(self, image: decode.Image, entry: Entry, *, truncated: bool) -> Steps[bool]:
        """Whether an older reader decoded other pixels of the file. Raises ImageError."""
        if entry.revision >= READER_REVISION:
            return False
        if image.changed:
            return True
        if entry.state != "partial" or truncated:
            return False
        # An older reader took it for truncated. If it is complete, what that reader skipped may be all the same.
        return not (yield from image.is_same_as_cut())

    def _remark(self, image: decode.Image, *, truncated: bool = False) -> Steps[str | None]:
        """The reason recorded for an image whose pixels are not needed, if there is anything to say."""
        if truncated:
            return _TRUNCATED
        return BLANK if (yield from image.is_blank()) else None

    def _missing_views(self, facts: ImageFacts, content_id: int | None) -> tuple[View, ...]:
        """The views without a vector in the catalog; at least one."""
        views = tiles.views(facts.width, facts.height, self._tiles)
        if content_id is None:
            return views
        held = self._catalog.embeddings.existing_views(content_id, self._encoder_id)
        return tuple(view for view in views if view.number not in held) or views

    def _kept(self, *, digest: bytes = b"", content_id: int = 0) -> _Kept | None:
        """What is known of the content with this digest, or else this id; None if it is new."""
        contents = self._catalog.contents
        entry = contents.by_digest(digest) if digest else contents.by_id(content_id)
        if entry is None:
            return None
        if entry.state not in ("ok", "partial"):
            return _Kept(entry, None if self._limits.settle(entry.decoder, self._decoder) else "pixels")
        if self._catalog.embeddings.has_pending_views(entry.id, self._encoder_id, self._tiles):
            return _Kept(entry, "pixels")
        return _Kept(entry, "facts" if entry.revision < READER_REVISION else None)


def _mtime(file: decode.Stored) -> int:
    """A file's modification time as the catalog keeps it (`files.mtime_of`)."""
    return min(max(file.mtime_ns, EARLIEST), LATEST)
