"""JPEG XL, by pillow-jxl (extra `jxl`). It decodes a file as soon as it opens it, so the size is read here before."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from PIL import Image

from clipsearch.errors import ImageError
from clipsearch.images.extras import decoder

_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Aspect ratios by their number in the size header (ISO/IEC 18181-1, SizeHeader)."""


_HEAD = 40
"""Bytes of a codestream that hold its first fields."""


def open_jxl(stream: BinaryIO) -> Image.Image:
    """The image, decoded. Raises UnsupportedImageError without the extra, ImageError for damaged data."""
    plugin = decoder("pillow_jxl.JpegXLImagePlugin", needs="JPEG XL needs", extra="jxl")
    try:
        image: Image.Image = plugin.JXLImageFile(stream, "")
    except RuntimeError as exc:
        raise ImageError("the JPEG XL data is damaged") from exc
    return image


def frames(stream: BinaryIO, most: int) -> Iterator[Image.Image]:
    """Up to `most` frames of an animation, by imagecodecs. Raises UnsupportedImageError without it."""
    import numpy as np

    imagecodecs = decoder("imagecodecs", needs="animated JPEG XL needs", extra="tiff")
    stream.seek(0)
    data = stream.read()
    with contextlib.suppress(imagecodecs.JpegxlError, IndexError, ValueError):
        for number in range(most):
            values = imagecodecs.jpegxl_decode(data, index=number)
            scale = 255 if values.dtype.kind == "f" else 255 / np.iinfo(values.dtype).max
            yield Image.fromarray(np.rint(values * scale).clip(0, 255).astype(np.uint8).squeeze())


class Header(NamedTuple):
    """Of a JPEG XL file or codestream: width times height, 0 if there is no header, and whether it is an animation."""

    pixels: int
    is_animated: bool


def read_header(stream: BinaryIO) -> Header:
    """The beginning of a file (SizeHeader and ImageMetadata in ISO/IEC 18181-1)."""
    head = _codestream(stream)
    if head[:2] != b"\xff\x0a":
        return Header(0, False)
    bits = int.from_bytes(head[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def length(small: bool) -> int:
        return 8 * (take(5) + 1) if small else 1 + take((9, 13, 18, 30)[take(2)])

    def area() -> int:
        small = bool(take(1))
        height = length(small)
        ratio = take(3)
        width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else length(small)
        return width * height

    pixels = area()
    is_animated = False
    if not take(1) and take(1):  # Neither all fields nor the extra ones have their defaults.
        take(3)  # The orientation.
        if take(1):
            area()  # The intrinsic size.
        # Behind a preview, which nobody writes, come its fields.
        is_animated = not take(1) and bool(take(1))
    return Header(pixels, is_animated)


def _codestream(stream: BinaryIO) -> bytes:
    """The first bytes of the codestream: those of the file, or of its box jxlc or jxlp. Empty if there is none."""
    stream.seek(0)
    head = stream.read(_HEAD)
    if head[:2] == b"\xff\x0a":
        return head
    stream.seek(0)
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">L4s", head)
        if name in (b"jxlc", b"jxlp"):
            return stream.read(_HEAD)[4 if name == b"jxlp" else 0 :]  # A jxlp box begins with its number.
        if length < 8:
            break
        stream.seek(length - 8, 1)
    return b""
