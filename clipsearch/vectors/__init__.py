"""Vector indexes: nearest neighbours by inner product, and the snapshot files that hold them.

This package knows nothing of catalogs. It is given ids and unit vectors, writes them into one file, and opens that
file mapped. A snapshot is derived and disposable: whatever is wrong with one is a `DamagedSnapshot`, which the caller
answers by scanning the vectors it keeps (`exact.TopK`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from clipsearch.errors import ClipsearchError
from clipsearch.files import Stamp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Chunk = tuple[NDArray[np.int64], NDArray[np.float32]]
    """Ids of shape (n,) and their vectors of shape (n, dim)."""
    Chunks = Callable[[], Iterator[Chunk]]
    """Starts a pass over the same vectors: ids strictly ascending over all its chunks."""

Engine = Literal["exact", "ivf"]
EngineChoice = Literal["auto", "exact", "ivf"]

EXACT_LIMIT = 300_000
"""Up to here every vector is scored: 20 ms on one thread at 512 dimensions, and no recall to think about."""


class SnapshotError(ClipsearchError):
    """A snapshot could not be written; the one before it stands."""


class DamagedSnapshot(SnapshotError):
    """A snapshot is missing, damaged, or of other vectors than it was recorded for."""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A published snapshot and what it must be to be trusted. `details` is JSON-able, for people and the next build.

    For "ivf" the details are nlist, nprobe, trained_on (vectors at the time of training), recall (by set of probes),
    recall_at, target and probes (how many of each set).
    """

    name: str
    bytes: int
    sha256: str
    stat: Stamp
    count: int
    engine: Engine
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenedSnapshot:
    """An index over a mapped file. `hashed`: its stat was new, its hash was taken and is right; worth noting `stat`."""

    index: VectorIndex
    stat: Stamp
    hashed: bool


class VectorIndex(Protocol):
    """Something that finds the vectors of largest inner product. Safe to search from several threads at once."""

    @property
    def engine(self) -> Engine: ...

    @property
    def count(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.int64] | None = None,
        exhaustive: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The `k` best of each of `queries`, shape (m, dim): scores and ids, both of shape (m, w), best first.

        w is k, or the number of vectors (of those that `allowed` leaves) where that is smaller. A row for which an
        approximate search found fewer is padded with score -inf and id -1.
        Scores are those of `exact.inner_products`, the same to the last bit whatever the engine; equal ones come in
        ascending order of id. `allowed` restricts the search to these ids (unknown ones do no harm) and makes it
        exhaustive; `exhaustive` alone asks an approximate engine to look at every vector.
        Raises ValueError where the queries' dimension is not the index's, or k < 1.
        """
        ...


def choose_engine(count: int, choice: EngineChoice = "auto") -> Engine:
    """The engine for `count` vectors: what was asked for, else exact up to EXACT_LIMIT and IVF above."""
    if choice == "auto":
        return "exact" if count <= EXACT_LIMIT else "ivf"
    return choice


def write_snapshot(
    folder: Path,
    name: str,
    *,
    dim: int,
    count: int,
    chunks: Chunks,
    engine: EngineChoice = "auto",
    probes: Callable[[], NDArray[np.float32]] | None = None,
    previous: SnapshotFile | None = None,
) -> SnapshotFile:
    """Build an index over the `count` vectors that `chunks` yields and publish it as `folder`/`name` (ending .faiss).

    The file appears whole or not at all: written beside its name, flushed, read back and checked, then renamed. IVF
    goes over `chunks` two or three times and takes two things more: `probes` yields text vectors, shape (m, dim), that
    help to choose nprobe (pictures among the vectors are drawn as well); `previous` lends its centroids until
    the vectors have doubled since they were trained.
    Raises SnapshotError where it cannot be written or does not read back; ValueError where the vectors don't match
    `dim` and `count`, or their ids don't ascend.
    """
    from clipsearch.vectors import faiss

    return faiss.write(
        folder,
        name,
        dim=dim,
        count=count,
        chunks=chunks,
        engine=choose_engine(count, engine),
        probes=probes,
        previous=previous,
    )


def open_snapshot(folder: Path, snapshot: SnapshotFile, *, dim: int, trusted: Collection[Stamp] = ()) -> OpenedSnapshot:
    """Map `snapshot`'s file in `folder`; its hash is taken where its stat is neither the recorded one nor `trusted`.

    Raises DamagedSnapshot where the file is missing, or is not the one that was published, whole, for `dim`.
    """
    from clipsearch.vectors import faiss
    from clipsearch.vectors.snapshot import verify

    stat, hashed = verify(folder, snapshot, trusted=trusted)
    return OpenedSnapshot(faiss.load(folder / snapshot.name, snapshot, dim=dim), stat, hashed)
