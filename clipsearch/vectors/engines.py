"""The register of engines: which one suits a number of vectors, and writing and opening snapshots with it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.errors import UsageError
from clipsearch.files import Stamp
from clipsearch.vectors.index import Build, DamagedSnapshot, Engine, OpenedSnapshot, SnapshotFile, VectorIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.vectors.index import Chunks, Write

AUTO = "auto"

EXACT_LIMIT = 300_000
"""Up to here every vector is scored: 20 ms on one thread at 512 dimensions, and no recall to think about."""


_ENGINES: dict[str, tuple[str, float | None]] = {}
"""Where each engine is, and up to how many vectors "auto" chooses it."""


def register(name: str, where: str, *, up_to: float | None = None) -> None:
    """Add the engine `where`, "module:object", which is imported when it is first used.

    `up_to`: the most vectors for which "auto" chooses it; of several engines the one with the lowest limit. Without
    it, the engine is used only where it is asked for by name.
    """
    _ENGINES[name] = where, up_to


register("exact", "clipsearch.vectors.faiss:EXACT", up_to=EXACT_LIMIT)
register("ivf", "clipsearch.vectors.faiss:IVF", up_to=math.inf)


def names() -> tuple[str, ...]:
    return tuple(_ENGINES)


def check_choice(choice: str) -> None:
    """Raises UsageError where `choice` is neither an engine nor AUTO."""
    if choice not in (AUTO, *_ENGINES):
        raise UsageError(f'`engine="{choice}"` must be one of {", ".join((AUTO, *_ENGINES))}')


def choose_engine(count: int, choice: str = AUTO) -> str:
    """The engine for `count` vectors: what was asked for, or for AUTO the one that is registered for so many."""
    if choice != AUTO:
        return choice
    limits = [(up_to, name) for name, (_, up_to) in _ENGINES.items() if up_to is not None]
    return min((limit, name) for limit, name in limits if count <= limit)[1]


def _load(name: str) -> Engine:
    """Raises DamagedSnapshot for an engine that is not registered here."""
    if name not in _ENGINES:
        raise DamagedSnapshot(f"the engine {name} is not available here")
    module, _, attribute = _ENGINES[name][0].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)
    return engine


def write_snapshot(
    folder: Path,
    name: str,
    *,
    dim: int,
    count: int,
    chunks: Chunks,
    engine: str = AUTO,
    probes: Callable[[], NDArray[np.float32] | None] | None = None,
    previous: SnapshotFile | None = None,
) -> SnapshotFile:
    """Build an index over the `count` vectors that `chunks` yields and publish it as `folder`/`name`.

    The file appears whole or not at all: written beside its name, flushed, read back and checked, then renamed. See
    `Build` for `probes` and `previous`.
    Raises SnapshotError where it cannot be written or does not read back; ValueError where the vectors don't match
    `dim` and `count`, or their ids don't ascend.
    """
    from clipsearch.vectors.checks import SpotCheck, checked
    from clipsearch.vectors.snapshot_file import publish

    if dim < 1 or count < 1:
        raise ValueError(f"a snapshot of {count} vectors of {dim} dimensions")
    name_of_engine = choose_engine(count, engine)
    chosen = _load(name_of_engine)
    sample = SpotCheck(count)
    build = Build(dim, count, checked(chunks, dim=dim, count=count, sample=sample), folder, probes, previous)
    details: dict[str, Any] = {}

    def produce(write: Write) -> None:
        details.update(chosen.write(write, build))

    def check(path: Path) -> None:
        sample.check(chosen.open(path, dim=dim, count=count, details=details))

    stat, digest = publish(folder, name, produce=produce, check=check)
    return SnapshotFile(name, stat[0], digest, stat, count, name_of_engine, details)


def open_snapshot(folder: Path, snapshot: SnapshotFile, *, dim: int, trusted: Collection[Stamp] = ()) -> OpenedSnapshot:
    """Map `snapshot`'s file in `folder`; its hash is taken where its stat is neither the recorded one nor `trusted`.

    Raises DamagedSnapshot where the file is missing, or is not the one that was published, whole, for `dim`.
    """
    from clipsearch.vectors.snapshot_file import verify

    stat, hashed = verify(folder, snapshot, trusted=trusted)
    path = folder / snapshot.name
    index: VectorIndex = _load(snapshot.engine).open(path, dim=dim, count=snapshot.count, details=snapshot.details)
    return OpenedSnapshot(index, stat, hashed)
