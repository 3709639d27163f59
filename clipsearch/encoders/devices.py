"""Where a model runs, and what that processor is good at, without importing torch unless there may be a GPU."""

from __future__ import annotations

import contextlib
import functools
import platform
from pathlib import Path

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""NVIDIA's and AMD's drivers, and Windows' under WSL: torch finds a GPU on Linux only with one of them."""


BATCH_CPU, BATCH_GPU = 16, 128


def batch_size(device: str) -> int:
    """How many images to encode together: more is no faster on a CPU, and batches too large for a GPU are halved.

    Goes by the machine's drivers, without importing torch: a run that finds nothing to encode must not wait for that.
    """
    return BATCH_CPU if device == "cpu" or (device == "auto" and not _may_have_gpu()) else BATCH_GPU


def _may_have_gpu() -> bool:
    metal = platform.system() == "Darwin" and platform.machine() == "arm64"
    return metal or any(Path(driver).exists() for driver in _DRIVERS)


def kind(device: str) -> str:
    """What `device` stands for on this machine, without importing torch: "auto" becomes "cpu" or "gpu"."""
    if device != "auto":
        return device
    return "gpu" if _may_have_gpu() else "cpu"


def is_cpu(device: str) -> bool:
    """Whether a device ("auto", "cpu", "cuda", "cuda:N", "mps") means the CPU on this machine.

    Imports torch only where there may be a GPU. Raises UsageError for a device that does not exist.
    """
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return True
    from clipsearch.encoders.clip.torch_towers import pick_device

    return pick_device(device).type == "cpu"


def adds_in_32_bits() -> bool:
    """Whether the processor multiplies and adds bytes without overflow: Intel's and AMD's with VNNI, all of ARM's.

    The others, and unknown ones, add pairs of products in 16 bits, which weights of 8 bits overflow.
    """
    return platform.machine().lower() not in ("x86_64", "amd64", "i686") or has_vnni()


def has_vnni() -> bool:
    """Whether an x86 processor has instructions for sums of products of bytes, as far as Linux tells."""
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(cpu_flags().split())


@functools.cache
def cpu_flags() -> str:
    """The line in which Linux lists the processor's features; "" on other systems."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return next((line for line in file if line.startswith(("flags", "Features"))), "")
    return ""
