"""The terms of a query: a text, an image or a part of one, or an earlier hit, each with a weight."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipsearch.errors import UsageError
from clipsearch.types import Box, whole_number

MAX_WEIGHT = 1000.0
"""The largest weight; the smallest is its inverse. Next to such a term, one of weight 1 makes no difference."""

_WEIGHT = re.compile(r"(.+)\^([^\s^]+)", re.DOTALL)
_NUMBER = r"\s*([0-9]*\.?[0-9]+)(%?)\s*"
_REGION = re.compile(rf"(.+)#{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}", re.DOTALL)
_ID = re.compile(r"id:([0-9]+)")
_UPLOADED = re.compile(r"image:([0-9]+)")


@dataclass(frozen=True, slots=True)
class Region:
    """x, y, width and height of a part of the upright image, each in pixels, or in percent where `percent` is set."""

    numbers: tuple[float, float, float, float]
    percent: tuple[bool, bool, bool, bool]

    def __str__(self) -> str:
        parts = (f"{n:g}{'%' if percent else ''}" for n, percent in zip(self.numbers, self.percent, strict=True))
        return f"#{','.join(parts)}"

    def box(self, width: int, height: int) -> Box:
        """The part in pixels of an image of this size. Raises UsageError where it lies outside or is empty."""
        whole = (width, height, width, height)
        parts = [
            n * size / 100 if percent else n for n, size, percent in zip(self.numbers, whole, self.percent, strict=True)
        ]
        if not all(0 <= part < math.inf for part in parts):
            raise UsageError(f"the part {self} is outside the image, which is {width}×{height}")
        x, y, w, h = map(round, parts)
        box = (x, y, min(x + w, width), min(y + h, height))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise UsageError(f"the part {x},{y},{w},{h} is empty, or outside the image, which is {width}×{height}")
        return box


@dataclass(frozen=True, slots=True)
class Text:
    words: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True)
class Image:
    """An image file, or the bytes of an image; a part of it where `region` is given.

    `name` is what messages call the bytes; "-" stands for standard input.
    """

    source: Path | bytes
    weight: float = 1.0
    region: Region | None = None
    name: str = "-"

    def __str__(self) -> str:
        return (self.name if isinstance(self.source, bytes) else str(self.source)) + str(self.region or "")


Uploads = Sequence[tuple[str, bytes]]
"""Images that came with a request: their names, which are only shown, and their bytes."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """An image of the library, by the `id` of an earlier hit."""

    id: int
    weight: float = 1.0

    def __str__(self) -> str:
        return f"id:{self.id}"


Term = Text | Image | Indexed


def as_term(term: str | Path | Term) -> Term:
    """A term from words, the path of an image, or a term itself. Raises UsageError for empty words and bad weights."""
    if isinstance(term, str):
        if not term.strip():
            raise UsageError("nothing to look for: the text is empty")
        return Text(term)
    if isinstance(term, Path):
        return Image(term)
    check_weight(term.weight, term)
    return term


def check_weight(weight: float, what: object) -> None:
    """Raise UsageError for a weight that is too small or too large to compute with, or not a number."""
    if not 1 / MAX_WEIGHT <= weight <= MAX_WEIGHT:
        raise UsageError(
            f"{what}: a weight must be from {1 / MAX_WEIGHT:g} to {MAX_WEIGHT:g}",
            advice="" if weight > 0 else "use `negative` to penalise a term",
        )


def check_unweighed(terms: Sequence[Term]) -> None:
    """Raise UsageError for a term with a weight, where all must match."""
    for term in terms:
        if term.weight != 1:
            raise UsageError(f"{term}: `match_all=True` takes no weights: the lowest score of all terms counts")


def parse_term(text: str, *, image: bool = False, weighed: bool = True, uploads: Uploads | None = None) -> Term:
    """A term as it is written on a command line: words, the path of an image, or `id:123`; a weight behind `^`.

    What follows the last `^` is a weight if it has no spaces and neither side is empty. A path may end in `#x,y,w,h`,
    in pixels or percent. An existing file of the whole name is that file. `image` refuses words, `weighed` False takes
    no weight. With `uploads`, nothing names a file: `image:0` is the first of these. Raises UsageError.
    """

    def found(name: str) -> Image | None:
        if uploads is None:
            return Image(Path(os.path.expanduser(name))) if _is_file(name) else None
        number = _UPLOADED.fullmatch(name)
        if number is None:
            return None
        if whole_number(number[1]) >= len(uploads):
            if uploads:
                raise UsageError(f"{name}: there is no such image in the request")
            return None
        shown, source = uploads[int(number[1])]
        return Image(source, name=shown)

    weight, region, rest = 1.0, None, text
    if weighed and not found(rest) and (match := _WEIGHT.fullmatch(rest)):
        rest, weight = match[1], _number(match[2])
    check_weight(weight, text)
    if match := _ID.fullmatch(rest):
        return Indexed(whole_number(match[1]), weight)
    if not found(rest) and (match := _REGION.fullmatch(rest)) and found(match[1]):
        parts = match.groups()[1:]
        x, y, w, h = (float(n) for n in parts[::2])
        px, py, pw, ph = (bool(p) for p in parts[1::2])
        rest, region = match[1], Region((x, y, w, h), (px, py, pw, ph))
    if source := found(rest):
        return replace(source, weight=weight, region=region)
    if image:
        raise UsageError(f"{rest}: no such image")
    if not rest.strip():
        raise UsageError("nothing to look for: a text is empty")
    return Text(rest, weight)


def _number(text: str) -> float:
    """The number that `text` writes; not a number where it writes none, which `check_weight` refuses."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_file(path: str) -> bool:
    return os.path.isfile(os.path.expanduser(path))
