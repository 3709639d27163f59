"""JPEG 2000 with several channels of more than 8 bits, which Pillow 13 decodes incorrectly.

It adds half a step and lets the sum overflow a byte: the largest value becomes 0, so that white turns black and opaque
pixels become transparent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from clipsearch.errors import UnsupportedImageError
from clipsearch.images.extras import decoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_BOXES = 2**20
"""Bytes in which the start of the codestream is looked for: the boxes before it may hold a colour profile."""

_BRIGHT = 248
"""The lowest level, 0 … 255, that counts as white."""

_MAX_JUMPS, _MAX_BLACK = 1e-3, 0.02
"""Shares of the values that change from black to white between neighbours, as around whites that have become black, and
that are black. Up to these, at most specks are wrong. In 200 photographs, the share of changes was 3e-4 at most."""


MODES = ("L", "LA", "RGB", "RGBA", "YCbCr")
"""Modes of 8 bits in which Pillow opens images of any depth; but for grey, also those of more."""


def stretched(image: Image.Image, bits: int) -> Image.Image:
    """An image of less than 8 bits per channel, with white at 255: Pillow only shifts the values."""
    white = ((1 << bits) - 1) << (8 - bits)
    return image.point([min(255, round(value * 255 / white)) for value in range(256)] * len(image.getbands()))


def decode(stream: BinaryIO, image: Image.Image) -> Image.Image:
    """The pixels, in 8 bits, of a deep image that Pillow has opened as `image`: by imagecodecs (extra `tiff`).

    Without imagecodecs, Pillow's own, without alpha; raises UnsupportedImageError if these are wrong.
    """
    import numpy as np

    try:
        imagecodecs = decoder("imagecodecs", needs="JPEG 2000 with 16 bits per colour needs", extra="tiff")
    except UnsupportedImageError:
        imagecodecs = None
        if _is_cut(np.asarray(image.convert("RGB"))):
            raise
    if imagecodecs is None or image.mode == "YCbCr":
        colours = image.convert("L" if image.mode == "LA" else "RGB")
        colours.info = image.info
        return colours
    bits = count_bits(stream)
    stream.seek(0)
    values = imagecodecs.jpeg2k_decode(stream.read())
    levels = np.rint(np.linspace(0, 255, 1 << bits)).astype(np.uint8)
    if values.dtype.kind == "i":
        values = values.astype(np.int32) + (1 << (bits - 1))
    decoded = Image.fromarray(levels[values])
    decoded.info = image.info
    return decoded


def count_bits(stream: BinaryIO) -> int:
    """Bits of the first channel, from Ssiz in the SIZ marker (ISO/IEC 15444-1, A.5.1); 0 if there is none."""
    stream.seek(0)
    head = stream.read(_MAX_BOXES)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + 42] & 0x7F) + 1 if 0 <= start < len(head) - 42 else 0


def _is_cut(values: NDArray[np.uint8]) -> bool:
    """Whether whites may have become black in values of shape (h, w) or (h, w, n)."""
    black, white = values == 0, values >= _BRIGHT
    beside = (black[:, 1:] & white[:, :-1]) | (white[:, 1:] & black[:, :-1])
    below = (black[1:] & white[:-1]) | (white[1:] & black[:-1])
    jumps = int(beside.sum()) + int(below.sum())
    return bool(jumps > _MAX_JUMPS * values.size or black.sum() > _MAX_BLACK * values.size)
