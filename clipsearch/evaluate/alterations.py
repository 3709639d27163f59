"""Copies of pictures as they come back from elsewhere: cropped, flipped, recompressed, darkened."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from clipsearch.images.picture import Picture

SIDE = 1024
"""Pixels that neither side of a copy exceeds, as what people send each other."""

KEPT = 0.7
"""Share of the width and of the height that a crop leaves, from the upper left corner: a third to a half of the area
goes, and what was in the middle is there no more."""

QUALITY = 15
"""Of the recompressed JPEG, on Pillow's scale of 1 to 95: blocks are plain to see."""

BRIGHTNESS = 0.4
"""What the values of a darkened copy's pixels, in sRGB, are multiplied by."""

_REVISION = 1
"""Goes up with a change of a function here that gives other pixels; the numbers above are in an alteration's key."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """A way to change a picture. `what` says it for people; `settings` are the numbers that it goes by."""

    name: str
    what: str
    change: Callable[[Image.Image], bytes]
    settings: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """What tells its vectors from others': those that were made by other settings are not used again."""
        return " ".join(str(part) for part in (self.name, *self.settings, SIDE, _REVISION))

    def applied(self, picture: Picture) -> bytes:
        """The altered copy, as a file's bytes. Raises ImageError where the picture cannot be decoded."""
        return self.change(picture.upright(max_side=SIDE))


def _cropped(image: Image.Image) -> bytes:
    return _saved(image.crop((0, 0, max(1, round(KEPT * image.width)), max(1, round(KEPT * image.height)))))


def _flipped(image: Image.Image) -> bytes:
    from PIL import Image

    return _saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def _recompressed(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _darkened(image: Image.Image) -> bytes:
    return _saved(image.point(lambda value: round(BRIGHTNESS * value)))


def _saved(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "BMP")  # Nothing is lost in it, and nothing takes time.
    return buffer.getvalue()


ALTERATIONS = (
    Alteration("cropped", f"the upper left {100 * KEPT:.0f} % of the width and of the height", _cropped, (KEPT,)),
    Alteration("flipped", "left and right exchanged", _flipped),
    Alteration("recompressed", f"JPEG of quality {QUALITY}", _recompressed, (QUALITY,)),
    Alteration("darkened", f"{100 * BRIGHTNESS:.0f} % as bright", _darkened, (BRIGHTNESS,)),
)
