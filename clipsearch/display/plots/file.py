"""The file of a plot: its name, its folder, and the mark that allows it to be replaced."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.files import check_own, expanded

MARK = b"clipsearch plot"
"""Near the start of every plot's file: such a file is replaced, any other is not."""

SUFFIXES = (".png", ".svg")

EXTRA = "pip install 'clipsearch[plot]'"


def check(file: str | Path) -> Path:
    """The path of a plot, with `~` expanded. Fails early, before a model or matplotlib is loaded.

    Raises UsageError for another suffix or a file in the way, ClipsearchError without the extra `plot` or if the
    folder cannot be written.
    """
    check_name(file)
    path = expanded(file)
    check_own(path, is_own=is_plot, what="plot")
    return path


def check_name(file: str | Path) -> None:
    """Raises UsageError for another suffix, ClipsearchError without the extra `plot`; does not access the file."""
    if os.path.splitext(file)[1].lower() not in SUFFIXES:
        raise UsageError(f"{file}: the name of a plot must end in .png or .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise ClipsearchError(f"plots need matplotlib, which is not installed: {EXTRA}")


def is_plot(head: bytes) -> bool:
    """Whether a file that starts with `head` is one of our plots."""
    return MARK in head
