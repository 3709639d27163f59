"""Thumbnails for plots, from files or from bytes."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.images import decode
from clipsearch.images.requests import Steps
from clipsearch.images.workers import shared
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
        with contextlib.suppress(ClipsearchError, OSError):
            return shared().do(functools.partial(_small, source, side, region))
    return None


def _small(source: str | bytes, side: int, region: Region | None) -> Steps[Image.Image]:
    if isinstance(source, bytes):
        yield from decode.given(source)
    elif not (yield from decode.opened(os.fsencode(source))).regular:
        raise UsageError("not a regular file", path=source)
    small, _ = yield from decode.as_far_as_it_goes(functools.partial(_cut, side, region))
    return small


def _cut(side: int, region: Region | None, image: decode.Image) -> Steps[Image.Image]:
    from PIL import Image

    if region is None:
        return Image.fromarray((yield from image.upright(max_side=side)))
    left, top, right, bottom = region.box(image.facts.width, image.facts.height)
    whole = max(image.facts.width, image.facts.height)
    scale = min(1.0, side / max(right - left, bottom - top))
    small = yield from image.upright(max_side=max(1, round(whole * scale)))
    ratio = small.shape[1] / image.facts.width
    left, top, right, bottom = (round(n * ratio) for n in (left, top, right, bottom))
    return Image.fromarray(small[top : max(bottom, top + 1), left : max(right, left + 1)])
