"""`open_image`: from a file's bytes to a `Picture`; and the version of the decoders."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, BinaryIO

from clipsearch.images.sniff import MAX_PIXELS, sniff

if TYPE_CHECKING:
    from clipsearch.images.picture import Picture as Picture


HEAD_BYTES = 4096

IN_MEMORY_BYTES = 256 * 2**20
"""Larger files are hashed in pieces and decoded from their descriptor."""

READER_REVISION = 3
"""Increases with a change in what is read from files: facts, the pixels of some kinds, or what can be decoded at all.

The next run reads the headers of contents with a lower revision, decodes those again whose pixels have changed
(`Picture.changed_since`), and retries failures."""

DECODED_REVISION = 2
"""The last of these revisions that changed the pixels of an image."""

_DECODERS = ("pillow", "pi-heif", "rawpy", "tifffile", "imagecodecs", "pillow-jxl-plugin")


@functools.cache
def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def decoder_version(max_pixels: int = MAX_PIXELS) -> str:
    """Everything that decides whether an image can be decoded; a failure is retried once this has changed."""
    parts = [f"{name} {version}" if (version := _version(name)) else f"no {name}" for name in _DECODERS]
    return f"images {READER_REVISION}, {', '.join(parts)}; {max_pixels / 1e6:g} MP"


def open_image(source: bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS, truncated: bool = False) -> Picture:
    """Read the facts of an image; its pixels are decoded on request.

    `source` is the file's content or a seekable binary file, which must stay open while the image is used.
    `truncated` decodes a truncated file as far as it goes.
    Raises UnsupportedImageError where the format is refused or its extra is not installed, TruncatedImageError where
    the file is too short to have its size, ImageError for what is not an image; none of these has a path.
    """
    from clipsearch.images import picture

    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    stream.seek(0)
    kind = sniff(stream.read(HEAD_BYTES))
    return picture.Picture(stream, kind, max_pixels=max_pixels, truncated=truncated)


def bytes_to_open(source: bytes | BinaryIO) -> int:
    """About how many bytes `open_image` holds at its peak, where that is as much as for decoding: JPEG XL; else 0.

    Raises ImageError for what is not an image.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    stream.seek(0)
    if sniff(stream.read(HEAD_BYTES)) != "JXL":
        return 0
    from clipsearch.images import jxl, pillow

    return pillow.holds("JXL", "RGB", jxl.read_header(stream).pixels)
