"""JPEG: a copy without the segments for which Pillow would refuse the whole file, and kinds of JPEG that are not read.

Markers: ITU-T T.81, B.1; application segments (APPn) and comments say nothing about the pixels but for Adobe's, which
names the colours.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from clipsearch.errors import ImageError
from clipsearch.images import exif

_START = b"\xff\xd8"
_TINY = b"\xff\xc0\0\x0b\x08\0\x08\0\x08\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0"
"""A frame and the head of its scan, where Pillow stops reading when it opens a file."""

_MAX_SEGMENTS = 1000
"""Segments before the pixels that are looked at; a profile of 16 MB needs 256."""

_MAX_EXIF, _MAX_FILL = 600, 65_536
"""Segments of EXIF or XMP, of which 600 have 39 MB, and fill bytes in front of one."""


def check_header(stream: BinaryIO) -> None:
    """Raise ImageError for a header that only a hostile file has: Pillow would read it for minutes.

    It reads fill bytes one by one, and copies all EXIF before each further segment of it.
    """
    count = exif_segments = 0
    end = len(_START)
    for marker, start, length in _segments(stream):
        count, exif_segments = count + 1, exif_segments + (marker == 0xE1)
        end = start + length
    stream.seek(end)
    fill = stream.read(_MAX_FILL)
    if count >= _MAX_SEGMENTS or exif_segments > _MAX_EXIF or (len(fill) == _MAX_FILL and not fill.strip(b"\xff")):
        raise ImageError("the JPEG header is damaged: it is too long")


def without_faults(stream: BinaryIO) -> tuple[BinaryIO, None]:
    """A copy with only those application segments and comments that Pillow accepts."""
    kept = [_START]
    end = len(_START)
    for marker, start, length in _segments(stream):
        stream.seek(start)
        whole = stream.read(length)
        end = start + length
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _is_accepted(whole):
            kept.append(whole)
    stream.seek(end)
    return io.BytesIO(b"".join([*kept, stream.read()])), None


def unsupported_kind(stream: BinaryIO) -> str | None:
    """What a JPEG is that libjpeg has refused, if it is of a kind that it does not decode; otherwise None."""
    for marker, start, _ in _segments(stream):
        if marker == 0xF7:
            return "JPEG-LS"
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            stream.seek(start + 4)
            bits = stream.read(1)
            if marker in (0xC3, 0xC7, 0xCB, 0xCF):
                return "lossless JPEG"
            return f"JPEG with {bits[0]} bits per colour" if bits and bits[0] != 8 else None
    return None


def _segments(stream: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """(marker, start, length with the marker) of the segments before the first scan, fill bytes excluded."""
    start = len(_START)
    for _ in range(_MAX_SEGMENTS):
        stream.seek(start)
        head = stream.read(4)
        if head[:2] == b"\xff\xff":
            fill = stream.read(_MAX_FILL)
            start += 2 + len(fill) - len(fill.lstrip(b"\xff")) - 1
            stream.seek(start)
            head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0xDA, 0xFF):
            return
        length = 2 + struct.unpack(">H", head[2:])[0]
        yield head[1], start, length
        start += length


def _is_accepted(segment: bytes) -> bool:
    """Whether Pillow opens a file with only this segment."""
    return exif.attempt(lambda: Image.open(io.BytesIO(_START + segment + _TINY), formats=("JPEG",))) is not None
