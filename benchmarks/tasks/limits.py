"""What the machine itself can do: matrix products and reading memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def gemm(library: str, size: int, times: int) -> Callable[[], dict[str, float]]:
    """`times` products of two float32 matrices size × size by "torch", "numpy" or "onnxruntime", on all cores."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    product = {"torch": _torch, "numpy": _numpy, "onnxruntime": _onnxruntime}[library](a, b)

    def measure() -> dict[str, float]:
        begun = time.perf_counter()
        for _ in range(times):
            product()
        return {"gflops": 2e-9 * size**3 * times / (time.perf_counter() - begun)}

    return measure


def _torch(a: np.ndarray, b: np.ndarray) -> Callable[[], object]:
    import torch

    left, right = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _numpy(a: np.ndarray, b: np.ndarray) -> Callable[[], object]:
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def _onnxruntime(a: np.ndarray, b: np.ndarray) -> Callable[[], object]:
    """The second matrix is a constant, as a model's weights are, so that the runtime packs it once."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "gemm",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, list(a.shape))],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, list(a.shape))],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a})


def bandwidth(vectors: int, dim: int, times: int) -> Callable[[], dict[str, float]]:
    """Read `vectors` rows of float32 once from memory, on one thread: bytes a second, the best of two ways and `times`.

    The ways: a matrix times a vector, and the inner product of one half with the other. Needs OMP_NUM_THREADS=1 and
    the like in the environment.
    """
    matrix = np.random.default_rng(0).standard_normal((vectors, dim), dtype=np.float32)
    query = matrix[0].copy()
    flat = matrix.reshape(-1)
    half = len(flat) // 2
    ways: tuple[Callable[[], object], ...] = (
        lambda: matrix @ query,
        lambda: np.dot(flat[:half], flat[half : 2 * half]),
    )

    def measure() -> dict[str, float]:
        best = float("inf")
        for way in ways:
            for _ in range(times):
                begun = time.perf_counter()
                way()
                best = min(best, time.perf_counter() - begun)
        return {"seconds": best, "bytes_per_s": matrix.nbytes / best}

    return measure
