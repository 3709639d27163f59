"""Checks of the vectors that go into a snapshot, as they pass, and of the index that came of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.vectors.exact import inner_products
from clipsearch.vectors.index import SnapshotError, VectorIndex

if TYPE_CHECKING:
    from clipsearch.vectors.index import Chunk, Chunks


class SpotCheck:
    """A few of the vectors that went into a file, which a search of the file must find."""

    def __init__(self, count: int) -> None:
        self._wanted = {0, count // 2, count - 1}
        self._ids: list[int] = []
        self._vectors: list[NDArray[np.float32]] = []

    def add(self, start: int, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        for position in sorted(self._wanted):
            if start <= position < start + len(ids):
                self._ids.append(int(ids[position - start]))
                self._vectors.append(vectors[position - start].copy())
                self._wanted.remove(position)

    def check(self, index: VectorIndex) -> None:
        """Raises SnapshotError where a search among one id alone does not return it with its length squared."""
        for name, vector in zip(self._ids, self._vectors, strict=True):
            scores, ids = index.search(vector[None], 1, allowed=np.array([name]))
            if ids.tolist() != [[name]] or scores[0, 0] != inner_products(vector[None], vector[None])[0, 0]:
                raise SnapshotError("the new vector index does not find what it holds; it is not used")


def checked(chunks: Chunks, *, dim: int, count: int, sample: SpotCheck) -> Chunks:
    """`chunks`, contiguous, with every pass checked for `dim`, `count` and ascending ids. Raises ValueError."""

    def run() -> Iterator[Chunk]:
        start, last = 0, -(2**63)
        for ids, vectors in chunks():
            if not len(ids):
                continue
            if vectors.shape != (len(ids), dim):
                raise ValueError(f"vectors of shape {vectors.shape} for {len(ids)} ids and {dim} dimensions")
            if ids[0] <= last or np.any(np.diff(ids) <= 0):
                raise ValueError("the ids of a snapshot must ascend")
            ids = np.ascontiguousarray(ids, dtype=np.int64)
            vectors = np.ascontiguousarray(vectors, dtype=np.float32)
            sample.add(start, ids, vectors)
            start, last = start + len(ids), int(ids[-1])
            if start > count:
                break
            yield ids, vectors
        if start != count:
            raise ValueError(f"{start:,} vectors or more came instead of {count:,}")

    return run


def with_positions(source: Chunks) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
    """A pass over `source`, each chunk with the position of its first vector."""
    start = 0
    for ids, vectors in source():
        yield start, ids, vectors
        start += len(ids)
