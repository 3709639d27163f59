"""Decoding large photographs: our way, and in full before they are scaled down."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from benchmarks.tasks.encode import BATCH, encoder_of, pictures_in
from clipsearch import images
from clipsearch.types import Preprocess

TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
"""What undoes the EXIF orientations that a camera writes."""


def decode(library: str, folder: str, count: int) -> Callable[[], dict[str, float]]:
    """CPU seconds on one thread for `count` pictures, in turn for each: our way, in full, and in full step by step.

    "full" decodes every pixel and is otherwise as thrifty as ours: profile and turn after the resize. "plain" is what
    one writes first: turn and convert at full size, then scale.
    """
    preprocess = encoder_of(library).info.preprocess
    files = pictures_in(folder, count)
    ways: dict[str, Callable[[bytes], object]] = {
        "ours": lambda data: images.open_picture(data).pixels(preprocess),
        "full": lambda data: full(data, preprocess),
        "plain": lambda data: plain(data, preprocess),
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
    """The lowest cosine between the vectors of our pixels and of the full way's, over `count` pictures.

    apart: the median between one picture and the next, to compare with. Random weights tell pictures apart less.
    """
    encoder = encoder_of(library)
    preprocess = encoder.info.preprocess

    def compare() -> dict[str, Any]:
        cosines, apart = [], []
        files = pictures_in(folder, count)
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            ours = np.stack([images.open_picture(data).pixels(preprocess) for data in batch])
            exact = np.stack([full(data, preprocess) for data in batch])
            rows = encoder.encode_images(ours), encoder.encode_images(exact)
            cosines += np.einsum("nd,nd->n", *rows).tolist()
            apart += np.einsum("nd,nd->n", rows[0][1:], rows[0][:-1]).tolist()
        return {"lowest": min(cosines), "pictures": len(cosines), "apart": float(np.median(apart))}

    return compare


def full(data: bytes, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Decode all, scale, then turn and convert the small picture: uint8 (3, S, S)."""
    image = Image.open(io.BytesIO(data))
    profile = image.info.get("icc_profile")
    small = image.convert("RGB").resize(_scaled(image.size, preprocess.size), Image.Resampling.BICUBIC)
    small = _in_srgb(small, profile)
    turn = TURNS.get(image.getexif().get(0x0112, 1))
    return _square(small if turn is None else small.transpose(turn), preprocess.size)


def plain(data: bytes, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Decode all, turn and convert all, scale: uint8 (3, S, S)."""
    image = Image.open(io.BytesIO(data))
    profile = image.info.get("icc_profile")
    upright = _in_srgb(ImageOps.exif_transpose(image).convert("RGB"), profile)
    return _square(upright.resize(_scaled(upright.size, preprocess.size), Image.Resampling.BICUBIC), preprocess.size)


def _scaled(size: tuple[int, int], target: int) -> tuple[int, int]:
    width, height = size
    short = min(size)
    return target * width // short, target * height // short


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
