"""An engine in one file: brute force over a numpy archive. `register` is all that makes it known."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.vectors import engines
from clipsearch.vectors.exact import ExactIndex
from clipsearch.vectors.index import Build, DamagedSnapshot

if TYPE_CHECKING:
    from clipsearch.vectors.index import Write

NAME = "toy"


class ToyIndex(ExactIndex):
    engine = NAME


class ToyEngine:
    def __init__(self) -> None:
        self.opened = 0

    def write(self, write: Write, build: Build) -> Mapping[str, Any]:
        ids, vectors = zip(*build.chunks(), strict=True)
        archive = io.BytesIO()
        np.savez(archive, ids=np.concatenate(ids), vectors=np.concatenate(vectors))
        write(archive.getvalue())
        return {"written_by": NAME}

    def open(self, path: Path, *, dim: int, count: int, details: Mapping[str, Any]) -> ToyIndex:
        self.opened += 1
        try:
            with np.load(path) as archive:
                ids, vectors = archive["ids"], archive["vectors"]
        except ValueError as exc:
            raise DamagedSnapshot(f"{path} is not a vector index of the toy engine") from exc
        if vectors.shape != (count, dim):
            held = f"{vectors.shape[0]} vectors of {vectors.shape[1]} dimensions ({NAME})"
            raise DamagedSnapshot(f"{path} holds {held} instead of {count} of {dim} ({NAME})")
        return ToyIndex(ids, vectors)


TOY = ToyEngine()


def register() -> None:
    engines.register(NAME, f"{__name__}:TOY")
