"""TIFF files: Pillow decodes the layouts that it decodes correctly, `samples` the others."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import io
import struct
from dataclasses import replace
from typing import BinaryIO

from clipsearch.errors import ImageError
from clipsearch.images import exif
from clipsearch.images.extras import decoder
from clipsearch.images.facts import image_facts
from clipsearch.images.pillow import DECODE_ERRORS, Frame, PillowSource, frame_of
from clipsearch.images.tiff.directories import (
    BITS,
    ORIENTATION,
    PLANAR,
    ROWS,
    SAMPLES,
    Directory,
    Reader,
    picture_of,
    pillow_is_right,
)

_UNTURNED = (1, 7, 17, 18)
"""Types of an orientation tag that Pillow 13 does not apply (measured for all types of whole numbers)."""


class TiffSource:
    """The decoder of one TIFF file (see ImageSource).

    `pixels_since` is 2 where revision 1 of the readers misread or refused the file. Raises ImageError for a damaged
    file, and when decoding UnsupportedImageError, with the layout, for what cannot be read or needs an extra.
    """

    def __init__(self, stream: BinaryIO, max_pixels: int, *, truncated: bool = False) -> None:
        _silence_libtiff()
        reader = Reader(stream)
        pages = list(reader.chain())
        page = picture_of(pages, reader) if pages else None
        if page is None or not page.area:
            raise ImageError("the TIFF header is damaged or lies beyond the end of the file")
        is_first = page is pages[0]
        self._max_pixels, self._truncated = max_pixels, truncated
        self._stream = stream if is_first else _starting_at(page.offset, stream, reader)
        marked = page if ORIENTATION in page.tags else pages[0]
        turn = marked.first(ORIENTATION, 1)
        self.orientation = self._turn = turn if 1 <= turn <= 8 else 1
        self._pillow: PillowSource | None = None
        self._frame: Frame | None = None
        if pillow_is_right(page, reader.order):
            with contextlib.suppress(ImageError, *DECODE_ERRORS):  # A broken text stops it; our reader passes over it.
                self._pillow = PillowSource(self._stream, "TIFF", max_pixels)
        if self._pillow is not None and page.types.get(ORIENTATION, 1) not in _UNTURNED:
            self.orientation = 1  # Pillow turns it while decoding.
        as_before = self._pillow is not None and is_first and self.orientation == 1
        self.pixels_since = self._pillow.pixels_since if self._pillow is not None and as_before else 2
        self.metadata_bytes = 0 if self._pillow is None else self._pillow.metadata_bytes
        self._stored, self._own_bytes = page.size, _bytes_of(page)
        size = page.size if self._pillow is None else (self._pillow.facts.width, self._pillow.facts.height)
        width, height = size[::-1] if self.orientation >= 5 else size
        if self._pillow is not None and is_first:
            self.facts = replace(self._pillow.facts, width=width, height=height)
        else:
            self.facts = image_facts("TIFF", width, height, exif.attempt(lambda: exif.from_tiff(stream)))

    def decode(self, reduction: float) -> Frame:
        """See ImageSource.decode."""
        if self._pillow is not None:
            try:
                return self._pillow.decode(reduction)
            except DECODE_ERRORS as exc:
                try:
                    frame = self._decode()
                except ImageError:
                    raise exc from None  # It says more about a layout that Pillow knows.
                self._pillow, self.orientation = None, self._turn
                return frame
        return self._decode()

    def holds(self, reduction: float) -> int:
        """See ImageSource.holds."""
        if self._pillow is not None:
            return self._pillow.holds(reduction)
        return self._own_bytes

    def _decode(self) -> Frame:
        """The frame by our own reader."""
        if self._frame is None:
            decoder("tifffile")  # 0.1 s, which most files do not need.
            from clipsearch.images.tiff import samples

            image, profile = samples.decode(self._stream, self._max_pixels, truncated=self._truncated)
            if image.size != self._stored:
                raise ImageError("the TIFF header is damaged: it has several sizes")
            self._frame = frame_of(image, profile)
        return self._frame


def _bytes_of(page: Directory) -> int:
    """About how many bytes our own reader holds: samples, and either a strip of the file or the image made of them."""
    bits, samples, (_, height) = page.first(BITS, 1), page.first(SAMPLES, 1), page.size
    strip = (
        min(1, page.first(ROWS, height) / max(1, height)) * bits / 8 * (1 if page.first(PLANAR, 1) == 2 else samples)
    )
    return round(page.area * ((4 if bits > 16 else 1) * samples + max(strip, 13)))


def _starting_at(offset: int, stream: BinaryIO, reader: Reader) -> BinaryIO:
    """A copy of the file in which the directory at `offset` is the first."""
    stream.seek(0)
    copy = bytearray(stream.read())
    struct.pack_into(reader.order + reader.word, copy, reader.link, offset)
    return io.BytesIO(copy)


@functools.cache
def _silence_libtiff() -> None:
    """Stop libtiff from writing lines about damaged files to the terminal ("ZIPDecode: Decoding error …").

    It writes to the file descriptor, past Python. Redirecting that would swallow what other threads write meanwhile,
    so its handlers are removed instead, in the very library that Pillow has loaded: errors still reach Pillow as codes.
    """
    with contextlib.suppress(OSError, AttributeError):  # A build of Pillow that hides libtiff's names, or has none.
        library = ctypes.CDLL(importlib.import_module("PIL._imaging").__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
