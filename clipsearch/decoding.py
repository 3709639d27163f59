"""The pixel path: a picture's file → the upright sRGB pixels that an encoder's own preprocessing would make of it.

Order, for speed: draft (JPEG), resize, crop, colour profile, turn. All geometry is planned on the upright picture and
mapped back to the stored one, so a turned file gives the pixels of its plain twin.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from clipsearch import colour, exif
from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.types import Box, ImageFacts, Preprocess

# Imported for the formats they register; without them Pillow would import every plugin it has.
_PLUGINS = (
    AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Jpeg2KImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin,
    PpmImagePlugin, TiffImagePlugin, WebPImagePlugin,
)  # fmt: skip

# Pillow's guard counts a file's pixels, ours those that are decoded; its own would refuse pictures that we draft.
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
"""What Pillow's parsers have been seen to raise over damaged files. MemoryError is none of them: it passes."""

_MAX_RESIZED = 16_000_000
"""Pixels of a resized picture before its crop: a strip of 1 × 20,000 would be blown up to gigabytes."""

_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to take of the upright picture and how to scale it; every size is (width, height).

    `region` of the picture is scaled to `resized`; `window` is cut out of that, and put on a square of `size` that is
    filled with `fill` where the window is smaller.
    """

    region: Box
    resized: tuple[int, int]
    window: Box
    size: int
    fill: int = 0

    @property
    def reduction(self) -> float:
        """How many pixels of the picture go into one, along the side that is scaled down least."""
        left, top, right, bottom = self.region
        return min((right - left) / self.resized[0], (bottom - top) / self.resized[1])


def plan(width: int, height: int, preprocess: Preprocess, box: Box | None = None) -> Plan:
    """The geometry of open_clip's `image_transform(…, is_train=False)`, its rounding included.

    "crop" is the built-in encoder's: a centred square of side ⌊crop · short side⌋, then scaled.
    """
    left, top, right, bottom = region = _within(box, width, height)
    w, h, size = right - left, bottom - top, preprocess.size
    if preprocess.resize == "crop":
        side = max(1, int(preprocess.crop * min(w, h) + 1e-9))
        x, y = left + _centre(w, side), top + _centre(h, side)
        return Plan((x, y, x + side, y + side), (size, size), (0, 0, size, size), size)
    if preprocess.resize == "squash":
        return Plan(region, (size, size), (0, 0, size, size), size)
    if preprocess.resize == "longest":
        ratio = max(w / size, h / size)
        resized = (max(1, round(w / ratio)), max(1, round(h / ratio)))
        return Plan(region, resized, (0, 0, *resized), size, preprocess.fill)
    longer = int(size * max(w, h) / min(w, h))
    resized = (size, longer) if w <= h else (longer, size)
    x, y = _centre(resized[0], size), _centre(resized[1], size)
    return Plan(region, resized, (x, y, x + size, y + size), size)


def _within(box: Box | None, width: int, height: int) -> Box:
    if box is None:
        return 0, 0, width, height
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])
    if left >= right or top >= bottom:
        raise ImageError(f"the box {box} holds nothing of a picture of {width} × {height}")
    return left, top, right, bottom


def _centre(length: int, part: int) -> int:
    # torchvision's center_crop rounds the half to even.
    return round((length - part) / 2)


def stored_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """Where `box` of an upright picture of width × height lies in the stored one, before its EXIF turn."""
    left, top, right, bottom = box
    if orientation in (2, 3, 7, 6):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)


@dataclass(frozen=True, slots=True)
class Frame:
    """Decoded pixels, opaque and fit for resampling, `scale_x` × `scale_y` times smaller than the stored picture."""

    image: Image.Image
    profile: bytes | None = None
    scale_x: float = 1
    scale_y: float = 1


class Source(Protocol):
    """A format's way to pixels. `orientation` is the EXIF turn (1 … 8) from its frames to the upright picture."""

    @property
    def facts(self) -> ImageFacts: ...

    @property
    def orientation(self) -> int: ...

    def decode(self, reduction: float) -> Frame:
        """A frame that still has enough pixels to be scaled down by `reduction` of the stored picture's size."""
        ...


class Picture:
    """One picture. It belongs to one thread; decoded pixels are kept for the next call that needs the same ones."""

    def __init__(self, stream: BinaryIO, kind: str, *, max_pixels: int, truncated: bool) -> None:
        self._truncated = truncated
        with _translated(truncated):
            self._source = _source(stream, kind, max_pixels)
            self.facts: ImageFacts = self._source.facts
        if self.facts.width < 1 or self.facts.height < 1:
            raise ImageError("the picture has no pixels")

    def pixels(self, preprocess: Preprocess, *, box: Box | None = None) -> NDArray[np.uint8]:
        """What the encoder's image tower takes before normalisation: uint8 of shape (3, S, S), C-contiguous.

        `box` takes a part of the upright picture, as if it had been cut out first. Only a JPEG that is scaled down
        4 times or more is decoded at less than full size, and then at 2 times the target or more.
        Raises TruncatedImageError where the file ends early, ImageError where it cannot be decoded.
        """
        planned = plan(self.facts.width, self.facts.height, preprocess, box)
        with _translated(self._truncated):
            frame = self._source.decode(planned.reduction)
            if self._truncated:
                _refuse_blank(frame.image)
            square = self._render(frame, planned, _RESAMPLE[preprocess.interpolation])
            return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))

    def upright(self, *, max_side: int | None = None) -> Image.Image:
        """The whole picture in RGB, upright, in sRGB; scaled so that neither side exceeds `max_side` pixels."""
        width, height = self.facts.width, self.facts.height
        scale = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
        resized = (max(1, round(width * scale)), max(1, round(height * scale)))
        whole = Plan((0, 0, width, height), resized, (0, 0, *resized), 0)
        with _translated(self._truncated):
            return self._render(self._source.decode(whole.reduction), whole, Image.Resampling.BICUBIC)

    def _render(self, frame: Frame, planned: Plan, resample: Image.Resampling) -> Image.Image:
        turn = self._source.orientation
        small = _resize(frame, self._stored_plan(planned, turn), resample)
        small = colour.to_srgb(small, frame.profile)
        if turn in _TURNS:
            small = small.transpose(_TURNS[turn])
        if not planned.size or small.size == (planned.size, planned.size):
            return small
        square = Image.new("RGB", (planned.size, planned.size), (planned.fill,) * 3)
        square.paste(small, ((planned.size - small.width) // 2, (planned.size - small.height) // 2))
        return square

    def _stored_plan(self, planned: Plan, turn: int) -> Plan:
        return replace(
            planned,
            region=stored_box(planned.region, self.facts.width, self.facts.height, turn),
            resized=planned.resized[::-1] if turn >= 5 else planned.resized,
            window=stored_box(planned.window, *planned.resized, turn),
        )


def _resize(frame: Frame, stored: Plan, resample: Image.Resampling) -> Image.Image:
    """The window of `stored`, whose geometry is that of the stored picture at full size."""
    image, (width, height) = frame.image, stored.resized
    left, top, right, bottom = stored.region
    part: tuple[float, float, float, float]
    if frame.scale_x == frame.scale_y == 1:
        if stored.region != (0, 0, *image.size):
            image = image.crop(stored.region)
        part = (0, 0, *image.size)
    else:
        part = (
            left / frame.scale_x,
            top / frame.scale_y,
            min(right / frame.scale_x, image.width),
            min(bottom / frame.scale_y, image.height),
        )
    if width * height <= _MAX_RESIZED:
        resized = image.resize((width, height), resample, part)
        return resized if stored.window == (0, 0, width, height) else resized.crop(stored.window)
    # Pillow takes a box in single precision: the same picture, but not to the last bit.
    x, y = (part[2] - part[0]) / width, (part[3] - part[1]) / height
    window = stored.window
    part = (part[0] + window[0] * x, part[1] + window[1] * y, part[0] + window[2] * x, part[1] + window[3] * y)
    return image.resize((window[2] - window[0], window[3] - window[1]), resample, part)


def _refuse_blank(image: Image.Image) -> None:
    """A file that ends before its first row decodes to a single colour, in which nothing can be found."""
    values = np.asarray(image)
    if bool((values == values[0, 0]).all()):
        raise ImageError("the file ends before its first pixels")


class PillowSource:
    """A format that Pillow decodes; `kind` is its name there, and no other decoder is tried."""

    def __init__(self, stream: BinaryIO, kind: str, max_pixels: int) -> None:
        self._stream, self._kind, self._max_pixels = stream, kind, max_pixels
        image: Image.Image | None = self._open()
        assert image is not None
        self._fresh: Image.Image | None = image
        told = exif.read_facts(lambda: self._exif(image))
        # Pillow turns a TIFF by itself while decoding it, and says the upright size from the start.
        self._orientation = 1 if kind == "TIFF" else told.orientation
        width, height = image.size[::-1] if self._orientation >= 5 else image.size
        self._facts = ImageFacts(
            format=kind,
            width=width,
            height=height,
            taken_at=told.taken_at,
            taken_offset=told.taken_offset,
            camera=told.camera,
            lat=told.lat,
            lon=told.lon,
            exif=told.tags,
        )
        self._kept: tuple[int, Frame] | None = None

    @property
    def facts(self) -> ImageFacts:
        return self._facts

    @property
    def orientation(self) -> int:
        return self._orientation

    def decode(self, reduction: float) -> Frame:
        scale = self._scale(reduction)
        if self._kept is not None and self._kept[0] == scale:
            return self._kept[1]
        image = self._fresh if self._fresh is not None else self._open()
        self._fresh = None
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        # A progressive JPEG keeps the coefficients of all its pixels, whatever size it is drawn at.
        full = self._facts.width * self._facts.height
        count = full if image.info.get("progressive") else image.width * image.height
        if count > self._max_pixels:
            raise ImageError(
                f"{full / 1e6:.0f} megapixels, of which {count / 1e6:.0f} would be decoded; "
                f"the limit is {self._max_pixels / 1e6:g} (--max-pixels)"
            )
        profile = image.info.get("icc_profile")
        width, height = image.size
        frame = Frame(colour.resamplable(image), profile if isinstance(profile, bytes) else None)
        if scale > 1:
            stored = (self._facts.width, self._facts.height)[:: -1 if self._orientation >= 5 else 1]
            # libjpeg rounds the drafted size up: its last row and column may stand for less than a whole block.
            exact = width == -(-stored[0] // scale) and height == -(-stored[1] // scale)
            frame = replace(
                frame,
                scale_x=scale if exact else stored[0] / width,
                scale_y=scale if exact else stored[1] / height,
            )
        self._kept = (scale, frame)
        return frame

    def _scale(self, reduction: float) -> int:
        """By how much to draft. From 4 times on: below, and for small targets, drafting moves vectors by 1e-2."""
        if self._kind != "JPEG" or reduction < 4:
            return 1
        return next(scale for scale in (8, 4, 2) if reduction / scale >= 2)

    def _open(self) -> Image.Image:
        self._stream.seek(0)
        if self._kind == "HEIF":
            return _open_heif(self._stream)
        try:
            return Image.open(self._stream, formats=(self._kind,))
        except UnidentifiedImageError as exc:
            raise ImageError(f"the {self._kind} header is damaged, or of a kind that is not read") from exc

    def _exif(self, image: Image.Image) -> Image.Exif:
        if self._kind == "PNG" and "exif" not in image.info:
            # Pillow's own way would decode all pixels here, to see whether EXIF follows them.
            if (late := _late_png_exif(self._stream)) is not None:
                image.info["exif"] = late
            return Image.Image.getexif(image)
        return image.getexif()


def _late_png_exif(stream: BinaryIO) -> bytes | None:
    """The eXIf chunk of a PNG that has it behind its pixels, as some editors write it."""
    back = stream.tell()
    try:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"eXIf":
                return b"Exif\0\0" + stream.read(length)
            if name == b"IEND":
                break
            stream.seek(length + 4, 1)
        return None
    finally:
        stream.seek(back)


def _open_heif(stream: BinaryIO) -> Image.Image:
    try:
        from pi_heif.as_plugin import HeifImageFile
    except ImportError as exc:
        raise UnsupportedImageError("a HEIF picture; to read it: pip install 'clipsearch[heif]'") from exc
    image: Image.Image = HeifImageFile(stream, "")  # its own class, so that Pillow's global list stays as it is
    return image


def _source(stream: BinaryIO, kind: str, max_pixels: int) -> Source:
    return PillowSource(stream, kind, max_pixels)


@contextlib.contextmanager
def _translated(truncated: bool) -> Iterator[None]:
    """Decode quietly; every error but MemoryError comes out as one of ours, in one line."""
    try:
        with _QUIET, _switched(truncated):
            yield
    except ImageError:
        raise
    except DECODE_ERRORS as exc:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        lowered = reason.lower()
        if isinstance(exc, EOFError) or any(sign in lowered for sign in ("truncat", "not enough data", "end of file")):
            raise TruncatedImageError(f"the file ends early: {reason}"[:300]) from exc
        raise ImageError(f"the pixels cannot be decoded: {reason}"[:300]) from exc


@contextlib.contextmanager
def _switched(truncated: bool) -> Iterator[None]:
    if not truncated:
        yield
        return
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


class _Quiet:
    """Pillow's warnings (odd EXIF, palettes) are about the file, not for the caller.

    Filters are the process's: the first thread that comes sets them, the last that leaves puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|pi_heif")
            self._inside += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved is not None:
                self._saved.__exit__(None, None, None)
                self._saved = None


_QUIET = _Quiet()
