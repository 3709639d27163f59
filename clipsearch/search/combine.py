"""Questions of several terms: their vectors balanced and added, required together, or held against a hit.

CLIP's text and picture vectors lie in two cones apart from each other (Liang et al. 2022, "Mind the Gap",
arXiv:2203.02053), so in a plain sum a picture drowns words. Each term is therefore first freed of what all vectors of
its kind have in common, then made a unit vector again, then weighed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.filters import Filter
from clipsearch.errors import UsageError
from clipsearch.files import absolute
from clipsearch.search.embed import LoadEncoder, embed_bytes, embed_picture, embed_texts, read_bytes
from clipsearch.search.neighbours import Neighbour, Searcher
from clipsearch.search.terms import Known, Picture, Term, Text
from clipsearch.types import Hit, ScoreKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.search.background import Background

MARGIN = 0.5
"""A picture may be this many deviations closer to an excluded term than is usual before it is held against it.

Over 500 drawings, colours asked for and backgrounds excluded: 0 and 0.5 leave no excluded one among the first 20, 1.0
two in 300; asked-for colours stay in .99, .99 and .97 of them."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for: `terms` (at least one) add up, or must all match where `every` is set; `without` excludes."""

    terms: tuple[Term, ...]
    without: tuple[Term, ...] = ()
    every: bool = False
    where: Filter | None = None

    @property
    def kind(self) -> ScoreKind:
        """What a hit's score means; see types.ScoreKind."""
        if self.without:
            return "penalised"
        if self.every and len(self.terms) > 1:
            return "least"
        return "cosine" if len(self.terms) == 1 else "combined"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question as vectors. `vector` (dim,) is what is looked for, the balanced sum where there are several terms;
    `queries` (m, dim) are those that a score is made of, the last ones excluding with the weights `penalties`."""

    question: Question
    vector: NDArray[np.float32]
    queries: NDArray[np.float32]
    penalties: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Embedded:
    vector: NDArray[np.float32]
    modality: Literal["text", "picture"]
    weight: float


class Asker:
    """Answers questions over one catalog with one encoder; adds to `notices` what the asker should know."""

    def __init__(
        self,
        catalog: Catalog,
        row: EncoderRow,
        searcher: Searcher,
        cache: QueryCache,
        load: LoadEncoder,
        *,
        notices: list[str],
    ) -> None:
        self._catalog = catalog
        self._row = row
        self._searcher = searcher
        self._cache = cache
        self._load = load
        self._notices = notices
        self._background: Background | None = None

    def prepare(self, question: Question) -> Prepared:
        """Load what is needed and embed the terms; no transaction need be open for that."""
        import numpy as np

        terms = [self._embed(term) for term in question.terms]
        vector = terms[0].vector if len(terms) == 1 else self._sum(terms)
        if question.kind in ("cosine", "combined"):
            return Prepared(question, vector, vector[None], ())
        self._known_background()
        wanted = np.stack([t.vector for t in terms]) if question.every else vector[None]
        unwanted = [self._embed(term) for term in question.without]
        queries = np.concatenate([wanted, *(t.vector[None] for t in unwanted)])
        return Prepared(question, vector, queries, tuple(t.weight for t in unwanted))

    def search(self, prepared: Prepared, k: int) -> list[Neighbour]:
        """The `k` best."""
        where = prepared.question.where
        if prepared.question.kind in ("cosine", "combined"):
            return self._searcher.nearest(self._row, prepared.vector, k, where=where)
        wanted = len(prepared.queries) - len(prepared.penalties)
        return self._searcher.scored(
            self._row,
            prepared.queries,
            lambda queries, scores: self._weigh(queries, scores, wanted, prepared.penalties),
            k,
            wanted=wanted,
            where=where,
        )

    def judge(self, prepared: Prepared, hits: tuple[Hit, ...], *, learn: bool) -> tuple[Hit, ...]:
        """Hits with their relevance, where it is known what is usual in the library; `learn` finds that out."""
        import numpy as np

        question = prepared.question
        if not hits or question.kind not in ("cosine", "combined"):
            return hits
        from clipsearch.search import relevance

        if learn:
            yardstick = relevance.learn(self._catalog, self._row, self._cache, self._embed_texts)
        else:
            yardstick = relevance.recall(self._catalog, self._row, self._cache)
        if yardstick is None:
            return hits
        kind: relevance.Kind = "mixed"
        if len(question.terms) == 1:
            kind = "text" if isinstance(question.terms[0], Text) else "picture"
        scores = np.array([hit.score for hit in hits], np.float32)
        found = relevance.relevance(yardstick, prepared.vector, scores, kind=kind)
        return tuple(replace(hit, relevance=float(each)) for hit, each in zip(hits, found, strict=True))

    def _embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return embed_texts(texts, self._row, self._load, self._cache, notices=self._notices)

    def _weigh(
        self, queries: NDArray[np.float32], scores: NDArray[np.float32], wanted: int, weights: Sequence[float]
    ) -> NDArray[np.float32]:
        """Scores (n,) of pictures: the least standardised score of the first `wanted` queries, less the penalties."""
        import numpy as np

        standard = self._known_background().standardise(queries, scores)
        total: NDArray[np.float32] = standard[:wanted].min(axis=0)
        for weight, row in zip(weights, standard[wanted:], strict=True):
            total = total - np.float32(weight) * np.maximum(row - np.float32(MARGIN), 0)
        return total

    def _sum(self, terms: Sequence[_Embedded]) -> NDArray[np.float32]:
        import numpy as np

        from clipsearch.search.background import MIN_PICTURES

        total = np.zeros(self._row.info.dim, np.float64)
        background = self._known_background() if self._row.info.is_clip else None
        for term in terms:
            vector = term.vector.astype(np.float64)
            if background is not None and background.count >= MIN_PICTURES:
                vector = vector - (background.text_mean if term.modality == "text" else background.mean)
                vector /= max(float(np.linalg.norm(vector)), 1e-12)
            total += term.weight * vector
        length = float(np.linalg.norm(total))
        if length < 1e-6:
            raise UsageError("the terms cancel each other out; change their weights")
        return (total / length).astype(np.float32)

    def _known_background(self) -> Background:
        from clipsearch.search.background import learn

        if self._background is None:
            self._background = learn(self._catalog, self._row, self._cache, self._embed_texts)
        return self._background

    def _embed(self, term: Term) -> _Embedded:
        if isinstance(term, Text):
            [vector] = self._embed_texts([term.words])
            return _Embedded(vector, "text", term.weight)
        if isinstance(term, Known):
            stored = self._catalog.embeddings.vector_of(term.id, self._row.id)
            if stored is None:
                raise UsageError(f"id:{term.id}: the library holds no such picture")
            return _Embedded(stored, "picture", term.weight)
        return _Embedded(self._embed_picture(term), "picture", term.weight)

    def _embed_picture(self, term: Picture) -> NDArray[np.float32]:
        if isinstance(term.source, bytes):
            data, name = term.source, "the picture"
        else:
            path = absolute(term.source)
            if term.region is None:
                return embed_picture(path, self._catalog, self._row, self._load, notices=self._notices)
            data, name = read_bytes(path), str(term.source)
        return embed_bytes(data, name, self._load, region=term.region, notices=self._notices)
