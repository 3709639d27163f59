"""From a file's bytes to a picture, and the version of what decodes it."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, BinaryIO

from clipsearch.images.sniff import MAX_PIXELS, sniff

if TYPE_CHECKING:
    from clipsearch.images.picture import Picture as Picture


HEAD_BYTES = 4096

_REVISION = 1
"""Goes up with a change here that may let a picture through that failed before: remembered failures are retried."""


@functools.cache
def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def decoder_version(max_pixels: int = MAX_PIXELS) -> str:
    """What decides whether a picture can be decoded: a failure is remembered with it, and retried once it changes."""
    parts = [f"{name} {version}" if (version := _version(name)) else f"no {name}" for name in ("pi-heif", "rawpy")]
    return f"images {_REVISION}, pillow {_version('pillow')}, {', '.join(parts)}; {max_pixels / 1e6:g} MP"


def open_picture(source: bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS, truncated: bool = False) -> Picture:
    """Read what a picture's file says of itself; its pixels are decoded when they are asked for.

    `source` is the file's content or a seekable binary file, which must stay open while the picture is used.
    `truncated` decodes a file that ends early as far as it goes; other decodes wait meanwhile, whatever their thread.
    Raises UnsupportedImageError where the format is refused or its extra is not installed, TruncatedImageError where
    the file ends too early to say its size, ImageError for what is no picture. A message is one line without a path.
    """
    from clipsearch.images import picture

    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    stream.seek(0)
    kind = sniff(stream.read(HEAD_BYTES))
    return picture.Picture(stream, kind, max_pixels=max_pixels, truncated=truncated)
