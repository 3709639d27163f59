"""Draws the pictures that the recording is made with. They are committed, since their bytes depend on Pillow's version.

Run by hand, in `tests/`: `python -m recorded.draw`; what it draws differently is then recorded anew.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import piexif
from PIL import Image
from tinyclip.scenes import Scene, caption, draw, scenes

PICTURES = Path(__file__).parent / "pictures"
BACKGROUNDS = ("blue", "green", "red", "yellow")
PHOTOS, TAUGHT = 4, 3
"""Pictures of each background that are searched, and that classifiers learn from."""
SIDE = 64


def main() -> None:
    left = {name: _of(name) for name in BACKGROUNDS}
    with _made(PICTURES / "captions.csv").open("w", newline="") as file:
        captions = csv.writer(file, lineterminator="\n")
        captions.writerow(("path", "caption"))
        for name, drawings in left.items():
            for number in range(1, PHOTOS + 1):
                scene = next(drawings)
                path = f"photos/{name}/{number}.png"
                _save(draw(scene, SIDE), path)
                captions.writerow((path, caption(scene)))
    for name, drawings in left.items():
        for number in range(1, TAUGHT + 1):
            _save(draw(next(drawings), SIDE), f"taught/{name}/{number}.png")
    _panorama([next(drawings) for drawings in left.values()])
    _dated(left)
    _save(draw(next(left["blue"]), SIDE), "foreign.png")


def _of(background: str) -> Iterator[Scene]:
    return (scene for scene in scenes(400, seed=11) if scene.background == background)


def _panorama(parts: list[Scene]) -> None:
    whole = Image.new("RGB", (128 * len(parts), 128))
    for number, scene in enumerate(parts):
        whole.paste(draw(scene, 128), (128 * number, 0))
    _save(whole, "photos/trip/panorama.png")


def _dated(left: dict[str, Iterator[Scene]]) -> None:
    """One with date, time zone, camera and place; one that lies on its side, and knows its date only."""
    exif = {
        "0th": {piexif.ImageIFD.Make: "Acme", piexif.ImageIFD.Model: "Box 3"},
        "Exif": {
            piexif.ExifIFD.DateTimeOriginal: "2021:05:17 18:30:05",
            piexif.ExifIFD.OffsetTimeOriginal: "+02:00",
            piexif.ExifIFD.FNumber: (28, 10),
            piexif.ExifIFD.ISOSpeedRatings: 200,
        },
        "GPS": {
            piexif.GPSIFD.GPSLatitudeRef: "N",
            piexif.GPSIFD.GPSLatitude: ((52, 1), (31, 1), (12, 1)),
            piexif.GPSIFD.GPSLongitudeRef: "E",
            piexif.GPSIFD.GPSLongitude: ((13, 1), (24, 1), (18, 1)),
        },
    }
    _save(draw(next(left["red"]), 96).crop((0, 12, 96, 84)), "photos/trip/berlin.jpg", exif=piexif.dump(exif))
    turned = {"0th": {piexif.ImageIFD.Orientation: 6}, "Exif": {piexif.ExifIFD.DateTimeOriginal: "2019:12:24 20:00:00"}}
    _save(draw(next(left["green"]), 96).crop((0, 12, 96, 84)), "photos/trip/upright.jpg", exif=piexif.dump(turned))


def _save(picture: Image.Image, path: str, exif: bytes = b"") -> None:
    options = {"quality": 90, "exif": exif} if path.endswith(".jpg") else {"optimize": True}
    picture.save(_made(PICTURES / path), **options)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    main()
