"""Decodes formats by Pillow (JPEG, PNG, TIFF, WebP, AVIF …), pi_heif (HEIC) and pillow-jxl: facts and pixels."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import struct
import zlib
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from PIL import Image, UnidentifiedImageError

from clipsearch.errors import ImageError, UnsupportedImageError
from clipsearch.image_facts import ImageFacts
from clipsearch.images import colour, exif, facts, jpeg, jpeg2000, jxl, png
from clipsearch.images.extras import decoder

# Imported for the formats that they register; otherwise Pillow would import all of its plugins.
for _name in ("Avif", "Bmp", "Gif", "Jpeg2K", "Jpeg", "Mpo", "Png", "Ppm", "Tiff", "WebP"):
    importlib.import_module(f"PIL.{_name}ImagePlugin")

# Pillow's limit counts a file's pixels, ours those that are decoded; its own would refuse large JPEGs that are drafted.
Image.MAX_IMAGE_PIXELS = None

DECODE_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
)
"""Errors that Pillow's parsers have raised for damaged files; MemoryError is not among them and propagates."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""From a stored image to the upright one, by its EXIF orientation."""


_CONVERTED_FIRST = 2_000_000
"""Pixels up to which colours are converted before the resize, as is correct: 12 ns each. Covers drafted JPEGs.

After the resize, vectors of images with a wide profile move by 1e-4 in cosine where they have grain or hard edges;
a large HEIC or PNG would take a third longer otherwise.
"""

_ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")
_MAX_FRAMES = 32
"""Frames of an animation that are searched for one with more than one colour: many animations fade in from black."""

_PPM_HEADER = re.compile(rb"P[14](?:(?:\s|#[^\n]*\n)+\d+){2}\s|P[2356](?:(?:\s|#[^\n]*\n)+\d+){3}\s")
_MAX_PPM_HEADER, _MAX_TEXT = 65_536, 100_000_000
"""Bytes of a PPM's header, and of one in text form: 11 s."""

_MAX_META = 16_000_000
"""Bytes of a HEIF header; an image of a thousand tiles needs 100 KB."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Decoded pixels, opaque and ready for resampling, `scale_x` × `scale_y` times smaller than the stored image.

    `since` is the first reader revision (`images.open`) that gives these pixels.
    """

    image: Image.Image
    profile: bytes | None = None
    scale_x: float = 1
    scale_y: float = 1
    since: int = 1


_BYTES = {"1": 1.0, "L": 1.3, "P": 6.0, "LA": 6.2, "I;16": 6.0, "RGBA": 9.5, "PA": 9.5, "CMYK": 5.0, "RGB": 4.7}
_BYTES_OF_KIND = {
    **{("WEBP", mode): 17.0 for mode in ("RGB", "RGBA")},
    **{("AVIF", "RGB"): 9.5, ("AVIF", "RGBA"): 13.0, ("HEIF", "RGB"): 7.3, ("HEIF", "RGBA"): 9.5},
    **{("JPEG2000", "RGB"): 19.5, ("JPEG2000", "RGBA"): 24.0, ("JPEG2000", "L"): 8.0},
    **{("JXL", "L"): 5.5, ("JXL", "RGB"): 7.5, ("JXL", "RGBA"): 15.0},
}
"""Bytes for each decoded pixel, by mode; and where a format's decoder holds more. tests/test_holds.py measures them."""


def holds(kind: str, mode: str, pixels: float) -> int:
    """About how many bytes it takes to decode so many pixels of a format and a mode, both by Pillow's names."""
    return round(pixels * _BYTES_OF_KIND.get((kind, mode), _BYTES.get(mode, 11.5)))


class ImageSource(Protocol):
    """The decoder of one file. `orientation` is the EXIF turn (1 … 8) from its frames to the upright image.

    `pixels_since` is the first reader revision (`images.open`) that gives the same pixels; None if only a decoded frame
    tells. `metadata_bytes` is the size of its texts, profiles and EXIF in bytes.
    """

    facts: ImageFacts
    orientation: int
    pixels_since: int | None
    metadata_bytes: int

    def decode(self, reduction: float) -> Frame:
        """A frame with enough pixels for an image that is `reduction` times smaller than the stored one."""
        ...

    def holds(self, reduction: float) -> int:
        """About how many bytes `decode` holds at its peak, the file excluded."""
        ...


def check_count(count: int, limit: int) -> None:
    """Raise ImageError where more pixels than `limit` would be decoded."""
    if count > limit:
        raise ImageError(f"{count / 1e6:.0f} megapixels would be decoded; the limit is {limit / 1e6:g} (`max_pixels`)")


def frame_of(image: Image.Image, profile: bytes | None) -> Frame:
    """A decoded image as a frame; small ones, and those in CMYK or Lab, are already converted to sRGB."""
    stored, since = colour.resamplable(image)
    if image.width * image.height <= _CONVERTED_FIRST and (profile is not None or stored.mode in ("CMYK", "LAB")):
        return Frame(colour.to_srgb(stored, profile), since=since)
    return Frame(stored, profile, since=since)


class PillowSource:
    """A format that Pillow decodes; `kind` is its name there, and no other decoder is tried."""

    def __init__(self, stream: BinaryIO, kind: str, max_pixels: int) -> None:
        self._stream, self._kind, self._max_pixels = stream, kind, max_pixels
        self._cleaned = self._has_refit_key = False
        self._profile: bytes | None = None
        image = self._open()
        self._fresh: Image.Image | None = image
        self._mode = "RGBA" if image.mode == "RGB" and colour.has_alpha(image) else image.mode
        self._coefficients = _bytes_of_coefficients(image)
        self.metadata_bytes = _metadata_bytes(image)
        found = exif.attempt(lambda: self._exif(image))
        if kind in ("JPEG2000", "JXL"):
            from clipsearch.images import boxes  # 2 ms, with the parser of XML.

            packet = exif.attempt(lambda: boxes.find_xmp(stream))
            image.info = {"xmp": packet, **image.info}
        # Pillow turns a TIFF itself while decoding it, and reports the upright size from the start. A JPEG XL comes
        # upright, whatever its EXIF says, unless it is a JPEG in another form.
        turned = kind == "TIFF" or (kind == "JXL" and not image.jpeg)  # type: ignore[attr-defined]
        self.orientation = 1 if turned else exif.orientation(found)
        width, height = image.size[::-1] if self.orientation >= 5 else image.size
        self.facts = facts.image_facts(kind, width, height, found, image.info)
        self._bits = jpeg2000.count_bits(stream) if kind == "JPEG2000" and image.mode in jpeg2000.MODES else 0
        self._deep = 8 < self._bits <= 16 and image.mode != "L"
        self.pixels_since = self._pixels_since(image, found)
        self._kept: tuple[int, Frame] | None = None

    def decode(self, reduction: float) -> Frame:
        scale = self._scale(reduction)
        if self._kept is not None and self._kept[0] == scale:
            return self._kept[1]
        image = self._fresh if self._fresh is not None else self._open()
        self._fresh = None
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        # A progressive JPEG needs the coefficients of all its pixels, whatever size it is drafted at.
        full = self.facts.width * self.facts.height
        check_count(full if image.info.get("progressive") else image.width * image.height, self._max_pixels)
        image = self._load(image)
        profile = self._profile or image.info.get("icc_profile")
        frame = self._first_shown(image, profile if isinstance(profile, bytes) else None)
        if scale > 1:
            width, height = image.size
            stored = (self.facts.width, self.facts.height)[:: -1 if self.orientation >= 5 else 1]
            # libjpeg rounds the drafted size up: its last row and column may represent less than a whole block.
            exact = width == -(-stored[0] // scale) and height == -(-stored[1] // scale)
            x, y = (scale, scale) if exact else (stored[0] / width, stored[1] / height)
            frame = replace(frame, scale_x=x, scale_y=y)
        self._kept = (scale, frame)
        return frame

    def holds(self, reduction: float) -> int:
        scale, pixels = self._scale(reduction), self.facts.width * self.facts.height
        return holds(self._kind, self._mode, pixels / scale**2) + round(pixels * self._coefficients)

    def _scale(self, reduction: float) -> int:
        """The drafting factor. Below a reduction of 4, and for small targets, drafting moves vectors by 1e-2."""
        if self._kind != "JPEG" or reduction < 4:
            return 1
        return next(scale for scale in (8, 4, 2) if reduction / scale >= 2)

    def _pixels_since(self, image: Image.Image, found: Image.Exif | None) -> int | None:
        if self._kind not in ("TIFF", "JXL") and self.orientation != exif.orientation_in_revision_1(found):
            return 2
        if self._deep or 0 < self._bits < 8 or self._has_refit_key:
            return 2
        animated = self._kind in _ANIMATED and getattr(image, "is_animated", False)
        return None if animated or colour.has_alpha(image) else 1

    def _open(self) -> Image.Image:
        self._stream.seek(0)
        if self._kind == "HEIF":
            return _open_heif(self._stream)
        if self._kind == "JXL":
            check_count(jxl.read_header(self._stream).pixels, self._max_pixels)
            self._stream.seek(0)
            return jxl.open_jxl(self._stream)
        if self._kind == "JPEG":
            jpeg.check_header(self._stream)
        elif self._kind == "PPM":
            _check_text(self._stream)
        self._stream.seek(0)
        try:
            image = Image.open(self._stream, formats=(self._kind,))
            if self._kind == "PNG":
                self._has_refit_key = png.refit_transparency(image, self._stream)
            return image
        except DECODE_ERRORS as exc:
            if self._clean():
                with contextlib.suppress(ImageError, *DECODE_ERRORS):
                    return self._open()
            if self._kind == "JPEG" and (name := jpeg.unsupported_kind(self._stream)):
                raise UnsupportedImageError(f"{name} is not supported") from exc
            if not isinstance(exc, UnidentifiedImageError):
                raise
            raise ImageError(f"the {self._kind} header is damaged or of an unsupported kind") from exc

    def _load(self, image: Image.Image) -> Image.Image:
        """The image with its pixels decoded, from the cleaned copy if a faulty chunk after them stops Pillow."""
        if self._deep:
            return jpeg2000.decode(self._stream, image)
        if self._kind == "JXL" and jxl.read_header(self._stream).is_animated:
            return self._first_of_jxl(image)
        try:
            image.load()
        except DECODE_ERRORS:
            if not self._clean():
                raise
            image = self._open()
            image.load()
        return jpeg2000.stretched(image, self._bits) if 0 < self._bits < 8 else image

    def _first_of_jxl(self, image: Image.Image) -> Image.Image:
        """The first frame of an animation with more than one colour, of which Pillow's plugin keeps the last."""
        first = None
        for frame in jxl.frames(self._stream, _MAX_FRAMES):
            first = first or frame
            if not colour.is_one_colour(frame_of(frame, None).image):
                first = frame
                break
        if first is None:
            raise ImageError("the JPEG XL data is damaged")
        first.info = image.info
        return first

    def _clean(self) -> bool:
        """Replace the stream by a copy without faulty ancillary data. False if it is one already, or another format."""
        clean = {"PNG": png.without_faults, "JPEG": jpeg.without_faults}.get(self._kind)
        if clean is None or self._cleaned:
            return False
        self._cleaned = True
        self._stream, self._profile = clean(self._stream)
        return True

    def _first_shown(self, image: Image.Image, profile: bytes | None) -> Frame:
        """The first frame of an animation with more than one colour, or else the first; that of a still image."""
        first = frame_of(image, profile)
        if self._kind in _ANIMATED and colour.is_one_colour(first.image):
            try:
                for number in range(1, min(_MAX_FRAMES, getattr(image, "n_frames", 1))):
                    image.seek(number)
                    frame = frame_of(image, profile)
                    if not colour.is_one_colour(frame.image):
                        return replace(frame, since=2)
            except DECODE_ERRORS:
                pass  # The frames behind a damaged one cannot be reached.
        return first

    def _exif(self, image: Image.Image) -> Image.Exif:
        if self._kind != "PNG":
            return image.getexif()
        # Pillow itself would decode all pixels here, to find EXIF after them.
        image.info = {**png.late_metadata(self._stream), **image.info}
        return Image.Image.getexif(image)


def _check_text(stream: BinaryIO) -> None:
    """Raise ImageError for a PPM with more text than Pillow reads in seconds: it reads headers byte by byte."""
    head = stream.read(_MAX_PPM_HEADER)
    if not _PPM_HEADER.match(head):
        raise ImageError("the PPM header is damaged")
    if head[1:2] in b"123" and stream.seek(0, os.SEEK_END) > _MAX_TEXT:
        raise ImageError(f"a PPM in text form with more than {_MAX_TEXT // 10**6} MB")


def _bytes_of_coefficients(image: Image.Image) -> float:
    """Bytes for each pixel that libjpeg keeps while it decodes a progressive JPEG: 2 for each of its samples."""
    layers = getattr(image, "layer", ())
    if not image.info.get("progressive") or not layers:
        return 0.0
    samples: list[int] = [across * down for _, across, down, _ in layers]
    return 2.0 * sum(samples) / max(samples) if max(samples) else 0.0


def _metadata_bytes(image: Image.Image) -> int:
    """The size of an opened image's segments, texts, profiles and EXIF."""
    if (segments := getattr(image, "applist", None)) is not None:
        return sum(len(data) for _, data in segments)
    others = (data for _, data, *_ in getattr(image, "private_chunks", ()))
    return sum(len(value) for value in (*image.info.values(), *others) if isinstance(value, str | bytes))


def _open_heif(stream: BinaryIO) -> Image.Image:
    plugin = decoder("pi_heif.as_plugin")  # 15 ms, for this format only
    if not _heif_names_are_text(stream):
        raise ImageError("the HEIF header is damaged")
    # Its own class, so that Pillow's global list stays unchanged.
    image: Image.Image = plugin.HeifImageFile(stream, "")
    return image


def _heif_names_are_text(stream: BinaryIO) -> bool:
    """Whether the types and names of all items are text: any other crashes pi_heif 1.4, and the process.

    An "infe" box: size, name, version and flags, item id (2 bytes, 4 from version 3 on), protection index, type, and
    strings (ISO/IEC 14496-12, 8.11.6).
    """
    stream.seek(0)
    meta = b""
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">L4s", head)
        if name == b"meta":
            meta = stream.read(min(max(0, length - 8), _MAX_META))
            break
        if length < 8:
            break
        stream.seek(length - 8, 1)
    stream.seek(0)
    at = -1
    while (at := meta.find(b"infe", at + 1)) >= 4:
        (length,) = struct.unpack_from(">L", meta, at - 4)
        body = meta[at + 4 : at - 4 + length]
        try:
            body[10 if body[:1] == b"\3" else 8 :].decode()
        except UnicodeDecodeError:
            return False
    return True
