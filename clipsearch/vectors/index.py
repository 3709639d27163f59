"""What an engine and its vector index are, and the snapshot files that hold one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from clipsearch.errors import ClipsearchError
from clipsearch.files import Stamp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Chunk = tuple[NDArray[np.int64], NDArray[np.float32]]
    """Ids of shape (n,) and their vectors of shape (n, dim)."""
    Chunks = Callable[[], Iterator[Chunk]]
    """Starts a pass over the same vectors: ids strictly ascending over all its chunks."""
    Write = Callable[[bytes], object]


class SnapshotError(ClipsearchError):
    """A snapshot could not be written; the one before it is kept."""


class DamagedSnapshot(SnapshotError):
    """A snapshot is missing, damaged, or of other vectors than recorded."""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A published snapshot, with what its file is compared to before it is used. `details` is
    JSON-able, for people and the next build.

    For "ivf" the details are nlist, nprobe, trained_on (vectors at the time of training), recall (by set of probes),
    recall_at, target and probes (how many of each set).
    """

    name: str
    bytes: int
    sha256: str
    stat: Stamp
    count: int
    engine: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Build(NamedTuple):
    """What an engine builds an index from: `total` vectors of `dim` dimensions.

    chunks: starts a pass over them, which is checked against `total` and `dim`. folder: where the snapshots are.
    probes: yields text vectors, shape (m, dim), with which an approximate engine can measure its recall; or None.
    previous: the snapshot before this one, in `folder`; an engine may reuse what it learned for it.
    """

    dim: int
    total: int
    chunks: Chunks
    folder: Path
    probes: Callable[[], NDArray[np.float32] | None] | None = None
    previous: SnapshotFile | None = None


class Engine(Protocol):
    """A way to keep vectors in a file and to search them; see `engines.register`."""

    def write(self, write: Write, build: Build) -> Mapping[str, Any]:
        """Build an index and pass its bytes to `write`; the details that `open` needs, JSON-able."""
        ...

    def open(self, path: Path, *, dim: int, count: int, details: Mapping[str, Any]) -> VectorIndex:
        """The index in a file whose hash is right. Raises DamagedSnapshot where it holds something else."""
        ...


@dataclass(frozen=True, slots=True)
class OpenedSnapshot:
    """An index over a mapped file. `hashed`: its stat was new, and its hash was right; worth noting `stat`."""

    index: VectorIndex
    stat: Stamp
    hashed: bool


class VectorIndex(Protocol):
    """Something that finds the vectors of largest inner product. Safe to search from several threads at once."""

    @property
    def engine(self) -> str: ...

    @property
    def approximate(self) -> bool:
        """Whether a search that is not exhaustive may miss some of the best."""
        ...

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
        ascending order of id. `allowed` restricts the search to these ids (unknown ones are ignored) and makes it
        exhaustive; `exhaustive` alone asks an approximate engine to look at every vector.
        Raises ValueError where the queries' dimension is not the index's, or k < 1.
        """
        ...
