"""A small writer of ONNX graphs, so that a tower is written in its fastest form, not as a tracer records it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

PAGE = 4096
"""Weights begin at multiples of this in their file, so that they can be mapped."""
INSIDE = 1024
"""Bytes up to which a weight stays in the graph's own file."""
OPSET = 17
IR_VERSION = 8


def doubles(tensor: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """A tensor of torch's in double precision, so that whatever is folded into a weight is rounded once."""
    array: NDArray[np.float64] = tensor.detach().cpu().double().numpy()
    return array


class Graph:
    """Collects nodes and weights; every method that adds a node returns the name of its first output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, NDArray[Any]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        """Declare an input; a dimension that is a string may have any size."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def weight(self, array: NDArray[Any]) -> str:
        """Store a constant; double precision is rounded to single, which the graph computes in."""
        name = self._name("w")
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self._weights[name] = np.asarray(array, order="C")
        return name

    def constant(self, values: Sequence[int]) -> str:
        """Store integers, such as a shape, axes or indices: int64 of shape (len(values),)."""
        return self.weight(np.array(values, np.int64))

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Add an operator."""
        name = self._name(operator.lower())
        self._nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def linear(self, x: str, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> str:
        """A linear layer on the last axis: weight (out, in), bias (out,)."""
        return self.node("Add", self.node("MatMul", x, self.weight(weight.T)), self.weight(bias))

    def outputs(self) -> list[str]:
        """Values, float32, that the graph returns in addition to its vectors."""
        return []

    def save(self, path: Path, output: str, dim: int) -> None:
        """Write the graph to `path`, its weights to a file beside it named after it with the suffix `.data`.

        output: the value, float32 of shape (n, dim), that the graph returns.
        """
        last = helper.make_node("Identity", [output], ["vectors"])
        results = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", dim])]
        results += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs()]
        weights = self._write_weights(path.with_suffix(".data"))
        graph = helper.make_graph([*self._nodes, last], "tower", self._inputs, results, weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())

    def _write_weights(self, path: Path) -> list[onnx.TensorProto]:
        """Write large weights to `path`, one after the other, with no second copy of them all in memory."""
        tensors = []
        with path.open("wb") as file:
            for name, array in self._weights.items():
                if array.nbytes <= INSIDE:
                    tensors.append(numpy_helper.from_array(array, name))
                    continue
                file.write(b"\0" * (-file.tell() % PAGE))
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                tensor = TensorProto(name=name, dims=array.shape, data_type=kind, raw_data=b"")
                set_external_data(tensor, path.name, offset=file.tell(), length=array.nbytes)
                tensor.ClearField("raw_data")
                tensors.append(tensor)
                file.write(array.data)
        return tensors

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"
