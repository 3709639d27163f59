"""Altered copies of images: cropped, flipped, recompressed, darkened; `copies` measures whether they are found."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COPY_SIDE = 1024
"""Largest side of a copy in pixels, as in messengers."""

KEPT = 0.7
"""Share of the width and of the height that a crop keeps, from the upper left corner: half of the area is lost, and the
centre moves."""

QUALITY = 15
"""Quality of the recompressed JPEG, on Pillow's scale of 1 to 95: blocks are clearly visible."""

BRIGHTNESS = 0.4
"""Factor for the sRGB values of a darkened copy."""

_REVISION = 1
"""Increases with a change that gives other pixels; the numbers above are part of an alteration's key."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """A way to change an image. `what` describes it; `settings` are its numbers."""

    name: str
    what: str
    change: Callable[[Image.Image], bytes]
    settings: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """What identifies its stored vectors: those made with other settings are not reused."""
        return " ".join(str(part) for part in (self.name, *self.settings, COPY_SIDE, _REVISION))

    def applied(self, pixels: NDArray[np.uint8]) -> bytes:
        """The altered copy, as a file's bytes; `pixels`: the upright image in sRGB, uint8 (height, width, 3)."""
        return self.change(Image.fromarray(pixels))


def _cropped(image: Image.Image) -> bytes:
    return _saved(image.crop((0, 0, max(1, round(KEPT * image.width)), max(1, round(KEPT * image.height)))))


def _flipped(image: Image.Image) -> bytes:
    return _saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def _recompressed(image: Image.Image) -> bytes:
    return _saved(image, "JPEG", quality=QUALITY)


def _darkened(image: Image.Image) -> bytes:
    return _saved(image.point(lambda value: round(BRIGHTNESS * value)))


def _saved(image: Image.Image, kind: str = "BMP", **settings: int) -> bytes:
    """The bytes of an image file; by default BMP, which is lossless and fast."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


ALTERATIONS = (
    Alteration("cropped", f"the upper left {100 * KEPT:.0f} % of the width and of the height", _cropped, (KEPT,)),
    Alteration("flipped", "left and right swapped", _flipped),
    Alteration("recompressed", f"JPEG of quality {QUALITY}", _recompressed, (QUALITY,)),
    Alteration("darkened", f"{100 * BRIGHTNESS:.0f} % as bright", _darkened, (BRIGHTNESS,)),
)
