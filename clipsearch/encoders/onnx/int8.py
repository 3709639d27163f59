"""Image towers in 8 bits: linear layers multiply integers, everything between them stays in single precision.

Weights are rounded per output channel, symmetrically; a layer's input is rounded to a grid that was fixed
beforehand, by calibration with a sample of images. So a vector depends only on its own image, and a tower can be made
again, on any processor, from the weights and the grids.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clipsearch.encoders.devices import adds_in_32_bits
from clipsearch.encoders.onnx.graph import Graph
from clipsearch.encoders.onnx.quantisation import Grid, Quantisation, Way
from clipsearch.encoders.onnx.tower import Build, Check, Tower, noise, open_session, translated
from clipsearch.encoders.onnx.transformers import MICROSOFT, OtherFormError, vision_graph
from clipsearch.errors import UsageError
from clipsearch.types import Preprocess

ROWS_COVERED = 0.999
"""Share of the rows, patches of an image, that a grid covers at either end. On a trained vision transformer (DINOv2's
small one, 200 photographs) this gave a top-10 overlap of .92, as rounding by each batch's own extremes did; .91 with
all rows, .66 with .99, and .82 with the grid that rounds best on average: the rare large values are what matters."""

BATCH = 8


class WatchedGraph(Graph):
    """Also gives the lowest and the highest value of each row that enters a linear layer, each of shape (n, rows)."""

    def __init__(self) -> None:
        super().__init__()
        self._watched: dict[str, tuple[str, str]] = {}

    def linear(self, x: str, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> str:
        if x not in self._watched:
            lowest, highest = (self.node(f"Reduce{end}", x, axes=[-1], keepdims=0) for end in ("Min", "Max"))
            self._watched[x] = lowest, highest
        return super().linear(x, weight, bias)

    def outputs(self) -> list[str]:
        return [name for pair in self._watched.values() for name in pair]


class QuantisedGraph(Graph):
    """Its linear layers are rounded. `grids` are of what enters them, in the order in which they are written."""

    def __init__(self, grids: Sequence[Grid], *, reduce_range: bool, way: Way) -> None:
        super().__init__()
        self._left = list(reversed(grids))
        self._entered: dict[str, tuple[str, str, str]] = {}
        self._most = 63 if reduce_range else 127
        self._way = way

    def linear(self, x: str, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> str:
        rounded, step, zero = self._entered[x] if x in self._entered else self._enter(x)
        steps = np.maximum(np.abs(weight).max(axis=1) / self._most, np.finfo(np.float32).tiny).astype(np.float32)
        levels = np.clip(np.rint(weight / steps[:, None]), -self._most, self._most).T
        if self._way == "float":
            near = self.node("DequantizeLinear", rounded, step, zero)
            return super().linear(near, (levels * steps).T, bias)
        middle = np.zeros(len(steps), np.int8) if self._way == "signed" else np.full(len(steps), 128, np.uint8)
        integers = self.weight((levels + middle).astype(middle.dtype))
        others = self.weight(steps), zero, self.weight(middle), self.weight(bias)
        return self.node("MatMulIntegerToFloat", rounded, integers, step, *others, domain=MICROSOFT)

    def _enter(self, x: str) -> tuple[str, str, str]:
        grid = self._left.pop()
        step, zero = self.weight(np.array(grid.step, np.float32)), self.weight(np.array(grid.zero, np.uint8))
        self._entered[x] = self.node("QuantizeLinear", x, step, zero), step, zero
        return self._entered[x]


def calibrate(side: nn.Module, preprocess: Preprocess, pixels: NDArray[np.uint8], *, threads: int = 0) -> Quantisation:
    """How to round an image side, from the inputs that prepared pixels (n, 3, S, S) of a sample give its linear layers.

    Raises UsageError for an architecture that is not written here.
    """
    graph = WatchedGraph()
    try:
        written = vision_graph(side.get_submodule("tower"), preprocess, graph)
    except OtherFormError as exc:
        raise UsageError(
            '`precision="int8"`: only plain vision transformers have an 8-bit form', advice="leave it out"
        ) from exc
    with tempfile.TemporaryDirectory(prefix="clipsearch-") as folder:
        path = Path(folder) / "tower.onnx"
        written.save(path)
        session = open_session(path, threads=threads)
        found = []
        for start in range(0, len(pixels), BATCH):
            with translated("run"):
                found.append(session.run(graph.outputs(), {"pixels": pixels[start : start + BATCH]}))
    ends = [np.concatenate([rows.ravel() for rows in some]) for some in zip(*found, strict=True)]
    grids = (grid_over(low, high) for low, high in zip(ends[::2], ends[1::2], strict=True))
    return Quantisation(not adds_in_32_bits(), tuple(grids))


def grid_over(lowest: NDArray[np.float32], highest: NDArray[np.float32]) -> Grid:
    """The grid of an activation whose rows have these extremes; 0 is always on it."""
    low = min(0.0, float(np.quantile(lowest, 1 - ROWS_COVERED)))
    high = max(0.0, float(np.quantile(highest, ROWS_COVERED)))
    step = float(np.float32(max((high - low) / 255, 1e-8)))
    return Grid(step, round(-low / step))


def int8_build(side: nn.Module, preprocess: Preprocess, quantisation: Quantisation, way: Way) -> Build:
    """The image side in 8 bits, checked against the same rounding in floating point."""

    def write(path: Path, way: Way = way) -> None:
        graph = QuantisedGraph(quantisation.grids, reduce_range=quantisation.reduce_range, way=way)
        vision_graph(side.get_submodule("tower"), preprocess, graph).save(path)

    batch = noise(preprocess.size)
    with tempfile.TemporaryDirectory(prefix="clipsearch-") as folder:
        path = Path(folder) / "tower.onnx"
        write(path, "float")
        expected = Tower(open_session(path))(pixels=batch)
    return write, [Check({"pixels": batch}, expected)]
