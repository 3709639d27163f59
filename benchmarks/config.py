"""What one run of the benchmarks is asked to do, and how large everything is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

PEERS_VARIABLE = "CLIPSEARCH_BENCH_PEERS"
"""Names the folder that holds other tools with stand-in weights; docs/benchmarks.md describes it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Pictures a folder, vectors a library, and how often what is timed is run."""

    small: int = 300
    large: int = 40
    large_pixels: tuple[int, int] = (4000, 3000)
    tiny: int = 20_000
    warm: int = 100_000
    stores: tuple[int, int] = (200_000, 1_000_000)
    gemm: int = 2048
    encoded: int = 64
    """Pictures a round of encoding."""
    faithful: int = 200
    classified: int = 200
    labels: int = 100
    few: int = 3
    """Repetitions of what takes seconds."""
    many: int = 7
    """Repetitions of what takes less."""


QUICK = Sizes(
    small=12,
    large=3,
    large_pixels=(1600, 1200),
    tiny=60,
    warm=2_000,
    stores=(1_000, 3_000),
    gemm=256,
    encoded=16,
    faithful=8,
    classified=4,
    labels=5,
    few=1,
    many=2,
)


@dataclass(frozen=True, slots=True)
class Config:
    """`work` is the folder for pictures, weights and libraries, `photos` one of real photographs, `peers` other tools.

    quick: everything tiny, and one small model instead of the large ones: tries the code, measures nothing.
    full: with the largest library, whose making takes minutes. keep: the large libraries of an earlier run.
    patience: disturbed rounds that may be run again.
    """

    work: Path
    photos: Path | None = None
    peers: Path | None = None
    quick: bool = False
    full: bool = False
    keep: bool = False
    patience: int = 2

    @property
    def sizes(self) -> Sizes:
        return QUICK if self.quick else Sizes()


def default_work() -> Path:
    """The folder for what the benchmarks make, kept from one run to the next."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "clipsearch-benchmarks"
