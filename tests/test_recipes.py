"""docs/recipes.md prints what it says; the images of the documents are there, and small."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli
from PIL import Image
from terminal import on_terminal

from clipsearch.display.plots.file import MARK

DOCS = Path(__file__).parents[1] / "docs"


def recipes() -> list[tuple[str, str]]:
    """Each command with what it prints, nothing where the page leaves that out."""
    text = (DOCS / "recipes.md").read_text("utf-8")
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


def same(printed: str, shown: str) -> bool:
    """Alike, but that numbers from a model may differ by a little, and bars with them."""

    def words(text: str) -> list[str]:
        return re.sub("[█▏▎▍▌▋▊▉]", "", text).split()

    def number(word: str) -> float | None:
        return float(word) if re.fullmatch(r"-?\d+\.\d+", word) else None

    pairs = list(zip(words(printed), words(shown), strict=False))
    if len(words(printed)) != len(words(shown)):
        return False
    for a, b in pairs:
        x, y = number(a), number(b)
        if a != b and (x is None or y is None or abs(x - y) > 0.02 * max(1.0, abs(x))):
            return False
    return True


def test_every_recipe_prints_what_the_page_says(cli: Cli, tmp_path: Path) -> None:
    commands = recipes()
    assert len(commands) == 6 and {"ViT-B/32", "RN50"} <= set(" ".join(line for line, _ in commands).split())
    for line, printed in commands:
        # Published weights cannot be had here.
        words = ["builtin" if word in ("ViT-B/32", "RN50") else word for word in shlex.split(line)]
        assert words.pop(0) == "clipsearch"
        if printed:
            shown = on_terminal(cli.command(*words), cwd=tmp_path, env=cli.env)
            exact = words[0] == "similarity"
            assert shown == printed if exact else same(printed, shown), (line, shown)
        else:
            done = subprocess.run(cli.command(*words), cwd=tmp_path, env=cli.env, capture_output=True)
            assert done.returncode == 0, (line, done.stderr)
    # The figure of the third is the one on the page.
    assert (tmp_path / "vectors.svg").read_bytes() == (DOCS / "pictures" / "vectors.svg").read_bytes()


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_pictures_are_small_and_can_be_opened(suffix: str) -> None:
    images = sorted((DOCS / "pictures").glob(f"*.{suffix}"))
    assert len(images) == {"svg": 5, "png": 3}[suffix]
    for image in images:
        assert image.stat().st_size <= 100_000, image.name
        if suffix == "png":
            Image.open(image).load()
        else:
            assert MARK in image.read_bytes()[:4096] and b"prefers-color-scheme: dark" in image.read_bytes()
        pages = (DOCS / "similarity.md").read_text("utf-8") + (DOCS.parent / "README.md").read_text("utf-8")
        assert f"pictures/{image.name})" in pages


def test_the_page_names_the_vectors_of_the_figure() -> None:
    page = (DOCS / "recipes.md").read_text("utf-8")
    assert all(number in page for number in ("0.89", "−0.71", "0.00")) and sys.version_info >= (3, 11)
