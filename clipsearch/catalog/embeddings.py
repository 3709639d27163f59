"""The embeddings in a catalog: the only place that knows how a vector is stored, little-endian float32.

An embedding has a `seq`, which grows with every one that is added, whatever its encoder: a range of it is what a
snapshot covers. View 0 of a content is the whole image, the others are parts of it.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.catalog.contents import BLANK
from clipsearch.catalog.files import LIVE, batches
from clipsearch.types import MAX_INTEGER, Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.images.tiles import Tiles

CHUNK = 4096
"""Vectors that are read at a time."""


_HASH = "((content_id * 1103515245 & 2147483647) * (content_id * 1103515245 & 2147483647) >> 24)"
"""A hash of a content's id, as SQL. Images of one kind may have every second id, or every third: RAW beside JPEG, say.
The square of a product spreads them evenly over the remainders, which the product alone does not."""


class LiveView(NamedTuple):
    """A view of a live content; `box` as the catalog has it, JSON. A tuple: a batch of queries makes many thousands."""

    content_id: int
    view: int
    box: str | None


class Embeddings:
    """The embeddings of one catalog, through its connection."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    def put(
        self,
        content_id: int,
        encoder_id: int,
        vector: NDArray[np.float32],
        *,
        view: int = 0,
        box: Box | None = None,
    ) -> None:
        """Record the unit vector (dim,) of a view; `box` is the part that the view shows. An existing row is kept."""
        self._conn.execute(
            "INSERT INTO embeddings (content_id, encoder_id, view, box, vector) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (encoder_id, content_id, view) DO NOTHING",
            (content_id, encoder_id, view, None if box is None else json.dumps(box), to_bytes(vector)),
        )

    def remove_all(self, content_id: int) -> int:
        """Remove all vectors of a content, whatever their encoder; the number removed."""
        return self._conn.execute("DELETE FROM embeddings WHERE content_id = ?", (content_id,)).rowcount

    # Counts

    def count(self, encoder_id: int, *, after: int = 0, until: int | None = None) -> int:
        """Embeddings of an encoder with after < seq ≤ until."""
        row = self._conn.execute(
            "SELECT count(*) FROM embeddings WHERE encoder_id = ? AND seq > ? AND seq <= ?",
            (encoder_id, after, MAX_INTEGER if until is None else until),
        ).fetchone()
        return int(row[0])

    def count_images(self, encoder_id: int) -> int:
        """Contents that an encoder has a vector of; without tiles, as many as it has vectors."""
        row = self._conn.execute("SELECT count(*) FROM embeddings WHERE encoder_id = ? AND view = 0", (encoder_id,))
        return int(row.fetchone()[0])

    def count_not_finite(self, encoder_id: int) -> int:
        """How many embeddings of an encoder have a number that is not finite. Reads all of them."""
        rows = self._conn.execute("SELECT vector FROM embeddings WHERE encoder_id = ?", (encoder_id,))
        wrong = 0
        while part := rows.fetchmany(CHUNK):
            finite = finite_rows(from_bytes(b"".join(vector for (vector,) in part)).reshape(len(part), -1))
            wrong += 0 if finite is None else int((~finite).sum())
        return wrong

    def last_seq(self, encoder_id: int) -> int:
        row = self._conn.execute("SELECT max(seq) FROM embeddings WHERE encoder_id = ?", (encoder_id,)).fetchone()
        return int(row[0] or 0)

    # By content

    def vector_of(self, content_id: int, encoder_id: int) -> NDArray[np.float32] | None:
        """The unit vector (dim,) of a whole image; None where this encoder has none that is finite."""
        row = self._conn.execute(
            "SELECT vector FROM embeddings WHERE encoder_id = ? AND content_id = ? AND view = 0",
            (encoder_id, content_id),
        ).fetchone()
        return from_bytes(row[0]) if row is not None and is_finite(row[0]) else None

    def vectors_of(self, ids: Sequence[int], encoder_id: int) -> dict[int, NDArray[np.float32]]:
        """Unit vectors (dim,) of whole images by content, for those that this encoder has a finite one of."""
        found: dict[int, NDArray[np.float32]] = {}
        for part, marks in batches(ids):
            rows = self._conn.execute(
                "SELECT content_id, vector FROM embeddings WHERE encoder_id = ? AND view = 0 "
                f"AND content_id IN ({marks})",
                (encoder_id, *part),
            )
            found.update((content_id, from_bytes(vector)) for content_id, vector in rows if is_finite(vector))
        return found

    def seqs_of(self, ids: Sequence[int], encoder_id: int) -> dict[int, int]:
        """The seq of whole images by content, for those that this encoder has a vector of."""
        found: dict[int, int] = {}
        for part, marks in batches(ids):
            found |= self._conn.execute(
                f"SELECT content_id, seq FROM embeddings WHERE encoder_id = ? AND view = 0 AND content_id IN ({marks})",
                (encoder_id, *part),
            ).fetchall()
        return found

    def live_contents(self, encoder_id: int) -> list[int]:
        """The ids of the live contents that this encoder has a vector of, ascending."""
        rows = self._conn.execute(
            f"""SELECT e.content_id FROM embeddings e WHERE e.encoder_id = ? AND e.view = 0
              AND EXISTS (SELECT 1 FROM files f WHERE f.content_id = e.content_id AND f.state IN {LIVE})
            ORDER BY e.content_id""",
            (encoder_id,),
        )
        return [content_id for (content_id,) in rows]

    def every(self, encoder_id: int, step: int, *, dim: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The vectors of all views of one content in `step`, shape (n, dim), and their contents' ids, shape (n,)."""
        import numpy as np

        rows = self._conn.execute(
            f"SELECT content_id, vector FROM embeddings WHERE encoder_id = ? AND {_HASH} % ? = 0 "
            "ORDER BY content_id, view",
            (encoder_id, step),
        ).fetchall()
        vectors, owners = stacked([row[1] for row in rows], dim), np.array([row[0] for row in rows], np.int64)
        finite = finite_rows(vectors)
        return (vectors, owners) if finite is None else (vectors[finite], owners[finite])

    def live_every(
        self, encoder_id: int, step: int, *, dim: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """All views of one content in `step`, if it is live: seq and content's id (n,), finite vectors (n, dim)."""
        import numpy as np

        rows = self._conn.execute(
            f"""SELECT e.seq, e.content_id, e.vector FROM embeddings e WHERE e.encoder_id = ? AND {_HASH} % ? = 0
              AND EXISTS (SELECT 1 FROM files f WHERE f.content_id = e.content_id AND f.state IN {LIVE})
            ORDER BY e.content_id, e.view""",
            (encoder_id, step),
        ).fetchall()
        seqs, owners = (np.array([row[column] for row in rows], np.int64) for column in (0, 1))
        vectors = stacked([row[2] for row in rows], dim)
        finite = finite_rows(vectors)
        return (seqs, owners, vectors) if finite is None else (seqs[finite], owners[finite], vectors[finite])

    def existing_views(self, content_id: int, encoder_id: int) -> set[int]:
        """The numbers of the views that an encoder has vectors of; 0 is the whole image."""
        rows = self._conn.execute(
            "SELECT view FROM embeddings WHERE encoder_id = ? AND content_id = ?", (encoder_id, content_id)
        )
        return {view for (view,) in rows}

    def has_pending_views(self, content_id: int, encoder_id: int, tiles: Tiles) -> bool:
        """Whether an encoder has no vector of one of the views that a decodable content has in this mode."""
        from clipsearch.images.tiles import count_views

        size = self._conn.execute("SELECT width, height FROM contents WHERE id = ?", (content_id,)).fetchone()
        return not self.existing_views(content_id, encoder_id).issuperset(range(count_views(*size, tiles)))

    def views_of(self, content_id: int) -> list[tuple[str, int, Box | None]]:
        """(encoder's spec, view, box) of all the vectors of a content."""
        rows = self._conn.execute(
            "SELECT n.spec, e.view, e.box FROM embeddings e JOIN encoders n ON n.id = e.encoder_id "
            "WHERE e.content_id = ? ORDER BY n.id, e.view",
            (content_id,),
        )
        return [(spec, view, read_box(box) if box else None) for spec, view, box in rows]

    # By seq

    def chunks(
        self, encoder_id: int, *, after: int = 0, until: int | None = None, zeros: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """seq (n,) and vectors (n, dim) with after < seq ≤ until, in the order of seq, up to CHUNK at a time.

        Vectors that are not finite are left out, since they cannot be compared. With `zeros`, they are replaced by
        zeros instead, so that as many vectors come as `count` counts.
        """
        import numpy as np

        rows = self._conn.execute(
            "SELECT seq, vector FROM embeddings WHERE encoder_id = ? AND seq > ? AND seq <= ? ORDER BY seq",
            (encoder_id, after, MAX_INTEGER if until is None else until),
        )
        while part := rows.fetchmany(CHUNK):
            ids = np.fromiter((seq for seq, _ in part), np.int64, len(part))
            vectors = from_bytes(b"".join(vector for _, vector in part)).reshape(len(part), -1)
            finite = finite_rows(vectors)
            if finite is None:
                yield ids, vectors
            elif zeros:
                yield ids, np.where(finite[:, None], vectors, np.float32(0))
            else:
                yield ids[finite], vectors[finite]

    def between(
        self, encoder_id: int, *, dim: int, after: int = 0, until: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """All `chunks` as one: seq (n,) and vectors (n, dim)."""
        import numpy as np

        parts = list(self.chunks(encoder_id, after=after, until=until))
        ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in parts)])
        return ids, np.concatenate([np.empty((0, dim), np.float32), *(vectors for _, vectors in parts)])

    def live_views(self, encoder_id: int, seqs: Sequence[int], *, with_blank: bool) -> dict[int, LiveView]:
        """Views by seq, for `seqs` that belong to a live content; `with_blank` includes images of one colour."""
        return {seq: LiveView(*about) for seq, _, *about in self._live(encoder_id, seqs, "0", with_blank=with_blank)}

    def live_vectors(
        self, encoder_id: int, seqs: Sequence[int], *, dim: int, with_blank: bool
    ) -> tuple[dict[int, LiveView], NDArray[np.float32]]:
        """`live_views` in ascending order of seq, and their vectors in the same order, shape (n, dim); finite ones."""
        rows = sorted(self._live(encoder_id, seqs, "e.vector", with_blank=with_blank))
        vectors = stacked([row[1] for row in rows], dim)
        finite = finite_rows(vectors)
        if finite is not None:
            rows, vectors = [row for row, good in zip(rows, finite, strict=True) if good], vectors[finite]
        return {seq: LiveView(*about) for seq, _, *about in rows}, vectors

    def _live(
        self, encoder_id: int, seqs: Sequence[int], column: str, *, with_blank: bool
    ) -> Iterator[tuple[Any, ...]]:
        not_blank = f"AND EXISTS (SELECT 1 FROM contents c WHERE c.id = e.content_id AND c.reason IS NOT '{BLANK}')"
        for part, marks in batches(seqs):
            rows = self._conn.execute(
                f"""SELECT e.seq, {column}, e.content_id, e.view, e.box FROM embeddings e
                WHERE e.seq IN ({marks}) AND e.encoder_id = ?
                  AND EXISTS (SELECT 1 FROM files f WHERE f.content_id = e.content_id AND f.state IN {LIVE})
                  {"" if with_blank else not_blank}""",
                (*part, encoder_id),
            )
            yield from rows.fetchall()  # Ctrl-C in between would leave an open cursor to a closed connection.


def to_bytes(vectors: NDArray[np.floating]) -> bytes:
    """Vectors of any shape as they are stored."""
    return vectors.astype("<f4").tobytes()


def from_bytes(data: bytes) -> NDArray[np.float32]:
    """What `to_bytes` stored, flat and read-only."""
    import numpy as np

    return np.frombuffer(data, "<f4")


def stacked(rows: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    """Stored vectors as a matrix of shape (len(rows), dim), read-only."""
    return from_bytes(b"".join(rows)).reshape(len(rows), dim)


def is_finite(vector: bytes) -> bool:
    """Whether a stored vector consists of finite numbers."""
    return finite_rows(from_bytes(vector)[None]) is None


def finite_rows(vectors: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Which rows of (n, dim) are finite, shape (n,); None where all are."""
    import numpy as np

    flat = vectors.ravel()
    if math.isfinite(np.vdot(flat, flat)):  # A tenth of the time of looking at each number.
        return None
    finite: NDArray[np.bool_] = np.all(np.isfinite(vectors), axis=1)
    return finite


def read_box(text: str) -> Box:
    """A box as `Embeddings.put` writes it."""
    left, top, right, bottom = json.loads(text)
    return left, top, right, bottom
