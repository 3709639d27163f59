"""open_clip's towers → graphs, with checks: written here where they are transformers, else by torch's exporter.

Needs torch and open_clip, once.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clipsearch.encoders.onnx.tower import Build, Check, noise, simplify
from clipsearch.encoders.onnx.transformers import OtherFormError, text_graph, vision_graph
from clipsearch.types import Preprocess


def image_build(side: nn.Module, preprocess: Preprocess) -> Build:
    """The image side, pixels uint8 (n, 3, S, S) → unit rows (n, dim). `side` has open_clip's tower as `tower`."""
    batch = noise(preprocess.size)
    write: Callable[[Path], None]
    try:
        write = vision_graph(side.get_submodule("tower"), preprocess).save
    except OtherFormError:
        write = _exporter(side, torch.from_numpy(batch[:2]), "pixels")
    with torch.inference_mode():
        return write, [Check({"pixels": batch}, side(torch.from_numpy(batch)).numpy())]


def text_build(side: nn.Module, context: int) -> Build:
    """The text side, tokens int64 (n, context) → unit rows (n, dim). `side` has open_clip's tower as `tower`.

    Checked by random texts of several lengths. Where the model is causal the second axis has any length: columns behind
    the last end of text may be left out.
    """
    try:
        written = text_graph(side.get_submodule("tower"))
        vocabulary, end = written.words
    except OtherFormError:
        written = None
        vocabulary = next(module.num_embeddings for module in side.modules() if isinstance(module, nn.Embedding))
        end = vocabulary - 1
    random = np.random.default_rng(0)
    lengths = (2, 3, 9, context // 2, context)
    tokens = np.zeros((len(lengths), context), np.int64)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = random.integers(3, vocabulary - 2, length)
        row[length - 1] = end
    write = _exporter(side, torch.from_numpy(tokens[:2]), "tokens") if written is None else written.save
    with torch.inference_mode():
        expected = side(torch.from_numpy(tokens)).numpy()
    checks = [Check({"tokens": tokens}, expected)]
    if written is not None and written.cuts:
        checks += [Check({"tokens": tokens[i : i + 1, :n]}, expected[i : i + 1]) for i, n in enumerate(lengths)]
    return write, checks


def _exporter(side: nn.Module, example: Tensor, name: str) -> Callable[[Path], None]:
    """Writes a module as torch's own exporter sees it, for any number of rows."""

    def write(path: Path) -> None:
        with _quiet(), torch.inference_mode():
            torch.onnx.export(
                side.eval(),
                (example,),
                str(path.with_suffix(".source")),
                input_names=[name],
                output_names=["vectors"],
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                external_data=True,
                verbose=False,
            )
        simplify(path.with_suffix(".source"), path)
        for left in path.parent.glob("*.source*"):
            left.unlink()

    return write


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's own messages: its result is checked anyway."""
    talkers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [talker.level for talker in talkers]
    try:
        for talker in talkers:
            talker.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for talker, level in zip(talkers, levels, strict=True):
            talker.setLevel(level)
