"""What tiles find that the whole picture does not: drawings put anywhere into larger pictures, looked for by caption.

    python benchmarks/tiles.py

The encoder is the tests' small CLIP; 200 drawings, each alone on grey. Prints for each choice of tiles how many views a
picture has, and how often the right picture is the first hit, or among the first five.
"""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.load import load_encoder
from clipsearch.images import tiles
from clipsearch.images.open import open_image

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from tinyclip.scenes import Scene, caption, draw, scenes  # noqa: E402

COUNT = 200
GREY = (128, 128, 128)

SIZES = {"panorama": ((896, 224), 224), "large": ((480, 360), 224), "small": ((480, 360), 150)}
"""The picture's size, and the side of the drawing in it."""

PANORAMA = [(1, 1), (3, 4), (2, 3), (1, 2), (1, 3)]
GRIDS = [((1, 2), (1, 1)), ((1, 2), (3, 4)), ((1, 2), (1, 2)), ((3, 5), (2, 3)), ((2, 3), (1, 2))]


def image(scene: Scene, kind: str, rng: random.Random) -> bytes:
    (width, height), side = SIZES[kind]
    whole = Image.new("RGB", (width, height), GREY)
    whole.paste(draw(scene, side), (rng.randrange(width - side + 1), rng.randrange(height - side + 1)))
    data = io.BytesIO()
    whole.save(data, "PNG")
    return data.getvalue()


def found(encoder: Encoder, drawn: list[Scene], kind: str, mode: tiles.Tiles) -> str:
    """Views a picture, and recall at 1 and 5 of its caption, by the best view."""
    rng = random.Random(1)
    pixels: list[NDArray[np.uint8]] = []
    owner: list[int] = []
    for i, scene in enumerate(drawn):
        opened = open_image(image(scene, kind, rng))
        views = tiles.views(opened.facts.width, opened.facts.height, mode)
        pixels += [opened.pixels(encoder.info.preprocess, box=view.box) for view in views]
        owner += [i] * len(views)
    batches = [encoder.encode_images(np.stack(pixels[i : i + 64])) for i in range(0, len(pixels), 64)]
    scores = encoder.encode_texts([caption(scene) for scene in drawn]) @ np.concatenate(batches).T
    best = np.stack([scores[:, np.array(owner) == i].max(axis=1) for i in range(len(drawn))], axis=1)
    above = (best > best.diagonal()[:, None]).sum(axis=1)
    return f"{len(pixels) / len(drawn):4.1f} views, first {np.mean(above < 1):5.1%}, in five {np.mean(above < 5):5.1%}"


def main(say: Callable[[str], Any] = print) -> None:
    encoder = load_encoder(str(TESTS / "tinyclip" / "tiny_clip.pt"), EncoderOptions(device="cpu"))
    drawn = list(scenes(COUNT, seed=3))
    for kind in SIZES:
        say(f"{kind:10} {'no tiles':20} {found(encoder, drawn, kind, 'none')}")
        if kind == "panorama":
            for step in PANORAMA:
                tiles.PANORAMA_STEP = step
                say(f"{kind:10} {f'step {step}':20} {found(encoder, drawn, kind, 'auto')}")
            continue
        for share, step in GRIDS:
            tiles.GRID_SHARE, tiles.GRID_STEP = share, step
            say(f"{kind:10} {f'side {share} step {step}':20} {found(encoder, drawn, kind, 'all')}")


if __name__ == "__main__":
    main()
