"""`clipsearch demo`: writes fifteen photographs of scikit-image, and prints and runs commands on them."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli import output
from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.files import expanded, making_folder

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


def demo(
    *,
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where to write the photographs.")] = FOLDER,
) -> int:
    """Try clipsearch on fifteen photographs.

    Writes them to a folder, indexes them into a library there, runs three queries and classifies one.
    Needs scikit-image, which contains the photographs. Downloads nothing.
    """
    written = write_photos(expanded(folder))
    output.write(f"{len(written.photos)} photographs are in {output.printable(str(written.folder))}\n")
    code = _index(written)
    if code:
        return code
    for text in QUERIES:
        _query(written, text)
    _classify(written)
    _next(written)
    return 0


def _index(demo: Demo) -> int:
    from clipsearch.cli.commands import index

    library = str(demo.library)
    if (demo.library / "catalog.db").exists():
        _print_command("index", str(demo.folder), "--index", library)
        return index.index(paths=[str(demo.folder)], index=library)
    model = _model()
    _print_command("index", str(demo.folder), "--index", library, "--model", model)
    return index.index(paths=[str(demo.folder)], index=library, model=model)


def _query(demo: Demo, text: str) -> None:
    from clipsearch.cli.render.hits import query_text
    from clipsearch.library.library import Library

    _print_command("query", text, "-k", "3", "--index", str(demo.library))
    with Library.open(demo.library) as library:
        output.write(query_text(library.query(text, k=3)))


def _classify(demo: Demo) -> None:
    from clipsearch.cli.render import classification
    from clipsearch.library.library import Library

    image = demo.folder / CLASSIFIED
    _print_command("classify", str(image), "--labels", *LABELS, "--index", str(demo.library))
    with Library.open(demo.library) as library:
        output.write(classification.text(library.classify([image], LABELS)))


def _next(demo: Demo) -> None:
    library = shlex.quote(output.printable(str(demo.library)))
    steps = (
        (f"clipsearch query old coins --index {library}", "another query"),
        ("clipsearch index ~/Pictures", "your own photos, into ./index"),
        ("clipsearch query a dog on a beach", "and find them"),
        ("clipsearch models", "all known models"),
    )
    width = max(len(command) for command, _ in steps)
    output.write("\nWhat next?\n" + "".join(f"  {command:<{width}}   {meaning}\n" for command, meaning in steps))


def _print_command(*words: str) -> None:
    line = "$ clipsearch " + " ".join(shlex.quote(output.printable(word)) for word in words)
    output.write("\n" + output.styled(line, output.BOLD, sys.stdout) + "\n")
    output.flush()


# The photographs


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
        with making_folder(folder):
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


def _model() -> str:
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
