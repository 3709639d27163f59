"""Towers as ONNX graphs: made once from torch, checked, kept in the cache directory, and run without torch.

A tower's folder holds the graph (`tower.onnx`, its weights beside it in `tower.data`) and the inputs and outputs to
check it by (`trials.npz`). The graph is written in its final form, fused and folded, except for what depends on a
processor (ONNX Runtime's "extended" level, no memory layouts), so that one file opens in milliseconds on every machine.
It is checked once per processor and version of the runtime.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch import files
from clipsearch.encoders import cache
from clipsearch.encoders.devices import cpu_flags
from clipsearch.encoders.onnx.ort import onnxruntime
from clipsearch.encoders.onnx.tower import LOWEST_COSINE, Build, Check, Tower, check_tower, open_session
from clipsearch.errors import EncoderError

log = logging.getLogger(__name__)

GRAPH = "tower.onnx"

CHECKS = "trials.npz"

MANIFEST = "files.json"


@dataclass(frozen=True, slots=True)
class TowerId:
    """What a tower is made from. `exporter` is the version of the code that writes the graph.

    lowest_cosine: what its vectors must reach against the reference's to count as the same.
    """

    fingerprint: str
    side: Literal["image", "text"]
    exporter: str
    lowest_cosine: float = LOWEST_COSINE

    @property
    def folder(self) -> Path:
        """Where the cache directory keeps it, once it is made."""
        name = re.sub(r"\W", "_", self.fingerprint[:32])  # A catalog that somebody else made may hold anything.
        return cache.cache_dir() / "towers" / f"{name}-{self.side}-{self.exporter}"


def find_tower(identity: TowerId, *, cold: bool = False) -> Path | None:
    """The folder of a tower that was made before, is complete, and gives the right vectors on this machine, else None.

    Costs a few stats, and on a new machine or with another version of the runtime the time of its checks.
    """
    folder = identity.folder
    manifest = checked_manifest(folder)
    if manifest is None:
        return None
    if machine() not in manifest.machines:
        try:
            check_tower(_opened(folder, cold=cold), _read_checks(folder / CHECKS), identity.lowest_cosine)
        except EncoderError as exc:
            log.warning("%s is made again: %s", folder, exc)
            import shutil  # with tempfile below: only a tower that is made pays for them

            shutil.rmtree(folder, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):
            write_manifest(folder, Manifest(manifest.files, [*manifest.machines, machine()]))
    return folder


def open_tower(identity: TowerId, build: Callable[[], Build], *, threads: int = 0, cold: bool = False) -> Tower:
    """Open a tower from the cache directory; `build`, which may import torch, is called only where there is none.

    threads: of one call; 0 leaves it to the runtime. cold: start as fast as possible, for a process that encodes
    little. Where the cache directory cannot be written, the tower is made in a temporary folder and used from there.
    Raises TowerMismatchError where the graph is not faithful, EncoderError where it cannot be opened.
    """
    if folder := find_tower(identity, cold=cold):
        return _opened(folder, threads=threads, cold=cold)
    write, checks = build()
    try:
        return _opened(make_tower(identity, write, checks, cold=cold), threads=threads, cold=cold)
    except OSError as exc:
        log.warning("converted weights cannot be kept: %s; set %s to another folder", exc, cache.CACHE_VARIABLE)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="clipsearch-") as name:
        write(Path(name) / GRAPH)
        tower = _opened(Path(name), threads=threads, cold=cold)  # its weights stay mapped without the folder
    check_tower(tower, checks, identity.lowest_cosine)
    return tower


def make_tower(
    identity: TowerId, write: Callable[[Path], None], checks: Sequence[Check], *, cold: bool = False
) -> Path:
    """Have `write` put a graph at the path it is given, check it, and keep it. Returns the tower's folder.

    cold: as in `open_tower`, so that what is checked is what will run.
    Raises TowerMismatchError where the graph is not faithful, OSError where the cache directory cannot be written.
    """
    import shutil
    import tempfile

    folder = identity.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        write(temporary / GRAPH)
        check_tower(_opened(temporary, cold=cold), checks, identity.lowest_cosine)
        _write_checks(temporary / CHECKS, checks)
        made = {}
        for file in sorted(temporary.iterdir()):
            files.sync(file)
            made[file.name] = [files.sha256(file), *files.stamp(file)]
        write_manifest(temporary, Manifest(made, [machine()]))
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _opened(folder: Path, *, threads: int = 0, cold: bool = False) -> Tower:
    return Tower(open_session(folder / GRAPH, threads=threads, cold=cold))


def _publish(temporary: Path, folder: Path) -> None:
    """Move a finished folder to its place. Of two processes that make one tower, the first wins: both made the same."""
    import shutil

    if folder.exists() and checked_manifest(folder) is None:
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if checked_manifest(folder) is None:
            raise
    files.sync(folder.parent)


def _write_checks(path: Path, checks: Sequence[Check]) -> None:
    """Arrays by name: "0:pixels" is an input of the first check, "0:" what the reference gives for it."""
    arrays = {f"{i}:{name}": array for i, check in enumerate(checks) for name, array in check.feeds.items()}
    arrays |= {f"{i}:": check.expected for i, check in enumerate(checks)}
    np.savez(path, allow_pickle=False, **arrays)


def _read_checks(path: Path) -> list[Check]:
    feeds: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, name = key.split(":", 1)
            feeds.setdefault(number, {})[name] = arrays[key]
    return [Check({k: v for k, v in entry.items() if k}, entry[""]) for entry in feeds.values()]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tower's folder holds: SHA-256 and stamp of each file, and the machines it was checked on."""

    files: Mapping[str, list[Any]]
    machines: Sequence[str]


def checked_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder whose files all have the bytes they were published with, else None.

    A file whose size, time and inode are those of its last check is not hashed again.
    """
    try:
        entries = json.loads((folder / MANIFEST).read_bytes())
        manifest = Manifest(dict(entries["files"]), list(entries["proved"]))
        changed = {}
        for name, (digest, *known) in manifest.files.items():
            found = list(files.stamp(folder / name))
            if found != known:
                if files.sha256(folder / name) != digest:
                    return None
                changed[name] = [digest, *found]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if changed:
        manifest = Manifest({**manifest.files, **changed}, manifest.machines)
        with contextlib.suppress(OSError):
            write_manifest(folder, manifest)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    with files.replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps({"files": manifest.files, "proved": manifest.machines}))


def machine() -> str:
    """What may change a graph's results, as a short name: the processor's flags and the runtime's version."""
    flags = platform.machine() + platform.system() + cpu_flags()
    return hashlib.sha256(f"{onnxruntime.__version__} {flags}".encode()).hexdigest()[:12]
