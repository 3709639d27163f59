"""JPEG XL, by pillow-jxl (extra `jxl`). It decodes a file as soon as it opens it, so the size is read here before."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import Image

from clipsearch.errors import ImageError, UnsupportedImageError

_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Aspect ratios by their number in the size header (ISO/IEC 18181-1, SizeHeader)."""


def open_jxl(stream: BinaryIO) -> Image.Image:
    """The image, decoded. Raises UnsupportedImageError without the extra, ImageError for damaged data."""
    try:
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile
    except ImportError as exc:
        raise UnsupportedImageError("JPEG XL needs an extra: pip install 'clipsearch[jxl]'") from exc
    try:
        image: Image.Image = JXLImageFile(stream, "")
    except RuntimeError as exc:
        raise ImageError("the JPEG XL data is damaged") from exc
    return image


def count_pixels(stream: BinaryIO) -> int:
    """Width times height in pixels, from the header of a JPEG XL file or codestream; 0 if there is none."""
    head = _codestream(stream)
    if head[:2] != b"\xff\x0a":
        return 0
    bits = int.from_bytes(head[2:].ljust(10, b"\0"), "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def length(small: bool) -> int:
        return 8 * (take(5) + 1) if small else 1 + take((9, 13, 18, 30)[take(2)])

    small = bool(take(1))
    height = length(small)
    ratio = take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else length(small)
    return width * height


def _codestream(stream: BinaryIO) -> bytes:
    """The first bytes of the codestream: those of the file, or of its box jxlc or jxlp. Empty if there is none."""
    stream.seek(0)
    head = stream.read(12)
    if head[:2] == b"\xff\x0a":
        return head
    stream.seek(0)
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">L4s", head)
        if name in (b"jxlc", b"jxlp"):
            return stream.read(16)[4 if name == b"jxlp" else 0 :]  # A jxlp box begins with its number.
        if length < 8:
            break
        stream.seek(length - 8, 1)
    return b""
