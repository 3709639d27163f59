"""What a person asks for, as a unit vector; and what was found, as hits."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch import images
from clipsearch.cache import QueryCache
from clipsearch.catalog import Catalog, ContentRow, EncoderRow
from clipsearch.encoders import Encoder
from clipsearch.errors import ImageError, UsageError
from clipsearch.search import Neighbour
from clipsearch.types import Hit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LoadEncoder = Callable[[], Encoder]


def embed_texts(
    texts: Sequence[str], row: EncoderRow, load: LoadEncoder, cache: QueryCache, *, notices: list[str]
) -> NDArray[np.float32]:
    """Unit rows of shape (len(texts), dim), from the cache where these texts were asked for before.

    Adds a notice for each text whose end the encoder ignores.
    """
    import numpy as np

    known = cache.texts(row.info.fingerprint, texts)
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    if missing:
        encoder = load()
        vectors = np.ascontiguousarray(encoder.encode_texts(missing), "<f4")
        new = {}
        for text, vector in zip(missing, vectors, strict=True):
            known[text] = vector.tobytes()
            cut = encoder.overflow(text)
            if cut:
                notices.append(f"the text is too long for {row.info.spec}; ignored was: {cut!r}")
            else:
                new[text] = known[text]  # A text that is cut is announced each time, hence never cached.
        cache.put_texts(row.info.fingerprint, new, now=int(time.time()))
    return np.stack([np.frombuffer(known[text], "<f4") for text in texts])


def embed_picture(
    path: bytes, catalog: Catalog | None, row: EncoderRow, load: LoadEncoder, *, max_pixels: int = images.MAX_PIXELS
) -> NDArray[np.float32]:
    """The unit vector (dim,) of a picture file; one that the catalog holds is not encoded again.

    Raises ImageError, its message naming the file, where it cannot be decoded, and UsageError where it cannot be read.
    """
    import numpy as np

    stored = _stored_by_stat(path, catalog, row)
    if stored is None:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as exc:
            raise UsageError(f"{os.fsdecode(path)}: {(exc.strerror or str(exc)).lower()}") from exc
        known = catalog.content_by_digest(hashlib.sha256(data).digest()) if catalog else None
        stored = catalog.vector_of(known[0], row.id) if catalog and known else None
    if stored is not None:
        return np.frombuffer(stored, "<f4")
    encoder = load()
    try:
        pixels = encoder.prepare(images.open_picture(data, max_pixels=max_pixels))
    except ImageError as exc:
        raise type(exc)(f"{os.fsdecode(path)}: {exc}") from exc
    vector: NDArray[np.float32] = encoder.encode_images(pixels[None])[0]
    return vector


def try_picture(
    path: bytes, catalog: Catalog | None, row: EncoderRow, load: LoadEncoder
) -> tuple[NDArray[np.float32], None] | tuple[None, str]:
    """`embed_picture`, or the reason why it cannot be done."""
    try:
        return embed_picture(path, catalog, row, load), None
    except (ImageError, UsageError) as exc:
        return None, str(exc)


def _stored_by_stat(path: bytes, catalog: Catalog | None, row: EncoderRow) -> bytes | None:
    """The vector of a file that is as the catalog saw it last."""
    if catalog is None:
        return None
    try:
        about = os.stat(path)
    except OSError:
        return None
    found = catalog.conn.execute(
        "SELECT content_id FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND content_id IS NOT NULL",
        (path, about.st_size, about.st_mtime_ns),
    ).fetchone()
    return None if found is None else catalog.vector_of(found[0], row.id)


def make_hits(catalog: Catalog, neighbours: Sequence[Neighbour], *, encoder: Encoder | None = None) -> tuple[Hit, ...]:
    """Hits in the order of `neighbours`. `encoder` adds what it saw, where it can say."""
    rows = catalog.contents([n.content_id for n in neighbours])
    return tuple(_hit(rows[n.content_id], n, encoder) for n in neighbours)


def _hit(row: ContentRow, neighbour: Neighbour, encoder: Encoder | None) -> Hit:
    path, state = row.files[0]
    return Hit(
        id=row.id,
        path=os.fsdecode(path),
        paths=tuple(os.fsdecode(p) for p, _ in row.files),
        score=neighbour.score,
        bytes=row.bytes,
        format=row.format,
        width=row.width,
        height=row.height,
        taken_at=row.taken_at,
        state=row.state,
        offline=state != "present",
        explain=encoder.explain(neighbour.vector) if encoder else (),
    )


def is_picture_path(text: str) -> bool:
    """Whether a word is the name of a regular file that a scan would take for a picture."""
    return Path(text).suffix.lower() in images.PICTURE_SUFFIXES and Path(text).is_file()
