"""Towers as ONNX graphs: made once from torch, kept in the cache directory, proved, and run without torch.

A tower's folder holds the graph (`tower.onnx`, its weights beside it in `tower.data`) and the inputs and outputs that
prove it (`trials.npz`). The graph is written in its final form, fused and folded, but for what depends on a processor
(ONNX Runtime's "extended" level, no memory layouts), so that one file opens in milliseconds on every machine. It is
proved once for each processor and version of the runtime that it meets.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from clipsearch import files
from clipsearch.encoders import cache
from clipsearch.encoders.onnx.tower import LOWEST_COSINE, Build, Tower, Trial, open_session, prove
from clipsearch.errors import EncoderError

log = logging.getLogger(__name__)

GRAPH = "tower.onnx"

TRIALS = "trials.npz"

MANIFEST = "files.json"


@dataclass(frozen=True, slots=True)
class TowerId:
    """What a tower is made from. `exporter` is the version of the code that writes the graph.

    lowest_cosine: what its vectors must reach against the reference's to be taken for the same.
    """

    fingerprint: str
    side: Literal["image", "text"]
    exporter: str
    lowest_cosine: float = LOWEST_COSINE

    @property
    def folder(self) -> Path:
        """Where the cache directory keeps it, once it is made."""
        return cache.cache_dir() / "towers" / f"{self.fingerprint[:32]}-{self.side}-{self.exporter}"


def find_tower(identity: TowerId, *, cold: bool = False) -> Path | None:
    """The folder of a tower that was made before, is whole, and gives the right vectors on this machine, else None.

    Costs a few stats; on a machine, or with a runtime, that is new to it, the time of its trials.
    """
    folder = identity.folder
    manifest = checked_manifest(folder)
    if manifest is None:
        return None
    if machine() not in manifest.proved:
        try:
            prove(Tower(open_session(folder / GRAPH, cold=cold)), _read_trials(folder / TRIALS), identity.lowest_cosine)
        except EncoderError as exc:
            log.warning("%s is made again: %s", folder, exc)
            import shutil  # with tempfile below: only a tower that is made pays for them

            shutil.rmtree(folder, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):
            write_manifest(folder, Manifest(manifest.files, [*manifest.proved, machine()]))
    return folder


def load_tower(folder: Path, *, threads: int = 0, cold: bool = False) -> Tower:
    """Open a tower that `find_tower` or `make_tower` gave.

    threads: of one call; 0 leaves it to the runtime. cold: start as fast as can be, for a process that encodes little.
    Raises EncoderError where the graph cannot be opened.
    """
    return Tower(open_session(folder / GRAPH, threads=threads, cold=cold))


def open_tower(
    identity: TowerId,
    build: Callable[[], Build],
    *,
    threads: int = 0,
    cold: bool = False,
) -> Tower:
    """Load a tower from the cache directory; `build`, which may import torch, is asked only where there is none.

    Where the cache directory cannot be written, the tower is made in a temporary folder and used from there.
    Raises TowerMismatchError where the graph is not faithful, EncoderError where it cannot be opened.
    """
    folder = find_tower(identity, cold=cold)
    if folder is not None:
        return load_tower(folder, threads=threads, cold=cold)
    write, trials = build()
    try:
        return load_tower(make_tower(identity, write, trials, cold=cold), threads=threads, cold=cold)
    except OSError as exc:
        log.warning("converted weights cannot be kept: %s; set %s to another folder", exc, cache.CACHE_VARIABLE)
    return passing_tower(identity, write, trials, threads=threads, cold=cold)


def make_tower(
    identity: TowerId, write: Callable[[Path], None], trials: Sequence[Trial], *, cold: bool = False
) -> Path:
    """Have `write` put a graph at the path it is given, prove it by `trials`, and keep it. The tower's folder.

    cold: as in `load_tower`, so that what is proved is what will run.
    Raises TowerMismatchError where the graph is not faithful, OSError where the cache directory cannot be written.
    """
    import shutil
    import tempfile

    folder = identity.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        write(temporary / GRAPH)
        prove(Tower(open_session(temporary / GRAPH, cold=cold)), trials, identity.lowest_cosine)
        arrays = {f"{i}:{name}": array for i, trial in enumerate(trials) for name, array in trial.feeds.items()}
        arrays |= {f"{i}:": trial.expected for i, trial in enumerate(trials)}
        np.savez(temporary / TRIALS, allow_pickle=False, **arrays)
        made = {}
        for file in sorted(temporary.iterdir()):
            files.sync(file)
            made[file.name] = [files.sha256(file), *files.stamp(file)]
        write_manifest(temporary, Manifest(made, [machine()]))
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def passing_tower(
    identity: TowerId,
    write: Callable[[Path], None],
    trials: Sequence[Trial],
    *,
    threads: int = 0,
    cold: bool = False,
) -> Tower:
    """A tower that is not kept: its weights stay mapped after its folder is gone. Raises TowerMismatchError."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="clipsearch-") as name:
        write(Path(name) / GRAPH)
        tower = Tower(open_session(Path(name) / GRAPH, threads=threads, cold=cold))
    prove(tower, trials, identity.lowest_cosine)
    return tower


def _publish(temporary: Path, folder: Path) -> None:
    """Move a finished folder to its place. Of two processes that make one tower, the first wins: they are the same."""
    import shutil

    if folder.exists() and checked_manifest(folder) is None:
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if checked_manifest(folder) is None:
            raise
    files.sync(folder.parent)


def _read_trials(path: Path) -> list[Trial]:
    feeds: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, name = key.split(":", 1)
            feeds.setdefault(number, {})[name] = arrays[key]
    return [Trial({k: v for k, v in entry.items() if k}, entry[""]) for entry in feeds.values()]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tower's folder holds: SHA-256 and stamp of each file, and the machines it was proved on."""

    files: Mapping[str, list[Any]]
    proved: Sequence[str]


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
        manifest = Manifest({**manifest.files, **changed}, manifest.proved)
        with contextlib.suppress(OSError):
            write_manifest(folder, manifest)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    with files.replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps({"files": manifest.files, "proved": manifest.proved}))


def machine() -> str:
    """What may change a graph's results, as a short name: the processor's flags and the runtime's version."""
    flags = platform.machine() + platform.system()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        flags += next((line for line in file if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(f"{onnxruntime.__version__} {flags}".encode()).hexdigest()[:12]
