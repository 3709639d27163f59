"""Thumbnails for plots, from files or from bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipsearch.errors import ClipsearchError
from clipsearch.files import read_bytes
from clipsearch.images.open import open_image
from clipsearch.search.terms import Region

if TYPE_CHECKING:
    from PIL import Image


def small_image(
    paths: Sequence[str], *, side: int, data: bytes | None = None, region: Region | None = None
) -> Image.Image | None:
    """The image in `data`, or by default in the first readable file of `paths`, cut to `region`; None if none is.

    It is upright and at most `side` pixels wide and high. A truncated image is shown as far as it goes.
    """
    sources: Sequence[str | bytes] = paths if data is None else [data]
    for source in sources:
        with contextlib.suppress(ClipsearchError):
            return _cut(source if isinstance(source, bytes) else read_bytes(os.fsencode(source)), side, region)
    return None


def _cut(data: bytes, side: int, region: Region | None) -> Image.Image:
    image = open_image(data, truncated=True)
    if region is None:
        return image.upright(max_side=side)
    left, top, right, bottom = region.box(image.facts.width, image.facts.height)
    whole = max(image.facts.width, image.facts.height)
    scale = min(1.0, side / max(right - left, bottom - top))
    small = image.upright(max_side=max(1, round(whole * scale)))
    ratio = small.width / image.facts.width
    box = [round(n * ratio) for n in (left, top, right, bottom)]
    return small.crop((box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)))
