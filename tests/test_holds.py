"""What decoding is said to hold beforehand (`Picture.holds`), against what a process really takes."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import test_raws
import tifffile
from PIL import Image

from clipsearch.images import decode
from clipsearch.images.limits import Limits
from clipsearch.images.requests import SMALL, Steps
from clipsearch.images.worker import Session
from clipsearch.images.workers import Workers
from clipsearch.types import Preprocess

SIDE = 3000

MEASURE = """
import sys
from clipsearch.images.open import open_image

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

data = sys.stdin.buffer.read()
import numpy
from clipsearch.images import picture
from clipsearch.types import Preprocess
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")  # the peak from now on (proc(5))
before = peak()
image = open_image(data)
image.square(Preprocess(224))
print(image.holds(Preprocess(224)), peak() - before + len(data))
"""


def colours() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (SIDE // 20, SIDE // 20, 4), np.uint8)).resize((SIDE, SIDE))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def deep(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.uint16) * 257


def tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb")
    return file.getvalue()


FILES: dict[str, Callable[[Image.Image, Image.Image], bytes]] = {
    "progressive JPEG": lambda rgb, rgba: saved(rgb, "JPEG", progressive=True),
    "PNG": lambda rgb, rgba: saved(rgb, "PNG", compress_level=1),
    "PNG with alpha": lambda rgb, rgba: saved(rgba, "PNG", compress_level=1),
    "PNG with a palette": lambda rgb, rgba: saved(rgb.convert("P"), "PNG", compress_level=1),
    "PNG, 16 bits": lambda rgb, rgba: imagecodecs.png_encode(deep(rgb), level=1),
    "PNG, 16 bits, grey": lambda rgb, rgba: imagecodecs.png_encode(deep(rgb.convert("L")), level=1),
    "GIF": lambda rgb, rgba: saved(rgb.convert("P"), "GIF"),
    "WebP": lambda rgb, rgba: saved(rgb, "WEBP", quality=50, method=0),
    "AVIF": lambda rgb, rgba: saved(rgb, "AVIF", speed=10),
    "JPEG 2000": lambda rgb, rgba: saved(rgb, "JPEG2000"),
    "JPEG 2000, 16 bits": lambda rgb, rgba: imagecodecs.jpeg2k_encode(deep(rgb)),
    "JPEG XL": lambda rgb, rgba: imagecodecs.jpegxl_encode(np.asarray(rgb), effort=1),
    "JPEG XL with alpha": lambda rgb, rgba: imagecodecs.jpegxl_encode(np.asarray(rgba), effort=1),
    "TIFF": lambda rgb, rgba: saved(rgb, "TIFF", compression="tiff_lzw"),
    "TIFF, CMYK": lambda rgb, rgba: saved(rgb.convert("CMYK"), "TIFF"),
    "TIFF, floats": lambda rgb, rgba: tiff(np.asarray(rgb) / np.float32(255)),
}


@pytest.mark.parametrize("name", FILES)
def test_the_estimate_is_within_a_fifth_of_the_peak(name: str) -> None:
    rgba = colours()
    estimate, peak = measured(FILES[name](rgba.convert("RGB"), rgba))
    assert estimate == pytest.approx(peak, rel=0.2)


def test_so_is_that_of_a_raw_file(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = np.asarray(colours().convert("RGB"))
    monkeypatch.setattr(test_raws, "WIDTH", SIDE)
    monkeypatch.setattr(test_raws, "HEIGHT", SIDE)
    monkeypatch.setattr(test_raws, "scene", lambda: scene)
    estimate, peak = measured(test_raws.dng(preview=None))
    assert estimate == pytest.approx(peak, rel=0.2)


def test_a_large_jpeg_xl_is_not_even_opened_before_there_is_room() -> None:
    data = FILES["JPEG XL"](colours().convert("RGB"), colours())
    request = {"do": "image", "max_pixels": 10**8, "truncated": False, "since": None, "preprocess": None}
    with contextlib.closing(Session()) as session:
        session.do({"do": "take"}, data)
        answer, _ = session.do({**request, "granted": 0})
        assert answer.keys() == {"holds"} and answer["holds"] > SMALL
        answer, _ = session.do({**request, "granted": answer["holds"]})
        assert answer["facts"]["width"] == SIDE


def test_a_jpeg_xl_that_waited_for_room_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "large.jxl").write_bytes(FILES["JPEG XL"](colours().convert("RGB"), colours()))

    def pixels() -> Steps[tuple[int, ...]]:
        yield from decode.opened(os.fsencode(tmp_path / "large.jxl"))
        return (yield from decode.whole_pixels(Preprocess(32)))[0].shape

    with Workers(Limits(2), memory=1) as workers:
        assert list(workers.run([pixels, pixels, pixels])) == [(3, 32, 32)] * 3


def measured(data: bytes) -> tuple[int, int]:
    """What decoding a file is said to hold, and what it held, in bytes."""
    done = subprocess.run([sys.executable, "-c", MEASURE], input=data, capture_output=True, check=True)
    estimate, peak = map(int, done.stdout.split())
    return estimate, peak
