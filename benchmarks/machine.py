"""The machine that a run's figures belong to: what it is, and what it can do at best."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from contextlib import ExitStack
from importlib import metadata
from typing import Any

from benchmarks.bench import Bench
from benchmarks.processes import Task, in_turn, wall
from benchmarks.workers import Worker, rounds_in_turn

PACKAGES = ("clipsearch", "torch", "numpy", "onnxruntime", "faiss-cpu", "pillow", "open-clip-torch")
LIBRARIES = ("torch", "numpy", "onnxruntime")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MEMORY_READ = 100_000, 512
"""Rows and columns of float32: 205 MB, as many as a warm search reads."""


def flags() -> frozenset[str]:
    """What the processor can do, as Linux names it."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def has_flag(name: str) -> bool:
    return name in flags()


def has_vnni() -> bool:
    """Whether products of 8-bit integers are accumulated in one instruction."""
    return bool(flags() & {"avx512_vnni", "avx_vnni"})


def facts(bench: Bench) -> dict[str, Any]:
    """What it is. No names of hosts or people."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / 2**20
    level = "AVX-512" if has_flag("avx512f") else "AVX2" if has_flag("avx2") else platform.machine()
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": level + (" with VNNI" if has_vnni() else ""),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "pictures": "photographs" if bench.config.photos else "drawn textures",
        "weights": "tiny_clip alone" if bench.config.quick else "random, of the true architectures",
        "rclip": bench.rclip is not None,
    }


def measure(bench: Bench) -> dict[str, Any]:
    """What it can do: products of matrices (GFLOP/s), reading memory on one thread (bytes/s), starting Python (s)."""
    sizes = bench.sizes
    with ExitStack() as stack:
        products = rounds_in_turn(
            [
                stack.enter_context(Worker("limits:gemm", env=bench.env, library=name, size=sizes.gemm, times=8))
                for name in LIBRARIES
            ],
            sizes.few,
        )
    with Worker(
        "limits:bandwidth", env={**bench.env, **ONE_THREAD}, vectors=MEMORY_READ[0], dim=MEMORY_READ[1], times=5
    ) as worker:
        worker.round()
        read = [worker.round()["bytes_per_s"] for _ in range(sizes.few)]
    starts = {
        name: Task(lambda code=code: [sys.executable, "-c", code], bench.env, bench.work)  # type: ignore[misc]
        for name, code in (("pass", "pass"), ("numpy", "import numpy"))
    }
    runs = in_turn(list(starts.values()), sizes.many)
    gflops = {
        name: round(statistics.median(found["gflops"] for found in rounds), 1)
        for name, rounds in zip(LIBRARIES, products, strict=True)
    }
    return {
        "gemm_size": sizes.gemm,
        "gemm_gflops": gflops,
        "read_gb_per_s": round(statistics.median(read) / 1e9, 1),
        "start_s": {name: round(wall(found), 4) for name, found in zip(starts, runs, strict=True)},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
