"""Geometry of resize, crop and EXIF orientation, as numbers: which part of an image becomes which pixels."""

from __future__ import annotations

from dataclasses import dataclass

from clipsearch.errors import ImageError
from clipsearch.types import Box, Preprocess


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of the upright image to use and how to scale it; every size is (width, height).

    `region` of the image is scaled to `resized`; `window` is cut out of the result and put on a square of `size`,
    filled with `fill` where the window is smaller.
    """

    region: Box
    resized: tuple[int, int]
    window: Box
    size: int
    fill: int = 0

    @property
    def reduction(self) -> float:
        """How many pixels of the image become one, along the side that is scaled down least."""
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
        raise ImageError(f"the box {box} is outside a picture of {width} × {height}")
    return left, top, right, bottom


def _centre(length: int, part: int) -> int:
    # torchvision's center_crop rounds the half to even.
    return round((length - part) / 2)


def stored_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """`box` of an upright image of width × height, in the stored image before its EXIF turn."""
    left, top, right, bottom = box
    if orientation in (2, 3, 7, 6):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)
