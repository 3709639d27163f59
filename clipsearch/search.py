"""Nearest neighbours in a catalog: snapshot ∪ exact scan of the tail → live contents, scored from SQLite's vectors.

The catalog is the filter of correctness: an id that no live file stands behind is dropped and more are fetched, and the
scores of what is returned are recomputed from the vectors in SQLite, so that they depend on no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch import filters, snapshots
from clipsearch.cache import QueryCache
from clipsearch.catalog import Catalog, EncoderRow, SnapshotRow
from clipsearch.filters import Filter
from clipsearch.vectors import EXACT_LIMIT, DamagedSnapshot, VectorIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Found = tuple[NDArray[np.float32], NDArray[np.int64]]
    Weigh = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
    """queries (m, dim) and their scores (m, n) → one score a picture, shape (n,)."""

SPARE = 32
"""Neighbours fetched beyond k at first, for those that turn out to be dead."""

UNION = 5_000
"""Pictures that each term of a question proposes where there are too many to score every one."""

ATTEMPTS = 3
"""A reader whose snapshot a writer has just replaced looks again this often before it scans SQLite."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A content by its best view: that view's score, vector (dim,) and embedding id."""

    content_id: int
    score: float
    vector: NDArray[np.float32]
    seq: int


@dataclass(frozen=True, slots=True)
class _Tail:
    """The vectors that are newer than a snapshot, kept while neither end of the range moves."""

    encoder_id: int
    watermark: int
    last: int
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]


class Searcher:
    """Searches one catalog, keeping the mapped snapshot and the tail from one query to the next.

    `notices` says what the asker should know about the answers so far.
    """

    def __init__(self, catalog: Catalog, cache: QueryCache) -> None:
        self.notices: list[str] = []
        self._catalog = catalog
        self._cache = cache
        self._opened: tuple[str, VectorIndex] | None = None
        self._tail: _Tail | None = None

    def nearest(
        self, row: EncoderRow, query: NDArray[np.float32], k: int, *, where: Filter | None = None
    ) -> list[Neighbour]:
        """The `k` live contents nearest to `query`, a unit vector of shape (dim,); best first, ties by age.

        `where` narrows the search: whenever k contents pass it, the k nearest of them come back, by any engine.
        """
        for attempt in range(ATTEMPTS):
            with self._catalog.reading():
                snapshot = self._catalog.snapshot(row.id)
                try:
                    index = self._index(row, snapshot)
                except DamagedSnapshot as exc:
                    gone = snapshot is not None and not (self._catalog.folder / snapshot.file).exists()
                    if gone and attempt < ATTEMPTS - 1:
                        continue
                    self._say(f"{exc}; answering from the catalog, the next index run writes it anew")
                    index = None
                allowed = self._allowed(row, where) if where else None
                return self._fetch(row, index, snapshot.watermark if snapshot and index else 0, query, k, allowed)
        raise AssertionError("unreachable")

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

        Every picture that `where` leaves is scored, up to EXACT_LIMIT vectors; above, those among the UNION nearest of
        any of the first `wanted` queries, and a notice says so.
        """
        import numpy as np

        with self._catalog.reading():
            allowed = self._allowed(row, where or Filter())
            if len(allowed) > EXACT_LIMIT:
                self._say(
                    f"{len(allowed)} pictures are too many to score each one: the nearest {UNION} of each term compete"
                )
                near = [self.nearest(row, query, UNION, where=where) for query in queries[:wanted]]
                seqs, vectors = _united(near)
            else:
                seqs, vectors = self._gather(row, allowed)
            scores = queries @ vectors.T
            total = weigh(queries, scores.astype(np.float32))
            order = np.lexsort((seqs, -total))
            return self._best_contents(row, seqs[order], total[order], vectors[order], k)

    def engine(self, row: EncoderRow) -> str:
        """What a search uses: "exact", "ivf", or "none" where there is no snapshot to trust."""
        snapshot = self._catalog.snapshot(row.id)
        try:
            index = self._index(row, snapshot)
        except DamagedSnapshot:
            return "none"
        return index.engine if index else "none"

    def _allowed(self, row: EncoderRow, where: Filter) -> NDArray[np.int64]:
        import numpy as np

        return np.asarray(filters.matching(self._catalog.conn, row.id, where), np.int64)

    def _index(self, row: EncoderRow, snapshot: SnapshotRow | None) -> VectorIndex | None:
        if snapshot is None:
            return None
        if self._opened is None or self._opened[0] != snapshot.file:
            opened = snapshots.open_trusted(self._catalog, snapshot, self._cache, dim=row.info.dim)
            self._opened = (snapshot.file, opened.index)
        return self._opened[1]

    def _fetch(
        self,
        row: EncoderRow,
        index: VectorIndex | None,
        watermark: int,
        query: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None,
    ) -> list[Neighbour]:
        import numpy as np

        queries = np.ascontiguousarray(query, np.float32)[None, :]
        last = self._catalog.last_seq(row.id)
        want = k + SPARE
        exhaustive = allowed is not None
        while True:
            parts = [self._scan(row, queries, watermark, last, want, kept=index is not None, allowed=allowed)]
            if index is not None:
                parts.append(index.search(queries, want, allowed=allowed, exhaustive=exhaustive))
            ids = np.concatenate([found[0] for _, found in parts])
            scores = np.concatenate([found[0] for found, _ in parts])
            ids = ids[np.lexsort((ids, -scores))]
            ids = ids[ids >= 0][:want]
            live = self._live(row, queries, ids.tolist())
            complete = len(ids) < want and (exhaustive or index is None or index.engine == "exact")
            if len(live) >= k or complete:
                return live[:k]
            # Fewer than k live ones: an approximate engine may have missed some, and more must be asked for.
            exhaustive = True
            want *= 4

    def _scan(
        self,
        row: EncoderRow,
        queries: NDArray[np.float32],
        after: int,
        last: int,
        k: int,
        *,
        kept: bool,
        allowed: NDArray[np.int64] | None,
    ) -> Found:
        """The best of the vectors with after < seq ≤ last, from SQLite; `kept` ones stay in memory."""
        import numpy as np

        from clipsearch.vectors import exact

        best = exact.TopK(queries, k, allowed=allowed)
        if last > after:
            if kept:
                tail = self._load_tail(row, after, last)
                best.add(tail.ids, tail.vectors)
            else:
                for ids, vectors in snapshots.chunks(self._catalog, row, after=after, until=last):
                    best.add(ids, vectors)
        scores, found = best.result()
        return np.asarray(scores), np.asarray(found)

    def _load_tail(self, row: EncoderRow, watermark: int, last: int) -> _Tail:
        import numpy as np

        tail = self._tail
        if tail is None or (tail.encoder_id, tail.watermark, tail.last) != (row.id, watermark, last):
            parts = list(snapshots.chunks(self._catalog, row, after=watermark, until=last))
            empty = np.empty((0, row.info.dim), np.float32)
            ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in parts)])
            tail = _Tail(row.id, watermark, last, ids, np.concatenate([empty, *(rows for _, rows in parts)]))
            self._tail = tail
        return tail

    def _gather(self, row: EncoderRow, allowed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids of `allowed` (ascending) with their vectors, shapes (n,) and (n, dim)."""
        import numpy as np

        from clipsearch.vectors import exact

        ids, vectors = [np.empty(0, np.int64)], [np.empty((0, row.info.dim), np.float32)]
        last = int(allowed[-1]) if len(allowed) else 0
        for some, rows in snapshots.chunks(self._catalog, row, until=last):
            chosen = exact.members(some, allowed)
            ids.append(some[chosen])
            vectors.append(rows[chosen])
        return np.concatenate(ids), np.concatenate(vectors)

    def _best_contents(
        self,
        row: EncoderRow,
        seqs: NDArray[np.int64],
        scores: NDArray[np.float32],
        vectors: NDArray[np.float32],
        k: int,
    ) -> list[Neighbour]:
        """The first `k` contents of vectors that are sorted best first, each with its best view."""
        best: dict[int, Neighbour] = {}
        step = 2 * k + SPARE
        for start in range(0, len(seqs), step):
            part = seqs[start : start + step].tolist()
            live = self._catalog.live_embeddings(row.id, part)
            for i, seq in enumerate(part, start):
                if seq in live and live[seq][0] not in best:
                    best[live[seq][0]] = Neighbour(live[seq][0], float(scores[i]), vectors[i], seq)
            if len(best) >= k:
                break
        return list(best.values())[:k]

    def _live(self, row: EncoderRow, queries: NDArray[np.float32], seqs: list[int]) -> list[Neighbour]:
        """Live contents among `seqs`, each with its best view, best first."""
        import numpy as np

        from clipsearch.vectors import exact

        live = self._catalog.live_embeddings(row.id, seqs)
        if not live:
            return []
        found = sorted(live)
        vectors = np.frombuffer(b"".join(live[seq][1] for seq in found), "<f4").reshape(len(found), row.info.dim)
        scores = exact.inner_products(queries, vectors)[0]
        best: dict[int, Neighbour] = {}
        for i in np.lexsort((found, -scores)):
            content_id = live[found[i]][0]
            if content_id not in best:
                best[content_id] = Neighbour(content_id, float(scores[i]), vectors[i], found[i])
        return list(best.values())

    def _say(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)


def _united(found: Sequence[Sequence[Neighbour]]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Embedding ids, ascending, and their vectors, of neighbours in any of several lists."""
    import numpy as np

    by_seq = {n.seq: n.vector for near in found for n in near}
    seqs = sorted(by_seq)
    return np.asarray(seqs, np.int64), np.stack([by_seq[seq] for seq in seqs])
