"""Both sides of a model in torch, on a GPU or a CPU. Owns everything of torch that runs a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clipsearch.errors import EncoderError, OutOfMemoryError, UsageError
from clipsearch.types import Preprocess

Side = TypeVar("Side", bound=nn.Module)


def pick_device(name: str) -> torch.device:
    """The device that a name which `check_device` lets through means here. Raises UsageError where it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f'`device="{name}"`: torch sees {torch.cuda.device_count()} CUDA devices here')
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f'`device="{name}"`: torch finds no Metal device here')
    return device


class TextSide(nn.Module):
    """The text half of open_clip's CLIP, CustomTextCLIP or CoCa: tokens (n, context) → unit rows (n, dim)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        text = getattr(model, "text", None)
        if not isinstance(text, nn.Module):
            del model.visual
        self.tower: nn.Module = text if isinstance(text, nn.Module) else model

    def forward(self, tokens: Tensor) -> Tensor:
        encode = getattr(self.tower, "encode_text", self.tower)
        return _unit(encode(tokens))

    def encode(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit rows (n, dim) of token ids (n, context), on the device where the side is."""
        device = next(self.parameters()).device
        with _running(len(tokens)):
            return _rows(self(torch.from_numpy(tokens).to(device)))


class ImageSide(nn.Module):
    """The image half: uint8 pixels (n, 3, S, S) → normalised on the device → unit rows (n, dim)."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.tower = model.get_submodule("visual")
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return _unit(self.tower((pixels.float().div(255) - self.mean) / self.std))

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit rows (n, dim) of prepared pixels (n, 3, S, S), on the device where the side is.

        Raises OutOfMemoryError where the batch is too large for it.
        """
        device = self.mean.device
        with _running(len(batch)):
            pixels = torch.from_numpy(np.ascontiguousarray(batch))
            if device.type == "cuda":
                pixels = pixels.pin_memory().to(device, non_blocking=True)
                with torch.autocast("cuda", dtype=torch.float16):
                    return _rows(self(pixels))
            return _rows(self(pixels.to(device)))


def placed(side: Side, device: str, *, threads: int = 0) -> Side:
    """A side, ready to encode on a device. Raises UsageError where the device is not there.

    On the CPU its weights are copied: they may be a mapped file, which can change below us.
    """
    if threads > 0:
        torch.set_num_threads(threads)
    target = pick_device(device)
    if target.type == "cpu":
        for tensor in (*side.parameters(), *side.buffers()):
            tensor.data = tensor.data.clone()
    side = side.eval().to(target)
    if target.type == "cuda" and hasattr(side.tower, "layer1"):  # a ResNet: convolutions want it
        side = side.to(memory_format=torch.channels_last)
    return side


def _unit(features: Tensor | tuple[Tensor, ...]) -> Tensor:
    features = features[0] if isinstance(features, tuple) else features
    return nn.functional.normalize(features.float(), dim=-1)


def _rows(features: Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = features.to("cpu", torch.float32).numpy()
    return rows


@contextlib.contextmanager
def _running(size: int) -> Iterator[None]:
    try:
        with torch.inference_mode():
            yield
    except Exception as error:  # a model's configuration can make open_clip, timm and transformers raise any
        text = " ".join(str(error).split())[:200]
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in text:
            raise EncoderError(f"the model failed on a batch of {size}: {text or type(error).__name__}") from error
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        raise OutOfMemoryError(
            f"a batch of {size} does not fit into the device's memory", advice="lower `batch_size`"
        ) from error
