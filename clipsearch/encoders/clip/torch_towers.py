"""The towers in torch: built from a checkpoint, run on a GPU or a CPU. Owns everything of torch that runs a model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
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
        raise UsageError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device {name}: torch finds no Metal device here")
    return device


class TextSide(nn.Module):
    """The text half of open_clip's CLIP, CustomTextCLIP or CoCa: tokens (n, context) → unit rows (n, dim)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        text = getattr(model, "text", None)
        self.tower: nn.Module = text if isinstance(text, nn.Module) else _without_visual(model)

    def forward(self, tokens: Tensor) -> Tensor:
        encode = getattr(self.tower, "encode_text", self.tower)
        features = encode(tokens)
        features = features[0] if isinstance(features, tuple) else features
        return nn.functional.normalize(features.float(), dim=-1)


def _without_visual(model: nn.Module) -> nn.Module:
    del model.visual
    return model


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
        features = self.tower((pixels.float().div(255) - self.mean) / self.std)
        features = features[0] if isinstance(features, tuple) else features
        return nn.functional.normalize(features.float(), dim=-1)


class TorchTowers:
    """Both sides, each on the device from its first use on; the other half of the model is dropped then.

    `load` builds the whole module on the CPU; it is called once a side at most. Thread-safe.
    """

    def __init__(
        self, load: Callable[[], nn.Module], preprocess: Preprocess, *, device: str = "auto", threads: int = 0
    ) -> None:
        self._load = load
        self._preprocess = preprocess
        self._device_name = device
        self._threads = threads
        self._lock = threading.Lock()
        self._images: ImageSide | None = None
        self._texts: TextSide | None = None

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit rows (n, dim) of prepared pixels (n, 3, S, S). Raises OutOfMemoryError where the batch is too large."""
        side = self._image_side()
        device = side.mean.device
        with _running(len(batch)):
            pixels = torch.from_numpy(np.ascontiguousarray(batch))
            if device.type == "cuda":
                pixels = pixels.pin_memory().to(device, non_blocking=True)
                with torch.autocast("cuda", dtype=torch.float16):
                    return _rows(side(pixels))
            return _rows(side(pixels.to(device)))

    def encode_tokens(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit rows (n, dim) of token ids (n, context)."""
        side = self._text_side()
        device = next(side.parameters()).device
        with _running(len(tokens)):
            return _rows(side(torch.from_numpy(tokens).to(device)))

    def _image_side(self) -> ImageSide:
        with self._lock:
            if self._images is None:
                device = self._device()
                side = _moved(ImageSide(self._load(), self._preprocess), device)
                if device.type == "cuda" and hasattr(side.tower, "layer1"):  # a ResNet: convolutions want it
                    side = side.to(memory_format=torch.channels_last)
                self._images = side
            return self._images

    def _text_side(self) -> TextSide:
        with self._lock:
            if self._texts is None:
                device = self._device()
                self._texts = _moved(TextSide(self._load()), device)
            return self._texts

    def _device(self) -> torch.device:
        if self._threads > 0:
            torch.set_num_threads(self._threads)
        return pick_device(self._device_name)


def _moved(side: Side, device: torch.device) -> Side:
    """A side on its device. On the CPU its weights are copied: they may be a mapped file, which can change below us."""
    if device.type == "cpu":
        for tensor in (*side.parameters(), *side.buffers()):
            tensor.data = tensor.data.clone()
    return side.eval().to(device)


def _rows(features: Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = features.to("cpu", torch.float32).numpy()
    return rows


@contextlib.contextmanager
def _running(size: int) -> Iterator[None]:
    try:
        with torch.inference_mode():
            yield
    except MemoryError as error:
        raise OutOfMemoryError(f"a batch of {size} does not fit into memory; lower --batch-size") from error
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemoryError(f"a batch of {size} does not fit into the GPU's memory; lower --batch-size") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise EncoderError(f"the model failed on a batch of {size}: {str(error).splitlines()[0]}") from error
        raise OutOfMemoryError(f"a batch of {size} does not fit into memory; lower --batch-size") from error
