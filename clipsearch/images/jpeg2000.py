"""JPEG 2000 with more than 8 bits per channel and several channels, which Pillow 13 gets wrong.

It adds half a step and cuts the sum to a byte: the brightest value becomes 0, so white turns black and what is opaque
invisible.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.errors import UnsupportedImageError

_MAX_BOXES = 2**20
"""Bytes before the codestream that are looked at: its boxes may hold a colour profile."""

_BRIGHT = 248
_MAX_JUMPS, _MAX_BLACK = 1e-3, 0.02
"""Shares of values where black touches white, as around whites that have become black, and of black ones: below these,
they are specks. Of 200 photographs, none has more than 3e-4 jumps in itself."""


def is_deep(stream: BinaryIO, image: Image.Image) -> bool:
    """Whether Pillow reads more than 8 bits per channel as 8, which it does where there are several channels."""
    return image.mode in ("LA", "RGB", "RGBA", "YCbCr") and 8 < _bits(stream) <= 16


def decode(stream: BinaryIO, image: Image.Image) -> Image.Image:
    """The pixels of a deep image that Pillow has opened as `image`: by imagecodecs (extra `tiff`) where it is there.

    Otherwise they are Pillow's, without transparency. Raises UnsupportedImageError where these are wrong.
    """
    imagecodecs = _imagecodecs()
    if imagecodecs is None or image.mode == "YCbCr":
        image.load()
        colours = image.convert("L" if image.mode == "LA" else "RGB")
        if _is_cut(np.asarray(colours)):
            raise UnsupportedImageError(
                "JPEG 2000 with 16 bits per colour needs an extra: pip install 'clipsearch[tiff]'"
            )
        colours.info = image.info
        return colours
    bits = _bits(stream)
    stream.seek(0)
    values = imagecodecs.jpeg2k_decode(stream.read())
    levels = np.rint(np.linspace(0, 255, 1 << bits)).astype(np.uint8)
    decoded = Image.fromarray(levels[values])
    decoded.info = image.info
    return decoded


def _imagecodecs() -> Any:  # noqa: ANN401 - a module, or None
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs


def _bits(stream: BinaryIO) -> int:
    """Bits per channel, by the SIZ marker: its Ssiz follow the number of channels (ISO/IEC 15444-1, A.5.1)."""
    stream.seek(0)
    head = stream.read(_MAX_BOXES)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + 42] & 0x7F) + 1 if 0 <= start < len(head) - 42 else 0


def _is_cut(values: NDArray[np.uint8]) -> bool:
    """Whether whites may have become black."""
    black, white = values == 0, values >= _BRIGHT
    beside = (black[:, 1:] & white[:, :-1]) | (white[:, 1:] & black[:, :-1])
    below = (black[1:] & white[:-1]) | (white[1:] & black[:-1])
    jumps = int(beside.sum()) + int(below.sum())
    return bool(jumps > _MAX_JUMPS * values.size or black.sum() > _MAX_BLACK * values.size)
