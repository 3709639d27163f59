"""The directories of a TIFF file: which of them is the picture, and whether Pillow decodes it correctly.

Numbers of tags are those of TIFF 6.0, its supplement 1 (SubIFDs) and BigTIFF.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

_INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 7: "B", 8: "h", 9: "l", 13: "L", 16: "Q", 17: "q", 18: "Q"}
"""struct's letters for the types of whole numbers. 7 is "undefined", and some write bytes by it."""

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_FILL_ORDER, ORIENTATION, SAMPLES, ROWS, PLANAR, _PAGE_NUMBER, _PALETTE = 266, 274, 277, 278, 284, 297, 320
_SUB_IFDS, _EXTRA, _FORM, _SUBSAMPLING = 330, 338, 339, 530
_READ = {
    *(_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, ORIENTATION),
    *(SAMPLES, ROWS, PLANAR, _PAGE_NUMBER, _PALETTE, _SUB_IFDS, _EXTRA, _FORM, _SUBSAMPLING),
}

_MAX_PAGES = 32
"""Directories that are read: there are few thumbnails and levels of pyramids."""

_MAX_TAGS, _MAX_VALUES = 4096, 768
"""Tags that are read of a directory, and values of a tag: a palette of 8 bits has 768."""

_SAME_SHAPE = 0.03
"""Relative tolerance for the aspect ratio of a thumbnail."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 4, 5, 6, 8, 9
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
"""Samples per pixel by photometric interpretation, without extra samples."""

_LIBTIFF = {2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34925, 50000}
"""Compressions that Pillow's libtiff decodes: CCITT, LZW, JPEG, deflate, PackBits, LZMA, Zstandard."""

_PILLOW: dict[tuple[int, int, int], tuple[tuple[int, ...], ...]] = {
    **{(photometric, 1, bits): ((),) for photometric in (0, 1, 3) for bits in (1, 2, 4)},
    (WHITE_IS_ZERO, 1, 8): ((),),
    (BLACK_IS_ZERO, 1, 8): ((), (0,), (1,), (2,)),
    **{(BLACK_IS_ZERO, form, bits): ((),) for form, bits in ((1, 16), (2, 16), (2, 32), (3, 32))},
    (RGB, 1, 8): ((), (999,), *((first, *rest) for first in (0, 1, 2) for rest in ((), (0,), (0, 0)))),
    (RGB, 1, 16): ((), (0,), (1,), (2,)),
    (PALETTE, 1, 8): ((), (0,), (2,)),
    (CMYK, 1, 8): ((), (0,), (0, 0)),
    (CMYK, 1, 16): ((),),
    (YCBCR, 1, 8): ((),),
    (CIELAB, 1, 8): ((),),
}
"""Extra samples with which Pillow 13 decodes a photometric interpretation, sample format and number of bits correctly.

Measured by tests/test_tiff.py for samples that are stored pixel by pixel.
"""


@dataclass(frozen=True, slots=True)
class Directory:
    """One image in a file: the values of its tags that are whole numbers and needed here, and their TIFF types."""

    offset: int
    tags: dict[int, tuple[int, ...]]
    types: dict[int, int] = field(default_factory=dict)

    def first(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.first(_WIDTH), self.first(_HEIGHT)

    @property
    def area(self) -> int:
        return math.prod(self.size)

    @property
    def is_reduced(self) -> bool:
        """Whether it is a smaller version of another image, or a mask."""
        return bool(self.first(_SUBFILE) & 0b101) or self.first(_OLD_SUBFILE) == 2 or self.first(_PHOTOMETRIC) == MASK

    @property
    def is_numbered(self) -> bool:
        """Whether it is a page of a document, so that a larger page is not the full-size version of it."""
        return bool(self.first(_SUBFILE) & 0b10) or self.first(_OLD_SUBFILE) == 3 or _PAGE_NUMBER in self.tags


class Reader:
    """Reads the directories of a TIFF or BigTIFF file, none twice. A damaged one ends the chain without an error.

    `order` is struct's letter for the byte order, `word` that for an offset, `link` the size of an offset in bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        stream.seek(0)
        head = stream.read(16).ljust(16, b"\0")
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = b"+" in head[2:4]
        self.word, self.link = ("Q", 8) if self.big else ("L", 4)  # The link is as long as its position in the header.
        self._seen: set[int] = set()
        (self._start,) = self._unpack(self.word, head[self.link :])

    def chain(self) -> Iterator[Directory]:
        """The directories that the header and each other refer to, in this order."""
        following = self._start
        while following and following not in self._seen and len(self._seen) < _MAX_PAGES:
            found = self.read(following)
            if found is None:
                return
            directory, following = found
            yield directory

    def below(self, directory: Directory) -> Iterator[Directory]:
        """The directories that the SubIFDs of another refer to."""
        for offset in directory.tags.get(_SUB_IFDS, ()):
            if offset not in self._seen and len(self._seen) < _MAX_PAGES and (found := self.read(offset)):
                yield found[0]

    def read(self, offset: int) -> tuple[Directory, int] | None:
        """The directory at an offset, and the offset of the next one (0: none). None if it lies beyond the end."""
        self._seen.add(offset)
        head, entry, size = ("Q", "HHQ8s", 20) if self.big else ("H", "HHL4s", 12)
        start = struct.calcsize("<" + head)
        if offset >= 2**63:
            return None
        self._stream.seek(offset)
        if len(data := self._stream.read(start)) < start:
            return None
        table = self._stream.read(min(self._unpack(head, data)[0], _MAX_TAGS) * size)
        rest = self._stream.read(self.link)
        tags, types = {}, {}
        for at in range(0, len(table) - size + 1, size):
            tag, kind, number, value = self._unpack(entry, table[at:])
            if tag in _READ and tag not in tags and (values := self._values(kind, number, value)):
                tags[tag], types[tag] = values, kind
        following = self._unpack(self.word, rest)[0] if len(rest) == self.link else 0
        return Directory(offset, tags, types), following

    def _values(self, kind: int, number: int, value: bytes) -> tuple[int, ...]:
        letter = _INTEGERS.get(kind)
        if letter is None:
            return ()
        layout = f"{min(number, _MAX_VALUES)}{letter}"
        size = struct.calcsize(self.order + layout)
        if struct.calcsize(self.order + letter) * number > len(value):
            (offset,) = self._unpack(self.word, value)
            if offset >= 2**63:
                return ()
            self._stream.seek(offset)
            value = self._stream.read(size)
        return struct.unpack(self.order + layout, value[:size]) if len(value) >= size else ()

    def _unpack(self, layout: str, data: bytes) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + layout, data)


def picture_of(pages: list[Directory], reader: Reader) -> Directory:
    """The full-size image among at least one page: no thumbnail, marked as such or not, and no mask."""
    whole = [page for page in pages if not page.is_reduced and page.area]
    if not whole:
        below = (page for parent in pages for page in reader.below(parent))
        return next((page for page in below if not page.is_reduced and page.area), pages[0])
    first = whole[0]
    width, height = first.size
    larger = [
        page
        for page in whole[1:]
        if page.area >= 4 * first.area
        and abs(page.size[0] * height / (page.size[1] * width) - 1) <= _SAME_SHAPE
        and not (first.is_numbered or page.is_numbered)
    ]
    return max(larger, key=lambda page: page.area, default=first)


def pillow_is_right(page: Directory, order: str) -> bool:
    """Whether Pillow decodes this layout correctly; `order` is struct's letter for the file's byte order."""
    compression, fill = page.first(_COMPRESSION, 1), page.first(_FILL_ORDER, 1)
    photometric = YCBCR if compression == 6 else page.first(_PHOTOMETRIC)
    forms, extra = set(page.tags.get(_FORM, (1,))), page.tags.get(_EXTRA, ())
    listed = page.tags.get(BITS, (1,))
    bits = set(listed)
    raw = compression == 1
    if not (raw or compression in _LIBTIFF) or len(bits) != 1 or len(forms) != 1:
        return False
    depth, form = bits.pop(), forms.pop()
    samples = page.first(SAMPLES, 3 if compression in (6, 7) and photometric in (RGB, YCBCR) else 1)
    if 1 < len(listed) < samples or (compression in (6, 7) and depth != 8):
        return False
    if page.first(PLANAR, 1) == 2:
        if not raw and extra and not any(extra):
            samples, extra = samples - len(extra), ()  # Pillow drops them, too.
        if not _planes_are_right(photometric, depth, samples, extra, raw=raw) or (raw and fill == 2):
            return False
    counts = {COLOURS.get(photometric, 0) + len(extra), *((4,) if photometric == RGB and not extra else ())}
    if samples not in (counts | {1} if photometric == YCBCR else counts):
        return False
    if extra not in _PILLOW.get((photometric, form, depth), ()):
        return False
    if fill == 2 and (
        photometric > PALETTE or depth > (4 if photometric == WHITE_IS_ZERO else 8) or samples == 4 or extra
    ):
        return False
    if order == ">" and not raw and form != 1:
        return False  # libtiff hands out the machine's byte order, and Pillow expects the file's.
    if photometric == YCBCR and raw:
        return page.tags.get(_SUBSAMPLING, (1, 1)) == (1, 1)
    return photometric != PALETTE or max(page.tags.get(_PALETTE, (256,))) > 255


def _planes_are_right(photometric: int, depth: int, samples: int, extra: tuple[int, ...], *, raw: bool) -> bool:
    """Whether Pillow decodes samples correctly that are stored plane by plane."""
    if samples == 1:
        # Uncompressed, it takes the first letter of its name for the layout: "L" for "L;I", which is white-is-zero.
        return not raw or (photometric, depth) in ((BLACK_IS_ZERO, 1), (BLACK_IS_ZERO, 8), (PALETTE, 8))
    if samples != COLOURS.get(photometric, 0) + len(extra):
        return False  # It takes an untagged fourth plane for transparency, and does not read it.
    if raw:
        return photometric in (RGB, CMYK) and depth == 8 and extra in ((), (2,))
    return photometric in (RGB, CMYK, YCBCR) and extra in ((), (1,), (2,))
