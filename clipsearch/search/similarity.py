"""Similarity of images, texts and literal vectors: the cosine of each two, and the angle between them.

A literal vector is written `[1, 0.5]`. Vectors alone need no model; together with images or texts they must have the
encoder's dimension.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.cache import cache_dir
from clipsearch.encoders.load import load_alone
from clipsearch.errors import NoLibraryError, UsageError
from clipsearch.files import absolute
from clipsearch.search.embed import Embedder
from clipsearch.search.terms import Image, Indexed, Region, Term, Text, as_term
from clipsearch.types import EncoderInfo, Notice

FloatArray = NDArray[np.float64]

_SHOWN_NUMBERS = 6
"""Numbers of a vector that its name shows; all 512 would fill a screen."""


@dataclass(frozen=True, slots=True)
class Vector:
    """A literal vector of any length but zero."""

    numbers: tuple[float, ...]

    def __str__(self) -> str:
        shown = [f"{number:.6g}" for number in self.numbers[:_SHOWN_NUMBERS]]
        more = len(self.numbers) - _SHOWN_NUMBERS
        return f"[{', '.join(shown)}{f', … {more} more' if more > 0 else ''}]"


Item = Term | Vector


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the things compared. `name` is what was given: words, a path, `id:3`, `[1, 0.5]`."""

    kind: Literal["picture", "text", "vector"]
    name: str
    paths: tuple[str, ...] = ()
    """The path of an image file, or of the files with this content; none for standard input."""
    id: int | None = None
    """The id in the library, where it was given."""
    region: Region | None = None
    data: bytes | None = field(default=None, repr=False)
    """The image from standard input."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """n items compared with one another. `model` is None where all are literal vectors.

    vectors: (n, dim), as given or as the encoder has them; cosines: (n, n), −1 … 1; angles: (n, n), degrees, 0 … 180;
    all float64.
    """

    model: EncoderInfo | None
    items: tuple[Compared, ...]
    vectors: FloatArray
    cosines: FloatArray
    angles: FloatArray
    notices: tuple[Notice, ...] = ()


def parse_vector(text: str) -> Vector | None:
    """The literal vector in `text`, numbers in square brackets with commas between; None where it is not one.

    Raises UsageError for brackets around anything else, and for a zero vector.
    """
    inside = re.fullmatch(r"\[(.*)\]", text, re.DOTALL)
    if inside is None or os.path.isfile(text):
        return None
    try:
        numbers = tuple(float(part) for part in re.split(r"[\s,]+", inside[1].strip()))
    except ValueError:
        raise UsageError(
            f"{text}: a vector is written [1, 0.5]; for words in brackets, put a space before them"
        ) from None
    if not all(math.isfinite(number) for number in numbers):
        raise UsageError(f"{text}: the numbers of a vector must be finite")
    if not any(numbers):
        raise UsageError(f"{text}: a zero vector has no direction")
    return Vector(numbers)


def compare_vectors(vectors: Sequence[Vector]) -> Similarity:
    """Compare literal vectors. Raises UsageError for fewer than two, or where they differ in dimension."""
    _refuse_few(vectors)
    _refuse_other_dimensions(vectors, str(vectors[0]), len(vectors[0].numbers))
    numbers = np.array([vector.numbers for vector in vectors], np.float64)
    items = tuple(Compared("vector", str(vector)) for vector in vectors)
    return Similarity(None, items, numbers, *measure(numbers))


def compare_items(given: Sequence[str | Path | Item], embedder: Embedder) -> Similarity:
    """Compare images, texts and vectors, with or without a library; an image that it holds is not encoded again.

    Texts are taken unchanged, without a prompt template, as `query` takes them.
    Raises UsageError for fewer than two, a vector of another dimension, an id that the library does not hold (without
    one, it holds none), or a file that cannot be read or decoded, ImageError for a part of one that cannot be.
    """
    items = [item if isinstance(item, Vector) else as_term(item) for item in given]
    _refuse_few(items)
    info = embedder.row.info
    _refuse_other_dimensions(items, f"a vector of {info.spec}", info.dim)
    vectors = np.stack([vector.astype(np.float64) for vector in _vectors(items, embedder)])
    compared = tuple(_compared(item, embedder.catalog) for item in items)
    return Similarity(info, compared, vectors, *measure(vectors), tuple(embedder.notices))


def compare_alone(
    items: Sequence[str | Path | Item], *, model: str | None = None, options: EncoderOptions | None = None
) -> Similarity:
    """Compare without a library, with the encoder that a new library would get; literal vectors alone need none.

    Text embeddings are kept in the cache directory. Raises NoLibraryError for an earlier hit, and what
    `compare_items` and `encoders.load_alone` raise.
    """
    vectors = [item for item in items if isinstance(item, Vector)]
    if len(vectors) == len(items):
        return compare_vectors(vectors)
    for item in items:
        if isinstance(item, Indexed):
            raise NoLibraryError(f"{item}: no library here; `index` names one elsewhere")
    encoder, notices = load_alone(model, options)
    with contextlib.closing(QueryCache(cache_dir())) as cache:
        return compare_items(items, Embedder(EncoderRow(0, encoder.info), lambda: encoder, cache, notices=notices))


def measure(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cosines and angles in degrees between the rows of `vectors`, (n, dim) of any length but zero; both (n, n).

    Angles are 2·atan2(|u − v|, |u + v|) of unit vectors u and v, which keeps its digits where arccos of a cosine near 1
    loses half of them: W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?"
    (2006), section 12.
    """
    # Scaled first, so that squares neither overflow nor vanish.
    scaled = vectors / np.abs(vectors).max(axis=1, keepdims=True)
    units = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    cosines = np.clip(units @ units.T, -1.0, 1.0)
    cosines = (cosines + cosines.T) / 2 + 0.0  # no −0
    np.fill_diagonal(cosines, 1.0)
    angles = np.stack(
        [2 * np.arctan2(np.linalg.norm(units - u, axis=1), np.linalg.norm(units + u, axis=1)) for u in units]
    )
    return cosines, np.degrees(angles)


def _refuse_few(items: Sequence[object]) -> None:
    if len(items) < 2:
        raise UsageError("nothing to compare: give two or more images, texts or vectors")


def _refuse_other_dimensions(items: Sequence[Item], other: str, dim: int) -> None:
    for item in items:
        if isinstance(item, Vector) and len(item.numbers) != dim:
            raise UsageError(
                f"{item} has {len(item.numbers)} numbers, {other} has {dim}: "
                "only vectors of the same dimension can be compared"
            )


def _compared(item: Item, catalog: Catalog | None) -> Compared:
    if isinstance(item, Vector):
        return Compared("vector", str(item))
    if isinstance(item, Text):
        return Compared("text", item.words)
    if isinstance(item, Indexed):
        row = catalog.contents.with_files([item.id]).get(item.id) if catalog else None
        paths = tuple(os.fsdecode(path) for path, _ in row.files) if row else ()
        return Compared("picture", str(item), paths, id=item.id)
    if isinstance(item.source, bytes):
        return Compared("picture", f"standard input{item.region or ''}", data=item.source, region=item.region)
    return Compared("picture", str(item), (os.fsdecode(absolute(item.source)),), region=item.region)


def _vectors(items: Sequence[Item], embedder: Embedder) -> Iterator[NDArray[np.float32] | FloatArray]:
    """The vector of each item, (dim,). Texts and files are embedded together, each once."""
    words = list(dict.fromkeys(item.words for item in items if isinstance(item, Text)))
    texts = dict(zip(words, embedder.texts(words), strict=True)) if words else {}
    files = _files([path for item in items if (path := _whole_file(item)) is not None], embedder)
    for item in items:
        if isinstance(item, Vector):
            yield np.array(item.numbers, np.float64)
        elif isinstance(item, Text):
            yield texts[item.words]
        elif (path := _whole_file(item)) is not None:
            yield files[path]
        else:
            yield embedder.term(item)


def _whole_file(item: Item) -> bytes | None:
    """The path of an item that is an image file as a whole."""
    if isinstance(item, Image) and isinstance(item.source, Path) and item.region is None:
        return absolute(item.source)
    return None


def _files(paths: Sequence[bytes], embedder: Embedder) -> dict[bytes, NDArray[np.float32]]:
    """Embed image files, several at a time. Raises UsageError for the first that cannot be read or decoded."""
    found: dict[bytes, NDArray[np.float32]] = {}
    for image in embedder.images(dict.fromkeys(paths)):
        name = os.fsdecode(image.path)
        if image.vector is None:
            raise UsageError(image.reason or "it cannot be read", path=name)
        if image.partial:
            embedder.notices.append(Notice("partial", f"{name} is truncated; only its existing part was compared"))
        found[image.path] = image.vector
    return found
