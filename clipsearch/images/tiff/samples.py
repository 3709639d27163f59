"""Decodes the layouts of TIFF that Pillow misreads or refuses, by tifffile: strips and tiles to samples to an image.

tifffile reads the tags. Compressions of bytes (LZW, deflate …) are undone by Pillow's libtiff, those of images (JPEG
2000, JPEG XL …) by imagecodecs, the extra `tiff`. Neither of the two has a limit for what a strip may expand to, and
without imagecodecs tifffile has no samples of 10, 12 or 14 bits; so bytes become samples here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tifffile.tifffile import jpeg_shape

from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.images import jxl
from clipsearch.images.pillow import DECODE_ERRORS, check_count
from clipsearch.images.tiff.colours import image_of, narrowed
from clipsearch.images.tiff.layout import IMAGES, Layout, layout_of

# Without a handler, Python would write the warnings about odd files to the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_MAX_BYTES = 16
"""Bytes per pixel of `max_pixels` that may be decoded at a time: four samples of 32 bits."""

_LARGER = 4
"""How many times more pixels than its strip or tile an image in it may have: codecs round sizes up."""

_NARROWED = 1_000_000
"""Samples of a strip or tile that are converted at a time: it takes several times their memory."""

_MAX_PARTS = 100_000
"""Strips or tiles of a plane: 64 megapixels in rows, or in tiles of 26 by 26."""

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Bytes with their bits in reverse, as FillOrder 2 stores them."""

_ERRORS = (tifffile.TiffFileError, *DECODE_ERRORS)


def decode(stream: BinaryIO, max_pixels: int, *, truncated: bool) -> tuple[Image.Image, bytes | None]:
    """The image of the first directory, in mode L, LA, RGB, RGBA, CMYK or LAB and not turned, and its ICC profile.

    Raises UnsupportedImageError for a layout that is not read or a compression whose extra is missing,
    TruncatedImageError where a strip lies beyond the end unless `truncated`, and ImageError for damage.
    """
    stream.seek(0)
    # Without a name of ours, tifffile takes the stream's own, which is a number if it was opened by a descriptor.
    with _translated(), tifffile.TiffFile(stream, name="TIFF") as file:
        page = file.pages.first
        layout = layout_of(page, file.byteorder)
        _check_size(layout, max_pixels)
        values = _samples(page, layout, stream, truncated=truncated)
        profile = page.tags.valueof(34675)
        palette = page.colormap
    return image_of(values, layout, palette, profile if isinstance(profile, bytes) else None)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except ImportError as exc:  # A build of imagecodecs without this codec.
        raise UnsupportedImageError(f"TIFF compression that this imagecodecs lacks: {exc}"[:200]) from exc
    except _ERRORS as exc:
        raise ImageError(f"the pixels cannot be decoded: {' '.join(str(exc).split())}"[:300]) from exc


def _check_size(layout: Layout, max_pixels: int) -> None:
    """Raise ImageError for sizes that are damaged, or that would need more memory than `max_pixels` allows."""
    width, height = layout.size
    if min(*layout.part, *layout.subsampling) < 1:
        raise ImageError("the TIFF header is damaged: empty strips or tiles")
    if -(-width // layout.part[0]) * -(-height // layout.part[1]) > _MAX_PARTS:
        raise ImageError(f"more than {_MAX_PARTS:,} strips or tiles")
    part = layout.part[0] * layout.part[1]
    check_count(max(width * height, part), max_pixels)
    narrow = width * height * (layout.colours + 1) * np.dtype(layout.dtype).itemsize
    if max(narrow, part * layout.together * max(1, layout.bits // 8)) > _MAX_BYTES * max_pixels:
        raise ImageError(f"its samples need more than {_MAX_BYTES} bytes per pixel of `max_pixels`")


def _samples(page: Any, layout: Layout, stream: BinaryIO, *, truncated: bool) -> NDArray[Any]:  # noqa: ANN401
    """The needed samples, narrowed, of shape (h, w, colours and alpha); zeros where the file stores none."""
    (width, height), (columns, rows) = layout.size, layout.part
    wanted = [*range(layout.colours), *([] if layout.alpha is None else [layout.alpha])]
    values = np.zeros((height, width, len(wanted)), layout.dtype)
    across, down = -(-width // columns), -(-height // rows)
    for place, plane in enumerate(wanted if layout.is_planar else [0]):
        for number in range(across * down):
            top, left = number // across * rows, number % across * columns
            shape = (rows if layout.is_tiled else min(rows, height - top), columns)
            index = plane * across * down + number
            data = _stored(page, layout, index, shape, stream, truncated=truncated)
            if data is None:
                continue
            try:
                part = _part(page, layout, index, shape, data)
            except _ERRORS:
                if not truncated:
                    raise
                continue
            part = part[: height - top, : width - left]
            channels = slice(place, place + 1) if layout.is_planar else slice(None)
            into = values[top : top + part.shape[0], left : left + part.shape[1], channels]
            step = max(1, _NARROWED // max(1, part[0].size))
            for row in range(0, part.shape[0], step):
                some = part[row : row + step]
                into[row : row + step] = narrowed(some if layout.is_planar else some[..., wanted], layout)
    return values


def _stored(
    page: Any,  # noqa: ANN401 - tifffile's TiffPage
    layout: Layout,
    index: int,
    shape: tuple[int, int],
    stream: BinaryIO,
    *,
    truncated: bool,
) -> bytes | None:
    """The stored bytes of a strip or tile; None if there are none, as in sparse files.

    Raises TruncatedImageError or ImageError where they are not in the file, unless `truncated`.
    """
    if index >= min(len(page.dataoffsets), len(page.databytecounts)):
        if truncated:
            return None
        raise ImageError("the TIFF header is damaged: it lists too few strips or tiles")
    offset, length = int(page.dataoffsets[index]), int(page.databytecounts[index])
    if not offset or not length:
        return None
    if layout.compression == 1:
        line, lines = _lines(layout, shape)
        length = line * lines
    stream.seek(offset)
    data = stream.read(length)
    if len(data) < length and not truncated:
        raise TruncatedImageError("the file ends early: a strip or tile lies beyond its end")
    return data.translate(_MIRRORED) if layout.is_mirrored and layout.compression not in IMAGES else data


def _part(page: Any, layout: Layout, index: int, shape: tuple[int, int], data: bytes) -> NDArray[Any]:  # noqa: ANN401
    """Samples of a strip or tile, of shape (rows, columns, samples)."""
    if layout.compression in IMAGES:
        if _count_pixels(data, IMAGES[layout.compression]) > _LARGER * shape[0] * shape[1]:
            raise ImageError("the TIFF file is damaged: a strip or tile holds a larger image")
        decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        part: NDArray[Any] = decoded[0]
        return part
    line, lines = _lines(layout, shape)
    if layout.compression != 1:
        data = _expanded(data, layout.compression, line, lines)
    return _unpacked(data.ljust(line * lines, b"\0"), layout, shape)


def _count_pixels(data: bytes, codec: str) -> int:
    """Pixels of the image in a strip or tile, by its own header: imagecodecs decodes it whatever its size."""
    if codec == "JPEG":
        _, height, width, _ = jpeg_shape(data)
        return int(height * width)
    if codec == "JPEG XL":
        return jxl.read_header(io.BytesIO(data)).pixels
    if codec == "LERC":  # Name, version, from version 3 on a checksum, rows, columns (github.com/Esri/lerc, Lerc2.h)
        if not data.startswith(b"Lerc2 "):
            raise UnsupportedImageError("TIFF with LERC of version 1, or compressed again, is not supported")
        (version,) = struct.unpack_from("<l", data, 6)
        height, width = struct.unpack_from("<LL", data, 14 if version >= 3 else 10)
        return int(height * width)
    with Image.open(io.BytesIO(data), formats=("JPEG2000", "PNG", "WEBP")) as image:
        return image.width * image.height


def _lines(layout: Layout, shape: tuple[int, int]) -> tuple[int, int]:
    """Bytes of a stored row, and the number of these rows, in a part of (rows, columns) pixels."""
    rows, columns = shape
    across, down = layout.subsampling
    if (across, down) != (1, 1):
        return -(-columns // across) * (across * down + 2), -(-rows // down)
    return -(-columns * layout.together * layout.bits // 8), rows


def _expanded(data: bytes, compression: int, line: int, lines: int) -> bytes:
    """`data` decompressed to `lines` rows of `line` bytes, and no more: by libtiff, as a grey image of that size."""
    tags = {256: line, 257: lines, 258: 8, 259: compression, 262: 1, 273: 8, 277: 1, 278: lines, 279: len(data)}
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    body = data + b"\0" * (len(data) % 2)
    head = struct.pack("<4sL", b"II*\0", 8 + len(body))
    file = head + body + struct.pack("<H", len(tags)) + entries + bytes(4)
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        return image.tobytes()


def _unpacked(data: bytes, layout: Layout, shape: tuple[int, int]) -> NDArray[Any]:
    """Samples of shape (rows, columns, samples) from the bytes of a strip or tile."""
    (rows, columns), together, bits = shape, layout.together, layout.bits
    if layout.subsampling != (1, 1):
        return _upsampled(data, layout, shape)
    if bits not in (8, 16, 32, 64):
        return _packed(data, rows, columns * together, bits).reshape(rows, columns, together)
    size, place = bits // 8, f"{layout.form}{bits // 8}"
    values: NDArray[Any]
    if layout.predictor == 3:  # Adobe Photoshop TIFF technical note 3: the bytes of a row by significance
        steps: NDArray[np.uint8] = np.ndarray((rows, columns * size, together), np.uint8, data)
        split = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(rows, size, columns * together)
        values = np.ascontiguousarray(split.transpose(0, 2, 1)).view(f">{place}")
        return np.asarray(values.reshape(rows, columns, together))
    values = np.ndarray((rows, columns, together), f"{layout.order}{place}", data)
    if layout.predictor == 2:
        whole = values.view(f"{layout.order}u{size}").astype(f"u{size}")
        values = np.cumsum(whole, axis=1, dtype=whole.dtype).view(place)
    return values


def _packed(data: bytes, rows: int, count: int, bits: int) -> NDArray[np.uint16]:
    """Rows of `count` numbers of `bits` bits (1 … 16), which lie one behind the other; a row starts with a new byte."""
    line = -(-count * bits // 8)
    lines = np.pad(np.ndarray((rows, line), np.uint8, data), ((0, 0), (0, 2)))
    starts = np.arange(count) * bits
    first, shift = starts // 8, (24 - bits - starts % 8).astype(np.uint32)
    values = np.empty((rows, count), np.uint16)
    step = max(1, 1_000_000 // count)  # Limits the memory for the three bytes that a number may lie in.
    for top in range(0, rows, step):
        part = lines[top : top + step]
        high, middle, low = (part[:, first + place].astype(np.uint32) for place in range(3))
        values[top : top + step] = (high << 16 | middle << 8 | low) >> shift & (2**bits - 1)
    return values


def _upsampled(data: bytes, layout: Layout, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """YCbCr in units of several Y, one Cb and one Cr (TIFF 6.0, section 21)."""
    (rows, columns), (across, down) = shape, layout.subsampling
    line, lines = _lines(layout, shape)
    size = across * down + 2
    units: NDArray[np.uint8] = np.ndarray((lines, line // size, size), np.uint8, data)
    luma = units[..., :-2].reshape(lines, -1, down, across).transpose(0, 2, 1, 3).reshape(lines * down, -1)
    chroma = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate([luma[..., None], chroma], axis=-1)[:rows, :columns]
