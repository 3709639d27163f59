"""open_clip's models in ONNX Runtime: converted at their first use ever, then run without torch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.devices import is_cpu
from clipsearch.encoders.onnx.quantisation import LOWEST_COSINE, Quantisation, product
from clipsearch.encoders.onnx.store import TowerId, open_tower
from clipsearch.encoders.onnx.tower import Build, Tower, TowerMismatchError
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import EncoderInfo

if TYPE_CHECKING:
    from torch import nn

    from clipsearch.encoders.base import Towers
    from clipsearch.encoders.clip.torch_towers import ImageSide

log = logging.getLogger(__name__)

EXPORTER = "1"
"""Goes up when the graphs that `towers` writes change; what was converted before is then converted again."""

TEXT_BATCH = 32


class OnnxTowers:
    """Both sides of a model, each loaded at its first use. Thread-safe.

    load: builds the module in torch, asked only for a side that is not converted yet. torch: the towers that answer
    for pictures where `device` is a GPU, which torch is faster on, and where a converted side is not faithful.
    int8: how pictures are rounded; they then run on a CPU only, and here. `info` is the fp32 encoder's all the same.
    Raises UsageError for a GPU that is not there; "auto" looks for one with the first picture.
    """

    def __init__(
        self,
        load: Callable[[], nn.Module],
        info: EncoderInfo,
        *,
        torch: Towers,
        device: str = "cpu",
        threads: int = 0,
        int8: Quantisation | None = None,
    ) -> None:
        if device not in ("auto", "cpu") and int8 is None:
            is_cpu(device)
        self._load = load
        self._info = info
        self._torch = torch
        self._device = device
        self._threads = threads
        self._int8 = int8
        self._lock = threading.RLock()

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit rows (n, dim) of prepared pixels (n, 3, S, S)."""
        with self._lock:
            tower = self._image_tower
        return self._torch.encode_images(batch) if tower is None else tower(pixels=batch)

    def encode_tokens(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit rows (n, dim) of token ids (n, context)."""
        with self._lock:
            tower = self._text_tower
        if tower is None:
            return self._torch.encode_tokens(tokens)
        # A causal side takes any length, and texts of like length go together.
        used = np.array([_used(row) if tower.takes_any("tokens") else tokens.shape[1] for row in tokens])
        order = np.argsort(used, kind="stable")
        rows = np.empty((len(tokens), self._info.dim), np.float32)
        for start in range(0, len(tokens), TEXT_BATCH):
            some = order[start : start + TEXT_BATCH]
            rows[some] = tower(tokens=tokens[some, : used[some[-1]]])
        return rows

    def convert(self) -> None:
        """Put what a later query needs into the cache directory, if it is not there: the text side."""
        with self._lock:
            _ = self._text_tower

    def calibrated(self, pixels: NDArray[np.uint8]) -> Quantisation:
        """How to round the image side, by prepared pixels (n, 3, S, S). Raises UsageError where it has no such form."""
        from clipsearch.encoders.onnx.int8 import calibrate

        self._refuse_gpu()
        side = self._image_side()
        quantisation = calibrate(side, self._info.preprocess, pixels, threads=self._threads)
        self._open_int8(quantisation, lambda: side)  # while the weights are at hand
        return quantisation

    @cached_property
    def _image_tower(self) -> Tower | None:
        if self._int8 is not None:
            self._refuse_gpu()
            return self._open_int8(self._int8, self._image_side)
        if not is_cpu(self._device):
            return None

        def build() -> Build:
            from clipsearch.encoders.onnx.export import image_build

            return image_build(self._image_side(), self._info.preprocess)

        return self._opened("image", build)

    @cached_property
    def _text_tower(self) -> Tower | None:
        def build() -> Build:
            from clipsearch.encoders.clip.torch_towers import TextSide
            from clipsearch.encoders.onnx.export import text_build

            context = int(self._info.details["tokenizer"]["context_length"])
            return text_build(TextSide(self._load()).eval(), context)

        return self._opened("text", build)

    def _image_side(self) -> ImageSide:
        from clipsearch.encoders.clip.torch_towers import ImageSide

        return ImageSide(self._load(), self._info.preprocess).eval()

    def _open_int8(self, quantisation: Quantisation, load: Callable[[], ImageSide]) -> Tower:
        way = product(quantisation)

        def build() -> Build:
            from clipsearch.encoders.onnx.int8 import int8_build

            return int8_build(load(), self._info.preprocess, quantisation, way)

        fingerprint = quantisation.fingerprint(self._info.fingerprint)
        identity = TowerId(fingerprint, "image", f"{EXPORTER}-{way}", LOWEST_COSINE)
        try:
            return open_tower(identity, build, threads=self._threads)
        except TowerMismatchError as exc:
            raise EncoderError(
                f"{self._info.spec}: its pictures cannot be encoded in 8 bits on this processor ({exc}); "
                "this changes to full precision: clipsearch index --precision fp32"
            ) from exc

    def _refuse_gpu(self) -> None:
        if self._device not in ("auto", "cpu"):
            raise UsageError(f"--device {self._device}: int8 runs on the CPU; leave it out, or add --precision fp32")

    def _opened(self, side: str, build: Callable[[], Build]) -> Tower | None:
        identity = TowerId(self._info.fingerprint, "image" if side == "image" else "text", EXPORTER)
        try:
            return open_tower(identity, build, threads=self._threads, cold=side == "text")
        except TowerMismatchError as exc:
            log.warning("%s: the %s side runs in torch: %s", self._info.spec, side, exc)
            return None


def _used(row: NDArray[np.int64]) -> int:
    """Tokens of a text before its padding, which is zeros: nothing behind an end of text, which is not zero, counts."""
    return int(np.flatnonzero(row)[-1]) + 1 if row.any() else 1
