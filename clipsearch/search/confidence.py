"""How far each hit of one query stands out, and which images of the library are relevant to it.

`search/relevance` has the formulas, `search/baselines` the baseline that they need, `search/selection` the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from clipsearch.catalog.catalog import Catalog
from clipsearch.search import baselines
from clipsearch.search.embed import Embedder
from clipsearch.search.neighbours import Neighbour, Searcher
from clipsearch.search.pairs import Shots
from clipsearch.search.relevance import FEWEST, Baseline, relevance
from clipsearch.search.selection import Question, select
from clipsearch.types import Notice, Total

REMEMBERED = 8
"""Baselines of filters that are kept from one query to the next."""

TOO_FEW = f"relevance cannot be determined in a library of fewer than {FEWEST} different images"
GONE = (
    "most of the images that the library's baseline was measured on are gone; the next index run, or a query with "
    "`relevant=True`, measures it again"
)


def judge(
    catalog: Catalog,
    embedder: Embedder,
    searcher: Searcher,
    question: Question,
    found: Sequence[Neighbour],
    shots: Shots,
    *,
    wanted: int | None = None,
) -> tuple[list[Neighbour], Total | None]:
    """`found`, the nearest images in descending order of their scores, with their relevance.

    With `wanted`, the best so many relevant shots instead, and how many there are in all; `found` must have the three
    nearest single images. Where there is no baseline, what is found is returned, and a notice tells why. The baseline
    is measured where relevant images are wanted, and measured again where the model is loaded anyway.
    """
    library = _of_library(catalog, embedder, searcher, relevant=wanted is not None)
    if library is None or not found:
        return list(found) if wanted is None else shots.fold(found, wanted), None
    narrow = _of_filter(catalog, embedder, searcher, question, library) if question.where else None
    baseline, scope = narrow or library, question.where if narrow else None
    hits, total = list(found), None
    if wanted is not None:
        hits, total = select(catalog, embedder.row, searcher, question, baseline, found, shots, wanted, scope=scope)
    scores = np.array([each.score for each in hits], np.float32)
    values = relevance(baseline, question.vector, scores, kind=question.kind).tolist()
    return [replace(each, relevance=value) for each, value in zip(hits, values, strict=True)], total


def _of_library(catalog: Catalog, embedder: Embedder, searcher: Searcher, *, relevant: bool) -> Baseline | None:
    row, cache = embedder.row, embedder.cache
    key = (row.info.fingerprint, catalog.version())
    known = cast("tuple[object, Baseline] | None", searcher.learnt.pop(key, None))
    if known is not None and known[0] == baselines.mark(row, cache):
        searcher.learnt[key] = known  # The filters' go before it.
        return known[1]
    found = baselines.recall(catalog, row, cache)
    stale = not found.current and (found.gone or found.baseline is not None)
    if relevant or (stale and embedder.loaded):
        baseline = baselines.learn(catalog, row, cache, embedder.texts)
    else:
        baseline = found.baseline
    if baseline is not None:
        searcher.learnt[key] = (baselines.mark(row, cache), baseline)
    elif relevant:
        embedder.notices.append(Notice("relevance", TOO_FEW))
    elif found.gone and catalog.embeddings.count_images(row.id) >= FEWEST:
        embedder.notices.append(Notice("relevance", GONE))
    return baseline


def _of_filter(
    catalog: Catalog, embedder: Embedder, searcher: Searcher, question: Question, library: Baseline
) -> Baseline | None:
    key = (embedder.row.info.fingerprint, catalog.version(), question.where, question.kind)
    known = cast("tuple[Baseline, Baseline | None] | None", searcher.learnt.get(key))
    if known is None or known[0] is not library:
        while len(searcher.learnt) > REMEMBERED:
            searcher.learnt.pop(next(iter(searcher.learnt)))
        seqs = searcher.allowed(embedder.row, question.where)
        narrow = (
            baselines.of_filter(catalog, embedder.row, seqs, question.kind, library, embedder.texts)
            if seqs is not None
            else None
        )
        known = searcher.learnt[key] = (library, narrow)
    return known[1]
