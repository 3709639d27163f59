"""Captioned drawings that the tiny checkpoint understands: two shapes on a plain background, drawn with Pillow.

`draw(scene)` gives a 224-pixel RGB image, `caption(scene)` its sentence; `scenes(n, seed)` n different ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 80, 215),
    "yellow": (240, 215, 50),
    "orange": (245, 140, 30),
    "purple": (135, 50, 170),
    "pink": (245, 140, 190),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "brown": (120, 75, 40),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
RADIUS = {"small": 0.125, "large": 0.215}  # as a fraction of the image's side
RELATIONS = {"above": (0, 1), "to the left of": (1, 0)}  # from the first shape to the second


@dataclass(frozen=True)
class Shape:
    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    first: Shape
    relation: str
    second: Shape
    background: str


def scenes(n: int, seed: int = 0) -> Iterator[Scene]:
    """Yield n different scenes; the same seed gives the same scenes."""
    rng = random.Random(seed)
    seen: set[Scene] = set()
    while len(seen) < n:
        background, *colours = rng.sample(list(COLOURS), 3)
        first, second = (Shape(rng.choice(list(RADIUS)), c, rng.choice(SHAPES)) for c in colours)
        scene = Scene(first, rng.choice(list(RELATIONS)), second, background)
        if scene not in seen:
            seen.add(scene)
            yield scene


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(scene: Scene) -> str:
    return (
        f"{_with_article(str(scene.first))} {scene.relation} {_with_article(str(scene.second))} "
        f"on {_with_article(scene.background)} background"
    )


def draw(scene: Scene, side: int = 224) -> Image.Image:
    n = side * 2  # drawn twice as large, for soft edges
    image = Image.new("RGB", (n, n), COLOURS[scene.background])
    pen = ImageDraw.Draw(image)
    r1, r2 = RADIUS[scene.first.size], RADIUS[scene.second.size]
    length = 2 * r1 + 2 * r2 + 0.05
    start = (1 - length) / 2
    along = (start + r1, start + 2 * r1 + 0.05 + r2)
    dx, dy = RELATIONS[scene.relation]
    for item, r, a in zip((scene.first, scene.second), (r1, r2), along, strict=True):
        x, y = (a if dx else 0.5) * n, (a if dy else 0.5) * n
        _draw_shape(pen, item.shape, x, y, r * n, COLOURS[item.colour])
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _draw_shape(pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, fill: tuple[int, int, int]) -> None:
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "square":
        q = 0.86 * r
        pen.rectangle((x - q, y - q, x + q, y + q), fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y - r), (x - 0.95 * r, y + 0.6 * r), (x + 0.95 * r, y + 0.6 * r)], fill=fill)
    elif shape == "star":
        points = [(r if i % 2 == 0 else 0.42 * r, i * math.pi / 5) for i in range(10)]
        pen.polygon([(x + q * math.sin(t), y - q * math.cos(t)) for q, t in points], fill=fill)
    elif shape == "cross":
        q = 0.32 * r
        pen.rectangle((x - q, y - r, x + q, y + r), fill=fill)
        pen.rectangle((x - r, y - q, x + r, y + q), fill=fill)
    else:
        pen.ellipse((x - r, y - r, x + r, y + r), outline=fill, width=int(0.44 * r))
