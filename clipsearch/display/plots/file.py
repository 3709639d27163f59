"""The file of a plot: its name, its place, and the mark that says that it may be replaced."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.files import check_own

__all__ = ["MARK", "check", "check_name", "is_plot"]

MARK = b"clipsearch plot"
"""Stands near the start of every plot's file: such a file is replaced, any other is not."""

SUFFIXES = (".png", ".svg")

EXTRA = "pip install 'clipsearch[plot]'"


def check(file: str | Path) -> Path:
    """The place of a plot, `~` resolved. Refuses early what cannot be drawn: before a model is loaded, or matplotlib.

    Raises UsageError for a name of another suffix or a file in the way, ClipsearchError without the extra `plot`, or
    where the folder cannot be written.
    """
    check_name(file)
    path = Path(file).expanduser()
    check_own(path, is_own=is_plot, what="plot")
    return path


def check_name(file: str | Path) -> None:
    """Raises UsageError for a name of another suffix, ClipsearchError without the extra `plot`; looks at no file."""
    if os.path.splitext(file)[1].lower() not in SUFFIXES:
        raise UsageError(f"{file}: a plot is a .png or an .svg; give its file such a name")
    if importlib.util.find_spec("matplotlib") is None:
        raise ClipsearchError(f"plots need matplotlib, which is not installed: {EXTRA}")


def is_plot(head: bytes) -> bool:
    """Whether a file that begins so is a plot of ours."""
    return MARK in head
