"""Transformers of open_clip's kind as ONNX graphs in their fastest exact form.

What makes it fast, and is exact: only the row that becomes the vector passes the last block (its keys and values come
from all rows); query scale, layer scale and pixel normalisation are folded into weights; a causal text is cut after its
last token. Measured on ViT-B/32, ONNX Runtime's own attention operators gain nothing over plain products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from open_clip.transformer import LayerScale, QuickGELU, ResidualAttentionBlock, TextTransformer, VisionTransformer
from torch import Tensor, nn

from clipsearch.encoders.onnx.graph import Graph, doubles
from clipsearch.types import Preprocess

MICROSOFT = "com.microsoft"
"""ONNX Runtime's own operators."""


class OtherFormError(Exception):
    """A module is not one of the transformers that this file writes."""


@dataclass(frozen=True, slots=True)
class Written:
    graph: Graph
    output: str
    dim: int
    words: tuple[int, int] = (0, 0)
    """Of a text side: the number of token ids, and the one that ends a text."""
    cuts: bool = False
    """Whether columns after the ends may be left out."""

    def save(self, path: Path) -> None:
        self.graph.save(path, self.output, self.dim)


def vision_graph(tower: nn.Module, preprocess: Preprocess, graph: Graph | None = None) -> Written:
    """A vision transformer, written to a new graph or to `graph`, which may have linear layers of its own kind.

    Raises OtherFormError.
    """
    if type(tower) is not VisionTransformer or tower.attn_pool is not None or tower.pool_type not in ("tok", "avg"):
        raise OtherFormError
    if not isinstance(tower.proj, Tensor):
        raise OtherFormError
    graph = Graph() if graph is None else graph
    x = _patches(graph, tower, preprocess)
    length, width = tower.positional_embedding.shape
    first = graph.constant([0])
    if tower.pool_type == "tok":

        def pick(value: str) -> str:
            return graph.node("Gather", value, first, axis=1)

        x = _transformer(graph, x, tower.transformer.resblocks, pick=pick)
        x = graph.node("Reshape", x, graph.constant([-1, width]))
        x = _norm(graph, x, tower.ln_post)
    else:
        x = _transformer(graph, x, tower.transformer.resblocks)
        x = x if tower.final_ln_after_pool else _norm(graph, x, tower.ln_post)
        x = graph.node("Slice", x, graph.constant([1]), graph.constant([length]), graph.constant([1]))
        x = graph.node("ReduceMean", x, axes=[1], keepdims=0)
        x = _norm(graph, x, tower.ln_post) if tower.final_ln_after_pool else x
    return _projected(graph, x, doubles(tower.proj), None)


def _patches(graph: Graph, tower: VisionTransformer, preprocess: Preprocess) -> str:
    """Pixels → rows (n, 1 + patches, width), the normalisation folded into the kernel, positions added."""
    size, kernel = preprocess.size, doubles(tower.conv1.weight)
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    bias = -(kernel * (mean / std)[:, None, None]).sum(axis=(1, 2, 3))
    kernel = kernel / (255 * std)[:, None, None]
    width, step = kernel.shape[0], list(tower.conv1.stride)
    x = graph.node("Cast", graph.input("pixels", np.uint8, ("n", 3, size, size)), to=1)
    x = graph.node("Conv", x, graph.weight(kernel), graph.weight(bias), strides=step)
    positions = doubles(tower.positional_embedding)
    x = graph.node("Reshape", x, graph.constant([0, width, len(positions) - 1]))
    x = graph.node("Transpose", x, perm=[0, 2, 1])
    x = graph.node("Add", x, graph.weight(positions[1:]))
    begin = (doubles(tower.class_embedding) + positions[0]).reshape(1, 1, width)
    count = graph.node("Concat", graph.node("Shape", x, start=0, end=1), graph.constant([1, width]), axis=0)
    x = graph.node("Concat", graph.node("Expand", graph.weight(begin), count), x, axis=1)
    return x if isinstance(tower.ln_pre, nn.Identity) else _norm(graph, x, tower.ln_pre)


def text_graph(tower: Any) -> Written:  # noqa: ANN401
    """A text transformer, as a module of its own or as part of a CLIP. Raises OtherFormError."""
    if isinstance(tower, TextTransformer):
        if type(tower) is not TextTransformer or tower.cls_emb is not None or tower.use_pad_mask:
            raise OtherFormError
        pool, eos = tower.pool_type, tower.eos_id
    elif hasattr(tower, "text_pool_type"):
        pool, eos = tower.text_pool_type, getattr(tower, "text_eos_id", None)
    else:
        raise OtherFormError
    projection = tower.text_projection
    graph = Graph()
    positions = doubles(tower.positional_embedding)
    context, width = positions.shape
    causal = tower.attn_mask is not None
    if causal and pool not in ("argmax", "eos"):
        raise OtherFormError
    tokens = graph.input("tokens", np.int64, ("n", "length" if causal else context))
    x = graph.node("Gather", graph.weight(doubles(tower.token_embedding.weight)), tokens, axis=0)
    ends = _ends(graph, tokens, pool, eos, context)
    mask = last_mask = None
    places = graph.weight(positions)
    if causal:
        length = graph.node("Shape", tokens, start=1, end=2)
        zero, one = graph.constant([0]), graph.constant([1])
        places = graph.node("Slice", places, zero, length, zero)
        triangle = np.triu(np.full((context, context), -np.inf, np.float32), 1)
        square = graph.node("Slice", graph.weight(triangle), zero, length, one)  # all rows are kept for the picks
        mask = graph.node("Slice", square, zero, length, zero)
        last_mask = graph.node("Unsqueeze", graph.node("Gather", square, ends, axis=0), graph.constant([1, 2]))
    x = graph.node("Add", x, places)
    index = graph.node("Unsqueeze", ends, graph.constant([1, 2]))

    def pick(value: str) -> str:
        return graph.node("GatherND", value, index, batch_dims=1)

    x = _transformer(graph, x, tower.transformer.resblocks, mask=mask, last_mask=last_mask, pick=pick)
    x = _norm(graph, graph.node("Reshape", x, graph.constant([-1, width])), tower.ln_final)
    if isinstance(projection, nn.Linear):
        bias = None if projection.bias is None else doubles(projection.bias)
        written = _projected(graph, x, doubles(projection.weight).T, bias)
    elif isinstance(projection, Tensor):
        written = _projected(graph, x, doubles(projection), None)
    else:
        raise OtherFormError
    vocabulary = tower.token_embedding.num_embeddings
    end = eos if pool == "eos" and eos is not None else vocabulary - 1
    return replace(written, words=(vocabulary, end), cuts=causal)


def _ends(graph: Graph, tokens: str, pool: str, eos: int | None, context: int) -> str:
    """The index of the row of each text that becomes its vector: int64 (n,)."""
    if pool == "argmax":
        return graph.node("ArgMax", tokens, axis=1, keepdims=0)
    if pool == "eos" and eos is not None:
        found = graph.node("Cast", graph.node("Equal", tokens, graph.constant([eos])), to=6)
        return graph.node("ArgMax", found, axis=1, keepdims=0)
    if pool not in ("first", "last"):
        raise OtherFormError
    count = graph.node("Shape", tokens, start=0, end=1)
    return graph.node("Expand", graph.constant([0 if pool == "first" else context - 1]), count)


def _transformer(
    graph: Graph,
    x: str,
    blocks: Sequence[nn.Module],
    *,
    mask: str | None = None,
    last_mask: str | None = None,
    pick: Callable[[str], str] | None = None,
) -> str:
    """Pre-norm blocks on rows (n, length, width). `pick` takes the one row (n, 1, width) that leaves the last block."""
    for block in blocks:
        if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
            raise OtherFormError
        last = pick is not None and block is blocks[-1]
        hidden = _norm(graph, x, block.ln_1)
        asking = hidden
        if last and pick is not None:
            x, asking = pick(x), pick(hidden)
        x = _attention(graph, x, asking, hidden, block, last_mask if last else mask)
        x = _mlp(graph, x, block)
    return x


def _attention(graph: Graph, x: str, asking: str, hidden: str, block: ResidualAttentionBlock, mask: str | None) -> str:
    """x + attention of the rows `asking` to the rows `hidden`."""
    attention = block.attn
    if attention.in_proj_weight is None or attention.bias_k is not None or attention.add_zero_attn:
        raise OtherFormError
    heads, width = attention.num_heads, attention.embed_dim
    weights = np.split(doubles(attention.in_proj_weight), 3)
    nothing = np.zeros(3 * width)
    biases = np.split(nothing if attention.in_proj_bias is None else doubles(attention.in_proj_bias), 3)
    scale = (width // heads) ** -0.5
    q = graph.linear(asking, weights[0] * scale, biases[0] * scale)
    k = graph.linear(hidden, weights[1], biases[1])
    v = graph.linear(hidden, weights[2], biases[2])
    split = graph.constant([0, -1, heads, width // heads])
    q = graph.node("Transpose", graph.node("Reshape", q, split), perm=[0, 2, 1, 3])
    k = graph.node("Transpose", graph.node("Reshape", k, split), perm=[0, 2, 3, 1])
    v = graph.node("Transpose", graph.node("Reshape", v, split), perm=[0, 2, 1, 3])
    scores = graph.node("MatMul", q, k)
    scores = graph.node("Add", scores, mask) if mask else scores
    y = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), v)
    y = graph.node("Reshape", graph.node("Transpose", y, perm=[0, 2, 1, 3]), graph.constant([0, -1, width]))
    return graph.node("Add", x, _scaled_linear(graph, y, attention.out_proj, block.ls_1))


def _mlp(graph: Graph, x: str, block: ResidualAttentionBlock) -> str:
    widen, activation, narrow = block.mlp
    y = graph.linear(_norm(graph, x, block.ln_2), doubles(widen.weight), doubles(widen.bias))
    if isinstance(activation, QuickGELU):
        y = graph.node("QuickGelu", y, domain=MICROSOFT, alpha=1.702)
    elif isinstance(activation, nn.GELU) and activation.approximate == "none":
        y = graph.node("Gelu", y, domain=MICROSOFT)
    elif isinstance(activation, nn.GELU):
        y = graph.node("FastGelu", y, domain=MICROSOFT)
    else:
        raise OtherFormError
    return graph.node("Add", x, _scaled_linear(graph, y, narrow, block.ls_2))


def _scaled_linear(graph: Graph, x: str, linear: nn.Linear, scale: nn.Module) -> str:
    """A linear layer with the layer scale behind it folded in."""
    weight, bias = doubles(linear.weight), doubles(linear.bias)
    if isinstance(scale, LayerScale):
        gamma = doubles(scale.gamma)
        weight, bias = weight * gamma[:, None], bias * gamma
    elif not isinstance(scale, nn.Identity):
        raise OtherFormError
    return graph.linear(x, weight, bias)


def _norm(graph: Graph, x: str, norm: Any) -> str:  # noqa: ANN401
    if not isinstance(norm, nn.LayerNorm) or norm.bias is None:
        raise OtherFormError
    weight, bias = graph.weight(doubles(norm.weight)), graph.weight(doubles(norm.bias))
    return graph.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)


def _projected(graph: Graph, x: str, matrix: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Written:
    """Rows (n, width) → unit rows (n, dim)."""
    x = graph.node("MatMul", x, graph.weight(matrix))
    x = graph.node("Add", x, graph.weight(bias)) if bias is not None else x
    return Written(graph, graph.node("LpNormalization", x, axis=1, p=2), matrix.shape[1])
