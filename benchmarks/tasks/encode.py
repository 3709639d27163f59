"""Encoding alone: our encoder as a library records it, and the same model in torch as open_clip runs it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.load import reload_encoder
from clipsearch.images.open import open_image
from clipsearch.library.library import Library

BATCH = 8


def encoder_of(library: str) -> Encoder:
    """The encoder that answers in a library, on the CPU."""
    with Library.open(library) as opened:
        info = opened.info()
    answering = next(status.info for status in info.encoders if status.role == "answering")
    return reload_encoder(answering, EncoderOptions(device="cpu"))


def images_in(folder: str, count: int) -> list[bytes]:
    """The bytes of the first pictures in a folder and those below."""
    paths = (path for path in sorted(Path(folder).rglob("*.jpg")) if path.is_file())
    return [path.read_bytes() for path in islice(paths, count)]


def ours(library: str, count: int) -> Callable[[], dict[str, Any]]:
    """Encode `count` prepared pictures in batches."""
    encoder = encoder_of(library)
    pixels = _noise(count, encoder.info.preprocess.size)
    encoder.encode_images(pixels[:BATCH])
    runtime = "torch" if "torch" in sys.modules else "ONNX Runtime"

    def encode() -> dict[str, Any]:
        for start in range(0, count, BATCH):
            encoder.encode_images(pixels[start : start + BATCH])
        return {"runtime": runtime}

    return encode


def reference(checkpoint: str, arch: str | None, count: int) -> Callable[[], dict[str, Any]]:
    """The same work with open_clip's module in torch, its pixels already normalised; with the operations it takes."""
    import torch

    model = torch_model(checkpoint, arch)
    size = model.visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    pixels = torch.from_numpy(_noise(count, size)).float().div(127.5).sub(1)
    work = operations(model.visual, size)

    def encode() -> dict[str, Any]:
        with torch.inference_mode():
            for start in range(0, count, BATCH):
                model.encode_image(pixels[start : start + BATCH], normalize=True)
        return work

    return encode


def operations(tower: Any, size: int) -> dict[str, float]:  # noqa: ANN401
    """GFLOP (a multiply-add is two) of a vision transformer for one picture of size × size.

    gflop: as open_clip runs it. gflop_needed: with only the row that becomes the vector through the last block, behind
    its keys and values, which is all that our graph computes.
    """
    width, _, patch, _ = tower.conv1.weight.shape
    patches = (size // patch) ** 2
    rows, blocks = patches + 1, len(tower.transformer.resblocks)
    inner = tower.transformer.resblocks[0].mlp[0].out_features
    row_work = 2 * (4 * width**2 + 2 * width * inner)  # query, key, value, output; both layers of the MLP
    block = rows * row_work + 4 * rows**2 * width
    last = 2 * 2 * rows * width**2 + row_work - 2 * 2 * width**2 + 4 * rows * width
    ends = 2 * patches * width * 3 * patch**2 + 2 * width * tower.output_dim
    return {"gflop": 1e-9 * (ends + blocks * block), "gflop_needed": 1e-9 * (ends + (blocks - 1) * block + last)}


def torch_model(checkpoint: str, arch: str | None) -> Any:  # noqa: ANN401
    """open_clip's own model with a checkpoint's weights; without an architecture it is one in OpenAI's format."""
    import open_clip
    import torch

    if arch is None:
        from open_clip.openai import load_openai_model

        return load_openai_model(checkpoint, precision="fp32", device=torch.device("cpu")).eval()
    return open_clip.create_model(arch, pretrained=checkpoint).eval()


def shares(library: str, folder: str, count: int) -> Callable[[], dict[str, float]]:
    """CPU seconds a picture for reading, hashing and decoding it on one thread, and for encoding it on all cores."""
    import hashlib

    encoder = encoder_of(library)
    files = images_in(folder, count)
    encoder.encode_images(_noise(BATCH, encoder.info.preprocess.size))

    def measure() -> dict[str, float]:
        begun = time.thread_time()
        prepared = []
        for data in files:
            hashlib.sha256(data).digest()
            prepared.append(open_image(data).pixels(encoder.info.preprocess))
        decode = (time.thread_time() - begun) / len(files)
        pixels = np.stack(prepared)
        begun = time.process_time()
        for start in range(0, len(pixels), BATCH):
            encoder.encode_images(pixels[start : start + BATCH])
        encode = (time.process_time() - begun) / len(files)
        return {"decode_cpu_s": decode, "encode_cpu_s": encode, "cores": float(len(os.sched_getaffinity(0)))}

    return measure


def fidelity(library: str, checkpoint: str, arch: str | None, folder: str, count: int) -> Callable[[], dict[str, Any]]:
    """The lowest cosine between our vectors and torch's, over the same prepared pixels of `count` pictures."""
    import torch

    encoder = encoder_of(library)
    preprocess = encoder.info.preprocess
    prepared = np.stack([open_image(data).pixels(encoder.info.preprocess) for data in images_in(folder, count)])
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (preprocess.mean, preprocess.std))

    def compare() -> dict[str, Any]:
        found = [encoder.encode_images(prepared[i : i + BATCH]) for i in range(0, len(prepared), BATCH)]
        runtime = "torch" if "torch_towers" in " ".join(sys.modules) else "ONNX Runtime"
        model = torch_model(checkpoint, arch)
        expected = []
        with torch.inference_mode():
            for i in range(0, len(prepared), BATCH):
                pixels = (prepared[i : i + BATCH].astype(np.float32) / 255 - mean) / std
                expected.append(model.encode_image(torch.from_numpy(pixels), normalize=True).numpy())
        cosines = np.einsum("nd,nd->n", _unit(np.concatenate(found)), _unit(np.concatenate(expected)))
        return {"lowest": float(cosines.min()), "pictures": len(prepared), "runtime": runtime}

    return compare


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """In double precision, in which 1 − 1e-8 is not 1."""
    wide = rows.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def _noise(count: int, size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
