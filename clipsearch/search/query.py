"""A query, from words to hits.

terms      a text, an image, a part of one, an earlier hit            search/terms
  │ embed        unit vectors, from the cache and the catalog         search/embed
  │ combine      one vector, or several that are scored together      search/combine, search/background
  │ search       snapshot and tail to the nearest live contents       search/neighbours, vectors/
  │ judge        how far each stands out, and which are relevant      search/confidence, search/relevance
  ▼ describe     paths and facts of each content                      search/hits, catalog/
hits, in the order asked for
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.filters import Filter
from clipsearch.errors import UsageError
from clipsearch.search.combine import balanced_sum, penalised, score_kind
from clipsearch.search.embed import Embedder, indistinct, unseen
from clipsearch.search.hits import make_hits, make_many_hits, sort_hits
from clipsearch.search.neighbours import Neighbour, Searcher
from clipsearch.search.pairs import Shots
from clipsearch.search.terms import Indexed, Term, Text, as_term, check_unweighed
from clipsearch.types import Hit, Notice, QueryResult, ScoreKind, Sort, Total

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.search.background import Background
    from clipsearch.search.selection import Question

FIRST = 40
"""Nearest images that are looked at first for relevant ones, if fewer are asked for: a search finds as many anyway."""

AnyTerm = str | Path | Term
"""What Python code may give for a term: words, the path of an image, or a term of `search.terms`."""


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """How a query is answered.

    negative: terms that lower the score of an image. match_all: every term must match, where a sum would let one win;
    such terms have no weights. page: 2 for the next `k` best, and so on. sort: how a page is arranged. relevant: only
    relevant hits (`search.evidence`); where the library has no baseline yet, it is measured now, once. model: another
    encoder that the library holds. unfold: one hit for each file that passes the filter and exists, where otherwise a
    hit has all its paths, and a raw file and its JPEG, say, are one. explain: add what the built-in encoder
    recognised. judge: add the relevance of each hit. use_cache: False neither reads nor writes embeddings of texts.
    """

    negative: Sequence[AnyTerm] = ()
    match_all: bool = False
    page: int = 1
    sort: Sort = "score"
    relevant: bool = False
    model: str | None = None
    unfold: bool = False
    explain: bool = True
    judge: bool = True
    use_cache: bool = True


def _resolved(catalog: Catalog, where: Filter | None) -> Filter | None:
    """`where` with the places that its words mean."""
    if where is None or not where.within:
        return where
    from clipsearch.catalog import places  # Takes 1 ms, and most queries look everywhere.

    return places.resolved(catalog, where)


def as_terms(given: AnyTerm | Sequence[AnyTerm]) -> tuple[Term, ...]:
    """One or several terms as Python code gives them. Raises UsageError for none, and for empty words."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return (as_term(given),)
    if not given:
        raise UsageError("nothing to look for: no term is given")
    return tuple(as_term(term) for term in given)


def answer(
    catalog: Catalog,
    embedder: Embedder,
    searcher: Searcher,
    given: AnyTerm | Sequence[AnyTerm],
    *,
    k: int,
    where: Filter | None,
    options: QueryOptions,
) -> QueryResult:
    """The `k` best images for one or several terms; see `Library.query`, which raises the same."""
    terms, negative = as_terms(given), tuple(as_term(term) for term in options.negative)
    if not options.match_all:
        terms = _merged(terms)
    kind = score_kind(terms, negative, match_all=options.match_all)
    _check(k, terms, kind, options)
    row, is_clip = embedder.row, embedder.row.info.is_clip
    where = _resolved(catalog, where)

    vectors = [embedder.term(term) for term in terms]
    if any(isinstance(term, Indexed) and catalog.contents.is_blank(term.id) for term in terms):
        where = replace(where or Filter(), blank=True)  # Images like a blank one are blank, too.
    background = _background(catalog, embedder) if kind != "cosine" and (is_clip or kind != "combined") else None
    means = background if is_clip and background and _is_large(background) else None
    vector = balanced_sum(terms, vectors, means)
    excluded = [embedder.term(term) for term in negative]
    queries = [*(vectors if options.match_all else [vector]), *excluded]
    weights = [term.weight for term in negative]
    encoder = embedder.load() if options.explain and not is_clip else None

    def find(count: int) -> list[Neighbour]:
        if background is None or kind == "combined":
            return searcher.nearest(row, vector, count, where=where)
        return _scored(searcher, row, background, queries, weights, count, where)

    def search() -> tuple[tuple[Hit, ...], Total | None]:
        last = k * options.page
        shots = Shots(catalog, row, searcher.allowed(row, where), strict=options.unfold)
        total = None
        if options.relevant:
            question = _question(terms, vector, where, centred=means is not None)
            found, total = _judged(catalog, embedder, searcher, question, find(max(last, FIRST)), shots, wanted=last)
        else:
            found = shots.nearest(find, last)
        if options.judge and not options.relevant and kind in ("cosine", "combined"):
            question = _question(terms, vector, where, centred=means is not None)
            found, _ = _judged(catalog, embedder, searcher, question, found, shots)
        page = found[last - k : last]
        if options.unfold:
            page = shots.unfold(page, find)
        return make_hits(catalog, page, where=where, encoder=encoder, unfold=options.unfold), total

    hits, total = searcher.consistently(search)
    about = (*_alike(row, (*terms, *negative), (*vectors, *excluded)), *_unknown(embedder, negative, excluded))
    notices = (*embedder.notices, *about, *searcher.take_notices())
    return QueryResult(str(terms[0]), row.info, sort_hits(hits, options.sort), notices, kind, total)


def _merged(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Terms in their order, equal ones as one with the sum of their weights: adding a text to itself is no change."""
    weights: dict[Term, float] = {}
    for term in terms:
        plain = replace(term, weight=1.0)
        weights[plain] = weights.get(plain, 0.0) + term.weight
    return tuple(replace(term, weight=weight) for term, weight in weights.items())


def answer_many(
    catalog: Catalog,
    embedder: Embedder,
    searcher: Searcher,
    texts: Sequence[str],
    *,
    k: int,
    where: Filter | None,
) -> tuple[QueryResult, ...]:
    """The `k` nearest images of each text, with one model load and one matrix product for all of them."""
    if k < 1:
        raise UsageError(f"`k={k}`: at least 1")
    if not all(text.strip() for text in texts):
        raise UsageError("nothing to look for: a text is empty")
    if not texts:
        return ()
    row, vectors = embedder.row, embedder.texts(texts)
    where = _resolved(catalog, where)

    def search() -> list[tuple[Hit, ...]]:
        shots = Shots(catalog, row, searcher.allowed(row, where))
        found = shots.nearest_many(lambda count: searcher.nearest_many(row, vectors, count, where=where), k)
        return make_many_hits(catalog, found, where=where)

    hits = searcher.consistently(search)
    notices = (*embedder.notices, *searcher.take_notices())
    return tuple(QueryResult(text, row.info, each, notices) for text, each in zip(texts, hits, strict=True))


def _check(k: int, terms: Sequence[Term], kind: ScoreKind, options: QueryOptions) -> None:
    if k < 1 or options.page < 1:
        raise UsageError(f"`k={k}`, `page={options.page}`: both start at 1")
    if options.relevant and kind not in ("cosine", "combined"):
        raise UsageError("`relevant=True` does not work with `negative` or `match_all=True`")
    if options.match_all:
        check_unweighed(terms)


def _alike(row: EncoderRow, terms: Sequence[Term], vectors: Sequence[NDArray[np.float32]]) -> tuple[Notice, ...]:
    """A notice of the words in a query that the encoder cannot tell apart."""
    words = {term.words: vector for term, vector in zip(terms, vectors, strict=True) if isinstance(term, Text)}
    if len(words) < 2:
        return ()
    import numpy as np

    return indistinct(row.info, list(words), np.stack(list(words.values())))


def _unknown(
    embedder: Embedder, negative: Sequence[Term], vectors: Sequence[NDArray[np.float32]]
) -> tuple[Notice, ...]:
    """A notice of the excluded words that the encoder does not know."""
    words = {term.words: vector for term, vector in zip(negative, vectors, strict=True) if isinstance(term, Text)}
    if not words:
        return ()
    import numpy as np

    return unseen(embedder, list(words), np.stack(list(words.values())))


def _background(catalog: Catalog, embedder: Embedder) -> Background:
    from clipsearch.search.background import learn

    return learn(catalog, embedder.row, embedder.cache, embedder.texts)


def _is_large(background: Background) -> bool:
    """Whether so many images are enough for a mean that describes the encoder rather than the library."""
    from clipsearch.search.background import MIN_IMAGES

    return background.count >= MIN_IMAGES


def _scored(
    searcher: Searcher,
    row: EncoderRow,
    background: Background,
    queries: Sequence[NDArray[np.float32]],
    weights: Sequence[float],
    count: int,
    where: Filter | None,
) -> list[Neighbour]:
    """The `count` best images by the least z-score of the positive terms, less the penalties of the negative ones."""
    import numpy as np

    def weigh(queries: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return penalised(background.standardise(queries, scores), weights)

    positive = len(queries) - len(weights)
    return searcher.scored(row, np.stack(queries), weigh, count, wanted=positive, where=where)


def _question(terms: Sequence[Term], vector: NDArray[np.float32], where: Filter | None, *, centred: bool) -> Question:
    from clipsearch.search.selection import Question

    return Question(terms, vector, where, centred)


def _judged(
    catalog: Catalog,
    embedder: Embedder,
    searcher: Searcher,
    question: Question,
    found: list[Neighbour],
    shots: Shots,
    *,
    wanted: int | None = None,
) -> tuple[list[Neighbour], Total | None]:
    from clipsearch.search.confidence import judge

    return judge(catalog, embedder, searcher, question, found, shots, wanted=wanted)
