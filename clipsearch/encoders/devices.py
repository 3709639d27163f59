"""Where a model would run, without importing torch where there is nothing to ask it."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""NVIDIA's and AMD's drivers, and Windows' under WSL: without one of them torch finds no GPU on Linux."""


BATCH_CPU, BATCH_GPU = 16, 128


def batch_size(device: str) -> int:
    """How many pictures to encode together: more gains nothing on a CPU, and a GPU halves what does not fit.

    Goes by what the machine has, without asking torch: a run that finds nothing to encode must not wait for that.
    """
    return BATCH_CPU if device == "cpu" or (device == "auto" and not _may_have_gpu()) else BATCH_GPU


def _may_have_gpu() -> bool:
    metal = platform.system() == "Darwin" and platform.machine() == "arm64"
    return metal or any(Path(driver).exists() for driver in _DRIVERS)


def is_cpu(device: str) -> bool:
    """Whether the name of a device ("auto", "cpu", "cuda", "cuda:N", "mps") comes down to the CPU here.

    Imports torch only where a GPU may be found. Raises UsageError for a device that is not there.
    """
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return True
    from clipsearch.encoders.clip.torch_towers import pick_device

    return pick_device(device).type == "cpu"


def adds_in_32_bits() -> bool:
    """Whether the processor multiplies and adds bytes without running over: VNNI on Intel's and AMD's, all of ARM's.

    The others add pairs of products in 16 bits, which weights of 8 bits overflow. Unknown ones are taken for such.
    """
    return platform.machine().lower() not in ("x86_64", "amd64", "i686") or has_vnni()


@functools.cache
def has_vnni() -> bool:
    """Whether an x86 processor has instructions for sums of products of bytes, as far as Linux says."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags
