"""Thumbnails of hits, and the first readable file of an image."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from clipsearch.errors import ImageError, TruncatedImageError, reason
from clipsearch.images.lookahead import in_order
from clipsearch.images.open import open_image
from clipsearch.types import Box, Hit

if TYPE_CHECKING:
    from PIL import Image

_THREADS = min(4, os.cpu_count() or 1)
"""Decoding scales with the cores up to here; more threads would only hold more images in memory."""


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

    A few are decoded ahead in threads, so memory does not grow with the number of hits. An image that cannot be read
    has a reason instead; a truncated one is shown as far as it goes. `progress` receives the number of thumbnails that
    the caller is done with.
    """
    ahead = in_order(lambda hit: _thumbnail(hit, side), hits, threads=_THREADS, ahead=2 * _THREADS)
    for number, thumbnail in enumerate(ahead, 1):
        yield thumbnail
        if progress is not None:
            progress(number)


def _thumbnail(hit: Hit, side: int, *, truncated: bool = False) -> Thumbnail:
    path = hit.path
    try:
        path, file = open_first(hit)
        with file:
            opened = open_image(file, truncated=truncated)
            image = opened.upright(max_side=side)
        if hit.box is not None:
            _frame(image, hit.box, image.width / opened.facts.width)
    except ImageError as exc:
        if isinstance(exc, TruncatedImageError) and not truncated:
            return _thumbnail(hit, side, truncated=True)
        return Thumbnail(hit, path, None, str(exc))
    except OSError as exc:
        return Thumbnail(hit, path, None, reason(exc))
    except MemoryError:
        return Thumbnail(hit, path, None, "not enough memory to decode it")
    return Thumbnail(hit, path, image)


def _frame(image: Image.Image, box: Box, scale: float) -> None:
    """Draw a frame around the part that was found, visible on light and dark images."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    left, top, right, bottom = (round(edge * scale) for edge in box)
    for inset, colour in enumerate(("black", "white", "white", "black")):
        edges = left + inset, top + inset, right - 1 - inset, bottom - 1 - inset
        if edges[0] < edges[2] and edges[1] < edges[3]:
            pen.rectangle(edges, outline=colour)
