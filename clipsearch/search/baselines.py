"""The baseline that holds for a query: the library's, kept in the query cache, or that of the images a filter leaves.

A baseline carries a mark of the images that it was measured on. It stays in use while at least half of these exist, and
is measured again when a fifth of them are gone, or when the library has grown by a fifth.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog import snapshots
from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.embeddings import to_bytes
from clipsearch.encoders import prompts
from clipsearch.search import background
from clipsearch.search.background import GROWTH, PROMPTS, SAMPLE
from clipsearch.search.relevance import FEWEST, Baseline, Kind, measure

NAME = "baseline 1"
"""The key in the cache; the number goes up with any change of what is learnt."""

MARKED = 256
"""Images that a mark consists of: the share of those that exist is known to within .06. Reading them takes 5 ms."""

EXISTING = 0.5
"""The share of its images that must exist for a baseline to be used."""

FILTERED = 50
"""A filter that leaves as many images or more has a baseline of its own."""

FILTER_SAMPLE = 1_000
"""Images that such a baseline is measured on, so that it takes 30 ms at most."""


class Known(NamedTuple):
    """What the cache holds. `current`: nothing is to be renewed; `gone`: most of the baseline's images are.

    baseline: None also where it was measured on fewer than FEWEST different images.
    """

    baseline: Baseline | None = None
    current: bool = False
    gone: bool = False


def exists(row: EncoderRow, cache: QueryCache) -> bool:
    """Whether the cache holds a baseline, even if its images are gone."""
    return cache.fact(row.info.fingerprint, NAME) is not None


def mark(row: EncoderRow, cache: QueryCache) -> object:
    """What changes where a baseline is measured again."""
    return cache.fact_mark(row.info.fingerprint, NAME)


def recall(catalog: Catalog, row: EncoderRow, cache: QueryCache) -> Known:
    """The baseline in the cache, if at least EXISTING of its images exist."""
    known = cache.fact(row.info.fingerprint, NAME)
    if known is None:
        return Known()
    try:
        baseline = Baseline.from_bytes(known[1], row.info.dim)
    except ValueError:
        return Known()
    existing = _existing(catalog, row, baseline)
    if existing < EXISTING:
        return Known(gone=True)
    grown = (snapshots.count_about(catalog, row) - known[0]) * GROWTH > known[0]
    return Known(_if_enough(baseline), current=not grown and existing >= 1 - 1 / GROWTH)


def learn(catalog: Catalog, row: EncoderRow, cache: QueryCache, embed: background.EmbedTexts) -> Baseline | None:
    """The baseline of an encoder in a library: from the cache, or measured on up to SAMPLE images and kept there.

    `embed` gives unit rows (n, dim) for texts; it is called for the everyday prompts where the cache has no current
    baseline. None where the library has fewer than FEWEST images, not counting those that nearly equal another one.
    """
    known = recall(catalog, row, cache)
    if known.current:
        return known.baseline
    count = snapshots.count_about(catalog, row)
    seqs, owners, vectors = catalog.embeddings.live_every(row.id, max(1, -(-count // SAMPLE)), dim=row.info.dim)
    if len(np.unique(owners)) < FEWEST:
        return None
    baseline = measure(
        vectors,
        embed(prompts.everyday(PROMPTS)),
        owners=owners,
        count=max(count, len(vectors)) if count > SAMPLE else len(vectors),
        mark=_mark(seqs, vectors),
    )
    data = baseline.to_bytes()
    cache.put_fact(row.info.fingerprint, NAME, count, data)
    return _if_enough(Baseline.from_bytes(data, row.info.dim))  # As later queries will read it.


def of_filter(
    catalog: Catalog,
    row: EncoderRow,
    seqs: NDArray[np.int64],
    kind: Kind,
    library: Baseline,
    embed: background.EmbedTexts,
) -> Baseline | None:
    """The baseline of the images that a filter leaves, for one kind of query; None where they are under FILTERED.

    `seqs`: of their views, ascending; `library`: the baseline of all images.
    """
    if len(seqs) < FILTERED:
        return None
    chosen = seqs[:: max(1, -(-len(seqs) // FILTER_SAMPLE))].tolist()
    live, vectors = catalog.embeddings.live_vectors(row.id, chosen, dim=row.info.dim, with_blank=True)
    owners = np.array([about.content_id for about in live.values()], np.int64)
    if len(np.unique(owners)) < FILTERED:
        return None
    texts = embed(prompts.everyday(PROMPTS))
    return measure(
        vectors,
        texts,
        owners=owners,
        count=len(seqs),
        kinds=(kind,),
        everyday=library.everyday,
    )


def _if_enough(baseline: Baseline) -> Baseline | None:
    return baseline if len(baseline.sample.vectors) >= FEWEST else None


def _mark(seqs: NDArray[np.int64], vectors: NDArray[np.float32]) -> tuple[tuple[int, int], ...]:
    chosen = np.unique(np.linspace(0, len(seqs) - 1, MARKED).astype(int))
    return tuple((int(seqs[i]), zlib.crc32(to_bytes(vectors[i]))) for i in chosen)


def _existing(catalog: Catalog, row: EncoderRow, baseline: Baseline) -> float:
    """The share of a baseline's marked images that are live and have the same vector."""
    mark = dict(baseline.mark)
    live, vectors = catalog.embeddings.live_vectors(row.id, list(mark), dim=row.info.dim, with_blank=True)
    same = sum(zlib.crc32(to_bytes(vector)) == mark[seq] for seq, vector in zip(live, vectors, strict=True))
    return same / max(1, len(mark))
