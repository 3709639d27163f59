"""One ONNX graph that runs: sessions, checks against the model it was made from, and the runtime's errors as ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.onnx.ort import onnxruntime
from clipsearch.errors import EncoderError, OutOfMemoryError

LOWEST_COSINE = 0.99999
"""What a tower's vectors must reach against torch's; issue 4 sets it. A faithful fp32 graph reaches 1 − 1e-10."""

WEIGHTS = "tower.data"

_NO_MEMORY = re.compile(r"allocat\w* (memory|failed)|failed to allocate|bad_alloc", re.IGNORECASE)

Feeds = Mapping[str, NDArray[Any]]


class TowerMismatchError(EncoderError):
    """A graph's vectors are not those of the model it was made from; the caller goes on without the graph."""


@dataclass(frozen=True, slots=True)
class Check:
    """Inputs of a tower with the vectors, float32 of shape (n, dim), that the reference gives for them."""

    feeds: Feeds
    expected: NDArray[np.float32]


Build = tuple[Callable[[Path], None], Sequence[Check]]
"""What writes a tower's graph to a path, and what to check it by."""


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


def check_tower(tower: Tower, checks: Sequence[Check], lowest: float = LOWEST_COSINE) -> None:
    """Raise TowerMismatchError unless every row of every check points where the reference's does."""
    for check in checks:
        got, expected = tower(**check.feeds), check.expected
        if got.shape != expected.shape:
            raise TowerMismatchError(f"the graph gives vectors of shape {got.shape}, the model {expected.shape}")
        lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
        cosines = np.einsum("nd,nd->n", got, expected) / lengths
        if not bool(np.all(cosines >= lowest)):  # also where one is not a number
            raise TowerMismatchError(f"the graph's vectors differ from the model's (cosine {cosines.min():.6f})")


def noise(size: int) -> NDArray[np.uint8]:
    """Images to check a tower by, of several grains: uint8 (4, 3, size, size)."""
    random = np.random.default_rng(0)
    images = []
    for cells in (2, 7, 31, size):
        grain = -(-size // cells)
        coarse = random.integers(0, 256, (3, cells, cells), dtype=np.uint8)
        images.append(np.kron(coarse, np.ones((1, grain, grain), np.uint8))[:, :size, :size])
    return np.stack(images)


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
    options.log_severity_level = 4  # what goes wrong is raised, and reported once
    options.inter_op_num_threads = 1
    # A thread that spins while it waits for work takes the core from a decoder; asleep, it wakes soon enough.
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
    except Exception as exc:  # the runtime's exceptions share no base class of their own
        text = " ".join(str(exc).split())[:300]
        if isinstance(exc, MemoryError) or _NO_MEMORY.search(text):
            raise OutOfMemoryError("a batch does not fit into memory", advice="lower `batch_size`") from exc
        raise EncoderError(f"ONNX Runtime cannot {action} the model: {text}") from exc
