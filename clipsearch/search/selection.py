"""The relevant images of a library, and how many there are.

Up to SCANNED images, all of them are looked at, and their scores by chance stay in memory for the next query. In larger
libraries, the baseline's sample tells which scores are relevant, and the nearest images are looked at until enough are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.filters import Filter
from clipsearch.search import fitted
from clipsearch.search.baselines import FILTERED
from clipsearch.search.evidence import Cut, Scores, evidence, scored
from clipsearch.search.neighbours import Neighbour, Searcher
from clipsearch.search.pairs import Shots
from clipsearch.search.relevance import Baseline, Kind
from clipsearch.search.terms import Term, Text
from clipsearch.types import Total

SCANNED = 20_000
"""Up to so many vectors are all looked at: these take 40 MB at 512 dimensions."""

DEEPER = 4
"""Where too few of the nearest images are relevant, so many times as many are fetched."""


@dataclass(frozen=True, slots=True)
class Question:
    """One query: the unit vector (dim,) of its terms, which are centred or not, and the filter."""

    terms: Sequence[Term]
    vector: NDArray[np.float32]
    where: Filter | None
    centred: bool

    @property
    def kind(self) -> Kind:
        texts = [isinstance(term, Text) for term in self.terms]
        if len(texts) == 1:
            return "text" if texts[0] else "picture"
        if all(texts):
            return "centred texts" if self.centred else "texts"
        return "centred mixed" if self.centred else "mixed"


@dataclass(frozen=True, slots=True)
class _Images:
    """Views of images, shapes (n,), (n,) and (n, dim), with the mean and deviation of their scores by chance."""

    seqs: NDArray[np.int64]
    owners: NDArray[np.int64]
    vectors: NDArray[np.float32]
    mean: NDArray[np.float32] | float
    deviation: NDArray[np.float32] | float

    def best_views(self, query: NDArray[np.float32]) -> tuple[NDArray[np.int64], Scores]:
        """The best view of each image for the unit vector `query`: its seq, and its scores."""
        raw = self.vectors @ query
        seqs, scores = self.seqs, Scores(raw, (raw - self.mean) / self.deviation)
        order = np.lexsort((seqs, -raw))
        _, first = np.unique(self.owners[order], return_index=True)
        if len(first) == len(order):
            return seqs, scores
        best = order[first]
        return seqs[best], Scores(raw[best], scores.standard[best])


def select(
    catalog: Catalog,
    row: EncoderRow,
    searcher: Searcher,
    question: Question,
    baseline: Baseline,
    found: Sequence[Neighbour],
    shots: Shots,
    wanted: int,
    *,
    scope: Filter | None,
) -> tuple[list[Neighbour], Total]:
    """The best `wanted` of the relevant shots, and how many there are in all.

    `found`: the nearest single images, best first, at least three if there are as many. `scope`: the filter of the
    baseline's images; None where it is the library's, even if `question` has a filter, which few images pass then.
    """
    query, kind = question.vector, question.kind
    best = _scores(found, question, baseline)
    cut = fitted.cut(catalog, row.id, evidence(baseline, query, best, kind=kind))
    if not cut.answers:
        return [], Total(0, exact=True)
    if question.where and scope is None:
        inside = searcher.nearest(row, query, FILTERED, where=question.where)
        hits = shots.fold(_passing(inside, question, baseline, cut))
        return hits[:wanted], Total(len(hits), exact=True)
    if baseline.count > SCANNED:
        sample = baseline.sample
        share = np.average(cut.passes(scored(baseline, query, sample.vectors, kind=kind)), weights=sample.counts)
        estimate = round(float(share) * baseline.count)
        return _nearest_passing(row, searcher, question, baseline, found, shots, wanted, cut, estimate)
    seqs, scores = _images(catalog, row, searcher, baseline, kind, scope).best_views(query)
    chosen = catalog.embeddings.live_views(row.id, seqs[cut.passes(scores)].tolist(), with_blank=bool(question.where))
    total = shots.count(about.content_id for about in chosen.values())
    count = len(found)
    while True:
        hits = shots.fold(each for each in found if each.seq in chosen)
        if len(hits) >= min(wanted, total) or len(found) < count:
            return hits[:wanted], Total(total, exact=True)
        count *= DEEPER
        found = searcher.nearest(row, query, count, where=question.where)


def _nearest_passing(
    row: EncoderRow,
    searcher: Searcher,
    question: Question,
    baseline: Baseline,
    found: Sequence[Neighbour],
    shots: Shots,
    wanted: int,
    cut: Cut,
    estimate: int,
) -> tuple[list[Neighbour], Total]:
    """As `select`, of so many images that only the nearest are looked at, until hardly any of these pass.

    `estimate`: how many single images are relevant.
    """
    count = len(found)
    while True:
        passing = _passing(found, question, baseline, cut)
        hits = shots.fold(passing)
        is_all = len(found) < count or found[-1].score <= cut.least
        last = {each.seq for each in found[len(found) // 2 :]}
        if is_all or len(hits) >= wanted or not any(each.seq in last for each in passing):
            about = round(estimate * len(hits) / max(1, len(passing)))
            return hits[:wanted], Total(len(hits) if is_all else max(len(hits), about), exact=is_all)
        count *= DEEPER
        found = searcher.nearest(row, question.vector, count, where=question.where)


def _passing(found: Sequence[Neighbour], question: Question, baseline: Baseline, cut: Cut) -> list[Neighbour]:
    passing = cut.passes(_scores(found, question, baseline)).tolist() if found else []
    return [each for each, passes in zip(found, passing, strict=True) if passes]


def _scores(found: Sequence[Neighbour], question: Question, baseline: Baseline) -> Scores:
    vectors = np.stack([cast("NDArray[np.float32]", each.vector) for each in found])
    scores = scored(baseline, question.vector, vectors, kind=question.kind)
    return replace(scores, raw=np.array([each.score for each in found], np.float32))


def _images(
    catalog: Catalog, row: EncoderRow, searcher: Searcher, baseline: Baseline, kind: Kind, where: Filter | None
) -> _Images:
    """All images that `where` leaves. Those of the last query are kept."""
    key = (row.info.fingerprint, catalog.version(), kind, where)
    known = cast("tuple[object, Baseline, _Images] | None", searcher.learnt.get(_Images))
    if known is not None and known[0] == key and known[1] is baseline:
        return known[2]
    if (allowed := searcher.allowed(row, where)) is not None:
        live, vectors = catalog.embeddings.live_vectors(row.id, allowed.tolist(), dim=row.info.dim, with_blank=True)
        seqs, owners = np.array(list(live), np.int64), np.array([about.content_id for about in live.values()], np.int64)
    else:
        seqs, owners, vectors = catalog.embeddings.live_every(row.id, 1, dim=row.info.dim)
    images = _Images(seqs, owners, vectors, *baseline.chance(vectors, kind))
    searcher.learnt[_Images] = (key, baseline, images)
    return images
