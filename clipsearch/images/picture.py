"""`Picture`: from a file to the upright sRGB pixels that an encoder's own preprocessing would produce.

Order: draft (JPEG), colours, resize, crop, turn; colours come after the crop where there are many pixels. Geometry is
planned on the upright image and mapped back to the stored one, so a turned file gives the pixels of an upright one.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image, ImageFile

from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.images import colour, raw
from clipsearch.images.geometry import Plan, plan, stored_box
from clipsearch.images.pillow import DECODE_ERRORS, TURNS, Frame, ImageSource, PillowSource
from clipsearch.images.tiff.source import TiffSource
from clipsearch.types import Box, Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_RESIZED = 16_000_000
"""Pixels of a resized image before its crop: a strip of 1 × 20,000 would take gigabytes."""

_BLANK = 0.99
"""Share of one colour; the rest is what a decoder makes of the first bytes."""

_UNCOMPRESSED = ("BMP", "PPM", "TIFF")
"""Formats whose files have the same size whatever they show."""

_BLANK_BYTES, _BLANK_BYTES_PER_PIXEL = 16_384, 0.05
"""Upper limits for the file of an image of one colour, metadata excluded: headers, and pixels. A JPEG needs 14 bits for
8 × 8 pixels of three channels, which is 0.03 bytes per pixel."""

_BLANK_LEVELS = 16
"""Levels over which the resized pixels of an image of one colour may spread, after a conversion of its colours."""

_BLANK_REDUCTION = 16
"""How many times smaller an image is decoded to see whether it has one colour: a JPEG then drafts by 8, its most."""

_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")
"""What differs in every run, in some of Pillow's messages."""

_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class Picture:
    """One image. It belongs to one thread; decoded pixels are kept for the next call that needs the same ones."""

    def __init__(self, stream: BinaryIO, kind: str, *, max_pixels: int, truncated: bool) -> None:
        self._stream = stream
        self._truncated = truncated
        with _translated(truncated):
            self._source = _source(stream, kind, max_pixels, truncated=truncated)
            self.facts = self._source.facts
        if self.facts.width < 1 or self.facts.height < 1:
            raise ImageError("the picture has no pixels")

    def pixels(self, preprocess: Preprocess, *, box: Box | None = None) -> NDArray[np.uint8]:
        """The input of the encoder's image tower before normalisation: uint8 of shape (3, S, S), C-contiguous.

        See `square`.
        """
        import numpy as np

        return np.ascontiguousarray(np.asarray(self.square(preprocess, box=box)).transpose(2, 0, 1))

    def square(self, preprocess: Preprocess, *, box: Box | None = None) -> Image.Image:
        """The image in RGB as the encoder's own preprocessing would produce it, S × S pixels.

        `box` selects a part of the upright image, as if it had been cut out first. Only a JPEG that is scaled down
        4 times or more is decoded at less than full size, and then at 2 times the target or more.
        Raises TruncatedImageError for a truncated file, ImageError where it cannot be decoded.
        """
        planned = plan(self.facts.width, self.facts.height, preprocess, box)
        with _translated(self._truncated):
            frame = self._source.decode(planned.reduction)
            if self._truncated:
                _refuse_blank(frame.image)
            return self._render(frame, planned, _RESAMPLE[preprocess.interpolation])

    def changed_since(self, revision: int) -> bool:
        """Whether the reader of an earlier revision gave other pixels. Decodes the image if the header does not tell.

        Raises the errors of `pixels`.
        """
        with _translated(self._truncated):
            since = self._source.pixels_since
            return (self._source.decode(1).since if since is None else since) > revision

    def holds(self, preprocess: Preprocess | None = None) -> int:
        """About how many bytes decoding holds at its peak, for the pixels of the whole image, or else at full size."""
        width, height = self.facts.width, self.facts.height
        reduction = 1.0 if preprocess is None else plan(width, height, preprocess).reduction
        return self._source.holds(reduction) + self._stream.seek(0, os.SEEK_END)

    def is_blank(self, square: Image.Image | None = None) -> bool:
        """Whether the image has only one colour. `square` shows some view of it.

        Without one, or with one that is not of one colour (it may be padded), the image is decoded only if its
        file is small enough for that. Raises the errors of `pixels`.
        """
        varied = square is None or colour.spread(square) > _BLANK_LEVELS
        still = self._source.pixels_since is not None
        if varied and still and self.facts.format not in _UNCOMPRESSED:
            size = self._stream.seek(0, os.SEEK_END) - self._source.metadata_bytes
            if size > _BLANK_BYTES + _BLANK_BYTES_PER_PIXEL * self.facts.width * self.facts.height:
                return False
        with _translated(self._truncated):
            return colour.is_one_colour(self._source.decode(_BLANK_REDUCTION).image)

    def upright(self, *, max_side: int | None = None) -> Image.Image:
        """The whole image in RGB, upright, in sRGB; scaled so that neither side exceeds `max_side` pixels."""
        width, height = self.facts.width, self.facts.height
        scale = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
        resized = (max(1, round(width * scale)), max(1, round(height * scale)))
        whole = Plan((0, 0, width, height), resized, (0, 0, *resized), 0)
        with _translated(self._truncated):
            return self._render(self._source.decode(whole.reduction), whole, Image.Resampling.BICUBIC)

    def _render(self, frame: Frame, planned: Plan, resample: Image.Resampling) -> Image.Image:
        turn = self._source.orientation
        stored = replace(
            planned,
            region=stored_box(planned.region, self.facts.width, self.facts.height, turn),
            resized=planned.resized[::-1] if turn >= 5 else planned.resized,
            window=stored_box(planned.window, *planned.resized, turn),
        )
        small = _resize(frame, stored, resample, columns_first=turn >= 5)
        small = colour.to_srgb(small, frame.profile)
        if turn in TURNS:
            small = small.transpose(TURNS[turn])
        if not planned.size or small.size == (planned.size, planned.size):
            return small
        square = Image.new("RGB", (planned.size, planned.size), (planned.fill,) * 3)
        square.paste(small, ((planned.size - small.width) // 2, (planned.size - small.height) // 2))
        return square


def _source(stream: BinaryIO, kind: str, max_pixels: int, *, truncated: bool) -> ImageSource:
    """The decoder for a file of this kind (`sniff`); for a raw file that LibRaw refuses, that of its preview."""
    if kind == "RAW" or (kind == "TIFF" and raw.is_raw_tiff(stream)):
        try:
            return raw.RawSource(stream, max_pixels)
        except UnsupportedImageError:
            raise
        except ImageError:
            if (preview := raw.preview_source(stream, max_pixels)) is None:
                raise
            return preview
    if kind == "TIFF":
        return TiffSource(stream, max_pixels, truncated=truncated)
    return PillowSource(stream, kind, max_pixels)


def _resize(frame: Frame, stored: Plan, resample: Image.Resampling, *, columns_first: bool) -> Image.Image:
    """The window of `stored`, whose geometry is that of the stored image at full size.

    Pillow scales rows, rounds, and then scales columns. `columns_first` reverses this for an image that lies on its
    side, so that the result equals that of the upright file, to the last bit.
    """
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
        if columns_first:
            image = image.resize((image.width, height), resample, (0, part[1], image.width, part[3]))
            part = (part[0], 0, part[2], height)
        resized = image.resize((width, height), resample, part)
        return resized if stored.window == (0, 0, width, height) else resized.crop(stored.window)
    # Pillow computes a box in single precision: the same image, but not to the last bit.
    x, y = (part[2] - part[0]) / width, (part[3] - part[1]) / height
    window = stored.window
    part = (part[0] + window[0] * x, part[1] + window[1] * y, part[0] + window[2] * x, part[1] + window[3] * y)
    return image.resize((window[2] - window[0], window[3] - window[1]), resample, part)


def _refuse_blank(image: Image.Image) -> None:
    """Refuse a file that ends before its first rows: decoders fill it up with one colour."""
    import numpy as np

    values = np.asarray(image)
    same = values == values[-1, -1]
    if (same if same.ndim == 2 else same.all(axis=-1)).mean() >= _BLANK:
        raise ImageError("the file ends before its first pixels")


@contextlib.contextmanager
def _translated(truncated: bool) -> Iterator[None]:
    """Decode without warnings; every error but MemoryError becomes an ImageError, in one line."""
    try:
        with _switched(truncated):
            yield
    except ImageError:
        raise
    except DECODE_ERRORS as exc:
        reason = " ".join(_OBJECT.sub("", str(exc)).split()) or type(exc).__name__
        lowered = reason.lower()
        if isinstance(exc, EOFError) or any(sign in lowered for sign in ("truncat", "not enough data", "end of file")):
            raise TruncatedImageError(f"the file ends early: {reason}"[:300]) from exc
        if lowered.startswith("unsupported "):
            raise UnsupportedImageError(reason[:300]) from exc
        raise ImageError(f"the pixels cannot be decoded: {reason}"[:300]) from exc


@contextlib.contextmanager
def _switched(truncated: bool) -> Iterator[None]:
    """Set Pillow's switch for truncated files, which is global to the process."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, truncated
    try:
        with warnings.catch_warnings():  # They are about the file (odd EXIF, palettes), and not for the caller.
            warnings.filterwarnings("ignore", module=r"PIL\.|pi_heif|pillow_jxl")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
