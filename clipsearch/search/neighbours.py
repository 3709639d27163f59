"""Nearest neighbours in a catalog: snapshot ∪ exact scan of the tail → live contents, scored from SQLite's vectors.

The catalog decides what is a hit: an id without a live file is dropped, and more are fetched. Scores are summed in one
way everywhere (`vectors.exact.inner_products`), so that they do not depend on the engine; those of a single search are
computed again from the vectors in SQLite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from clipsearch.catalog import filters, snapshots
from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.embeddings import LiveView, read_box
from clipsearch.catalog.filters import Filter
from clipsearch.types import Box, Notice, NoticeKind, Partner
from clipsearch.vectors.engines import EXACT_LIMIT
from clipsearch.vectors.index import DamagedSnapshot, VectorIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Found = tuple[NDArray[np.float32], NDArray[np.int64]]
    Weigh = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
    """queries (m, dim) and their scores (m, n) → one score per image, shape (n,)."""

Answer = TypeVar("Answer")

PAGES_KIB = 32 * 1024
"""Pages of the catalog that stay in memory between queries. SQLite's default of 2 MB holds 128 of them, fewer than a
warm query over 100,000 images reads: reading them again took 0.8 of its 2.3 ms beside the engine."""

SPARE = 32
"""Neighbours fetched beyond k at first, since some may have no live file."""

ENOUGH = 10
"""Live views among the first ENOUGH + SPARE candidates of an approximate engine; with fewer, all lists are searched."""

CROWDED = 4
"""Times as many are fetched for a batch of queries where images have several views."""

UNION = 5_000
"""Images that each term proposes where there are too many to score every one."""

ATTEMPTS = 3
"""Times that a search reads the snapshot's name, which a writer may replace meanwhile, before it scans SQLite."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A content by its best view: that view's score, embedding id and, where it was read, vector (dim,).

    `view` is its number, 0 for the whole image; `box` is the part of another view. `relevance`, `also`: see Hit.
    """

    content_id: int
    score: float
    seq: int
    vector: NDArray[np.float32] | None = None
    view: int = 0
    box: Box | None = None
    relevance: float | None = None
    also: tuple[Partner, ...] = ()


class _Tail(NamedTuple):
    """The vectors that are newer than a snapshot, up to `last`."""

    encoder_id: int
    watermark: int
    last: int
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]


class _View(NamedTuple):
    """What one search sees: an index over seq ≤ watermark (None: no snapshot to trust), and the last seq."""

    snapshot: VectorIndex | None
    watermark: int
    last: int


class _SnapshotReplacedError(Exception):
    """A snapshot's file was removed after the transaction began that read its name."""


class Searcher:
    """Searches one catalog, keeping the mapped snapshot and the tail from one query to the next.

    `notices` collects what the caller should know about the results; `learnt` is for what a caller wants to keep from
    one query to the next. Not for several threads.
    """

    def __init__(self, catalog: Catalog, cache: QueryCache) -> None:
        self.notices: list[Notice] = []
        self._catalog = catalog
        self._cache = cache
        self._opened: tuple[str, VectorIndex] | None = None
        self._working = self._last_attempt = False
        self._tail: _Tail | None = None
        self._filtered: tuple[object, NDArray[np.int64]] | None = None
        self.learnt: dict[object, object] = {}
        catalog.keep_pages(PAGES_KIB)

    def nearest(
        self, row: EncoderRow, query: NDArray[np.float32], k: int, *, where: Filter | None = None
    ) -> list[Neighbour]:
        """The `k` live contents nearest to `query`, a unit vector of shape (dim,); best first, ties by age.

        A larger `k` only appends to the result: after what an approximate engine visits, all others follow.
        `where` narrows the search: whenever k contents pass it, the k nearest of them come back, by any engine.
        """
        return self.consistently(lambda: self._fetch(row, self._view(row), query, k, self.allowed(row, where)))

    def nearest_many(
        self, row: EncoderRow, queries: NDArray[np.float32], k: int, *, where: Filter | None = None
    ) -> list[list[Neighbour]]:
        """`nearest` for each of `queries`, shape (m, dim), with one matrix product for all; vectors are left out."""

        def search() -> list[list[Neighbour]]:
            view, allowed = self._view(row), self.allowed(row, where)
            want = k + SPARE
            if self._catalog.tiles() != "none":
                want *= CROWDED  # An image may be there several times, by several views.
            ids, scores = self._candidates(row, view, queries, want, allowed, exhaustive=allowed is not None)
            seqs = sorted({int(i) for i in ids.ravel() if i >= 0})
            live = self._catalog.embeddings.live_views(row.id, seqs, with_blank=allowed is not None)
            return [
                _first_contents(live, ids[i], scores[i], k) or self._fetch(row, view, queries[i], k, allowed)
                for i in range(len(queries))
            ]

        return self.consistently(search)

    def scored(
        self,
        row: EncoderRow,
        queries: NDArray[np.float32],
        weigh: Weigh,
        k: int,
        *,
        wanted: int,
        where: Filter | None = None,
    ) -> list[Neighbour]:
        """The `k` live contents that `weigh` scores best, from their scores against all of `queries`, shape (m, dim).

        Every image that `where` leaves is scored, up to EXACT_LIMIT vectors; above, only those among the UNION nearest
        of any of the first `wanted` queries, with a notice.
        """
        import numpy as np

        def search() -> list[Neighbour]:
            allowed = filters.matching(self._catalog, row.id, where or Filter())
            if len(allowed) > EXACT_LIMIT:
                self._notify(
                    "approximate",
                    f"{len(allowed)} pictures are too many to score each one: the nearest {UNION} of each term compete",
                )
                near = [self.nearest(row, query, UNION, where=where) for query in queries[:wanted]]
                seqs, vectors = _united(near)
            else:
                seqs, vectors = self._gather(row, allowed)
            scores = queries @ vectors.T
            total = weigh(queries, scores.astype(np.float32))
            order = np.lexsort((seqs, -total))
            return self._best_contents(row, seqs[order], total[order], vectors[order], k)

        return self.consistently(search)

    def allowed(self, row: EncoderRow, where: Filter | None) -> NDArray[np.int64] | None:
        """The ids that a filter leaves, ascending; None where nothing is filtered. The last ones are kept."""
        if not where:
            return None
        key = (row.id, where, self._catalog.version())
        if self._filtered is None or self._filtered[0] != key:
            self._filtered = key, filters.matching(self._catalog, row.id, where)
        return self._filtered[1]

    def take_notices(self) -> tuple[Notice, ...]:
        """The notices since the last call."""
        taken, self.notices = tuple(self.notices), []
        return taken

    def consistently(self, work: Callable[[], Answer]) -> Answer:
        """Do searches, and what reads the catalog for them, in one reading transaction: all see the same state.

        It begins again where a writer has replaced the snapshot that the catalog, as it was seen, names.
        """
        if self._working:
            return work()
        for attempt in range(ATTEMPTS):
            self._working, self._last_attempt = True, attempt == ATTEMPTS - 1
            try:
                with self._catalog.reading():
                    return work()
            except _SnapshotReplacedError:
                continue
            finally:
                self._working = False
        raise AssertionError("unreachable")

    def _view(self, row: EncoderRow) -> _View:
        """What this transaction searches. Raises _SnapshotReplacedError where another look may see more."""
        snapshot = snapshots.current(self._catalog, row.id)
        try:
            index = self._index(row, snapshot)
        except DamagedSnapshot as exc:
            gone = snapshot is not None and not (self._catalog.folder / snapshot.file.name).exists()
            if gone and not self._last_attempt:
                raise _SnapshotReplacedError from exc
            self._notify("damaged", f"{exc}; the catalog is searched instead; the next index run writes it again")
            index = None
        watermark = snapshot.watermark if snapshot and index else 0
        return _View(index, watermark, self._catalog.embeddings.last_seq(row.id))

    def _index(self, row: EncoderRow, snapshot: snapshots.Snapshot | None) -> VectorIndex | None:
        if snapshot is None:
            return None
        # By hash: names come again where an encoder is dropped and another one takes its number.
        if self._opened is None or self._opened[0] != snapshot.file.sha256:
            opened = snapshots.open_trusted(self._catalog, snapshot, self._cache, dim=row.info.dim)
            self._opened = (snapshot.file.sha256, opened.index)
        return self._opened[1]

    def _fetch(
        self, row: EncoderRow, view: _View, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None
    ) -> list[Neighbour]:
        """The first `k` of one order, which does not depend on `k`, so that pages are slices of it.

        An approximate engine's order: all live contents of the lists that it visits, then the others, each best first.
        Where fewer than ENOUGH of the first candidates are live, every list is searched at once.
        """
        import numpy as np

        queries = np.ascontiguousarray(query, np.float32)[None, :]
        want = max(k, ENOUGH) + SPARE
        exhaustive = allowed is not None or view.snapshot is None or not view.snapshot.approximate
        visited: list[Neighbour] = []
        while True:
            ids, _ = self._candidates(row, view, queries, want, allowed, exhaustive=exhaustive)
            found = ids[0][ids[0] >= 0].tolist()
            live, seqs = self._live(row, queries, found, with_blank=allowed is not None)
            if not exhaustive and len(seqs.intersection(found[: ENOUGH + SPARE])) < ENOUGH:
                exhaustive = True
                continue
            earlier = {n.content_id for n in visited}
            hits = [*visited, *(n for n in live if n.content_id not in earlier)]
            is_all = len(found) < want
            if len(hits) >= k or (is_all and exhaustive):
                return hits[:k]
            if is_all:
                visited, exhaustive = hits, True
            want *= 4

    def _candidates(
        self,
        row: EncoderRow,
        view: _View,
        queries: NDArray[np.float32],
        want: int,
        allowed: NDArray[np.int64] | None,
        *,
        exhaustive: bool,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids of the `want` best of snapshot and tail for each query, best first, with scores; padded with -1."""
        import numpy as np

        parts = [self._scan(row, queries, view, want, allowed)]
        if view.snapshot is not None:
            parts.append(view.snapshot.search(queries, want, allowed=allowed, exhaustive=exhaustive))
        scores = np.concatenate([scores for scores, _ in parts], axis=1)
        ids = np.concatenate([ids for _, ids in parts], axis=1)
        order = np.lexsort((ids, -scores), axis=1)[:, :want]
        return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _scan(
        self, row: EncoderRow, queries: NDArray[np.float32], view: _View, k: int, allowed: NDArray[np.int64] | None
    ) -> Found:
        """The best of the vectors that the view's index does not cover, from SQLite; a tail stays in memory."""
        from clipsearch.vectors import exact

        best = exact.TopK(queries, k, allowed=allowed)
        if view.last > view.watermark:
            if view.snapshot is not None:
                tail = self._load_tail(row, view.watermark, view.last)
                best.add(tail.ids, tail.vectors)
            else:
                for ids, vectors in self._catalog.embeddings.chunks(row.id, until=view.last):
                    best.add(ids, vectors)
        return best.result()

    def _load_tail(self, row: EncoderRow, watermark: int, last: int) -> _Tail:
        import numpy as np

        tail = self._tail  # Of one that has grown, only the new rows are read.
        if tail is None or (tail.encoder_id, tail.watermark) != (row.id, watermark) or tail.last > last:
            tail = _Tail(row.id, watermark, watermark, np.empty(0, np.int64), np.empty((0, row.info.dim), np.float32))
        if tail.last < last:
            ids, vectors = self._catalog.embeddings.between(row.id, dim=row.info.dim, after=tail.last, until=last)
            vectors = np.concatenate([tail.vectors, vectors])
            tail = _Tail(row.id, watermark, last, np.concatenate([tail.ids, ids]), vectors)
        self._tail = tail
        return tail

    def _gather(self, row: EncoderRow, allowed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids of `allowed` (ascending) with their vectors, shapes (n,) and (n, dim)."""
        import numpy as np

        from clipsearch.vectors import exact

        ids, vectors = [np.empty(0, np.int64)], [np.empty((0, row.info.dim), np.float32)]
        last = int(allowed[-1]) if len(allowed) else 0
        for some, rows in self._catalog.embeddings.chunks(row.id, until=last):
            names = allowed[exact.members(allowed, some)]  # The few looked up among the many: chunks stay cheap.
            ids.append(names)
            vectors.append(rows[np.searchsorted(some, names)])
        return np.concatenate(ids), np.concatenate(vectors)

    def _best_contents(
        self,
        row: EncoderRow,
        seqs: NDArray[np.int64],
        scores: NDArray[np.float32],
        vectors: NDArray[np.float32],
        k: int,
    ) -> list[Neighbour]:
        """The first `k` contents of vectors that passed a filter and are sorted best first, each with its best view."""
        best: dict[int, Neighbour] = {}
        step = 2 * k + SPARE
        for start in range(0, len(seqs), step):
            part = seqs[start : start + step].tolist()
            live = self._catalog.embeddings.live_views(row.id, part, with_blank=True)
            for i, seq in enumerate(part, start):
                if seq in live and live[seq].content_id not in best:
                    best[live[seq].content_id] = _neighbour(live[seq], scores[i], seq, vectors[i])
            if len(best) >= k:
                break
        return list(best.values())[:k]

    def _live(
        self, row: EncoderRow, queries: NDArray[np.float32], seqs: list[int], *, with_blank: bool
    ) -> tuple[list[Neighbour], set[int]]:
        """Live contents among `seqs`, each with its best view, best first; and all their views among `seqs`."""
        import numpy as np

        from clipsearch.vectors import exact

        live, vectors = self._catalog.embeddings.live_vectors(row.id, seqs, dim=row.info.dim, with_blank=with_blank)
        if not live:
            return [], set()
        found = list(live)
        scores = exact.inner_products(queries, vectors)[0]
        best: dict[int, Neighbour] = {}
        for i in np.lexsort((found, -scores)):
            about = live[found[i]]
            if about.content_id not in best:
                best[about.content_id] = _neighbour(about, scores[i], found[i], vectors[i])
        return list(best.values()), set(live)

    def _notify(self, kind: NoticeKind, text: str) -> None:
        if (notice := Notice(kind, text)) not in self.notices:
            self.notices.append(notice)


def _united(found: Sequence[Sequence[Neighbour]]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Embedding ids, ascending, and their vectors, of neighbours in any of several lists."""
    import numpy as np

    by_seq = {n.seq: n.vector for near in found for n in near if n.vector is not None}
    seqs = sorted(by_seq)
    return np.asarray(seqs, np.int64), np.stack([by_seq[seq] for seq in seqs])


def _first_contents(
    live: Mapping[int, LiveView], ids: NDArray[np.int64], scores: NDArray[np.float32], k: int
) -> list[Neighbour]:
    """The first `k` live contents of one query's candidates; empty where there are fewer.

    Also empty where one scores 0: in a snapshot, zeros stand for a vector that is not finite.
    """
    best: dict[int, Neighbour] = {}
    for seq, score in zip(ids.tolist(), scores.tolist(), strict=True):
        about = live.get(seq)
        if about is not None and about.content_id not in best:
            if score == 0:
                break
            best[about.content_id] = _neighbour(about, score, seq, None)
            if len(best) == k:
                return list(best.values())
    return []


def _neighbour(about: LiveView, score: float, seq: int, vector: NDArray[np.float32] | None) -> Neighbour:
    box = None if about.box is None else read_box(about.box)
    return Neighbour(about.content_id, float(score), seq, vector, about.view, box)
