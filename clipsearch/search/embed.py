"""Terms to unit vectors: texts and images, from the cache and the catalog where they are known."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders.base import Encoder, encode_halving
from clipsearch.errors import ImageError, TruncatedImageError, UsageError, reason
from clipsearch.images.open import open_picture
from clipsearch.search.terms import Region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


LoadEncoder = Callable[[], Encoder]

SHOWN_CUT = 60
"""Characters that are shown of the end of a text that is too long."""

BATCH = 16
"""Pictures that are encoded together; more gains nothing on a CPU."""


def embed_texts(
    texts: Sequence[str], row: EncoderRow, load: LoadEncoder, cache: QueryCache, *, notices: list[str]
) -> NDArray[np.float32]:
    """Unit rows of shape (len(texts), dim), from the cache where these texts were asked for before.

    Adds a notice for each text whose end the encoder ignores.
    """
    import numpy as np

    known = cache.texts(row.info.fingerprint, texts, dim=row.info.dim)
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    if missing:
        encoder = load()
        new = {}
        for text, vector in zip(missing, encoder.encode_texts(missing), strict=True):
            known[text] = vector
            cut = encoder.overflow(text)
            if cut:
                shown = repr(cut if len(cut) <= SHOWN_CUT else cut[:SHOWN_CUT] + "…")
                notices.append(f"the text is too long for {row.info.spec}; ignored was, {len(cut)} characters: {shown}")
            else:
                new[text] = known[text]  # A text that is cut is announced each time, hence never cached.
        cache.put_texts(row.info.fingerprint, new, now=int(time.time()))
    return np.stack([known[text] for text in texts])


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture's unit vector (dim,), or the reason why there is none; `partial` where its file ends early."""

    path: bytes
    vector: NDArray[np.float32] | None
    reason: str | None = None
    partial: bool = False


def embed_picture(
    path: bytes, catalog: Catalog | None, row: EncoderRow, load: LoadEncoder, *, notices: list[str]
) -> NDArray[np.float32]:
    """The unit vector (dim,) of a picture file; one that the catalog holds is not encoded again.

    Adds a notice for a file that ends early. Raises ImageError where it cannot be decoded, UsageError where it cannot
    be read, with messages that name the file.
    """
    stored = _stored_by_stat(path, catalog, row)
    if stored is None:
        data = read_bytes(path)
        stored = _stored_by_digest(data, catalog, row)
        if stored is None:
            return embed_bytes(data, os.fsdecode(path), load, notices=notices)
    return stored


def embed_bytes(
    data: bytes, name: str, load: LoadEncoder, *, region: Region | None = None, notices: list[str]
) -> NDArray[np.float32]:
    """The unit vector (dim,) of a picture, or of a part of it. Raises ImageError and UsageError that name it."""
    pixels, partial = _prepare(data, name, load, region=region)
    if partial:
        notices.append(f"{name} ends early; what there is of it was looked for")
    vector: NDArray[np.float32] = load().encode_images(pixels[None])[0]
    return vector


def _prepare(
    data: bytes, name: str, load: LoadEncoder, *, region: Region | None = None
) -> tuple[NDArray[np.uint8], bool]:
    """Pixels for the encoder, and whether the file ends early. Raises ImageError and UsageError that name it."""

    def prepare(*, truncated: bool) -> NDArray[np.uint8]:
        picture = open_picture(data, truncated=truncated)
        box = region.box(picture.facts.width, picture.facts.height) if region else None
        return load().prepare(picture, box=box)

    try:
        try:
            return prepare(truncated=False), False
        except TruncatedImageError:
            return prepare(truncated=True), True
    except ImageError as exc:
        raise type(exc)(f"{name}: {exc}") from exc


def read_bytes(path: bytes) -> bytes:
    """A file's bytes. Raises UsageError, naming it."""
    name = os.fsdecode(path)
    try:
        # Opening a FIFO would else wait for somebody to write to it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{name}: not a regular file")
            return file.read()
    except OSError as exc:
        raise UsageError(f"{name}: {reason(exc)}") from exc


def embed_pictures(
    paths: Iterable[bytes], catalog: Catalog | None, row: EncoderRow, load: LoadEncoder
) -> Iterator[Embedded]:
    """Embed many, in order, a batch at a time; what cannot be read or decoded comes with its reason."""
    lock = threading.Lock()
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decoder") as pool:
        for chunk in _batched(paths, BATCH):
            yield from _encode(list(pool.map(lambda path: _load(path, catalog, row, load, lock), chunk)), load)


@dataclass(frozen=True, slots=True)
class _Loaded:
    path: bytes
    stored: NDArray[np.float32] | None = None
    pixels: NDArray[np.uint8] | None = None
    partial: bool = False
    error: ImageError | UsageError | None = None


def _encode(loaded: Sequence[_Loaded], load: LoadEncoder) -> list[Embedded]:
    import numpy as np

    pixels = [item.pixels for item in loaded if item.pixels is not None]
    vectors = iter(encode_halving(load(), np.stack(pixels)) if pixels else ())
    embedded = []
    for item in loaded:
        if item.error is not None:
            embedded.append(Embedded(item.path, None, str(item.error)))
        elif item.stored is not None:
            embedded.append(Embedded(item.path, item.stored))
        else:
            embedded.append(Embedded(item.path, next(vectors), partial=item.partial))
    return embedded


def _load(path: bytes, catalog: Catalog | None, row: EncoderRow, load: LoadEncoder, lock: threading.Lock) -> _Loaded:
    """A picture's stored vector, or its pixels. `lock` guards the catalog."""
    with lock:
        stored = _stored_by_stat(path, catalog, row)
    if stored is not None:
        return _Loaded(path, stored)
    try:
        data = read_bytes(path)
    except UsageError as exc:
        return _Loaded(path, error=exc)
    with lock:
        stored = _stored_by_digest(data, catalog, row)
    if stored is not None:
        return _Loaded(path, stored)
    try:
        pixels, partial = _prepare(data, os.fsdecode(path), load)
    except ImageError as exc:
        return _Loaded(path, error=exc)
    return _Loaded(path, pixels=pixels, partial=partial)


def _batched(paths: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    iterator = iter(paths)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _stored_by_digest(data: bytes, catalog: Catalog | None, row: EncoderRow) -> NDArray[np.float32] | None:
    """The vector of a picture with these bytes."""
    known = catalog.content_by_digest(hashlib.sha256(data).digest()) if catalog else None
    return catalog.embeddings.vector_of(known[0], row.id) if catalog and known else None


def _stored_by_stat(path: bytes, catalog: Catalog | None, row: EncoderRow) -> NDArray[np.float32] | None:
    """The vector of a file that is as the catalog saw it last."""
    known = catalog.unchanged_content(path) if catalog else None
    return catalog.embeddings.vector_of(known, row.id) if catalog and known is not None else None
