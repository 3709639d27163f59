"""Towers as ONNX graphs: made once from torch, kept in the cache directory, proved, and run without torch.

A tower's folder holds the portable graph (`tower.onnx`, its weights beside it in `tower.data`), the inputs and outputs
that prove it (`trials.npz`) and, for each kind of machine that used it, the graph that ONNX Runtime optimised there.
An optimised graph may use instructions and memory layouts of the processor it was made on, so it is keyed by the
processor's flags and the runtime's version, made again from the portable one, and proved by the same trials.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

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
    """What a tower is made from. `exporter` is the version of the code that writes the graph."""

    fingerprint: str
    side: Literal["image", "text"]
    exporter: str

    @property
    def folder(self) -> Path:
        """Where the cache directory keeps it."""
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
        with _translated("run"):
            (result,) = self._session.run(self._output, feeds)
        return np.asarray(result, dtype=np.float32)


def find_tower(identity: TowerId) -> Path | None:
    """The folder of a tower that was made before and is whole, else None."""
    folder = identity.folder
    return folder if _is_whole(folder) else None


def make_tower(identity: TowerId, write: Callable[[Path], None], trials: Sequence[Trial]) -> Path:
    """Have `write` put a graph at the path it is given, prove it by `trials`, and keep it. The tower's folder.

    Raises TowerMismatchError where the graph is not faithful, OSError where the cache directory cannot be written.
    """
    with _publishing(identity.folder) as temporary:
        write(temporary / GRAPH)
        arrays = {f"{i}:{name}": array for i, trial in enumerate(trials) for name, array in trial.feeds.items()}
        arrays |= {f"{i}:": trial.expected for i, trial in enumerate(trials)}
        np.savez(temporary / TRIALS, allow_pickle=False, **arrays)
        _prove(Tower(_session(temporary / GRAPH)), trials)
    return identity.folder


def load_tower(folder: Path, *, threads: int = 0, cold: bool = False) -> Tower:
    """Open a tower that `find_tower` or `make_tower` gave.

    threads: of one call; 0 leaves it to the runtime. cold: start as fast as can be, for a process that encodes little.
    Raises EncoderError where the graph cannot be opened.
    """
    optimised = folder / f"optimised-{_machine()}"
    if not _is_whole(optimised):
        try:
            _optimise(folder, optimised)
        except (OSError, TowerMismatchError) as exc:
            log.warning("ONNX Runtime's optimised graph is not used (%s)", exc)
            return Tower(_session(folder / GRAPH, threads=threads, cold=cold))
    return Tower(_session(optimised / GRAPH, threads=threads, cold=cold, optimise=False))


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
    folder = find_tower(identity)
    if folder is not None:
        return load_tower(folder, threads=threads, cold=cold)
    write, trials = build()
    try:
        return load_tower(make_tower(identity, write, trials), threads=threads, cold=cold)
    except OSError as exc:
        log.warning("converted weights cannot be kept: %s; set %s to another folder", exc, cache.CACHE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="clipsearch-") as name:
        # The weights stay mapped after the folder is gone.
        write(Path(name) / GRAPH)
        session = _session(Path(name) / GRAPH, threads=threads, cold=cold)
    tower = Tower(session)
    _prove(tower, trials)
    return tower


def _optimise(folder: Path, optimised: Path) -> None:
    """Let the runtime optimise a portable graph for this machine, and keep the result if its vectors are right."""
    with _publishing(optimised) as temporary:
        _session(folder / GRAPH, save=temporary / GRAPH)
        _prove(Tower(_session(temporary / GRAPH, optimise=False)), _read_trials(folder / TRIALS))


def _read_trials(path: Path) -> list[Trial]:
    feeds: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, name = key.split(":", 1)
            feeds.setdefault(number, {})[name] = arrays[key]
    return [Trial({k: v for k, v in entry.items() if k}, entry[""]) for entry in feeds.values()]


def _prove(tower: Tower, trials: Sequence[Trial]) -> None:
    """Raise TowerMismatchError unless every row of every trial points where the reference's does."""
    for trial in trials:
        got, expected = tower(**trial.feeds), trial.expected
        if got.shape != expected.shape:
            raise TowerMismatchError(f"the graph gives vectors of shape {got.shape}, the model {expected.shape}")
        lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
        cosines = np.einsum("nd,nd->n", got, expected) / lengths
        if not bool(np.all(cosines >= LOWEST_COSINE)):  # also where one is not a number
            raise TowerMismatchError(f"the graph's vectors differ from the model's (cosine {cosines.min():.6f})")


def _session(
    path: Path, *, threads: int = 0, cold: bool = False, optimise: bool = True, save: Path | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that a saved graph is tied to its machine, which the key sees to
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that spins for its next piece takes the core from a decoder; asleep, it wakes soon enough.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if cold or save is not None:
        # Packing copies every matrix, which pays over hundreds of calls; unpacked, they are mapped pages of the file.
        options.add_session_config_entry("session.disable_prepacking", "1")
    if save is not None:
        options.optimized_model_filepath = str(save)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    with _translated("open"):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _translated(action: str) -> Iterator[None]:
    """Turn what ONNX Runtime raises into our errors."""
    try:
        yield
    except MemoryError as exc:
        raise OutOfMemoryError("not enough memory for this batch") from exc
    except Exception as exc:  # the runtime's exceptions share no base class of their own
        text = " ".join(str(exc).split())[:300]
        if re.search(r"allocat\w* (memory|failed)|failed to allocate|bad_alloc", text, re.IGNORECASE):
            raise OutOfMemoryError("not enough memory for this batch") from exc
        raise EncoderError(f"ONNX Runtime cannot {action} the model: {text}") from exc


@contextlib.contextmanager
def _publishing(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder`, with a manifest of its files, when the block ends well.

    Of two processes that make the same folder at once the first one wins: what they made is the same.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        yield temporary
        entries = {file.name: [cache.file_sha256(file), *cache.stamp(file)] for file in sorted(temporary.iterdir())}
        for name in entries:
            cache.sync(temporary / name)
        with cache.replacing(temporary / MANIFEST) as manifest:
            manifest.write_text(json.dumps(entries))
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder)
        with contextlib.suppress(FileExistsError):
            temporary.rename(folder)
        cache.sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Whether every file that a folder's manifest lists has the bytes it was published with.

    A file whose size, time and inode are those of its last check is not hashed again.
    """
    manifest = folder / MANIFEST
    try:
        entries = json.loads(manifest.read_bytes())
        changed = {}
        for name, (digest, *known) in entries.items():
            found = cache.stamp(folder / name)
            if found != known:
                if cache.file_sha256(folder / name) != digest:
                    return False
                changed[name] = [digest, *found]
    except (OSError, ValueError, AttributeError, TypeError):
        return False
    if changed:
        with contextlib.suppress(OSError), cache.replacing(manifest) as temporary:
            temporary.write_text(json.dumps(entries | changed))
    return True


def _machine() -> str:
    """What an optimised graph is tied to, as a short name: processor flags and the runtime's version."""
    flags = platform.machine() + platform.system()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        flags += next((line for line in file if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(f"{onnxruntime.__version__} {flags}".encode()).hexdigest()[:12]
