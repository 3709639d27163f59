"""Text for a terminal: aligned tables, counts, durations, short paths."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence

from clipsearch.cli import output
from clipsearch.display.text import cell_width, home_path
from clipsearch.display.text import size as size


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: str | Collection[int] = "") -> str:
    """Aligned columns; `right` names those that are right-aligned: their heads, separated by blanks, or numbers.

    The cells must be `output.printable` already. The last column is not cut.
    """
    widths = [max(cell_width(row[i]) for row in (head, *rows)) for i in range(len(head))]
    flush = {i for i, name in enumerate(head) if (name in right.split() if isinstance(right, str) else i in right)}
    lines = []
    for number, row in enumerate((head, *rows)):
        cells = []
        for i, cell in enumerate(row):
            blanks = " " * (widths[i] - cell_width(cell))
            cells.append(blanks + cell if i in flush else cell + blanks)
        line = "  ".join(cells).rstrip()
        lines.append(output.styled(line, output.DIM, sys.stdout) if number == 0 else line)
    return "\n".join(lines) + "\n"


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
    return output.printable(path[len(here) :]) if path.startswith(here) else home_path(path)


def counted(number: int, noun: str, plural: str = "") -> str:
    """1 file, 2 files."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


BAR_CELLS = 5


def bar(share: float) -> str:
    """A number from 0 to 1 as a bar of BAR_CELLS cells, in eighths."""
    eighths = round(share * BAR_CELLS * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[part].strip()).ljust(BAR_CELLS, "·")
