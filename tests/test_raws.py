"""Camera raw files: DNGs written here byte by byte, read through LibRaw."""

from __future__ import annotations

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from clipsearch.errors import ImageError
from clipsearch.images.open import open_image
from clipsearch.types import Preprocess

WIDTH, HEIGHT = 320, 200


def scene() -> np.ndarray:
    """Colour patches, different in every corner, as uint8 of shape (HEIGHT, WIDTH, 3)."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[:100, :160] = (200, 40, 40)
    image[:100, 160:] = (40, 180, 40)
    image[100:, :160] = (40, 60, 200)
    return image


def entry(tag: int, kind: int, values: tuple[int, ...]) -> tuple[int, int, int, bytes]:
    code = {1: "B", 2: "B", 3: "H", 4: "L", 5: "L", 7: "B", 10: "l"}[kind]
    count = len(values) // 2 if kind in (5, 10) else len(values)
    return tag, kind, count, struct.pack(f"<{len(values)}{code}", *values)


def directory(entries: list[tuple[int, int, int, bytes]], at: int) -> bytes:
    head, tail = struct.pack("<H", len(entries)), b""
    end = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, data in sorted(entries):
        if len(data) > 4:
            data, tail = struct.pack("<L", end + len(tail)), tail + data + b"\0" * (len(data) % 2)
        head += struct.pack("<HHL4s", tag, kind, count, data.ljust(4, b"\0"))
    return head + struct.pack("<L", 0) + tail


def dng(*, preview: int | None, orientation: int = 1, marked: bool = False) -> bytes:
    """An uncompressed 16-bit Bayer DNG of `scene`, with a JPEG preview of that width in its first directory.

    `marked` paints the preview's upper left corner white, so that it can be told from the sensor's data.
    """
    image = scene()
    bayer = np.zeros((HEIGHT, WIDTH), np.uint16)
    linear = ((image / 255.0) ** 2.2 * 60000).astype(np.uint16)
    bayer[0::2, 0::2] = linear[0::2, 0::2, 0]
    bayer[0::2, 1::2] = linear[0::2, 1::2, 1]
    bayer[1::2, 0::2] = linear[1::2, 0::2, 1]
    bayer[1::2, 1::2] = linear[1::2, 1::2, 2]
    text = {271: b"Maker\0", 272: b"Maker One\0", 306: b"2021:05:03 14:02:11\0", 50708: b"Maker One\0"}
    common = [entry(tag, 2, tuple(value)) for tag, value in text.items()]
    common += [entry(274, 3, (orientation,)), entry(50706, 1, (1, 4, 0, 0)), entry(50707, 1, (1, 1, 0, 0))]
    matrix = (32405, -15371, -4985, -9693, 18760, 416, 556, -2040, 10572)  # XYZ to sRGB, times 10,000
    common.append(entry(50721, 10, tuple(value for element in matrix for value in (element, 10000))))
    common += [entry(50778, 3, (21,)), entry(50728, 5, (1, 1, 1, 1, 1, 1))]
    sensor = [
        entry(254, 4, (0,)), entry(256, 4, (WIDTH,)), entry(257, 4, (HEIGHT,)), entry(258, 3, (16,)),
        entry(259, 3, (1,)),
        entry(262, 3, (32803,)), entry(277, 3, (1,)), entry(278, 4, (HEIGHT,)), entry(279, 4, (bayer.nbytes,)),
        entry(33421, 3, (2, 2)), entry(33422, 1, (0, 1, 1, 2)), entry(50714, 3, (0,)), entry(50717, 4, (60000,)),
    ]  # fmt: skip
    if preview is None:
        start = 8 + len(directory([*common, *sensor, entry(273, 4, (0,))], 8))
        return b"II*\0\x08\0\0\0" + directory([*common, *sensor, entry(273, 4, (start,))], 8) + bayer.tobytes()
    shown = Image.fromarray(image).resize((preview, preview * HEIGHT // WIDTH))
    if marked:
        shown.paste((255, 255, 255), (0, 0, preview // 4, preview // 4))
    stream = io.BytesIO()
    shown.save(stream, "JPEG", quality=95, subsampling=0)
    jpeg = stream.getvalue() + b"\0" * (len(stream.getvalue()) % 2)

    def first(sub: int, strip: int) -> list[tuple[int, int, int, bytes]]:
        return [
            *common, entry(254, 4, (1,)), entry(256, 4, (shown.width,)), entry(257, 4, (shown.height,)),
            entry(258, 3, (8, 8, 8)), entry(259, 3, (7,)), entry(262, 3, (6,)), entry(277, 3, (3,)),
            entry(278, 4, (shown.height,)), entry(273, 4, (strip,)), entry(279, 4, (len(jpeg),)), entry(330, 4, (sub,)),
        ]  # fmt: skip

    at_sub = 8 + len(directory(first(0, 0), 8))
    at_jpeg = at_sub + len(directory([*sensor, entry(273, 4, (0,))], at_sub))
    head = directory(first(at_sub, at_jpeg), 8) + directory([*sensor, entry(273, 4, (at_jpeg + len(jpeg),))], at_sub)
    return b"II*\0\x08\0\0\0" + head + jpeg + bayer.tobytes()


def corners(pixels: np.ndarray) -> list[str]:
    """The strongest channel in each quarter, row by row; "grey" where there is none."""
    size = pixels.shape[1]
    names = []
    for y, x in ((0.4, 0.4), (0.4, 0.6), (0.6, 0.4), (0.6, 0.6)):
        colour = pixels[:, int(y * size), int(x * size)].astype(int)
        names.append("grey" if np.ptp(colour) < 30 else ("red", "green", "blue")[int(colour.argmax())])
    return names


@pytest.mark.parametrize("preview", [None, 160])
@pytest.mark.parametrize("size", [48, 128])
def test_a_raw_file_shows_what_the_sensor_saw(preview: int | None, size: int) -> None:
    image = open_image(dng(preview=preview))
    assert (image.facts.format, image.facts.width, image.facts.height) == ("RAW", WIDTH, HEIGHT)
    assert image.facts.camera == "Maker One"
    assert corners(image.pixels(Preprocess(size=size))) == ["red", "green", "blue", "grey"]


@pytest.mark.parametrize("preview", [None, 160])
def test_a_raw_file_is_turned(preview: int | None) -> None:
    image = open_image(dng(preview=preview, orientation=6))
    assert (image.facts.width, image.facts.height) == (HEIGHT, WIDTH)
    assert corners(image.pixels(Preprocess(size=48))) == ["blue", "red", "grey", "green"]


def test_the_preview_serves_small_targets_and_the_sensor_large_ones() -> None:
    image = open_image(dng(preview=160, marked=True))
    small = image.pixels(Preprocess(size=64, resize="squash"))
    large = image.pixels(Preprocess(size=192, resize="squash"))
    assert small[:, 2, 2].min() > 240
    assert large[:, 2, 2].argmax() == 0 and large[:, 2, 2].min() < 100


def test_a_damaged_raw_file_is_an_error_of_ours() -> None:
    whole = dng(preview=None)
    for data in (whole[: len(whole) // 2], whole[:300], b"FUJIFILMCCD-RAW 0201" + bytes(200)):
        with pytest.raises(ImageError) as caught:
            open_image(data).pixels(Preprocess(size=64))
        assert "\n" not in str(caught.value)


def test_without_its_extra_a_raw_file_names_it() -> None:
    script = (
        "import sys; sys.modules['rawpy'] = None\n"
        "from clipsearch.errors import UnsupportedImageError\n"
        "from clipsearch.images.open import open_image\n"
        "try: open_image(sys.stdin.buffer.read())\n"
        "except UnsupportedImageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], input=dng(preview=160), capture_output=True, check=True)
    assert b"pip install 'clipsearch[raw]'" in done.stdout
