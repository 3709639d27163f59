"""From the samples of a TIFF page to an image: scale, palettes, Lab, transparency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.errors import ImageError
from clipsearch.images import colour
from clipsearch.images.tiff.directories import BLACK_IS_ZERO, CIELAB, CMYK, ICCLAB, PALETTE, RGB, WHITE_IS_ZERO, YCBCR
from clipsearch.images.tiff.layout import Layout

_MODES = {WHITE_IS_ZERO: "L", BLACK_IS_ZERO: "L", RGB: "RGB", PALETTE: "RGB", CMYK: "CMYK", YCBCR: "YCbCr"}
_MODES |= {CIELAB: "LAB", ICCLAB: "LAB"}
"""Pillow's modes for the colours of an image."""


def narrowed(part: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Samples of any shape in the dtype of `Layout.dtype`; up to 16 unsigned bits are scaled to 0 … 255."""
    if layout.dtype == np.float32:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(part, np.float32)
    if layout.photometric == PALETTE or layout.bits == 8:
        return part
    if layout.photometric in (CIELAB, ICCLAB):
        return part >> 8
    top = 2**layout.bits - 1
    return np.asarray((part.astype(np.uint32) * 255 + top // 2) // top, np.uint8)


def image_of(
    values: NDArray[Any], layout: Layout, palette: NDArray[Any] | None, profile: bytes | None
) -> tuple[Image.Image, bytes | None]:
    """Narrowed samples of shape (h, w, colours and alpha) as an image, and the profile if it is still to be applied.

    `palette` has shape (3, n). Raises ImageError where the layout needs one and it is missing.
    """
    colours, alpha = values[..., : layout.colours], None if layout.alpha is None else values[..., layout.colours]
    if layout.dtype == np.float32:
        colours = _stretched(colours, layout)
        alpha = None if alpha is None else _over_full_scale(alpha, layout)
    if layout.photometric == WHITE_IS_ZERO:
        colours = 255 - colours
    elif layout.photometric == ICCLAB:
        colours = colours ^ np.array([0, 128, 128], np.uint8)  # Pillow reads a and b as signed, as CIELab has them.
    elif layout.photometric == PALETTE:
        colours = _looked_up(colours[..., 0], palette)
    mode = _MODES[layout.photometric]
    image = _joined(mode, colours)
    if alpha is None:
        return image, profile
    if mode in ("L", "RGB"):
        if layout.is_premultiplied:
            return _joined(f"{mode}a", colours, alpha).convert(f"{mode}A"), profile
        return _joined(f"{mode}A", colours, alpha), profile
    image = colour.to_srgb(image, profile)
    image.putalpha(_joined("L", alpha))
    return image, None


def _joined(mode: str, *channels: NDArray[np.generic]) -> Image.Image:
    """An image from channels of shape (h, w) or (h, w, n)."""
    stacked = np.dstack(channels).astype(np.uint8, copy=False)
    return Image.frombytes(mode, stacked.shape[1::-1], stacked.tobytes())


def _stretched(values: NDArray[np.float32], layout: Layout) -> NDArray[np.uint8]:
    """Colours of 32 or 64 bits, floats or signed, in 8 bits; all channels of shape (h, w, n) share one scale."""
    if layout.form == "u" and values.max(initial=0) >= 2.0 ** (layout.bits - 1):
        return _over_full_scale(values, layout)  # The highest bit is in use, so white is known.
    return colour.eight_bits(values, "F" if layout.form == "f" else "I")


def _over_full_scale(values: NDArray[np.float32], layout: Layout) -> NDArray[np.uint8]:
    """Values in 8 bits, where 255 is the largest value of the type that the file stores; 1 for floats."""
    top = {"u": 2.0**layout.bits - 1, "i": 2.0 ** (layout.bits - 1) - 1, "f": 1.0}[layout.form]
    return np.asarray(np.rint(np.clip(np.nan_to_num(values) / np.float32(top), 0, 1) * 255), np.uint8)


def _looked_up(numbers: NDArray[np.uint16], palette: NDArray[Any] | None) -> NDArray[np.uint8]:
    """Colours of shape (h, w, 3) from a palette of 16 bits, or of 8 as some programs write it."""
    if palette is None or palette.size < 3:
        raise ImageError("the TIFF header is damaged: it has no palette")
    table = np.asarray(palette).reshape(3, -1).T
    table = (table >> 8 if table.max() > 255 else table).astype(np.uint8)
    found: NDArray[np.uint8] = table[np.minimum(numbers, len(table) - 1)]
    return found
