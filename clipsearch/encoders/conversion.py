"""Makes towers: has a graph written, proves it, and publishes its folder in one step. Runs once for each tower."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from clipsearch.encoders import cache
from clipsearch.encoders.onnx import (
    GRAPH,
    TRIALS,
    WEIGHTS,
    Manifest,
    Tower,
    TowerId,
    Trial,
    checked_manifest,
    machine,
    open_session,
    prove,
    session_options,
    translated,
    write_manifest,
)


def make_tower(
    identity: TowerId, write: Callable[[Path], None], trials: Sequence[Trial], *, cold: bool = False
) -> Path:
    """Have `write` put a graph at the path it is given, prove it by `trials`, and keep it. The tower's folder.

    cold: as in `load_tower`, so that what is proved is what will run.
    Raises TowerMismatchError where the graph is not faithful, OSError where the cache directory cannot be written.
    """
    folder = identity.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        write(temporary / GRAPH)
        prove(Tower(open_session(temporary / GRAPH, cold=cold)), trials, identity.lowest_cosine)
        arrays = {f"{i}:{name}": array for i, trial in enumerate(trials) for name, array in trial.feeds.items()}
        arrays |= {f"{i}:": trial.expected for i, trial in enumerate(trials)}
        np.savez(temporary / TRIALS, allow_pickle=False, **arrays)
        files = {}
        for file in sorted(temporary.iterdir()):
            cache.sync(file)
            files[file.name] = [cache.file_sha256(file), *cache.stamp(file)]
        write_manifest(temporary, Manifest(files, [machine()]))
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
    with tempfile.TemporaryDirectory(prefix="clipsearch-") as name:
        write(Path(name) / GRAPH)
        tower = Tower(open_session(Path(name) / GRAPH, threads=threads, cold=cold))
    prove(tower, trials, identity.lowest_cosine)
    return tower


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


def _publish(temporary: Path, folder: Path) -> None:
    """Move a finished folder to its place. Of two processes that make one tower, the first wins: they are the same."""
    if folder.exists() and checked_manifest(folder) is None:
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if checked_manifest(folder) is None:
            raise
    cache.sync(folder.parent)
