"""How the samples of a TIFF page are stored, or why they cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clipsearch.errors import ImageError, UnsupportedImageError
from clipsearch.images.extras import decoder
from clipsearch.images.tiff.directories import (
    BLACK_IS_ZERO,
    CIELAB,
    CMYK,
    COLOURS,
    ICCLAB,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
)

BYTES = (1, 5, 8, 32773, 32946, 34925, 50000)
"""Compressions of bytes: none, LZW, deflate, PackBits, deflate again, LZMA, Zstandard."""

IMAGES = {
    6: "JPEG",
    7: "JPEG",
    33007: "JPEG",
    34892: "JPEG",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34933: "PNG",
    34927: "WebP",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""Compressions of images, which imagecodecs decodes."""

_PREDICTED = (5, 8, 32946, 34925, 50000)
"""Compressions with which libtiff applies a predictor."""

_FORMS = {1: "u", 2: "i", 3: "f", 4: "u"}
"""numpy's letters for sample formats; 4 is "undefined", which TIFF 6.0 (page 80) treats as unsigned."""

_SPACES = {
    WHITE_IS_ZERO: "grey",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    PALETTE: "palette",
    CMYK: "CMYK",
    YCBCR: "YCbCr",
    CIELAB: "CIELab",
    ICCLAB: "ICCLab",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the samples of a page are stored, and which of them are needed: the first `colours`, and number `alpha`.

    `size` is (width, height) of the image in pixels, `part` that of its strips or tiles. `form` is numpy's letter for
    the kind of number, `order` struct's for the byte order. Each unit of `subsampling` (across, down) pixels of YCbCr
    shares its Cb and Cr.
    """

    size: tuple[int, int]
    part: tuple[int, int]
    is_tiled: bool
    photometric: int
    bits: int
    form: str
    samples: int
    is_planar: bool
    colours: int
    alpha: int | None
    is_premultiplied: bool
    compression: int
    predictor: int
    is_mirrored: bool
    order: str
    subsampling: tuple[int, int]

    @property
    def together(self) -> int:
        """Samples of one pixel that are stored together."""
        return 1 if self.is_planar else self.samples

    @property
    def dtype(self) -> type[np.generic]:
        """Of narrowed samples: 8 bits if the full scale is known, 16 for the numbers of a palette, otherwise floats."""
        if self.form == "u" and self.bits <= 16:
            return np.uint16 if self.photometric == PALETTE else np.uint8
        return np.float32


def layout_of(page: Any, order: str) -> Layout:  # noqa: ANN401 - tifffile's TiffPage
    """The layout of a page in a file of byte order `order`, "<" or ">".

    Raises UnsupportedImageError for one that cannot be read, or not without the extra `tiff`, and ImageError for a
    damaged header.
    """
    compression, samples = int(page.compression), int(page.samplesperpixel)
    photometric = int(page.photometric) if 262 in page.tags else (RGB if samples >= 3 else WHITE_IS_ZERO)
    if photometric == YCBCR and compression in IMAGES and compression != 33003:
        photometric = RGB  # The codecs convert it, except for 33003, which is Aperio's.
    subsampling = tuple(page.tags.valueof(530, (2, 2))) if photometric == YCBCR else (1, 1)
    colours, extra = COLOURS.get(photometric, 0), tuple(map(int, page.extrasamples))
    alpha = next(
        (i for i, kind in enumerate(extra, samples - len(extra)) if kind in (1, 2, 999) and i >= colours), None
    )
    if photometric == RGB and samples == 4 and not extra:
        alpha = 3  # As Pillow takes it.
    form = _FORMS.get(page.sampleformat, "")
    layout = Layout(
        size=(page.imagewidth, page.imagelength),
        part=(page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip),
        is_tiled=page.is_tiled,
        photometric=photometric,
        bits=page.bitspersample if isinstance(page.bitspersample, int) else 0,
        form=form,
        samples=samples,
        is_planar=page.planarconfig == 2 and samples > 1,
        colours=colours,
        alpha=alpha,
        is_premultiplied=alpha is not None and extra[alpha - samples :][:1] == (1,),
        compression=compression,
        predictor=int(page.predictor) if compression in _PREDICTED else 1,
        is_mirrored=page.fillorder == 2,
        order=order,
        subsampling=subsampling,
    )
    _check(layout, page)
    return layout


def _check(layout: Layout, page: Any) -> None:  # noqa: ANN401 - tifffile's TiffPage
    space = _SPACES.get(layout.photometric)
    if space is None:
        name = getattr(page.photometric, "name", f"colours of kind {layout.photometric}")
        raise UnsupportedImageError(f"TIFF with {name} is not supported")
    form = {"u": "", "i": "signed ", "f": "floating-point "}.get(layout.form, "complex ")
    name = f"{layout.bits}-bit {form}{space}" if layout.bits else f"{space} with a different number of bits per colour"
    if layout.compression in IMAGES:
        codec = f"{name} with {IMAGES[layout.compression]} compression"
        decoder("imagecodecs", needs=f"TIFF, {codec}, needs", extra="tiff")  # tifffile uses it.
    elif layout.compression not in BYTES:
        codec = getattr(page.compression, "name", str(layout.compression))
        raise UnsupportedImageError(f"TIFF with {codec} compression is not supported")
    whole = layout.form == "u" and 1 <= layout.bits <= 16
    known = whole or layout.bits in {"u": (32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}.get(layout.form, ())
    limits = {
        PALETTE: whole,
        YCBCR: whole and layout.bits == 8 and (layout.subsampling == (1, 1) or not layout.is_planar),
        CIELAB: whole and layout.bits in (8, 16),
        ICCLAB: whole and layout.bits in (8, 16),
    }
    odd = layout.predictor != 1 and layout.bits not in (8, 16, 32, 64)
    if not known or odd or not limits.get(layout.photometric, True) or page.imagedepth != 1:
        raise UnsupportedImageError(f"TIFF with {name} is not supported")
    if layout.samples < layout.colours:
        raise ImageError(f"the TIFF header is damaged: {layout.samples} samples for {name}")
