"""A library laid out in two dimensions by principal component analysis: similar images lie together.

Pearson 1901, "On lines and planes of closest fit to systems of points in space"; computed by scikit-learn.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.search.hits import make_hits
from clipsearch.search.neighbours import Neighbour
from clipsearch.types import EncoderInfo, Hit

FITTED = 10_000
"""Images that the directions are computed from; a larger library is sampled."""

_SEED = 0
"""The same library gives the same map."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Images with their positions. `positions`: (len(hits), 2), float64, along the two directions of most variance.

    `shares`: the part of the variance that each direction holds, 0 … 1. `total`: images in the library that have a
    vector, of which `hits` are all, or a sample in random order.
    """

    model: EncoderInfo
    hits: tuple[Hit, ...]
    positions: NDArray[np.float64]
    shares: tuple[float, float]
    total: int
    notices: tuple[str, ...] = ()


def require() -> None:
    """Raises ClipsearchError without the extra `plot`; imports nothing."""
    import importlib.util

    if importlib.util.find_spec("sklearn") is None:
        raise ClipsearchError(
            "the map needs scikit-learn, which is not installed", advice="pip install 'clipsearch[plot]'"
        )


def project(catalog: Catalog, row: EncoderRow, *, most: int) -> Projection:
    """Lay out the library's live images by the vectors of one encoder, at most `most` of them.

    Raises UsageError where there is no image, ClipsearchError without the extra `plot`.
    """
    require()
    rng = random.Random(_SEED)
    with catalog.reading():
        ids = catalog.embeddings.live_contents(row.id)
        if not ids:
            raise UsageError("the library has no images to lay out", advice="`clipsearch index FOLDER` adds some")
        sample = rng.sample(ids, min(len(ids), max(most, FITTED)))
        stored = catalog.embeddings.vectors_of(sample, row.id)
        found = [content_id for content_id in sample if content_id in stored]  # Those with a finite vector.
        shown = found[:most]
        hits = make_hits(catalog, [Neighbour(content_id, 0.0, 0) for content_id in shown])
    positions, shares = principal(np.stack([stored[content_id] for content_id in found]).astype(np.float64))
    return Projection(row.info, hits, positions[: len(shown)], shares, len(ids))


def principal(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Positions (n, 2) of `vectors` (n, dim) on their two principal components, and the share of variance of each."""
    from sklearn.decomposition import PCA

    places = np.zeros((len(vectors), 2))
    # If all vectors are equal, there is no direction to find.
    if len(vectors) < 2 or np.ptp(vectors, axis=0).max() < 1e-9:
        return places, (0.0, 0.0)
    model = PCA(n_components=min(2, *vectors.shape), svd_solver="covariance_eigh")
    found = model.fit_transform(vectors)
    places[:, : found.shape[1]] = found
    shares = [*(float(share) for share in model.explained_variance_ratio_), 0.0]
    return places, (shares[0], shares[1])
