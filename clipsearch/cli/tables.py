"""Tables and quantities as people read them."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from clipsearch.cli import output

_UNITS = ("B", "kB", "MB", "GB", "TB")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> str:
    """Aligned columns; those whose head is in `right` (words separated by blanks) end flush. The last one is not cut.

    What is in the cells must be `output.printable` already.
    """
    widths = [max(_width(row[i]) for row in (head, *rows)) for i in range(len(head))]
    flush = set(right.split())
    lines = []
    for number, row in enumerate((head, *rows)):
        cells = []
        for i, cell in enumerate(row):
            blanks = " " * (widths[i] - _width(cell))
            cells.append(blanks + cell if head[i] in flush else cell + blanks)
        line = "  ".join(cells).rstrip()
        lines.append(output.styled(line, output.DIM, sys.stdout) if number == 0 else line)
    return "\n".join(lines) + "\n"


def _width(text: str) -> int:
    """How many cells of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) or c in "\u200d\ufe0f" else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def size(count: int) -> str:
    """Bytes in decimal units, three digits: 812 B, 3.21 MB, 120 GB."""
    value = float(count)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def duration(seconds: float) -> str:
    """8 s, 2 min 5 s, 3 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short_path(path: str) -> str:
    """A path as it can be typed from here: relative where it lies below the current folder."""
    here = os.path.join(os.getcwd(), "")
    home = os.path.join(Path.home(), "")
    if path.startswith(here):
        path = path[len(here) :]
    elif home != os.path.join(os.sep, "") and path.startswith(home):
        path = "~/" + path[len(home) :]
    return output.printable(path)


def counted(number: int, noun: str, plural: str = "") -> str:
    """1 file, 2 files."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
