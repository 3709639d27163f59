"""How far each hit of one query stands out, and which images of the library are relevant to it.

`search/relevance` has the formulas, `search/baselines` the baseline that they need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.filters import Filter
from clipsearch.search import baselines
from clipsearch.search.embed import Embedder
from clipsearch.search.neighbours import Neighbour, Searcher
from clipsearch.search.relevance import FEWEST, Baseline, Kind, evidence, relevance
from clipsearch.search.terms import Term, Text
from clipsearch.types import Notice, Total

SCANNED = 20_000
"""Up to so many vectors, the scores of all decide which are relevant; of more, those of the baseline's sample."""

REMEMBERED = 8
"""Baselines of filters that are kept from one query to the next."""

TOO_FEW = f"relevance cannot be determined in a library of fewer than {FEWEST} images"
GONE = (
    "most of the images that the library's baseline was measured on are gone; the next index run, or a query with "
    "`relevant=True`, measures it again"
)


@dataclass(frozen=True, slots=True)
class Question:
    """One query: the unit vector (dim,) of its terms, and the filter."""

    terms: Sequence[Term]
    vector: NDArray[np.float32]
    where: Filter | None

    @property
    def kind(self) -> Kind:
        texts = [isinstance(term, Text) for term in self.terms]
        if len(texts) == 1:
            return "text" if texts[0] else "picture"
        return "texts" if all(texts) else "mixed"


def judge(
    catalog: Catalog,
    embedder: Embedder,
    searcher: Searcher,
    question: Question,
    found: Sequence[Neighbour],
    *,
    relevant: bool,
) -> tuple[list[Neighbour], Total | None]:
    """`found`, the nearest images in descending order of their scores, with their relevance.

    `relevant` leaves those that are relevant, and counts all relevant images; `found` must then have the three nearest.
    Where there is no baseline, all of `found` is returned, and a notice tells why. The baseline is measured where
    `relevant` asks for it, and measured again where the model is loaded anyway.
    """
    library = _of_library(catalog, embedder, searcher, relevant=relevant)
    if library is None or not found:
        return list(found), None
    narrow = _of_filter(catalog, embedder, searcher, question) if question.where else None
    baseline = narrow or library
    scores = np.array([each.score for each in found], np.float32)
    values = relevance(baseline, question.vector, scores, kind=question.kind).tolist()
    result = [replace(each, relevance=value) for each, value in zip(found, values, strict=True)]
    if not relevant:
        return result, None
    scope = question.where if narrow else None
    limit, total = _select(catalog, embedder, searcher, baseline, question, scores, scope)
    return [each for each in result if each.score > limit], total


def _of_library(catalog: Catalog, embedder: Embedder, searcher: Searcher, *, relevant: bool) -> Baseline | None:
    row, cache = embedder.row, embedder.cache
    key = (row.info.fingerprint, catalog.version())
    known = cast("Baseline | None", searcher.learnt.get(key))
    if known is not None:
        return known
    found = baselines.recall(catalog, row, cache)
    stale = not found.current and (found.gone or found.baseline is not None)
    if relevant or (stale and embedder.loaded):
        baseline = baselines.learn(catalog, row, cache, embedder.texts)
    else:
        baseline = found.baseline
    if baseline is not None:
        searcher.learnt[key] = baseline
    elif relevant:
        embedder.notices.append(Notice("relevance", TOO_FEW))
    elif found.gone:
        embedder.notices.append(Notice("relevance", GONE))
    return baseline


def _of_filter(catalog: Catalog, embedder: Embedder, searcher: Searcher, question: Question) -> Baseline | None:
    key = (embedder.row.info.fingerprint, catalog.version(), question.where, question.kind)
    if key not in searcher.learnt:
        while len(searcher.learnt) > REMEMBERED:
            searcher.learnt.pop(next(iter(searcher.learnt)))
        where = question.where or Filter()
        searcher.learnt[key] = baselines.of_filter(catalog, embedder.row, where, question.kind, embedder.texts)
    return cast("Baseline | None", searcher.learnt[key])


def _select(
    catalog: Catalog,
    embedder: Embedder,
    searcher: Searcher,
    baseline: Baseline,
    question: Question,
    best: NDArray[np.float32],
    scope: Filter | None,
) -> tuple[float, Total]:
    """The score above which images are relevant, and how many are. `best`: the highest scores; `scope`: the filter of
    the images that the baseline is of.
    """
    row, where = embedder.row, question.where
    scanned = searcher.all_scores(row, question.vector, SCANNED, where=scope)
    if scanned is None:
        scores: NDArray[np.floating] = baseline.sample.vectors @ question.vector
    else:
        seqs, scores = scanned
        if catalog.tiles() != "none":
            seqs, scores = _best_views(catalog, embedder, seqs, scores)
    limit = evidence(baseline, question.vector, scores, best, kind=question.kind).cut()
    above = int((best > limit).sum())
    if above < len(best):
        return limit, Total(above, exact=True)
    if where and scope is None:  # So few images pass the filter that it has no baseline of its own.
        inside = searcher.nearest(row, question.vector, baselines.FILTERED, where=where)
        return limit, Total(sum(each.score > limit for each in inside), exact=True)
    if scanned is not None:
        candidates = seqs[scores > limit].tolist()
        live = catalog.embeddings.live_views(row.id, candidates, with_blank=bool(where))
        return limit, Total(len({about.content_id for about in live.values()}), exact=True)
    share = float((scores > limit).mean())
    return limit, Total(max(above, round(share * baseline.count)), exact=False)


def _best_views(
    catalog: Catalog, embedder: Embedder, seqs: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best view of each image, from all views in descending order of their scores."""
    known, owners = catalog.embeddings.owners(embedder.row.id)
    _, first = np.unique(owners[np.searchsorted(known, seqs)], return_index=True)
    first.sort()
    return seqs[first], scores[first]
