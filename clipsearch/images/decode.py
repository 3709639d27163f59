"""The usual tasks of decoder processes (`workers`): open a file, see what it holds, and get its pixels."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from clipsearch.errors import TruncatedImageError
from clipsearch.images.requests import Answer, Request, Steps
from clipsearch.images.sniff import MAX_PIXELS
from clipsearch.types import Box, Preprocess

Result = TypeVar("Result")

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.image_facts import ImageFacts


class Stored(NamedTuple):
    """A file that was opened, and perhaps read: size in bytes, modification time, SHA-256; `regular`: a regular file.

    started_ns: when reading began. changed: whether it changed while it was read. image: if it was asked for with it.
    """

    size: int
    mtime_ns: int
    regular: bool
    digest: bytes = b""
    started_ns: int = 0
    changed: bool = False
    image: Image | None = None


class Pixels(NamedTuple):
    """uint8 (n, 3, S, S). `whole`: the places of boxes that the whole image stands in for; `blank`: whether it has only
    one colour."""

    rows: NDArray[np.uint8]
    whole: frozenset[int]
    blank: bool


class Image(NamedTuple):
    """An image that a decoder process has open. `changed`: whether older readers gave other pixels (`image`).

    holds: bytes that decoding takes. decoded: the pixels of the whole image, if they came along.
    """

    facts: ImageFacts
    changed: bool
    holds: int
    decoded: Pixels | None

    def pixels(
        self, preprocess: Preprocess, boxes: Sequence[Box | None] = (None,), *, counted: bool = False
    ) -> Steps[Pixels]:
        """The input of an image tower, for parts of the upright image or (None) the whole of it.

        `counted`: these are views of a run. Raises ImageError.
        """
        fields = {"do": "pixels", "preprocess": _fields(preprocess), "boxes": list(boxes)}
        answer = yield Request(fields, views=len(boxes) if counted else 0, holds=self.holds)
        found = _pixels(answer.fields, answer)
        assert found is not None
        return found

    def is_blank(self) -> Steps[bool]:
        """Whether it has only one colour. Raises ImageError."""
        return bool((yield Request({"do": "blank"}, holds=self.holds)).fields["blank"])

    def is_same_as_cut(self) -> Steps[bool]:
        """Whether a decode that allows for a file that ends early gives the same pixels. Raises ImageError."""
        return bool((yield Request({"do": "same_cut"}, holds=self.holds)).fields["same"])

    def upright(self, *, max_side: int | None = None) -> Steps[NDArray[np.uint8]]:
        """The whole image in sRGB, upright: uint8 (height, width, 3); neither side exceeds `max_side` pixels."""
        answer = yield Request({"do": "upright", "max_side": max_side}, holds=self.holds)
        assert answer.pixels is not None
        return answer.pixels


def opened(path: bytes) -> Steps[Stored]:
    """Open a file, without reading it. Raises OSError."""
    answer = yield Request({"do": "open", "path": os.fsdecode(path)})
    return Stored(answer.fields["size"], answer.fields["mtime_ns"], answer.fields["regular"])


def read(path: bytes, *, preprocess: Preprocess | None = None, max_pixels: int = MAX_PIXELS) -> Steps[Stored]:
    """Open, read and hash a file. Raises OSError.

    With `preprocess`, the image comes along with its pixels, in one exchange instead of two: for files that are
    certainly new. Without the image, `image` tells why.
    """
    request = {"do": "read", "path": os.fsdecode(path)}
    if preprocess is None:
        answer = yield Request(request)
    else:
        answer = yield Request({**request, "image": _image_fields(max_pixels, preprocess=preprocess)}, views=1)
    fields = answer.fields
    about = fields["size"], fields["mtime_ns"], fields["regular"]
    if not fields["regular"]:
        return Stored(*about)
    found = _image(fields["image"], answer) if "image" in fields else None
    return Stored(*about, bytes.fromhex(fields["digest"]), fields["started_ns"], fields["changed"], found)


def changed(path: bytes, file: Stored) -> Steps[bool]:
    """Whether a file has changed since it was read. Raises OSError."""
    now = yield from opened(path)
    return (now.size, now.mtime_ns, now.regular) != (file.size, file.mtime_ns, True)


def image(
    *,
    max_pixels: int = MAX_PIXELS,
    truncated: bool = False,
    since: int | None = None,
    preprocess: Preprocess | None = None,
    counted: bool = False,
) -> Steps[Image]:
    """The image in the open file. Raises ImageError, OSError.

    `truncated` allows for a file that ends early. `since`: a reader's revision, for `changed`. `preprocess`: let the
    pixels of the whole image come along, if that takes little memory; `counted`: they are a view of a run.
    """
    fields = _image_fields(max_pixels, truncated=truncated, since=since, preprocess=preprocess)
    views = int(counted and preprocess is not None)
    answer = yield Request({"do": "image", **fields}, views=views)
    if "facts" not in answer.fields:  # Even opening it must wait for room.
        granted = answer.fields["holds"]
        answer = yield Request({"do": "image", **fields, "granted": granted}, views=views, holds=granted)
    return _image(answer.fields, answer)


def _image_fields(
    max_pixels: int, *, truncated: bool = False, since: int | None = None, preprocess: Preprocess | None
) -> dict[str, Any]:
    return {
        "max_pixels": max_pixels,
        "truncated": truncated,
        "since": since,
        "preprocess": None if preprocess is None else _fields(preprocess),
        "granted": 0,
    }


def _image(fields: dict[str, Any], answer: Answer) -> Image:
    from clipsearch.image_facts import ImageFacts  # Takes 1 ms, and queries by words do without.

    facts = ImageFacts(**{**fields["facts"], "keywords": tuple(fields["facts"]["keywords"])})
    return Image(facts, fields["changed"], fields["holds"], _pixels(fields, answer))


@functools.lru_cache(maxsize=16)
def _fields(preprocess: Preprocess) -> dict[str, Any]:
    return asdict(preprocess)


def _pixels(fields: dict[str, Any], answer: Answer) -> Pixels | None:
    if answer.pixels is None:
        return None
    return Pixels(answer.pixels, frozenset(fields["whole"]), fields["blank"])


def as_far_as_it_goes(
    use: Callable[[Image], Steps[Result]], preprocess: Preprocess | None = None
) -> Steps[tuple[Result, bool]]:
    """What `use` makes of the image in the open file, even if that ends early; and whether it does.

    `preprocess`: the pixels of the whole image that `use` will ask for first. Raises ImageError, OSError.
    """
    try:
        return (yield from use((yield from image(preprocess=preprocess)))), False
    except TruncatedImageError:
        return (yield from use((yield from image(preprocess=preprocess, truncated=True)))), True


def whole_pixels(preprocess: Preprocess) -> Steps[tuple[NDArray[np.uint8], bool]]:
    """The input (3, S, S) of an image tower for the open file, as far as it goes; and whether it ends early."""

    def pixels(image: Image) -> Steps[NDArray[np.uint8]]:
        found = image.decoded or (yield from image.pixels(preprocess))
        row: NDArray[np.uint8] = found.rows[0]
        return row

    return (yield from as_far_as_it_goes(pixels, preprocess))


def given(data: bytes) -> Steps[None]:
    """Use these bytes as the open file."""
    yield Request({"do": "take"}, data=data)
