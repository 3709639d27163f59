"""How alike pictures, texts and literal vectors are: the cosine of each two, and the angle between them.

A literal vector is written `[1, 0.5]`. Vectors alone need no model; beside pictures or texts they must have as many
numbers as the encoder's.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.load import load_alone
from clipsearch.errors import NoLibraryError, UsageError
from clipsearch.files import absolute
from clipsearch.search.embed import embed_bytes, embed_pictures, embed_texts, read_bytes
from clipsearch.search.terms import Known, Picture, Region, Term, Text, as_term
from clipsearch.types import EncoderInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    LoadEncoder = Callable[[], Encoder]

_SHOWN_NUMBERS = 6
"""Numbers of a vector that its name has; one of 512 would fill a screen."""


@dataclass(frozen=True, slots=True)
class Vector:
    """A literal vector. Its length is free, but not zero."""

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
    """Where a picture's file is, or the files with this content; none for standard input."""
    id: int | None = None
    """The library's id, where it was asked for by that."""
    region: Region | None = None
    data: bytes | None = field(default=None, repr=False)
    """The picture that came from standard input."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """n things compared with one another. `model` is None where all are literal vectors.

    vectors: (n, dim), as given or as the encoder has them; cosines: (n, n), −1 … 1; angles: (n, n), degrees, 0 … 180;
    all float64.
    """

    model: EncoderInfo | None
    items: tuple[Compared, ...]
    vectors: FloatArray
    cosines: FloatArray
    angles: FloatArray
    notices: tuple[str, ...] = ()


def parse_vector(text: str) -> Vector | None:
    """The literal vector that `text` is, or None where it is none: numbers in square brackets, with commas between.

    Raises UsageError for brackets around anything else, and for a vector without a direction.
    """
    inside = re.fullmatch(r"\[(.*)\]", text, re.DOTALL)
    if inside is None or os.path.isfile(text):
        return None
    try:
        numbers = tuple(float(part) for part in re.split(r"[\s,]+", inside[1].strip()))
    except ValueError:
        raise UsageError(
            f"{text}: a vector is written [1, 0.5]; for words in brackets, put a blank before them"
        ) from None
    if not all(math.isfinite(number) for number in numbers):
        raise UsageError(f"{text}: the numbers of a vector must be finite")
    if not any(numbers):
        raise UsageError(f"{text}: a zero vector has no direction, hence no angle to anything")
    return Vector(numbers)


def compare_vectors(vectors: Sequence[Vector]) -> Similarity:
    """Compare literal vectors. Raises UsageError for fewer than two, or where they differ in dimension."""
    import numpy as np

    _refuse_few(vectors)
    first = vectors[0]
    for vector in vectors:
        if len(vector.numbers) != len(first.numbers):
            raise UsageError(
                f"{vector} has {len(vector.numbers)} numbers and {first} has {len(first.numbers)}; "
                "only vectors of one dimension can be compared"
            )
    numbers = np.array([vector.numbers for vector in vectors], np.float64)
    items = tuple(Compared("vector", str(vector)) for vector in vectors)
    return Similarity(None, items, numbers, *measure(numbers))


def compare_items(
    given: Sequence[str | Path | Item],
    *,
    row: EncoderRow,
    load: LoadEncoder,
    catalog: Catalog | None,
    cache: QueryCache,
) -> Similarity:
    """Compare pictures, texts and vectors, with or without a library; a picture that it holds is not encoded again.

    Texts are taken as they are, without a prompt template, as `query` takes them.
    Raises UsageError for fewer than two, a vector of another dimension, an id that the library does not hold (none is
    held without one), or a file that cannot be read or decoded, ImageError for a part of one that cannot be.
    """
    import numpy as np

    items = [item if isinstance(item, Vector) else as_term(item) for item in given]
    _refuse_few(items)
    _refuse_other_dimensions(items, row.info)
    notices: list[str] = []
    embedder = _Embedder(row, load, catalog, cache, notices)
    embedder.texts([item.words for item in items if isinstance(item, Text)])
    embedder.pictures([item.source for item in items if isinstance(item, Picture) and item.region is None])
    vectors = np.stack([embedder.vector(item).astype(np.float64) for item in items])
    compared = tuple(_compared(item, catalog) for item in items)
    return Similarity(row.info, compared, vectors, *measure(vectors), tuple(notices))


def compare_alone(
    items: Sequence[str | Path | Item], *, model: str | None = None, options: EncoderOptions | None = None
) -> Similarity:
    """Compare without a library, with the encoder that a new one would get; literal vectors alone need none.

    Text embeddings are kept in the cache directory. Raises NoLibraryError for an earlier hit, and what
    `compare_items` and `encoders.load_alone` raise.
    """
    from clipsearch.encoders.cache import cache_dir

    vectors = [item for item in items if isinstance(item, Vector)]
    if len(vectors) == len(items):
        return compare_vectors(vectors)
    for item in items:
        if isinstance(item, Known):
            raise NoLibraryError(f"{item}: no library here that could hold it; --index DIR names one elsewhere")
    encoder, notices = load_alone(model, options)
    with contextlib.closing(QueryCache(cache_dir())) as cache:
        found = compare_items(items, row=EncoderRow(0, encoder.info), load=lambda: encoder, catalog=None, cache=cache)
    return replace(found, notices=(*notices, *found.notices))


def measure(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cosines and angles in degrees between the rows of `vectors`, (n, dim) of any length but zero; both (n, n).

    Angles are 2·atan2(|u − v|, |u + v|) of unit vectors u and v, which keeps its digits where arccos of a cosine near 1
    loses half of them: W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?"
    (2006), section 12.
    """
    import numpy as np

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
        raise UsageError("nothing to compare: give two or more of pictures, texts and vectors")


def _refuse_other_dimensions(items: Sequence[Item], info: EncoderInfo) -> None:
    for item in items:
        if isinstance(item, Vector) and len(item.numbers) != info.dim:
            raise UsageError(
                f"{item} has {len(item.numbers)} numbers, a vector of {info.spec} has {info.dim}: "
                "it can be compared with vectors of its own dimension only"
            )


def _compared(item: Item, catalog: Catalog | None) -> Compared:
    if isinstance(item, Vector):
        return Compared("vector", str(item))
    if isinstance(item, Text):
        return Compared("text", item.words)
    if isinstance(item, Known):
        row = catalog.contents([item.id]).get(item.id) if catalog else None
        paths = tuple(os.fsdecode(path) for path, _ in row.files) if row else ()
        return Compared("picture", str(item), paths, id=item.id)
    if isinstance(item.source, bytes):
        return Compared("picture", f"standard input{item.region or ''}", data=item.source, region=item.region)
    return Compared("picture", str(item), (os.fsdecode(absolute(item.source)),), region=item.region)


class _Embedder:
    """Vectors of terms, each text and each file embedded once, the model loaded only where one is missing."""

    def __init__(
        self, row: EncoderRow, load: LoadEncoder, catalog: Catalog | None, cache: QueryCache, notices: list[str]
    ) -> None:
        self._row = row
        self._load = load
        self._catalog = catalog
        self._cache = cache
        self._notices = notices
        self._of_text: dict[str, NDArray[np.float32]] = {}
        self._of_file: dict[bytes, NDArray[np.float32]] = {}

    def texts(self, words: Sequence[str]) -> None:
        wanted = list(dict.fromkeys(words))
        if wanted:
            vectors = embed_texts(wanted, self._row, self._load, self._cache, notices=self._notices)
            self._of_text = dict(zip(wanted, vectors, strict=True))

    def pictures(self, sources: Sequence[Path | bytes]) -> None:
        """Embed files, several at a time. Raises UsageError for the first that cannot be read or decoded."""
        wanted = dict.fromkeys(absolute(source) for source in sources if isinstance(source, Path))
        for embedded in embed_pictures(wanted, self._catalog, self._row, self._load):
            if embedded.vector is None:
                raise UsageError(embedded.reason or f"{os.fsdecode(embedded.path)}: it cannot be read")
            if embedded.partial:
                self._notices.append(f"{os.fsdecode(embedded.path)} ends early; what there is of it was compared")
            self._of_file[embedded.path] = embedded.vector

    def vector(self, item: Item) -> NDArray[np.float32] | FloatArray:
        import numpy as np

        if isinstance(item, Vector):
            return np.array(item.numbers, np.float64)
        if isinstance(item, Text):
            return self._of_text[item.words]
        if isinstance(item, Known):
            stored = self._catalog.embeddings.vector_of(item.id, self._row.id) if self._catalog else None
            if stored is None:
                raise UsageError(f"id:{item.id}: the library holds no such picture")
            return stored
        if isinstance(item.source, Path) and item.region is None:
            return self._of_file[absolute(item.source)]
        data, name = item.source, "the picture on standard input"
        if isinstance(data, Path):
            data, name = read_bytes(absolute(data)), str(data)
        return embed_bytes(data, name, self._load, region=item.region, notices=self._notices)
