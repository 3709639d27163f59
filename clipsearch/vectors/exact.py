"""Exact search with numpy alone: the oracle of the other engines, and the scan of vectors that no snapshot covers.

All engines share what a score is (`inner_products`) and what "better" means (score, then smaller id), so that their
results can be compared to the last bit and merged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 2e-6
"""More than two float32 inner products of the same unit vectors differ by, however they were summed: about 2e-7 was the
most seen at 1,024 dimensions. What lies this close to the k-th best is scored again before it is left out."""

BLOCK = 1 << 20
"""Numbers in a block of scores or of gathered vectors: 4 MB as float32, so that it stays in the cache."""


def inner_products(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of shape (m, n) of queries of shape (m, dim) with vectors of shape (n, dim), or (m, n, dim): a set each.

    Summed in float64 and rounded once, so they don't depend on how many are computed together, or by which engine.
    """
    wide = queries.astype(np.float64)
    pattern = "md,nd->mn" if vectors.ndim == 2 else "md,mnd->mn"
    scores = np.empty((len(queries), vectors.shape[-2]), dtype=np.float32)
    step = max(1, BLOCK * vectors.shape[-2] // max(1, vectors.size))
    for start in range(0, vectors.shape[-2], step):
        part = vectors[..., start : start + step, :].astype(np.float64)
        scores[:, start : start + step] = np.einsum(pattern, wide, part)
    return scores


def check_queries(queries: NDArray[np.float32], k: int, dim: int) -> NDArray[np.float32]:
    """`queries` as contiguous float32 of shape (m, dim). Raises ValueError where they can't be that, or k < 1."""
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries of shape {queries.shape} in an index of {dim} dimensions")
    if k < 1:
        raise ValueError(f"k is {k}; ask for at least one")
    return np.ascontiguousarray(queries, dtype=np.float32)


def members(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions in the ascending `ids` of those that are among `wanted`, which may be in any order; ascending."""
    if not len(ids) or not len(wanted):
        return np.empty(0, dtype=np.int64)
    unique = np.unique(wanted)
    places = np.searchsorted(ids, unique)
    places[places == len(ids)] = 0
    found: NDArray[np.int64] = places[ids[places] == unique]
    return found


class TopK:
    """The best `k` of vectors that come in chunks, for each of `queries`, shape (m, dim).

    Add each id once, in any order. Memory does not grow with what was added.
    """

    def __init__(self, queries: NDArray[np.float32], k: int, *, allowed: NDArray[np.int64] | None = None) -> None:
        self._queries = check_queries(queries, k, queries.shape[-1])
        self._allowed = None if allowed is None else np.unique(allowed)
        self._k = k
        self._added = 0
        self._scores: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32) for _ in self._queries]
        self._ids: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64) for _ in self._queries]

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take ids of shape (n,) with their vectors of shape (n, dim) into account."""
        if vectors.shape != (len(ids), self._queries.shape[1]):
            raise ValueError(f"vectors of shape {vectors.shape} for {len(ids)} ids and {self._queries.shape[1]} dims")
        if self._allowed is not None:
            if not len(self._allowed):
                return
            places = np.searchsorted(self._allowed, ids)
            places[places == len(self._allowed)] = 0
            inside = self._allowed[places] == ids
            ids, vectors = ids[inside], vectors[inside]
        self._added += len(ids)
        step = max(256, BLOCK // max(1, len(self._queries)))
        for start in range(0, len(ids), step):
            self._add_block(ids[start : start + step], vectors[start : start + step])

    def _add_block(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        # A fast product finds who could be among the best; only those are scored as they will be reported.
        rough = self._queries @ vectors.T
        floors = np.array([s[-1] if len(s) == self._k else -np.inf for s in self._scores]) - ROUNDING
        for row in np.flatnonzero(rough.max(axis=1) >= floors):
            scores, floor = rough[row], floors[row]
            if len(scores) > self._k:
                floor = max(floor, np.partition(scores, -self._k)[-self._k] - ROUNDING)
            near = np.flatnonzero(scores >= floor)
            better = inner_products(self._queries[row : row + 1], vectors[near])[0]
            self._merge(int(row), better, ids[near])

    def _merge(self, row: int, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        scores = np.concatenate([self._scores[row], scores])
        ids = np.concatenate([self._ids[row], ids])
        order = np.lexsort((ids, -scores))[: self._k]
        self._scores[row], self._ids[row] = scores[order], ids[order]

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and ids, both of shape (m, w), best first; w is k, or as many as were added and allowed."""
        width = min(self._k, self._added)
        scores = np.full((len(self._queries), width), -np.inf, dtype=np.float32)
        ids = np.full((len(self._queries), width), -1, dtype=np.int64)
        for row, (some, their) in enumerate(zip(self._scores, self._ids, strict=True)):
            scores[row, : len(some)], ids[row, : len(their)] = some, their
        return scores, ids


class ExactIndex:
    """A VectorIndex over arrays in memory: ids of shape (n,), strictly ascending, and vectors of shape (n, dim)."""

    engine = "exact"
    approximate = False

    def __init__(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        if vectors.ndim != 2 or len(ids) != len(vectors) or np.any(np.diff(ids) <= 0):
            raise ValueError(f"{len(ids)} ids (strictly ascending?) for vectors of shape {vectors.shape}")
        self._ids, self._vectors = ids, vectors
        self.count, self.dim = len(ids), vectors.shape[1]

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.int64] | None = None,
        exhaustive: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See VectorIndex. Every search of this one is exhaustive."""
        best = TopK(check_queries(queries, k, self.dim), k)
        if allowed is None:
            best.add(self._ids, self._vectors)
        else:
            places = members(self._ids, allowed)
            best.add(self._ids[places], self._vectors[places])
        return best.result()
