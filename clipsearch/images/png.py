"""PNG: a copy without the ancillary chunks for which Pillow would refuse the whole file, and EXIF after the pixels.

A wrong checksum in a text, or a profile over 1 MB, says nothing about the pixels. Chunks: PNG specification (third
edition), 5 and 11.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image

from clipsearch.images import exif

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FRAMES = (b"fcTL", b"fdAT")
"""Chunks of the frames of an animation. They are kept unchecked: Pillow ignores them where there is no acTL."""

_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")

_MAX_PROFILE = 16 * 2**20
"""Bytes of a decompressed colour profile; those for printers take 2–3 MB."""

_MAX_KEPT, _MAX_BYTES = 32, 2**20
"""Other ancillary chunks that are kept, and their bytes: what they unpack to stays within Pillow's limit of 64 MB."""


def without_faults(stream: BinaryIO) -> tuple[BinaryIO, bytes | None]:
    """A copy with only those ancillary chunks that Pillow accepts, and the colour profile, which is not in the copy.

    A chunk that is cut off is the last one, and is copied as far as it goes.
    """
    kept, profile, header = [_SIGNATURE], None, b""
    others = size = 0
    for name, length in _chunks(stream):
        data, checksum = stream.read(length), stream.read(4)
        whole = struct.pack(">L", len(data)) + name + data
        if name[:1].isupper():
            header = header or whole + checksum
            kept.append(whole + checksum)
            continue
        if name == b"iCCP":
            profile = profile or _profile(data)
            continue
        whole += struct.pack(">L", zlib.crc32(name + data))
        if name not in _FRAMES:
            others, size = others + 1, size + len(data)
            if others > _MAX_KEPT or size > _MAX_BYTES or _opened(header, whole) is None:
                continue
        kept.append(whole)
    return io.BytesIO(b"".join(kept)), profile


def refit_transparency(image: Image.Image, stream: BinaryIO) -> bool:
    """Set the transparent colour of an opened image to what Pillow compares its pixels with; whether it was another.

    Pillow 13 widens grey of 2 and 4 bits, and halves colours of 16, but leaves this colour as the file has it.
    """
    key = image.info.get("transparency")
    if key is None:
        return False
    back = stream.tell()
    stream.seek(len(_SIGNATURE) + 16)
    depth, kind = stream.read(2)
    stream.seek(back)
    if kind == 0 and depth in (2, 4):
        image.info["transparency"] = key * 255 // ((1 << depth) - 1)
    elif kind == 2 and depth == 16:
        image.info["transparency"] = tuple(each >> 8 for each in key)
    return (kind, depth) in ((0, 2), (0, 4), (0, 16), (2, 16))


def _opened(header: bytes, chunk: bytes) -> Image.Image | None:
    """A file with only this chunk before its pixels, where Pillow stops reading; None if it refuses the chunk."""
    file = io.BytesIO(_SIGNATURE + header + chunk + b"\0\0\0\0IDAT")
    return exif.attempt(lambda: Image.open(file, formats=("PNG",)))


def _profile(data: bytes) -> bytes | None:
    """The profile in an iCCP chunk: a name, a zero byte, the method, and compressed data."""
    unpacked = zlib.decompressobj()
    try:
        profile = unpacked.decompress(data.partition(b"\0")[2][1:], _MAX_PROFILE)
    except zlib.error:
        return None
    return profile if unpacked.eof else None


def late_metadata(stream: BinaryIO) -> dict[Any, Any]:
    """What Pillow's `info` would have of EXIF, XMP and texts if they were not after the pixels, as many programs do."""
    back = stream.tell()
    header, found, count = b"", {}, 0
    try:
        for name, length in _chunks(stream):
            if name == b"IHDR":
                header = _whole(stream, name, length)
            elif name == b"IDAT":
                count = max(count, 1)
            elif count and name in _METADATA and length <= _MAX_BYTES and count <= _MAX_KEPT:
                count += 1
                if (image := _opened(header, _whole(stream, name, length))) is not None:
                    found.update(image.info)
        return found
    finally:
        stream.seek(back)


def _whole(stream: BinaryIO, name: bytes, length: int) -> bytes:
    return struct.pack(">L", length) + name + stream.read(length + 4)


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length in bytes of every chunk. At each, the stream stands at its data, which need not be read."""
    start, name = len(_SIGNATURE), b""
    stream.seek(start)
    while name != b"IEND" and len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">L4s", head)
        yield name, length
        start += 8 + length + 4  # Name and length, data, checksum.
        stream.seek(start)
