"""The engines: which one suits a number of vectors, and writing and opening snapshots with it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipsearch.files import Stamp
from clipsearch.vectors.index import Engine, OpenedSnapshot, SnapshotFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.vectors.index import Chunks

EngineChoice = Literal["auto", "exact", "ivf"]

EXACT_LIMIT = 300_000
"""Up to here every vector is scored: 20 ms on one thread at 512 dimensions, and no recall to think about."""


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
    from clipsearch.vectors.snapshot_file import verify

    stat, hashed = verify(folder, snapshot, trusted=trusted)
    return OpenedSnapshot(faiss.load(folder / snapshot.name, snapshot, dim=dim), stat, hashed)
