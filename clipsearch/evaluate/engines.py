"""The engines that search a library: what they find of the nearest vectors, and how long one query takes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog import snapshots
from clipsearch.catalog.cache import NO_CACHE
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders import prompts
from clipsearch.errors import ModelMismatchError, NoLibraryError, UsageError
from clipsearch.evaluate import metrics
from clipsearch.evaluate.comparison import open_catalog, opened
from clipsearch.evaluate.encode import ALONE, VectorSource, Workplace
from clipsearch.evaluate.results import EngineScores
from clipsearch.vectors import exact
from clipsearch.vectors.engines import names, open_snapshot, write_snapshot
from clipsearch.vectors.index import DamagedSnapshot, VectorIndex
from clipsearch.vectors.ivf import IMAGES, drawn_order
from clipsearch.vectors.snapshot_file import SUFFIX

QUERIES = 200
"""Default number of queries of each kind."""

K = 10

_WARM = 5
"""Queries before those that are timed: the first ones map the file."""


@dataclass(frozen=True, slots=True)
class _Queries:
    """One kind of query, shape (m, dim), with the k best scores that there are, shape (m, w), best first.

    own: the id of each query's own vector, which does not count; -1 for a text.
    """

    rows: NDArray[np.float32]
    own: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Opened:
    index: VectorIndex
    origin: Literal["library", "made"]
    bytes: int
    build_s: float | None
    details: dict[str, int]


def measure_engines(
    library: str | os.PathLike[str],
    *,
    models: Sequence[str] = (),
    engines: Sequence[str] = (),
    k: int = K,
    queries: int = QUERIES,
    place: Workplace = ALONE,
    resamples: int = metrics.RESAMPLES,
) -> tuple[EngineScores, ...]:
    """Measure `engines` (default: all) over the vectors of each of `models` in a library (default: of the active one).

    The library's own snapshot is measured where it is of that engine; otherwise one is made in a temporary folder, as
    an index run would make it. The queries are `queries` of the library's own vectors, which do not find
    themselves, and as many everyday prompts, 744 at most: others than those that an engine is tuned with, as far as
    the library has enough vectors. A result counts as found where its score is that of the k-th nearest
    or better, so that ties count for each other. Raises UsageError for numbers below 1 and a library without vectors,
    NoLibraryError, and ModelMismatchError for a model that it holds none of.
    """
    if k < 1 or queries < 1:
        raise UsageError(f"`k={k}`, `queries={queries}`: both start at 1")
    here = Workplace(library, place.options, place.progress, place.stop, place.cache)
    found: list[EngineScores] = []
    with open_catalog(library) as catalog:
        if not models and catalog.active() is None:
            raise NoLibraryError(
                f"the library in {catalog.folder} is still empty", advice="`clipsearch index FOLDER` fills it"
            )
        with opened(models, here, items=queries + len(_probes(engines or names()))) as sources:
            for source in sources:
                row = source.row
                if row is None:
                    raise ModelMismatchError(
                        f"the library in {catalog.folder} has no embeddings of {source.info.spec}",
                        advice=f'indexing with `model="{source.info.spec}"` adds them',
                    )
                found += _measured(catalog, source, row, engines or names(), k, queries, resamples)
    return tuple(found)


def _measured(
    catalog: Catalog,
    source: VectorSource,
    row: EncoderRow,
    engines: Sequence[str],
    k: int,
    queries: int,
    resamples: int,
) -> list[EngineScores]:
    texts = source.texts(prompts.others(queries, besides=snapshots.PROBES))
    tuning = _probes(engines)
    probes = source.texts(tuning) if tuning else None
    with catalog.reading():
        last = catalog.embeddings.last_seq(row.id)
        count = catalog.embeddings.count(row.id, until=last)
        if count < 2:
            raise UsageError(f"the library in {catalog.folder} has {count} images; measuring needs at least two")
        asked = _queries(catalog, row, last, count, texts, k, queries)
        scores = []
        for engine in engines:
            source.stop_if_asked()
            with ExitStack() as stack:
                one = _open(catalog, row, engine, last, count, probes, stack)
                recall, times = _ask(one.index, asked, k, resamples)
            p50, p95 = np.percentile(times, [50, 95])
            scores.append(
                EngineScores(
                    row.info,
                    engine,
                    one.origin,
                    count,
                    k,
                    recall,
                    float(p50),
                    float(p95),
                    one.bytes,
                    one.build_s,
                    one.details,
                )
            )
    return scores


def _probes(engines: Sequence[str]) -> list[str]:
    """The prompts that an index run would tune these engines with."""
    return [] if set(engines) <= {exact.ExactIndex.engine} else prompts.everyday(snapshots.PROBES)


def _queries(
    catalog: Catalog, row: EncoderRow, last: int, count: int, texts: NDArray[np.float32], k: int, queries: int
) -> dict[str, _Queries]:
    """Images of the library, drawn evenly, and texts, with the scores of their nearest neighbours.

    The images follow a build's probes in its own order (`ivf.drawn_order`), and precede what it trains on. So an
    engine knows none of them, if the library has enough.
    """
    drawn = np.sort(np.roll(drawn_order(count), -IMAGES)[:queries])
    rows, ids, position = [], [], 0
    for seqs, part in catalog.embeddings.chunks(row.id, until=last):
        here = drawn[(drawn >= position) & (drawn < position + len(seqs))] - position
        rows.append(part[here])
        ids.append(seqs[here])
        position += len(seqs)
    images, own = np.concatenate(rows), np.concatenate(ids)
    nearest = exact.TopK(np.concatenate([images, texts]), k + 1)
    for seqs, part in catalog.embeddings.chunks(row.id, until=last):
        nearest.add(seqs, part)
    scores, found = nearest.result()
    return {
        "pictures": _Queries(images, own, _others(scores[: len(own)], found[: len(own)], own)[:, :k]),
        "texts": _Queries(texts, np.full(len(texts), -1), scores[len(own) :, :k]),
    }


def _others(scores: NDArray[np.float32], ids: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.float32]:
    """`scores` (m, w) without each query's own vector, shape (m, w − 1); without the last one if that is missing."""
    drop = ids == own[:, None]
    drop[:, -1] |= ~drop.any(axis=1)
    kept: NDArray[np.float32] = scores[~drop].reshape(len(scores), -1)
    return kept


def _open(
    catalog: Catalog,
    row: EncoderRow,
    engine: str,
    last: int,
    count: int,
    probes: NDArray[np.float32] | None,
    stack: ExitStack,
) -> _Opened:
    """The library's own snapshot where it is of that engine and covers everything, or one that `stack` removes."""
    own = snapshots.current(catalog, row.id)
    if own is not None and own.watermark == last and (own.file.engine, own.file.count) == (engine, count):
        try:
            index = snapshots.open_trusted(catalog, own, NO_CACHE, dim=row.info.dim).index
        except DamagedSnapshot:
            pass  # `doctor` reports it; here another one is made.
        else:
            return _Opened(index, "library", own.file.bytes, None, _numbers(own.file.details))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipsearch-")))
    begun = time.monotonic()
    written = write_snapshot(
        folder,
        f"vectors{SUFFIX}",
        dim=row.info.dim,
        count=count,
        chunks=lambda: catalog.embeddings.chunks(row.id, until=last, zeros=True),
        engine=engine,
        probes=lambda: probes,
    )
    seconds = time.monotonic() - begun
    index = open_snapshot(folder, written, dim=row.info.dim).index
    return _Opened(index, "made", written.bytes, seconds, _numbers(written.details))


def _numbers(details: object) -> dict[str, int]:
    named = details if isinstance(details, dict) else {}
    return {key: int(named[key]) for key in ("nlist", "nprobe") if key in named}


def _ask(
    index: VectorIndex, asked: dict[str, _Queries], k: int, resamples: int
) -> tuple[dict[str, metrics.Estimate], NDArray[np.float64]]:
    """Recall by kind of query, and the milliseconds of each query, one at a time."""
    times: list[float] = []
    recall: dict[str, metrics.Estimate] = {}
    for one in asked.values():
        for row in one.rows[:_WARM]:
            index.search(row[None], k)
    for kind, one in asked.items():
        shares = np.array([_share(index.search, one, i, k, times) for i in range(len(one.rows))])
        recall[kind] = metrics.bootstrap_mean(shares, resamples=resamples)
    return recall, np.array(times)


def _share(
    search: Callable[..., tuple[NDArray[np.float32], NDArray[np.int64]]],
    asked: _Queries,
    i: int,
    k: int,
    times: list[float],
) -> float:
    """What a search finds of the nearest of query i: the share, 0 … 1. Its milliseconds are added to `times`."""
    wanted = k + 1 if asked.own[i] >= 0 else k
    begun = time.perf_counter()
    scores, ids = search(asked.rows[i : i + 1], wanted)
    times.append((time.perf_counter() - begun) * 1000)
    if asked.own[i] >= 0:
        scores = _others(scores, ids, asked.own[i : i + 1])
    truth = asked.scores[i]
    good = scores[0] >= truth[-1] - exact.ROUNDING
    return float(good[: len(truth)].sum() / len(truth))
