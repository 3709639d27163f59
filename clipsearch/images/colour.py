"""Colours and transparency: from any mode that Pillow decodes to a mode that can be resampled, and to sRGB."""

from __future__ import annotations

import contextlib
import functools
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

WHITE = 255
_SPREAD = 4
"""Largest difference of levels (0 … 255) in a channel of an image of one colour: lossy WebP makes 5 levels of one."""

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}


def resamplable(image: Image.Image) -> tuple[Image.Image, int]:
    """The same image, opaque, as RGB, L, CMYK or LAB: modes whose values may be averaged, with 8 bits per channel.

    The second value is the first reader revision (`images.open`) that gives this image. Transparency is put on white
    here, not after the resize: Pillow would have to premultiply all pixels anyway, and a resampled edge would differ
    from that of the flattened image.
    """
    if image.mode.startswith("I;16") and isinstance(key := image.info.get("transparency"), int):
        values = np.asarray(image)
        alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        return _opaque(Image.merge("LA", (Image.fromarray(eight_bits(values, image.mode)), alpha)))
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(eight_bits(np.asarray(image), image.mode)), 1
    if has_alpha(image):
        return _opaque(image)
    if image.mode in _SPACES:
        return image, 1
    return image.convert("L" if image.mode == "1" else "RGB"), 1


def has_alpha(image: Image.Image) -> bool:
    """Whether the image may have transparent pixels: by an alpha channel, a transparent colour or palette."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or image.info.get("transparency") is not None


def is_one_colour(image: Image.Image) -> bool:
    """Whether all pixels of an opaque image have one colour, give or take the errors of a lossy format."""
    extrema = image.getextrema()
    channels = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(high - low <= _SPREAD for low, high in channels)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An RGB image in sRGB. A profile that is broken or made for other channels is ignored."""
    if image.mode == "LAB":
        profile = None
    elif profile is not None and image.mode == "L" and profile[16:20] == b"RGB ":
        image = image.convert("RGB")
    transform = _transform(profile, image.mode) if profile is not None or image.mode == "LAB" else None
    converted = None
    if transform is not None:
        with contextlib.suppress(ImageCms.PyCMSError, ValueError):
            converted = ImageCms.applyTransform(image, transform)
    return converted or (image if image.mode == "RGB" else image.convert("RGB"))


def _opaque(image: Image.Image) -> tuple[Image.Image, int]:
    """The image on white. If that shows one colour only, the image without its alpha, or else on black.

    The second value is that of `resamplable`.
    """
    grey = image.mode in ("LA", "La", "L", "1")
    pair = image.convert("LA" if grey else "RGBA")
    colours, alpha = pair.convert("L" if grey else "RGB"), pair.getchannel("A")
    flat = _flattened(colours, alpha, WHITE)
    if is_one_colour(flat):
        for other in (colours, _flattened(colours, alpha, 0)):
            if not is_one_colour(other):
                return other, 2
    return flat, 1


def _flattened(colours: Image.Image, alpha: Image.Image, ground: int) -> Image.Image:
    """Colours of mode L or RGB on a grey background of level `ground`, 0 … 255."""
    flat = Image.new(colours.mode, colours.size, ground if colours.mode == "L" else (ground, ground, ground))
    flat.paste(colours, mask=alpha)
    return flat


def eight_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Values of shape (h, w) or (h, w, n) in more than 8 bits, as 8 bits; all channels share one scale.

    `mode` is Pillow's for one channel: "I;16…", "I" or "F".

    16 bits: divided by 257. 32-bit integers that fit 8 or 16 bits: as such. Floats within 0 … 1: times 255.
    Anything else is stretched over its own range, as its white is unknown.
    """
    if mode.startswith("I;16"):
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    scaled = values.astype(np.float32)
    finite = np.isfinite(scaled)
    if not finite.all():
        floor = scaled[finite].min() if finite.any() else 0.0
        scaled = np.nan_to_num(scaled, nan=floor, neginf=floor, posinf=scaled[finite].max() if finite.any() else 0.0)
    low, high = float(scaled.min()), float(scaled.max())
    if low >= 0 and mode == "F" and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and mode == "I" and high <= 65535:
        low, high = 0.0, 255.0 if high <= 255 else 65535.0
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    result = np.empty(values.shape, np.uint8)
    for row, line in zip(result, scaled, strict=True):  # By rows, as double precision takes eight times the memory.
        row[...] = np.rint((line.astype(np.float64) - low) * (255.0 / (high - low)))
    return result


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From `profile` (None: CIE Lab) to sRGB; None where it is unusable or changes nothing.

    One transform serves all threads: LittleCMS copies its cache per call.
    """
    try:
        if profile is None:
            opened = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if opened.profile.xcolor_space != _SPACES[mode]:
                return None
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "RGB" and _is_identity(transform):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether no colour of a 17³ lattice moves by more than 2 of 255: many profiles are sRGB by other names."""
    steps = np.linspace(0, 255, 17).astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(17, 289, 3)
    moved = ImageCms.applyTransform(Image.fromarray(lattice), transform)
    return moved is not None and bool(np.abs(np.asarray(moved).astype(int) - lattice).max() <= 2)
