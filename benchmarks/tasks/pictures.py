"""Pictures to measure with: photographs where a folder of them is given, else textures that compress like them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.config import REPOSITORY

PLAIN = (500, 375)
ORIENTATIONS = (1, 6, 3, 8)
"""As a telephone writes them: held upright, turned, on its head."""

TEXTURES = 200
"""Different drawings; more pictures than that are made by shifting them."""
SHIFTS = 11


def make(kind: str, folder: str, count: int, source: str | None, size: tuple[int, int]) -> Callable[[], dict[str, Any]]:
    """Write `count` JPEGs: "small" ones of 500 × 375, "large" ones of `size` as telephones write them, or "tiny" ones.

    Large ones carry EXIF turns, and half of them a Display P3 profile; tiny ones are 64 px and lie in folders of 1,000.
    """
    target = Path(folder)

    def write() -> dict[str, Any]:
        target.mkdir(parents=True, exist_ok=True)
        {"small": _small, "large": _large, "tiny": _tiny}[kind](target, count, source, (size[0], size[1]))
        return {"bytes": sum(path.stat().st_size for path in target.rglob("*.jpg"))}

    return write


def one_more(folder: str, number: int) -> Callable[[], dict[str, Any]]:
    """Write one picture that is in no other folder."""

    def write() -> dict[str, Any]:
        Path(folder).mkdir(parents=True, exist_ok=True)
        texture(1_000_000 + number, PLAIN).save(Path(folder) / f"added-{number}.jpg", quality=90)
        return {}

    return write


def _small(target: Path, count: int, source: str | None, _: tuple[int, int]) -> None:
    files = _photographs(source)
    for number in range(count):
        path = target / f"small-{number:04d}.jpg"
        if number < len(files):
            path.write_bytes(files[number].read_bytes())
        elif files:
            with Image.open(files[number % len(files)]) as image:
                ImageOps.mirror(image.convert("RGB")).save(path, quality=90)
        else:
            texture(number, PLAIN).save(path, quality=90)


def _large(target: Path, count: int, source: str | None, size: tuple[int, int]) -> None:
    profile = _profiles().rgb_profile("Display P3", _profiles().DISPLAY_P3, _profiles().SRGB_CURVE)
    random = np.random.default_rng(0)
    grain = random.normal(0, 5, (size[1], size[0], 1)).astype(np.int16)
    for number, image in zip(range(count), _sources(source), strict=False):
        # Scaling up makes a smooth picture; a camera's grain gives its file the weight of a photograph's.
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.int16) + np.roll(grain, 997 * number)
        exif = Image.Exif()
        exif[0x0112] = ORIENTATIONS[number % len(ORIENTATIONS)]
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
            target / f"large-{number:02d}.jpg",
            quality=90,
            exif=exif,
            icc_profile=profile if number // 4 % 2 else None,
        )


def _tiny(target: Path, count: int, source: str | None, _: tuple[int, int]) -> None:
    some = islice(_sources(source), min(TEXTURES, count))
    drawings = [np.asarray(image.resize((64 + SHIFTS, 64 + SHIFTS))) for image in some]
    for number in range(count):
        folder = target / f"{number // 1000:02d}"
        folder.mkdir(exist_ok=True)
        drawing, shift = drawings[number % len(drawings)], number // len(drawings)
        left, top = shift % SHIFTS, shift // SHIFTS % SHIFTS
        pixels = drawing[top : top + 64, left : left + 64].copy()
        pixels[0, 0] = number % 251, number // 251 % 251, 0  # no two are the same
        Image.fromarray(pixels).save(folder / f"tiny-{number:05d}.jpg", quality=95)


def texture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Coloured noise of several octaves, with edges and grain."""
    random = np.random.default_rng(seed)
    width, height = size
    total = np.full((height, width, 3), 128, np.float32)
    for cells, gain in ((3, 60), (9, 40), (40, 20), (150, 12)):
        grid = random.normal(size=(max(2, cells * height // width), cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(grid[..., channel]).resize(size, Image.Resampling.BICUBIC)
            total[..., channel] += gain * np.asarray(layer)
    for _ in range(4):  # things with edges
        left, top = random.integers(0, width), random.integers(0, height)
        total[top : top + height // 4, left : left + width // 4] += random.normal(0, 40, 3)
    total += random.normal(0, 6, (height, width, 1))
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def _photographs(source: str | None) -> list[Path]:
    if source is None:
        return []
    return sorted(path for path in Path(source).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def _sources(source: str | None) -> Iterator[Image.Image]:
    """Photographs, then each of them mirrored; else textures without end."""
    files = _photographs(source)
    for path in files:
        with Image.open(path) as image:
            yield image.convert("RGB")
    for path in files:
        with Image.open(path) as image:
            yield ImageOps.mirror(image.convert("RGB"))
    number = 0
    while not files:
        yield texture(number, PLAIN)
        number += 1


def _profiles() -> ModuleType:
    """The writer of colour profiles beside the golden set."""
    spec = importlib.util.spec_from_file_location("profiles", REPOSITORY / "data" / "profiles.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
