"""open_clip's models as they run: in ONNX Runtime once they are converted, else in torch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.clip.foreign import translated
from clipsearch.encoders.devices import is_cpu
from clipsearch.encoders.onnx.quantisation import LOWEST_COSINE, Quantisation, product
from clipsearch.encoders.onnx.store import TowerId, open_tower
from clipsearch.encoders.onnx.tower import Build, Tower, TowerMismatchError
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import EncoderInfo

if TYPE_CHECKING:
    from torch import nn

    from clipsearch.encoders.clip.torch_towers import ImageSide, TextSide

log = logging.getLogger(__name__)

EXPORTER = "1"
"""Goes up when the graphs that `onnx.convert` writes change; what was converted before is then converted again."""

TEXT_BATCH = 32


class Runtime:
    """Both sides of a model, each opened at its first use: `images` and `texts` can be called by several threads at
    once, but only one may open them.

    load: builds the module in torch, which is called only for a side that is not converted yet or runs in torch: images
    on a GPU, which torch is faster on, and a side whose graph is not faithful. info: the fp32 encoder's.
    int8: how images are rounded; they then run in ONNX Runtime, on a CPU.
    Raises UsageError for a GPU that is not there; "auto" looks for one when `images` is opened.
    """

    def __init__(
        self,
        load: Callable[[], nn.Module],
        info: EncoderInfo,
        options: EncoderOptions = EncoderOptions(),
        *,
        int8: Quantisation | None = None,
    ) -> None:
        if options.device not in ("auto", "cpu") and int8 is None:
            is_cpu(options.device)
        self._load = load
        self._info = info
        self._options = options
        self._int8 = int8

    @cached_property
    def images(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """Encodes prepared pixels (n, 3, S, S) as unit rows (n, dim)."""
        if self._int8 is not None:
            self._refuse_gpu()
            return partial(_encode_pixels, self._open_int8(self._int8, self._image_side))
        if is_cpu(self._options.device) and (tower := self._open("image", self._build_images)):
            return partial(_encode_pixels, tower)
        from clipsearch.encoders.clip.torch_towers import placed

        return placed(self._image_side(), self._options.device, threads=self._options.threads).encode

    @cached_property
    def texts(self) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        """Encodes token ids (n, context) as unit rows (n, dim)."""
        if tower := self._open("text", self._build_texts):
            return partial(_encode_tokens, tower, self._info.dim)
        from clipsearch.encoders.clip.torch_towers import placed

        return placed(self._text_side(), self._options.device, threads=self._options.threads).encode

    def calibrated(self, pixels: NDArray[np.uint8]) -> Quantisation:
        """How to round the image side, by prepared pixels (n, 3, S, S). Raises UsageError where it has no such form."""
        from clipsearch.encoders.onnx.int8 import calibrate

        self._refuse_gpu()
        side = self._image_side()
        quantisation = calibrate(side, self._info.preprocess, pixels, threads=self._options.threads)
        self._open_int8(quantisation, lambda: side)  # while the weights are at hand
        return quantisation

    def _image_side(self) -> ImageSide:
        from clipsearch.encoders.clip.torch_towers import ImageSide

        return ImageSide(self._load(), self._info.preprocess).eval()

    def _text_side(self) -> TextSide:
        from clipsearch.encoders.clip.torch_towers import TextSide

        return TextSide(self._load()).eval()

    def _build_images(self) -> Build:
        from clipsearch.encoders.onnx.convert import image_build

        return image_build(self._image_side(), self._info.preprocess)

    def _build_texts(self) -> Build:
        from clipsearch.encoders.clip.tokenizer import read_context
        from clipsearch.encoders.onnx.convert import text_build

        return text_build(self._text_side(), read_context(self._info.details["tokenizer"]))

    def _open(self, side: Literal["image", "text"], build: Callable[[], Build]) -> Tower | None:
        """A side in ONNX Runtime; None where its graph is not faithful."""
        identity = TowerId(self._info.fingerprint, side, EXPORTER)
        try:
            with translated(self._info.spec, f"its {side} side cannot be converted"):
                return open_tower(identity, build, threads=self._options.threads, cold=side == "text")
        except TowerMismatchError as exc:
            log.warning("%s: the %s side runs in torch: %s", self._info.spec, side, exc)
            return None

    def _open_int8(self, quantisation: Quantisation, load: Callable[[], ImageSide]) -> Tower:
        way = product(quantisation)

        def build() -> Build:
            from clipsearch.encoders.onnx.int8 import int8_build

            return int8_build(load(), self._info.preprocess, quantisation, way)

        fingerprint = quantisation.fingerprint(self._info.fingerprint)
        identity = TowerId(fingerprint, "image", f"{EXPORTER}-{way}", LOWEST_COSINE)
        try:
            return open_tower(identity, build, threads=self._options.threads)
        except TowerMismatchError as exc:
            raise EncoderError(
                f"{self._info.spec}: its images cannot be encoded in 8 bits on this processor ({exc})",
                advice='index with `precision="fp32"` to change to full precision',
            ) from exc

    def _refuse_gpu(self) -> None:
        if self._options.device not in ("auto", "cpu"):
            raise UsageError(
                f'`device="{self._options.device}"`: int8 runs on the CPU',
                advice='leave it out, or add `precision="fp32"`',
            )


def _encode_pixels(tower: Tower, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    return tower(pixels=batch)


def _encode_tokens(tower: Tower, dim: int, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """Where the tower takes texts of any length, they are cut after their last token, and similar lengths batched."""
    cuts = tower.takes_any("tokens")
    lengths = np.array([_used(row) if cuts else tokens.shape[1] for row in tokens])
    order = np.argsort(lengths, kind="stable")
    rows = np.empty((len(tokens), dim), np.float32)
    for start in range(0, len(tokens), TEXT_BATCH):
        some = order[start : start + TEXT_BATCH]
        rows[some] = tower(tokens=tokens[some, : lengths[some[-1]]])
    return rows


def _used(row: NDArray[np.int64]) -> int:
    """Tokens of a text before its padding, which is zeros: nothing behind an end of text, which is not zero, counts."""
    return int(np.flatnonzero(row)[-1]) + 1 if row.any() else 1
