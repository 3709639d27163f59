"""TIFF: every layout gives the pixels of its plain twin, or says what it is; hostile files give errors of ours."""

from __future__ import annotations

import lzma
import zlib

import imagecodecs
import numpy as np
import pytest
import tiffs

from clipsearch.images.open import open_image

HEIGHT, WIDTH = 48, 80


def drawn() -> np.ndarray:
    """Colours of shape (h, w, 3), 0 … 1: gradients in all three channels, a disc and an edge; no symmetry."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / (HEIGHT, WIDTH)[0]
    picture = np.stack([0.1 + 0.5 * x, 0.9 - 0.7 * y, 0.3 + 0.4 * np.sin(4 * x + 3 * y) ** 2], axis=-1)
    picture[np.hypot(x - 0.6, y - 0.4) < 0.25] = (0.95, 0.8, 0.1)
    picture[:, :9] = (0.05, 0.2, 0.6)
    return np.clip(picture, 0, 1)


PICTURE = drawn()
GREY = PICTURE @ np.array([0.299, 0.587, 0.114])
ALPHA = np.clip(1.6 - np.hypot(*(np.mgrid[0:HEIGHT, 0:WIDTH] - np.array([20, 40]).reshape(2, 1, 1))) / 25, 0, 1)


def inks() -> np.ndarray:
    black = 0.5 * (1 - PICTURE.max(axis=-1, keepdims=True))
    return np.concatenate([1 - PICTURE / (1 - black), black], axis=-1)


def with_alpha(colours: np.ndarray, *, premultiplied: bool = False) -> np.ndarray:
    colours = colours if colours.ndim == 3 else colours[..., None]
    return np.concatenate([colours * ALPHA[..., None] if premultiplied else colours, ALPHA[..., None]], axis=-1)


SPACES: dict[str, tuple[np.ndarray, int, tuple[int, ...]]] = {
    "white is zero": (1 - GREY[..., None], 0, ()),
    "black is zero": (GREY[..., None], 1, ()),
    "grey, ignored": (with_alpha(GREY), 1, (0,)),
    "grey, premultiplied": (with_alpha(GREY, premultiplied=True), 1, (1,)),
    "grey, alpha": (with_alpha(GREY), 1, (2,)),
    "white is zero, alpha": (with_alpha(1 - GREY), 0, (2,)),
    "RGB": (PICTURE, 2, ()),
    "RGB, ignored": (with_alpha(PICTURE), 2, (0,)),
    "RGB, premultiplied": (with_alpha(PICTURE, premultiplied=True), 2, (1,)),
    "RGB, alpha": (with_alpha(PICTURE), 2, (2,)),
    "RGB, untagged": (with_alpha(PICTURE), 2, ()),
    "RGB, ignored and alpha": (np.dstack([PICTURE, GREY, ALPHA]), 2, (0, 2)),
    "CMYK": (inks(), 5, ()),
    "CMYK, alpha": (with_alpha(inks()), 5, (2,)),
}
"""Samples 0 … 1, photometric interpretation and extra samples."""


def shown(values: np.ndarray, photometric: int, extra: tuple[int, ...]) -> np.ndarray:
    """The colours 0 … 1 of shape (h, w, 3) that these samples mean, on white."""
    count = {2: 3, 5: 4}.get(photometric, 1)
    colours = values[..., :count]
    if photometric == 0:
        colours = 1 - colours
    if photometric == 5:
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    if extra == (0,) or values.shape[-1] == count:
        return np.broadcast_to(colours, (HEIGHT, WIDTH, 3))
    alpha = values[..., -1:]
    return (np.minimum(colours, alpha) if extra == (1,) else colours * alpha) + 1 - alpha


DEPTHS = [*((bits, 1) for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64)), (16, 3), (32, 3), (64, 3)]

STORED: dict[str, dict[str, object]] = {
    "plain": {},
    "Motorola": {"order": ">"},
    "BigTIFF": {"big": True, "rows": 7},
    "planes": {"planar": 2, "rows": 16},
    "tiles": {"tile": 32},
    "planes of tiles, Motorola": {"tile": 32, "planar": 2, "order": ">"},
    "mirrored": {"fill_order": 2, "rows": 10},
    "mirrored planes": {"fill_order": 2, "planar": 2},
    "deflate": {"compression": 8, "compress": zlib.compress, "rows": 10},
    "deflate, Motorola": {"compression": 8, "compress": zlib.compress, "order": ">"},
    "mirrored deflate": {"compression": 8, "compress": zlib.compress, "fill_order": 2},
    "LZW planes": {"compression": 5, "compress": imagecodecs.lzw_encode, "planar": 2},
    "PackBits": {"compression": 32773, "compress": imagecodecs.packbits_encode, "rows": 11},
    "LZMA": {"compression": 34925, "compress": lzma.compress},
    "Zstandard tiles": {"compression": 50000, "compress": imagecodecs.zstd_encode, "tile": 16},
}


def whole(values: np.ndarray, bits: int, form: int) -> np.ndarray:
    """Values 0 … 1 as samples."""
    if form == 3:
        return values
    top = 2**bits - 1 if form == 1 else 2 ** (bits - 1) - 1
    return np.minimum(np.rint(values * top), np.nextafter(float(top), 0) if bits > 52 else top).astype(
        np.uint64 if form == 1 else np.int64
    )


def seen(data: bytes, **options: object) -> np.ndarray:
    return np.asarray(open_image(data, **options).upright()).astype(float)  # type: ignore[arg-type]


def apart(data: bytes, expected: np.ndarray) -> float:
    """The largest difference from colours 0 … 1, of 255."""
    return float(np.abs(seen(data) - 255 * expected).max())


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("space", SPACES)
def test_every_layout_gives_the_pixels_of_its_plain_twin(space: str, stored: str) -> None:
    values, photometric, extra = SPACES[space]
    for bits, form in DEPTHS:
        samples = whole(values, bits, form)
        data = tiffs.tiff(samples, bits=bits, form=form, photometric=photometric, extra=extra, **STORED[stored])
        expected = shown(samples / (1 if form == 3 else 2.0**bits - 1), photometric, extra)
        # Premultiplied colours are divided in 8 bits, and CMYK is converted in 8 bits.
        assert apart(data, expected) <= (1.01 if values.shape[-1] in (1, 3) else 3), (bits, form)
