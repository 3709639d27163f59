"""What all renderers share: messages as text, and rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from clipsearch.cli import output

SHOWN_PROBLEMS = 10

NOT_CLIP = "builtin (works offline; not CLIP)"


def message(text: str) -> str:
    """A message of the library for a terminal, within a result."""
    return output.printable(output.as_options(text))


def csv_text(rows: Iterable[Sequence[object]], *, end: str = "\n") -> str:
    """Rows as CSV, None as an empty field; `end` ends each line."""
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)
    return text.getvalue()
