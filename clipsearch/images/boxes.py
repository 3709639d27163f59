"""XMP in the boxes of JPEG 2000 and JPEG XL, which their decoders do not hand out.

A box: its length, its type and its content (ISO/IEC 15444-1, I.4; ISO/IEC 18181-2, 9). A length of 1 means that eight
bytes with the length follow, and 0 that the box reaches to the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from clipsearch.images.xmp import MAX_EMBEDDED_BYTES

_XMP = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
"""The "uuid" of XMP in JPEG 2000 (XMP specification, part 3)."""

_SIGNATURES = (b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ")
_MAX_BOXES = 1000


def find_xmp(stream: BinaryIO) -> bytes | None:
    """The XMP of a file that is made of boxes, if there is any."""
    back = stream.tell()
    try:
        stream.seek(0)
        is_jxl = stream.read(8) == _SIGNATURES[1]
        for kind, length in _boxes(stream):
            if kind == b"xml " and is_jxl:
                return stream.read(min(length, MAX_EMBEDDED_BYTES + 1))
            if kind == b"uuid" and stream.read(len(_XMP)) == _XMP:
                return stream.read(max(0, min(length - len(_XMP), MAX_EMBEDDED_BYTES + 1)))
        return None
    finally:
        stream.seek(back)


def _boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Type and length of each box, the stream standing at its content."""
    stream.seek(0)
    if stream.read(8) not in _SIGNATURES:
        return
    start = 0
    for _ in range(_MAX_BOXES):
        stream.seek(start)
        head = stream.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">L4s", head)
        begin = 8
        if size == 1 and len(head) == 16:
            (size,), begin = struct.unpack_from(">Q", head, 8), 16
        length = size - begin if size else MAX_EMBEDDED_BYTES + 1
        if length < 0 or start + size >= 2**63:
            return
        stream.seek(start + begin)
        yield kind, length
        if not size:
            return
        start += size
