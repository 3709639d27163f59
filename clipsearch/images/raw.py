"""Decodes raw files of cameras by LibRaw (extra `raw`): their preview if it is large enough, otherwise half size."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from dataclasses import replace
from typing import Any, BinaryIO

from PIL import Image

from clipsearch.errors import ImageError
from clipsearch.image_facts import ImageFacts
from clipsearch.images import exif
from clipsearch.images.extras import decoder
from clipsearch.images.facts import image_facts
from clipsearch.images.pillow import DECODE_ERRORS, TURNS, Frame, PillowSource, check_count

# TIFF tags that distinguish a raw file from an image (TIFF 6.0, TIFF/EP, DNG 1.7).
_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 259, 262, 271, 330, 50706
_SENSOR_PHOTOMETRIC = {32803, 34892}
"""Colour filter array; linear raw."""
_SENSOR_COMPRESSION = {32767, 34713, 65535}
"""Sony, Nikon, Pentax."""

_BYTES_PER_PIXEL = 6

_TIFF = (b"II*\0", b"MM\0*")

_MAX_SEARCHED, _MAX_PREVIEWS = 256 * 2**20, 16
"""Bytes of a file that are searched for previews, and how many places that look like one are tried."""

_EXIF_OF_FLIP = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}
"""LibRaw's flip (bit 0 mirrors columns, bit 1 rows, bit 2 transposes) as an EXIF orientation."""

_SAME_SHAPE = 0.03
"""Relative tolerance for a preview's shape: beyond it, the preview shows another part of the scene, or black bars."""


def is_raw_tiff(stream: BinaryIO) -> bool:
    """Whether a TIFF contains sensor data: Pillow would read only the thumbnail in its first directory."""
    return bool(exif.attempt(lambda: _has_sensor_tags(exif.from_tiff(stream))))


def _has_sensor_tags(tags: Image.Exif) -> bool:
    return (
        _DNG_VERSION in tags
        or tags.get(_PHOTOMETRIC) in _SENSOR_PHOTOMETRIC
        or tags.get(_COMPRESSION) in _SENSOR_COMPRESSION
        or (bool(tags.get(_SUBFILE, 0) & 1) and _SUB_IFDS in tags and _MAKE in tags)
    )


class RawSource:
    """One raw file. All frames are upright, so `orientation` is 1; sizes are those of the visible sensor."""

    orientation = 1
    pixels_since: int | None = 1
    metadata_bytes = 0

    def __init__(self, stream: BinaryIO, max_pixels: int) -> None:
        rawpy = decoder("rawpy", needs="raw files of cameras need", extra="raw")
        self._rawpy = rawpy
        self._stream, self._max_pixels = stream, max_pixels
        stream.seek(0)
        try:
            self._raw: Any = rawpy.imread(stream)
        except rawpy.LibRawFileUnsupportedError as exc:
            raise ImageError("the raw file is damaged or of a camera that LibRaw does not support") from exc
        except rawpy.LibRawError as exc:
            raise _failed(exc) from exc
        sizes = self._raw.sizes
        turn = _EXIF_OF_FLIP.get(int(sizes.flip), 1)
        width, height = (sizes.height, sizes.width) if turn >= 5 else (sizes.width, sizes.height)
        self._preview = self._find_preview()
        self._preview_turn = 1
        if self._preview is not None:
            self._preview_turn = self._preview.orientation
            shown = self._preview.facts
            if self._preview_turn == 1 and (shown.width > shown.height) != (width > height):
                self._preview_turn = turn
        self.facts = self._facts(stream, int(width), int(height))
        self._developed: Frame | None = None

    def decode(self, reduction: float) -> Frame:
        frame = self._from_preview(reduction)
        if frame is not None:
            return frame
        try:
            self._developed = self._developed or self._develop()
        except ImageError:
            frame = self._from_preview(reduction, least=0) or self._from_found_preview(reduction)
            if frame is None:
                raise
            return frame
        return self._developed

    def holds(self, reduction: float) -> int:
        """See ImageSource.holds. LibRaw keeps the sensor's values, and develops a quarter of the pixels."""
        left = self._preview_reduction(reduction, least=1)
        if self._preview is not None and left is not None:
            return self._preview.holds(left)
        return _BYTES_PER_PIXEL * self.facts.width * self.facts.height

    def _from_preview(self, reduction: float, *, least: float = 1) -> Frame | None:
        """The preview, if it shows the whole image with at least `least` times the required number of pixels."""
        left = self._preview_reduction(reduction, least=least)
        if self._preview is None or left is None:
            return None
        try:
            frame = self._preview.decode(left)
            image = frame.image.transpose(TURNS[self._preview_turn]) if self._preview_turn in TURNS else frame.image
        except DECODE_ERRORS:
            return None
        return self._scaled(image, frame.profile)

    def _preview_reduction(self, reduction: float, *, least: float) -> float | None:
        """How much to reduce the preview; None without one, or where it shows something else or too few pixels."""
        if self._preview is None:
            return None
        width, height = self._preview.facts.width, self._preview.facts.height
        if self._preview.orientation == 1 and self._preview_turn >= 5:
            width, height = height, width
        left = reduction * width / self.facts.width
        same = abs(width / height * self.facts.height / self.facts.width - 1) <= _SAME_SHAPE
        return left if same and left >= least else None

    def _from_found_preview(self, reduction: float) -> Frame | None:
        """A preview of any size that LibRaw has not found."""
        self._preview = preview_source(self._stream, self._max_pixels)
        if self._preview is not None:
            self._preview_turn = self._preview.orientation
        return self._from_preview(reduction, least=0)

    def _develop(self) -> Frame:
        import numpy as np

        check_count(self.facts.width * self.facts.height // 4, self._max_pixels)
        try:
            pixels = self._raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8)
        except self._rawpy.LibRawError as exc:
            raise _failed(exc) from exc
        # A sensor without colour filters gives one channel.
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
        return self._scaled(image, None)

    def _scaled(self, image: Image.Image, profile: bytes | None) -> Frame:
        return Frame(image, profile, self.facts.width / image.width, self.facts.height / image.height)

    def _find_preview(self) -> PillowSource | None:
        try:
            found = self._raw.extract_thumb()
            if found.format == self._rawpy.ThumbFormat.JPEG:
                return PillowSource(io.BytesIO(found.data), "JPEG", self._max_pixels)
        except (self._rawpy.LibRawError, self._rawpy.NotSupportedError, ImageError, *DECODE_ERRORS):
            pass
        return None

    def _facts(self, stream: BinaryIO, width: int, height: int) -> ImageFacts:
        """Those in the file itself if it is TIFF-based, otherwise its preview's."""
        stream.seek(0)
        if stream.read(4) not in _TIFF and self._preview is not None:
            return replace(self._preview.facts, format="RAW", width=width, height=height)
        return image_facts("RAW", width, height, exif.attempt(lambda: exif.from_tiff(stream)))


def preview_source(stream: BinaryIO, max_pixels: int) -> PillowSource | None:
    """The largest sound preview in a raw file whose sensor data LibRaw refuses; None if there is none.

    Previews are JPEGs anywhere in the file, and the first directory of a TIFF, whose preview may be in strips.
    """
    stream.seek(0)
    data = stream.read(_MAX_SEARCHED)
    starts = itertools.islice(re.finditer(rb"\xff\xd8\xff", data), _MAX_PREVIEWS)
    places = [("JPEG", start.start()) for start in starts]
    tags = None
    if data[:4] in _TIFF:
        tags = exif.attempt(lambda: exif.from_tiff(stream))
        places.append(("TIFF", 0))
    previews = []
    for kind, start in places:
        with contextlib.suppress(ImageError, *DECODE_ERRORS):
            previews.append(PillowSource(io.BytesIO(data[start:]), kind, max_pixels))
    for preview in sorted(previews, key=lambda each: -each.facts.width * each.facts.height):
        with contextlib.suppress(ImageError, *DECODE_ERRORS):
            preview.decode(1)
            width, height = preview.facts.width, preview.facts.height
            if tags and preview.facts.format == "JPEG" and preview.orientation == 1:
                preview.orientation = exif.orientation(tags)
                width, height = (height, width) if preview.orientation >= 5 else (width, height)
            preview.facts = (
                image_facts("RAW", width, height, tags)
                if tags
                else replace(preview.facts, format="RAW", width=width, height=height)
            )
            return preview
    return None


def _failed(exc: Exception) -> ImageError:
    reason = exc.args[0].decode(errors="replace") if exc.args and isinstance(exc.args[0], bytes) else str(exc)
    return ImageError(f"the raw file cannot be decoded: {reason}")
