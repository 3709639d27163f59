"""Thumbnails of hits, and the first readable file of an image."""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from clipsearch.errors import ImageError, reason
from clipsearch.images import decode
from clipsearch.images.requests import Steps
from clipsearch.images.workers import shared
from clipsearch.types import Box, Hit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A hit with its image, upright and in sRGB, or with the reason why there is none.

    If a part of the image was found, that part is framed.
    """

    hit: Hit
    path: str
    """The file that was read; the hit's first path if none could be."""
    picture: Image.Image | None
    reason: str | None = None
    jpeg: bytes | None = None
    """The image as a JPEG, if it came as one."""


class WithPaths(Protocol):
    """A hit or a classification."""

    @property
    def path(self) -> str: ...

    @property
    def paths(self) -> tuple[str, ...]: ...


def open_first(image: WithPaths) -> tuple[str, BinaryIO]:
    """The first readable path of an image, and the open file. Raises ImageError if there is none."""
    why = "it has no path"
    for path in dict.fromkeys((image.path, *image.paths)):
        try:
            # Without O_NONBLOCK, a FIFO in the place of the file would block.
            descriptor = os.open(os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as exc:
            why = reason(exc) if isinstance(exc, OSError) else str(exc)
            continue
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return path, os.fdopen(descriptor, "rb")
        os.close(descriptor)
        why = "not a regular file"
    raise ImageError(why)


def thumbnails(hits: Iterable[Hit], *, side: int, progress: Callable[[int], None] | None = None) -> Iterator[Thumbnail]:
    """The hits in their order, each with its image, at most `side` pixels wide and high.

    A few are decoded ahead, so memory does not grow with the number of hits. An image that cannot be read has a reason
    instead; a truncated one is shown as far as it goes. `progress` receives the number of thumbnails that the caller is
    done with.
    """
    made = shared().run(functools.partial(_thumbnail, hit, side) for hit in hits)
    for number, thumbnail in enumerate(made, 1):
        yield thumbnail
        if progress is not None:
            progress(number)


def _thumbnail(hit: Hit, side: int) -> Steps[Thumbnail]:
    try:
        found = yield from first_upright((hit.path, *hit.paths), side)
    except ImageError as exc:
        return Thumbnail(hit, exc.path or hit.path, None, exc.reason)
    return Thumbnail(hit, found.path, _framed(found.pixels, hit.box, found.width))


def received(images: Iterable[tuple[Hit, bytes | ImageError]], *, side: int) -> Iterator[Thumbnail]:
    """Hits with their thumbnails, which were made elsewhere, as JPEGs of at most `side` pixels, or why there is none.

    Decoder processes open them, as they do any image.
    """
    return shared().run(functools.partial(_received, hit, image, side) for hit, image in images)


def _received(hit: Hit, image: bytes | ImageError, side: int) -> Steps[Thumbnail]:
    try:
        if isinstance(image, ImageError):
            raise image
        if not image.startswith(b"\xff\xd8"):
            raise ImageError("not a JPEG")
        yield from decode.given(image)
        (pixels, width), _ = yield from decode.as_far_as_it_goes(functools.partial(_upright, side))
    except (ImageError, OSError, MemoryError) as exc:
        return Thumbnail(hit, hit.path, None, reason(exc) if isinstance(exc, OSError) else str(exc))
    picture = _framed(pixels, hit.box, hit.width or width)
    return Thumbnail(hit, hit.path, picture, jpeg=None if hit.box else image)


class Upright(NamedTuple):
    """uint8 (height, width, 3) of the image in the file `path`, which is `width` pixels wide itself."""

    path: str
    pixels: NDArray[np.uint8]
    width: int


def first_upright(paths: Iterable[str], side: int, *, digest: bytes | None = None) -> Steps[Upright]:
    """The image, upright and in sRGB, in the first of these files that can be opened and has the SHA-256 `digest`.

    At most `side` pixels wide and high; a truncated one as far as it goes. Raises ImageError, with the path of the
    file if one was opened.
    """
    why = "it has no path"
    for path in dict.fromkeys(paths):
        name = os.fsencode(path)
        try:
            file = yield from decode.opened(name) if digest is None else decode.read(name)
        except (OSError, ImageError) as exc:
            why = reason(exc)
            continue
        if not file.regular:
            why = "not a regular file"
        elif digest is not None and file.digest != digest:
            why = "the file has changed since it was indexed"
        else:
            try:
                (pixels, width), _ = yield from decode.as_far_as_it_goes(functools.partial(_upright, side))
            except (ImageError, OSError, MemoryError) as exc:
                raise ImageError(reason(exc) if isinstance(exc, OSError) else str(exc), path=path) from exc
            return Upright(path, pixels, width)
    raise ImageError(why)


def _upright(side: int, image: decode.Image) -> Steps[tuple[NDArray[np.uint8], int]]:
    return (yield from image.upright(max_side=side)), image.facts.width


def jpeg(image: Image.Image, *, quality: int = 80) -> bytes:
    """The image as a JPEG without metadata."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def _framed(pixels: NDArray[np.uint8], box: Box | None, width: int) -> Image.Image:
    from PIL import Image

    picture = Image.fromarray(pixels)
    if box is not None:
        _frame(picture, box, picture.width / width)
    return picture


def _frame(image: Image.Image, box: Box, scale: float) -> None:
    """Draw a frame around the part that was found, visible on light and dark images."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    left, top, right, bottom = (round(edge * scale) for edge in box)
    for inset, colour in enumerate(("black", "white", "white", "black")):
        edges = left + inset, top + inset, right - 1 - inset, bottom - 1 - inset
        if edges[0] < edges[2] and edges[1] < edges[3]:
            pen.rectangle(edges, outline=colour)
