"""What decoder processes reach: images per second with one and two of them, and the parent's share of the work.

    python -m benchmarks.decoding FOLDER

FOLDER holds photographs; copies of them with 500 × 375 pixels are decoded. The parent's share is its CPU time in an
index run whose encoder takes almost none: scanning, handing over, committing and publishing.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.catalog.catalog import Catalog
from clipsearch.images import decode
from clipsearch.images.limits import Limits
from clipsearch.images.requests import Steps
from clipsearch.images.workers import Workers
from clipsearch.indexing.run import IndexRun, RunOptions
from clipsearch.types import EncoderInfo, Preprocess

SIZE = (500, 375)
COPIES = 2000
ROUNDS = 5
CORES = 16
INFO = EncoderInfo("none", "none", 512, 100.0, None, Preprocess(224), is_clip=True)


class NoEncoder:
    """Vectors without a model: what an encoder on another device costs the CPU, at best."""

    info = INFO

    def load_images(self) -> None:
        pass

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = batch[:, :, 100, :171].reshape(len(batch), -1)[:, : INFO.dim].astype(np.float32) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as work:
        files = copies(folder, Path(work, "photos"))
        one, two, alone, beside = [], [], [], []
        for _ in range(ROUNDS):
            one.append(rate(files[:300], 1))
            two.append(rate(files[:600], 2) / 2)
            alone.append(programs(files[:300], 1))
            beside.append(programs(files[:300], 2))
        middle = statistics.median
        print(f"images/s of a process: alone {middle(one):.0f}, of two {middle(two):.0f}: {ratio(two, one):.3f}")
        print(f"the same in programs that know nothing of each other: {ratio(beside, alone):.3f}")
        shares = [share(files, Path(work, f"index-{number}")) for number in range(3)]
        serial = statistics.median(shares)
        print(f"CPU time of the parent per image: {1000 * serial:.3f} ms")
        print(f"{CORES} cores: {min(CORES * middle(one), 1 / serial):.0f} images/s; the parent alone {1 / serial:.0f}")


def ratio(some: list[float], others: list[float]) -> float:
    """Of two measurements in the same rounds."""
    return statistics.median(a / b for a, b in zip(some, others, strict=True))


def programs(files: list[Path], count: int) -> float:
    """Images per second of one of so many programs that decode in their own process, at the same time."""
    code = "import sys; from benchmarks.decoding import decode_here; decode_here(sys.stdin.read().split('\\0'))"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for program in running:
        assert program.stdin is not None
        program.stdin.write("\0".join(map(str, files)))
        program.stdin.close()
    rates = [float(program.stdout.read()) for program in running if program.stdout is not None]
    for program in running:
        program.wait()
    return statistics.mean(rates)


def decode_here(paths: list[str]) -> None:
    """Print the images per second that this process decodes."""
    with Workers(Limits(None)) as workers:
        list(workers.run(functools.partial(pixels, Path(path)) for path in paths[:8]))
        begun = time.perf_counter()
        list(workers.run(functools.partial(pixels, Path(path)) for path in paths))
        print(len(paths) / (time.perf_counter() - begun))


def copies(folder: Path, target: Path) -> list[Path]:
    """Small JPEGs, all different, made of the photographs in a folder."""
    target.mkdir()
    sources = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    made = []
    for number in range(COPIES):
        path = target / f"{number:05}.jpg"
        if number < len(sources):
            with Image.open(sources[number]) as image:
                image.convert("RGB").resize(SIZE).save(path, quality=90)
        else:
            path.write_bytes((target / f"{number % len(sources):05}.jpg").read_bytes() + bytes(number // len(sources)))
        os.utime(path, (1e9, 1e9))
        made.append(path)
    return made


def pixels(path: Path) -> Steps[int]:
    yield from decode.read(os.fsencode(path))
    return len((yield from decode.whole_pixels(INFO.preprocess))[0])


def rate(files: list[Path], count: int) -> float:
    """Images per second by so many processes."""
    with Workers(Limits(count)) as workers:
        workers.warm_up(count)
        list(workers.run(functools.partial(pixels, path) for path in files[: 8 * count]))
        begun = time.perf_counter()
        for _ in workers.run((functools.partial(pixels, path) for path in files), ahead=64):
            pass
        return len(files) / (time.perf_counter() - begun)


def share(files: list[Path], index: Path) -> float:
    """CPU seconds of this process for one image of an index run.

    With as many processes as there would be cores: the parent then handles several answers each time it wakes up.
    """
    encoder: Any = NoEncoder()
    catalog = Catalog.create(index)
    try:
        with catalog.transaction():
            row = catalog.add_encoder(INFO)
            catalog.set_meta("encoder_id", str(row.id))
        run = IndexRun(catalog, lambda: encoder, row, RunOptions(workers=CORES, batch_size=128, engine="exact"))
        begun = time.process_time()
        report = run.run([os.fsencode(files[0].parent)])
        taken = time.process_time() - begun
    finally:
        catalog.close()
    assert report.encoded == len(files)
    return taken / len(files)


if __name__ == "__main__":
    main()
