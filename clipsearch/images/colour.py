"""Colours and transparency: from any mode that Pillow decodes to a mode that can be resampled, and to sRGB."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image, ImageCms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHITE = 255
_STRIP = 2**20
"""Pixels that are converted at a time where the conversion needs more memory than its result."""

_SPREAD = 4
"""Largest difference of levels (0 … 255) in a channel of an image of one colour: lossy WebP makes 5 levels of one."""

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}


def resamplable(image: Image.Image) -> tuple[Image.Image, int]:
    """The same image, opaque, as RGB, L, CMYK or LAB: modes whose values may be averaged, with 8 bits per channel.

    The second value is the first reader revision (`images.open`) that gives this image. Transparency is put on white
    here, not after the resize: Pillow would have to premultiply all pixels anyway, and a resampled edge would differ
    from that of the flattened image.
    """
    if image.mode.startswith(("I", "F")):
        import numpy as np  # Most images do not need it: a decoder process starts in 0.09 instead of 0.15 s.

        grey = Image.fromarray(eight_bits(np.asarray(image), image.mode))
        key = image.info.get("transparency")
        if not image.mode.startswith("I;16") or not isinstance(key, int):
            return grey, 1
        alpha = Image.new("L", image.size)
        for box in _strips(image):
            values = np.asarray(image.crop(box))
            alpha.paste(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)), box)
        return _opaque(Image.merge("LA", (grey, alpha)))
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
    return spread(image) <= _SPREAD


def spread(image: Image.Image) -> float:
    """Over how many levels the pixels of a channel spread: the most of all channels."""
    extrema = image.getextrema()
    channels = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return max(high - low for low, high in channels)


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
    flat = _flattened(image, WHITE)
    if is_one_colour(flat):
        for ground in (None, 0):
            other = _flattened(image, ground)
            if not is_one_colour(other):
                return other, 2
    return flat, 1


def _flattened(image: Image.Image, ground: int | None) -> Image.Image:
    """As RGB or L, on a grey background of level `ground`, 0 … 255; None: without its alpha."""
    mode = "L" if image.mode in ("LA", "La", "L", "1") else "RGB"
    flat = Image.new(mode, image.size, (ground or 0,) * len(mode))
    for box in _strips(image):
        pair = image.crop(box).convert(mode + "A")
        colours = pair.convert(mode)
        flat.paste(colours, box, mask=None if ground is None else pair.getchannel("A"))
    return flat


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover the image: a conversion of the whole would hold it several times."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(image.height, top + rows)


def eight_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Values of shape (h, w) or (h, w, n) in more than 8 bits, as 8 bits; all channels share one scale.

    `mode` is Pillow's for one channel: "I;16…", "I" or "F".

    16 bits: divided by 257. 32-bit integers that fit 8 or 16 bits: as such. Floats within 0 … 1: times 255.
    Anything else is stretched over its own range, as its white is unknown. Infinities and values that are not a number
    become the ends of that range.
    """
    import numpy as np

    result = np.empty(values.shape, np.uint8)
    if mode.startswith("I;16"):
        for row, line in zip(result, values, strict=True):  # A wider type for all would take twice their memory.
            row[...] = (line.astype(np.uint32) + 128) // 257
        return result
    low, high = _range(values)
    floor, ceiling = low, high
    if low >= 0 and mode == "F" and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and mode == "I" and high <= 65535:
        low, high = 0.0, 255.0 if high <= 255 else 65535.0
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    for row, line in zip(result, values, strict=True):
        known = np.nan_to_num(line.astype(np.float32), nan=floor, neginf=floor, posinf=ceiling).astype(np.float64)
        row[...] = np.rint((known - low) * (255.0 / (high - low)))
    return result


def _range(values: NDArray[np.generic]) -> tuple[float, float]:
    """The least and the greatest finite value in single precision; 0 where there are none."""
    import numpy as np

    low, high = math.inf, -math.inf
    for line in values:
        numbers = line.astype(np.float32)
        known = numbers[np.isfinite(numbers)]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    return (low, high) if low <= high else (0.0, 0.0)


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From `profile` (None: CIE Lab) to sRGB; None where it is unusable or changes nothing."""
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
    steps = [255 * step // 16 for step in range(17)]
    lattice = bytes(level for colour in itertools.product(steps, repeat=3) for level in colour)
    moved = ImageCms.applyTransform(Image.frombytes("RGB", (289, 17), lattice), transform)
    return moved is not None and all(abs(a - b) <= 2 for a, b in zip(moved.tobytes(), lattice, strict=True))
