"""The baseline of scores in a library: the means of its text and image embeddings, and the covariance of the latter.

A cosine means little by itself. These numbers give the score that a text has in this library by chance: for a unit
vector q and images with mean μ and covariance C, the scores q·x have mean q·μ and variance qᵀCq.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog import snapshots
from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.embeddings import from_bytes, to_bytes
from clipsearch.encoders import prompts

EmbedTexts = Callable[[Sequence[str]], NDArray[np.float32]]

SAMPLE = 10_000
"""Vectors that are used; a larger library is sampled evenly."""

PROMPTS = 256
"""Everyday prompts whose mean stands for that of an encoder's text vectors."""

GROWTH = 5
"""The numbers are computed again when the library has grown by a fifth."""

MIN_IMAGES = 200
"""With fewer images, their mean describes these images rather than the encoder, and nothing is centred."""


@dataclass(frozen=True, slots=True)
class Background:
    """text_mean and mean: shape (dim,); covariance: shape (dim, dim), float32. `count`: images."""

    count: int
    text_mean: NDArray[np.float32]
    mean: NDArray[np.float32]
    covariance: NDArray[np.float32]

    def standardise(self, queries: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (m, n) of `queries` (m, dim) as z-scores: deviations from each query's mean over the library."""
        means = queries @ self.mean
        spread = np.sqrt(np.maximum(np.einsum("md,de,me->m", queries, self.covariance, queries), 1e-12))
        result: NDArray[np.float32] = ((scores - means[:, None]) / spread[:, None]).astype(np.float32)
        return result


def learn(catalog: Catalog, row: EncoderRow, cache: QueryCache, embed: EmbedTexts) -> Background:
    """The background of an encoder in a library: from the cache, or computed where the library has grown."""
    dim = row.info.dim
    count = snapshots.count_about(catalog, row)
    images = count if catalog.tiles() == "none" else catalog.embeddings.count_images(row.id)
    text_mean = embed(prompts.everyday(PROMPTS)).mean(axis=0)
    known = cache.fact(row.info.fingerprint, "background")
    whole = 4 * dim * (dim + 1)
    if known is not None and abs(count - known[0]) * GROWTH <= known[0] and len(known[1]) == whole:
        numbers = from_bytes(known[1]).reshape(dim + 1, dim)
        return Background(images, text_mean, numbers[0], numbers[1:])
    vectors = sample(catalog, row, count)[0]
    mean = vectors.mean(axis=0) if len(vectors) else np.zeros(dim)
    covariance = np.cov(vectors.T, bias=True) if len(vectors) > 1 else np.eye(dim) / dim
    numbers = np.vstack([mean, covariance]).astype(np.float32)
    cache.put_fact(row.info.fingerprint, "background", count, to_bytes(numbers))
    return Background(images, text_mean, numbers[0], numbers[1:])


def sample(catalog: Catalog, row: EncoderRow, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """About SAMPLE of an encoder's `count` vectors, spread evenly over the library, and their contents' ids.

    Shapes (n, dim) and (n,). All views of an image are included, since hits are scored by them, too.
    """
    step = max(1, -(-count // SAMPLE))
    vectors, owners = catalog.embeddings.every(row.id, step, dim=row.info.dim)
    return vectors.astype(np.float64), owners
