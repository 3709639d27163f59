"""Vectors for an evaluation: from the library, from the store, or computed in batches and stored."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.contents import Content
from clipsearch.encoders import devices
from clipsearch.encoders.base import Encoder, EncoderOptions, encode_halving
from clipsearch.errors import ImageError, StoppedError, UsageError, reason
from clipsearch.evaluate.alterations import COPY_SIDE, Alteration
from clipsearch.evaluate.results import Effort, Missed
from clipsearch.evaluate.store import Kept, VectorStore
from clipsearch.files import PathLike
from clipsearch.images import decode
from clipsearch.images.open import DECODED_REVISION
from clipsearch.images.requests import Steps
from clipsearch.images.workers import shared
from clipsearch.indexing.progress import Meter
from clipsearch.indexing.results import Progress
from clipsearch.search.embed import SHOWN_CUT
from clipsearch.types import EncoderInfo

TEXT_BATCH = 32
"""Texts that are encoded together; between two batches a run can be stopped."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where an evaluation finds vectors, and where it reports its progress.

    library: a folder whose vectors are used; None for none. cache: the folder of the store; None for the cache
    directory. `stop` is called between batches: once it is true, the current one is finished and StoppedError raised.
    """

    library: PathLike | None = None
    options: EncoderOptions = field(default_factory=EncoderOptions)
    progress: Callable[[Progress], None] | None = None
    stop: Callable[[], bool] = lambda: False
    cache: Path | None = None


ALONE = Workplace()
"""Without a library or progress."""


@dataclass(frozen=True, slots=True)
class Work:
    """An image to embed, unchanged or altered."""

    path: bytes
    alteration: Alteration | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """An image's unit vector (dim,), or the reason why there is none; `digest`: SHA-256 of its file's bytes."""

    work: Work
    vector: NDArray[np.float32] | None
    digest: bytes = b""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a task found: a known vector, pixels to encode, or a reason for neither."""

    work: Work
    digest: bytes = b""
    kept: NDArray[np.float32] | None = None
    pixels: NDArray[np.uint8] | None = None
    partial: bool = False
    reason: str | None = None


class VectorSource:
    """The vectors of one encoder."""

    def __init__(
        self,
        info: EncoderInfo,
        load: Callable[[], Encoder],
        *,
        row: EncoderRow | None,
        catalog: Catalog | None,
        store: VectorStore,
        place: Workplace,
        meter: Meter,
        notices: Sequence[str] = (),
    ) -> None:
        self.info = info
        self.row = row
        self._load = load
        self._catalog = catalog if row is not None else None
        self._store = store
        self._place = place
        self._meter = meter
        self._batch_size = devices.batch_size(place.options.device)
        self._encoded = self._taken = 0
        self._seconds = 0.0
        self._notices = list(notices)
        self._partial: dict[str, None] = {}  # Truncated files, each once, however many copies are made of it.

    @property
    def notices(self) -> tuple[str, ...]:
        """What the caller should know about the vectors."""
        if not self._partial:
            return tuple(self._notices)
        more = f" and {len(self._partial) - 1} more end" if len(self._partial) > 1 else " ends"
        return (*self._notices, f"{next(iter(self._partial))}{more} early; what there is was used")

    @property
    def effort(self) -> Effort:
        return Effort(self._encoded, self._taken, self._seconds)

    def let_go(self) -> None:
        """Release the encoder, once all is embedded: the next one needs the memory."""

        def gone() -> Encoder:
            raise RuntimeError("a source was asked for vectors after it was let go")

        self._load = gone

    def spare(self, count: int) -> None:
        """Of the announced items, so many will not be needed."""
        self._meter.done(count)

    # Images

    def pictures(self, works: Sequence[Work]) -> list[Embedded]:
        """Embed images; the results are in the order of `works`. Raises StoppedError, EncoderError."""
        begun = time.monotonic()
        done: dict[int, Embedded] = {}
        waiting: list[tuple[int, _Loaded]] = []
        workers = shared()
        tasks = (functools.partial(self._read, work) for work in works)
        ahead = workers.run(tasks, ahead=self._batch_size + workers.count, stop=self._place.stop)
        with contextlib.closing(ahead):
            for place, loaded in enumerate(ahead):
                if loaded.partial:
                    self._partial[os.fsdecode(loaded.work.path)] = None
                if loaded.pixels is not None:
                    waiting.append((place, loaded))
                    if len(waiting) >= self._batch_size:
                        done |= self._encode(waiting)
                        waiting = []
                else:
                    self._taken += loaded.kept is not None
                    done[place] = Embedded(loaded.work, loaded.kept, loaded.digest, loaded.reason)
                    self._meter.done(1, skipped=loaded.kept is None)
                if self._place.stop():
                    break
        done |= self._encode(waiting)
        self._seconds += time.monotonic() - begun
        self.stop_if_asked()
        return [done[place] for place in range(len(works))]

    def _encode(self, waiting: Sequence[tuple[int, _Loaded]]) -> dict[int, Embedded]:
        pixels = [loaded.pixels for _, loaded in waiting if loaded.pixels is not None]
        if not pixels:
            return {}
        vectors = encode_halving(self._load(), np.stack(pixels))
        self._store.put(
            self.info.fingerprint,
            {
                _key(loaded.digest, loaded.work.alteration): Kept(vector, loaded.partial)
                for (_, loaded), vector in zip(waiting, vectors, strict=True)
            },
        )
        self._encoded += len(vectors)
        self._meter.done(len(vectors), encoded=len(vectors))
        return {
            place: Embedded(loaded.work, vector, loaded.digest)
            for (place, loaded), vector in zip(waiting, vectors, strict=True)
        }

    def _read(self, work: Work) -> Steps[_Loaded]:
        """What is wrong with the image is returned, not raised."""
        known = self._unchanged(work.path)
        digest = known.digest if known else b""
        try:
            if known is None:
                digest = yield from self._digest(work.path)
            kept = self._kept(digest, work.alteration)
            if kept is not None:
                return _Loaded(work, digest, kept=kept.vector, partial=kept.truncated)
            if known is not None:
                yield from decode.opened(work.path)
            pixels, partial = yield from self._prepare(work.alteration)
        except ImageError as exc:
            return _Loaded(work, digest, reason=str(exc))
        except OSError as exc:
            return _Loaded(work, digest, reason=reason(exc))
        except (MemoryError, ValueError) as exc:  # In the catalog, a name with a zero byte is a ValueError.
            return _Loaded(work, digest, reason=str(exc) or "not enough memory")
        return _Loaded(work, digest, pixels=pixels, partial=partial)

    def _digest(self, path: bytes) -> Steps[bytes]:
        file = yield from decode.read(path)
        if not file.regular:
            raise ImageError("not a regular file")
        return file.digest

    def _unchanged(self, path: bytes) -> Content | None:
        """The content of a file that is unchanged since it was indexed."""
        if self._catalog is None:
            return None
        content_id = self._catalog.files.unchanged_content(path)
        return None if content_id is None else self._catalog.contents.get(content_id)

    def _kept(self, digest: bytes, alteration: Alteration | None) -> Kept | None:
        """The vector of a content, from the library or from the store."""
        if alteration is None and self._catalog is not None and self.row is not None:
            content = self._catalog.contents.by_digest(digest)
            vector = self._catalog.embeddings.vector_of(content[0], self.row.id) if content else None
            if vector is not None:
                return Kept(vector)
        key = _key(digest, alteration)
        return self._store.get(self.info.fingerprint, [key], dim=self.info.dim).get(key)

    def _prepare(self, alteration: Alteration | None) -> Steps[tuple[NDArray[np.uint8], bool]]:
        """Pixels of the open file for the encoder, and whether the file ends early. Raises ImageError."""
        if alteration is None:
            return (yield from decode.whole_pixels(self.info.preprocess))
        upright = functools.partial(decode.Image.upright, max_side=COPY_SIDE)
        image, partial = yield from decode.as_far_as_it_goes(upright)
        yield from decode.given(alteration.applied(image))
        pixels, _ = yield from decode.whole_pixels(self.info.preprocess)
        return pixels, partial

    # Texts

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows of shape (len(texts), dim). Raises StoppedError, EncoderError."""
        begun = time.monotonic()
        keys = {text: hashlib.sha256(b"text\0" + text.encode("utf-8", "surrogateescape")).digest() for text in texts}
        kept = self._store.get(self.info.fingerprint, keys.values(), dim=self.info.dim)
        known = {text: kept[key] for text, key in keys.items() if key in kept}
        self._taken += len(known)
        missing = [text for text in keys if text not in known]
        self._meter.done(len(known))
        for start in range(0, len(missing), TEXT_BATCH):
            part = missing[start : start + TEXT_BATCH]
            encoder = self._load()
            vectors = encoder.encode_texts(part)
            new = {t: Kept(v, bool(encoder.overflow(t))) for t, v in zip(part, vectors, strict=True)}
            self._store.put(self.info.fingerprint, {keys[text]: one for text, one in new.items()})
            known |= new
            self._encoded += len(part)
            self._meter.done(len(part))
            self.stop_if_asked()
        self._seconds += time.monotonic() - begun
        cut = [text for text, one in known.items() if one.truncated]
        if cut:
            shown = cut[0] if len(cut[0]) <= SHOWN_CUT else cut[0][:SHOWN_CUT] + "…"
            many = f"{len(cut)} texts are" if len(cut) > 1 else "a text is"
            self._notices.append(f"{many} too long for {self.info.spec}, and cut: {shown!r}")
        return np.stack([known[text].vector for text in texts])

    def stop_if_asked(self) -> None:
        """Raise StoppedError where the workplace's `stop` is true."""
        if self._place.stop():
            raise StoppedError("stopped early; what was embedded is kept, and the same command goes on from there")


def _key(digest: bytes, alteration: Alteration | None) -> bytes:
    """The key of a vector: a SHA-256 over that of the image, the reader's revision, and how the image was altered."""
    altered = "" if alteration is None else alteration.key
    return hashlib.sha256(digest + f"\0{DECODED_REVISION}\0{altered}".encode()).digest()


def usable(embedded: Iterable[Embedded]) -> tuple[list[int], NDArray[np.float32], tuple[Missed, ...]]:
    """The positions of the images that have vectors, those vectors as rows, and the other images.

    Raises UsageError where no image has one.
    """
    items = list(embedded)
    there = [place for place, item in enumerate(items) if item.vector is not None]
    missed = {item.work.path: item.reason or "" for item in items if item.vector is None}
    if not there:
        path, reason = next(iter(missed.items()))
        raise UsageError(f"none of the {len(missed)} pictures can be read; the first: {os.fsdecode(path)}: {reason}")
    vectors = np.stack([vector for item in items if (vector := item.vector) is not None])
    return there, vectors, tuple(Missed(os.fsdecode(path), reason) for path, reason in missed.items())
