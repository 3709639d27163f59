"""What inverted lists need besides FAISS: how many, what to train them on, and how many to visit for a recall."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from clipsearch.vectors.exact import ROUNDING, TopK

TARGET = 0.99
"""Recall that nprobe is chosen for, on the worst set of probes."""

RECALL_AT = 10

IMAGES = 200
"""Images drawn as probes: one wrong neighbour in ten of one of them is 0.0005 of recall."""

TRAINING_PER_LIST = 32
"""Vectors per list that k-means sees; FAISS's own lower bound for a warning is 39, but the recall is measured here."""

_SMALLEST_LIST = 8

_NOT_STORED = -2
"""In place of a text's own position; -1 is a result that is missing."""

RoughSearch = Callable[[NDArray[np.float32], int, int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""queries, k, nprobe → scores and positions, both of shape (m, k)."""


def lists_for(count: int) -> int:
    """How many inverted lists suit `count` vectors: 4·√count as a power of two (FAISS wiki, guidelines: 4 to 16·√N)."""
    wished: int = 2 ** round(math.log2(4 * math.sqrt(count)))
    return max(1, min(wished, count // _SMALLEST_LIST))


def drawn_order(count: int) -> NDArray[np.int64]:
    """The positions of `count` vectors in the order in which a build draws them: IMAGES probes from its start, what is
    trained on from its end. It depends on `count` alone, so that a build can be repeated."""
    return np.random.default_rng(count).permutation(count)


class Sample:
    """Draws vectors from a pass over `count` of them: some to train on, and others as image queries."""

    def __init__(self, count: int, *, dim: int, training: int) -> None:
        drawn = drawn_order(count)
        images = min(IMAGES, count)
        # With few vectors the two overlap; an image's own vector never counts as found.
        self.image_positions = np.sort(drawn[:images])
        self._training_positions = np.sort(drawn[-training:]) if training else drawn[:0]
        self.pictures = np.empty((images, dim), dtype=np.float32)
        self.training = np.empty((len(self._training_positions), dim), dtype=np.float32)
        self._position = 0

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Take what is wanted of the pass's next vectors, shape (n, dim)."""
        start, self._position = self._position, self._position + len(vectors)
        for positions, into in ((self.image_positions, self.pictures), (self._training_positions, self.training)):
            first, last = np.searchsorted(positions, [start, self._position])
            into[first:last] = vectors[positions[first:last] - start]

    def forget_training(self) -> None:
        """Release the memory of `training`."""
        self.training = np.empty((0, self.training.shape[1]), dtype=np.float32)


class Probes:
    """Sets of queries with their true neighbours: texts from the caller, images from a Sample."""

    def __init__(self, sample: Sample, texts: NDArray[np.float32] | None) -> None:
        none = np.full(0 if texts is None else len(texts), _NOT_STORED, dtype=np.int64)
        self._own = np.concatenate([none, sample.image_positions])
        self._queries = sample.pictures if texts is None else np.concatenate([texts, sample.pictures])
        self.sets: dict[str, slice] = {"pictures": slice(len(none), None)}
        if len(none):
            self.sets["texts"] = slice(0, len(none))
        self._truth = TopK(self._queries, RECALL_AT + 1)

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(self._queries[rows]) for name, rows in self.sets.items()}

    def add(self, start: int, vectors: NDArray[np.float32]) -> None:
        """Let the vectors at positions from `start` take part in the truth."""
        self._truth.add(np.arange(start, start + len(vectors), dtype=np.int64), vectors)

    def recall(self, search: RoughSearch, nprobe: int) -> dict[str, float]:
        """Recall@RECALL_AT of each set: the share of true neighbours that `search` finds; ties count for each other."""
        scores, positions = self._truth.result()
        if scores.shape[1] < 2:
            return dict.fromkeys(self.sets, 1.0)  # a single vector has no neighbours to miss
        worst = self._others(scores, positions).min(axis=1, keepdims=True) - ROUNDING
        found = self._others(*search(self._queries, scores.shape[1], nprobe))
        good = (found >= worst).mean(axis=1)
        return {name: float(good[rows].mean()) for name, rows in self.sets.items()}

    def _others(self, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """`scores` without the probe's own vector, or without the last where that isn't among them."""
        own = positions == self._own[:, None]
        own[:, -1] |= ~own.any(axis=1)
        kept: NDArray[np.float32] = np.where(positions < 0, -np.inf, scores)[~own].reshape(len(scores), -1)
        return kept


def choose_nprobe(
    probes: Probes, search: RoughSearch, *, lists: int, least: int = 1
) -> tuple[int, Mapping[str, float]]:
    """The fewest lists to visit (1, 2, 3, 4, 6, 8, 12 …) for TARGET on every set of probes, and the recall measured.

    At least `least`, as far as there are so many lists.
    """
    step = 1
    while True:
        for nprobe in (step, step + step // 2) if step > 1 else (1,):
            if nprobe < min(least, lists):
                continue
            recall = probes.recall(search, min(nprobe, lists))
            if nprobe >= lists or min(recall.values()) >= TARGET:
                return min(nprobe, lists), recall
        step *= 2
