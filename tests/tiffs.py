"""Writes TIFF files by hand (TIFF 6.0), in layouts that no library writes: any bits, planes, tiles, directories."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CODES = {1: "B", 2: "s", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 11: "f", 12: "d", 13: "L", 16: "Q", 17: "q"}
"""struct's letters for TIFF's types (TIFF 6.0 section 2; 13 and 16 … 18: supplement 1 and BigTIFF)."""


@dataclass
class Page:
    """One directory: tags by number as (type, values), the strips or tiles, and directories below it."""

    tags: dict[int, tuple[int, Sequence[Any]]]
    segments: list[bytes]
    tiled: bool = False
    below: list[Page] = field(default_factory=list)


def page(
    samples: np.ndarray,
    *,
    bits: int = 8,
    form: int = 1,
    photometric: int | None = None,
    planar: int = 1,
    order: str = "<",
    compression: int = 1,
    compress: Callable[[bytes], bytes] | None = None,
    encode: Callable[[np.ndarray], bytes] | None = None,
    predictor: int = 1,
    tile: int = 0,
    rows: int = 0,
    extra: Sequence[int] = (),
    fill_order: int = 1,
    tags: dict[int, tuple[int, Sequence[Any]]] | None = None,
    below: Sequence[Page] = (),
) -> Page:
    """A directory for samples of shape (h, w) or (h, w, s), whole numbers of `bits` bits or, with `form` 3, floats.

    `compress` takes the packed bytes of a strip or tile, `encode` its samples.
    """
    cube = samples if samples.ndim == 3 else samples[..., None]
    height, width, count = cube.shape
    if compression in (8, 32946) and compress is None:
        compress = zlib.compress
    segments = []
    for part in parts(cube, planar=planar, tile=tile, rows=rows):
        data = encode(part) if encode else pack(part, bits, form, order, predictor)
        data = compress(data) if compress else data
        if fill_order == 2:
            data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)), bitorder="little").tobytes()
        segments.append(data)
    if photometric is None:
        photometric = 2 if count - len(extra) == 3 else 1
    found: dict[int, tuple[int, Sequence[Any]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * count),
        259: (3, [compression]),
        262: (3, [photometric]),
        277: (3, [count]),
        284: (3, [planar]),
    }
    if form != 1:
        found[339] = (3, [form] * count)
    if predictor != 1:
        found[317] = (3, [predictor])
    if extra:
        found[338] = (3, list(extra))
    if fill_order != 1:
        found[266] = (3, [fill_order])
    if tile:
        found |= {322: (3, [tile]), 323: (3, [tile])}
    else:
        found[278] = (4, [rows or height])
    return Page(found | (tags or {}), segments, bool(tile), list(below))


def parts(cube: np.ndarray, *, planar: int, tile: int, rows: int) -> Iterator[np.ndarray]:
    """The samples of the strips or tiles in the order of the file, each of shape (h, w, s); tiles are padded."""
    height, width, count = cube.shape
    step = (tile, tile) if tile else (rows or height, width)
    for plane in [cube] if planar == 1 else [cube[..., i : i + 1] for i in range(count)]:
        for top in range(0, height, step[0]):
            for left in range(0, width, step[1]):
                part = plane[top : top + step[0], left : left + step[1]]
                if tile:
                    part = np.pad(part, ((0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)), "edge")
                yield part


def pack(part: np.ndarray, bits: int, form: int, order: str, predictor: int) -> bytes:
    """The samples of a strip or tile of shape (h, w, s) as bytes; each row starts with a new one."""
    kind = {1: "u", 2: "i", 3: "f"}[form]
    if bits in (8, 16, 32, 64):
        values = part.astype(f"{order}{kind}{bits // 8}")
        if predictor == 2:
            whole = values.view(f"{order}u{bits // 8}")
            values = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1])).astype(whole.dtype)
        if predictor == 3:  # Adobe Photoshop TIFF technical note 3: bytes of a row by significance, then differences
            split = part.astype(f">f{bits // 8}").view(np.uint8).reshape(len(part), -1, bits // 8)
            flat = split.transpose(0, 2, 1).reshape(len(part), -1)
            step = part.shape[2]
            values = flat.copy()
            values[:, step:] = flat[:, step:] - flat[:, :-step]
        return values.tobytes()
    flat = part.reshape(len(part), -1).astype(np.uint64)
    single = (flat[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(single.reshape(len(part), -1).astype(np.uint8), axis=1).tobytes()


def assemble(pages: Sequence[Page], *, order: str = "<", big: bool = False) -> bytes:
    """A file with these directories in a chain."""
    word, size, head = ("Q", 8, 16) if big else ("L", 4, 8)
    out = bytearray(head)

    def store(data: bytes) -> int:
        out.extend(b"\0" * (len(out) % 2))
        at = len(out)
        out.extend(data)
        return at

    def directory(page: Page) -> tuple[int, int]:
        """Where it starts, and where the position of the next one belongs."""
        tags = dict(page.tags)
        offsets = [store(data) for data in page.segments]
        counts = [len(data) for data in page.segments]
        wide = 16 if big else 4
        tags.setdefault(324 if page.tiled else 273, (wide, offsets))
        tags.setdefault(325 if page.tiled else 279, (wide, counts))
        if page.below:
            tags[330] = (wide, [directory(child)[0] for child in page.below])
        entries = b""
        for tag, (kind, values) in sorted(tags.items()):
            if kind in (1, 2, 7):
                data = bytes(values)
            elif kind in (5, 10):
                data = struct.pack(f"{order}{2 * len(values)}L", *(n for pair in values for n in pair))
            else:
                data = struct.pack(f"{order}{len(values)}{CODES[kind]}", *values)
            inline = data.ljust(size, b"\0") if len(data) <= size else struct.pack(order + word, store(data))
            entries += struct.pack(f"{order}HH{word}", tag, kind, len(values)) + inline
        block = struct.pack(order + ("Q" if big else "H"), len(tags)) + entries
        at = store(block + bytes(size))
        return at, at + len(block)

    link = head - size
    for each in pages:
        at, following = directory(each)
        out[link : link + size] = struct.pack(order + word, at)
        link = following
    magic = b"II" if order == "<" else b"MM"
    out[:4] = magic + struct.pack(order + "H", 43 if big else 42)
    if big:
        out[4:8] = struct.pack(order + "HH", 8, 0)
    return bytes(out)


def tiff(samples: np.ndarray, *, order: str = "<", big: bool = False, **options: Any) -> bytes:
    """A file of one page; `options` are those of `page`."""
    return assemble([page(samples, order=order, **options)], order=order, big=big)
