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
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from clipsearch import files
from clipsearch.encoders import cache
from clipsearch.errors import EncoderError, OutOfMemoryError

log = logging.getLogger(__name__)

LOWEST_COSINE = 0.99999
"""What a tower's vectors must reach against torch's; issue 4 sets it. A faithful fp32 graph reaches 1 − 1e-10."""

GRAPH = "tower.onnx"
WEIGHTS = "tower.data"
TRIALS = "trials.npz"
MANIFEST = "files.json"

Feeds = Mapping[str, NDArray[Any]]


class TowerMismatchError(EncoderError):
    """A graph's vectors are not those of the model it was made from; the caller goes on without the graph."""


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


@dataclass(frozen=True, slots=True)
class Trial:
    """Inputs of a tower with the vectors, float32 of shape (n, dim), that the reference gives for them."""

    feeds: Feeds
    expected: NDArray[np.float32]


Build = tuple[Callable[[Path], None], Sequence[Trial]]
"""What writes a tower's graph to a path, and what proves it."""


class Tower:
    """A graph that turns inputs into one float32 array of shape (n, dim). Safe to call from several threads."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._output = [session.get_outputs()[0].name]

    def __call__(self, **feeds: NDArray[Any]) -> NDArray[np.float32]:
        """Run the graph. Raises OutOfMemoryError, and EncoderError for whatever else the runtime refuses."""
        with translated("run"):
            whole = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
            (result,) = self._session.run(self._output, whole)
        return np.asarray(result, dtype=np.float32)

    def takes_any(self, name: str) -> bool:
        """Whether the second axis of an input may have any length."""
        return any(i.name == name and not isinstance(i.shape[1], int) for i in self._session.get_inputs())


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


def prove(tower: Tower, trials: Sequence[Trial], lowest: float = LOWEST_COSINE) -> None:
    """Raise TowerMismatchError unless every row of every trial points where the reference's does."""
    for trial in trials:
        got, expected = tower(**trial.feeds), trial.expected
        if got.shape != expected.shape:
            raise TowerMismatchError(f"the graph gives vectors of shape {got.shape}, the model {expected.shape}")
        lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
        cosines = np.einsum("nd,nd->n", got, expected) / lengths
        if not bool(np.all(cosines >= lowest)):  # also where one is not a number
            raise TowerMismatchError(f"the graph's vectors differ from the model's (cosine {cosines.min():.6f})")


def open_session(path: Path, *, threads: int = 0, cold: bool = False) -> onnxruntime.InferenceSession:
    options = session_options()
    options.intra_op_num_threads = threads
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if cold else levels.ORT_ENABLE_ALL
    if cold:
        # Packing copies every matrix, which pays over hundreds of calls; unpacked, they are mapped pages of the file.
        options.add_session_config_entry("session.disable_prepacking", "1")
    with translated("open"):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def session_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    options.inter_op_num_threads = 1
    # A thread that spins for its next piece takes the core from a decoder; asleep, it wakes soon enough.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def simplify(source: Path, path: Path) -> None:
    """Write a graph again with its constants folded and its operators fused, for any processor.

    For graphs that other tools wrote; weights go to a file beside `path`. Raises EncoderError.
    """
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    with translated("convert"):
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn what ONNX Runtime raises into our errors."""
    try:
        yield
    except MemoryError as exc:
        raise OutOfMemoryError("a batch does not fit into memory; lower --batch-size") from exc
    except Exception as exc:  # the runtime's exceptions share no base class of their own
        text = " ".join(str(exc).split())[:300]
        if re.search(r"allocat\w* (memory|failed)|failed to allocate|bad_alloc", text, re.IGNORECASE):
            raise OutOfMemoryError("a batch does not fit into memory; lower --batch-size") from exc
        raise EncoderError(f"ONNX Runtime cannot {action} the model: {text}") from exc


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
