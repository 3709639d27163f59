"""Decoding large photographs: our way, and in full before they are scaled down."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from benchmarks.tasks.encode import BATCH, encoder_of, images_in
from clipsearch.images.open import open_image
from clipsearch.types import Preprocess

TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
"""What undoes the EXIF orientations that a camera writes."""


def decode(library: str, folder: str, count: int) -> Callable[[], dict[str, float]]:
    """CPU seconds on one thread for `count` pictures, in turn for each: our way, and three others.

    "full" decodes every pixel and is otherwise as thrifty as ours: profile and turn after the resize. "plain" is what
    one writes first: turn and convert at full size, then scale. "coded" is the part that all of them share.
    """
    preprocess = encoder_of(library).info.preprocess
    files = images_in(folder, count)
    ways: dict[str, Callable[[bytes], object]] = {
        "ours": lambda data: open_image(data).pixels(preprocess),
        "full": lambda data: full(data, preprocess),
        "plain": lambda data: plain(data, preprocess),
        "coded": coded,
    }

    def measure() -> dict[str, float]:
        spent = dict.fromkeys(ways, 0.0)
        for data in files:
            for name, way in ways.items():
                begun = time.thread_time()
                way(data)
                spent[name] += time.thread_time() - begun
        return {**spent, "pictures": float(len(files))}

    return measure


def agreement(library: str, folder: str, count: int) -> Callable[[], dict[str, Any]]:
    """The lowest cosine between the vectors of our pixels and of fully decoded ones, over `count` pictures.

    apart: the median between one picture and the next, to compare with. Random weights tell pictures apart less.
    """
    encoder = encoder_of(library)
    preprocess = encoder.info.preprocess

    def compare() -> dict[str, Any]:
        cosines, apart = [], []
        files = images_in(folder, count)
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            ours = np.stack([open_image(data).pixels(preprocess) for data in batch])
            exact = np.stack([upright_first(data, preprocess) for data in batch])
            rows = encoder.encode_images(ours), encoder.encode_images(exact)
            cosines += np.einsum("nd,nd->n", *rows).tolist()
            apart += np.einsum("nd,nd->n", rows[0][1:], rows[0][:-1]).tolist()
        return {"lowest": min(cosines), "pictures": len(cosines), "apart": float(np.median(apart))}

    return compare


def full(data: bytes, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Decode all, scale, then turn and convert the small picture: uint8 (3, S, S)."""
    image = Image.open(io.BytesIO(data))
    profile = image.info.get("icc_profile")
    turn = TURNS.get(image.getexif().get(0x0112, 1))
    small = _in_srgb(_scaled(image.convert("RGB"), preprocess), profile)
    return _square(small if turn is None else small.transpose(turn), preprocess.size)


def plain(data: bytes, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Decode all, turn and convert all, scale: uint8 (3, S, S)."""
    image = Image.open(io.BytesIO(data))
    profile = image.info.get("icc_profile")
    upright = _in_srgb(ImageOps.exif_transpose(image).convert("RGB"), profile)
    return _square(_scaled(upright, preprocess), preprocess.size)


def upright_first(data: bytes, preprocess: Preprocess) -> NDArray[np.uint8]:
    """As `full`, but turned at full size: a crop from the middle of an odd length is that of the upright picture."""
    image = Image.open(io.BytesIO(data))
    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image).convert("RGB")
    return _square(_in_srgb(_scaled(upright, preprocess), profile), preprocess.size)


def coded(data: bytes) -> None:
    """Undo a JPEG's coding, and make no more of it than an eighth of its size: no decoder of JPEGs gets around that."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (1, 1))
    image.load()


def _scaled(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """As `preprocess` wants it, not cropped yet: "shortest" or "crop" of clipsearch.images.geometry."""
    resample = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[preprocess.interpolation]
    short, target = min(image.size), preprocess.size
    if preprocess.resize == "crop":
        side = int(preprocess.crop * short)
        left, top = round((image.width - side) / 2), round((image.height - side) / 2)
        return image.resize((target, target), resample, (left, top, left + side, top + side))
    assert preprocess.resize == "shortest"
    return image.resize((target * image.width // short, target * image.height // short), resample)


def _square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.ascontiguousarray(np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1))


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile is None:
        return image
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    assert converted is not None
    return converted
