"""The photographs, queries and labels of `clipsearch demo`; the command is in `commands.demo`."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from clipsearch.errors import ClipsearchError, UsageError

FOLDER = "clipsearch-demo"
LIBRARY = "index"

PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "microaneurysms.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Pictures in scikit-image's wheel that it calls public domain, CC0 or free of known restrictions
(THIRD_PARTY_NOTICES.md)."""

QUERIES = ("a cat", "a rocket launch", "a cup of coffee")
CLASSIFIED = "chelsea.png"
LABELS = ("cat", "dog", "cup of coffee", "rocket")


@dataclass(frozen=True, slots=True)
class Demo:
    """A folder with the photographs, and the library made from them."""

    folder: Path
    photos: tuple[Path, ...]

    @property
    def library(self) -> Path:
        return self.folder / LIBRARY


def write_photos(folder: Path) -> Demo:
    """Copy the photographs into `folder`; existing ones stay unchanged.

    Raises ClipsearchError where scikit-image is not installed, and UsageError where the folder contains other files or
    cannot be written.
    """
    source = _source()
    names = [name for name in PHOTOS if (source / name).is_file()]
    if not names:
        raise ClipsearchError(f"{source} contains no photographs; pip install --upgrade 'clipsearch[demo]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(set(os.listdir(folder)) - {*PHOTOS, LIBRARY})
        if others:
            raise UsageError(
                f"{folder} contains other files ({others[0]}); name a new folder: `clipsearch demo FOLDER`"
            )
        for name in names:
            if not (folder / name).exists():
                shutil.copyfile(source / name, folder / name)
    except OSError as exc:
        raise UsageError(f"cannot write the photographs to {folder}: {exc.strerror}") from exc
    return Demo(folder, tuple(folder / name for name in names))


def model() -> str:
    """The default model if it is cached, otherwise the built-in one: the demonstration downloads nothing."""
    from clipsearch.encoders.clip import hub
    from clipsearch.encoders.specs import BUILTIN_SPEC, DEFAULT_SPEC

    return DEFAULT_SPEC if hub.is_cached(DEFAULT_SPEC) else BUILTIN_SPEC


def _source() -> Path:
    """The folder of scikit-image's pictures, found without importing the package."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ClipsearchError("the photographs are part of scikit-image; install it: pip install 'clipsearch[demo]'")
    return Path(spec.origin).parent / "data"
