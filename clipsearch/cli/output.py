"""Writes text: results to stdout, all else to stderr; control characters in names never reach a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO

from clipsearch.display.text import printable as printable
from clipsearch.errors import reason
from clipsearch.export.options import as_options as as_options

BOLD, DIM, RED, YELLOW = "1", "2", "31", "33"


class ClosedPipe(Exception):
    """The reader of the output is gone. Not an OSError: Typer would handle that itself."""


class Unwritable(Exception):
    """Stdout cannot be written, because of a full disk, for example. Not an OSError either, to tell the two apart."""


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def to_terminal() -> bool:
    """Whether results are read by a person: stdout is a terminal."""
    return is_terminal(sys.stdout)


def styled(text: str, style: str, stream: TextIO | None) -> str:
    """`text` in a style, where `stream` is a terminal that takes it and NO_COLOR is not set."""
    plain = not is_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


def write(text: str) -> None:
    """Write a result's text unchanged; surrogates become the bytes that they stand for."""
    _put(text.encode("utf-8", "surrogateescape"))


def write_foreign(text: str) -> None:
    """Write text that contains names of others: unchanged to a pipe, escaped on a terminal."""
    write(printable(text, keep="\n\t") if to_terminal() else text)


def write_path(path: str, *, end: bytes = b"\n") -> None:
    """Write a path, byte for byte as in the file system."""
    _put(os.fsencode(path) + end)


def write_json(value: dict[str, Any], *, indent: int | None = 2) -> None:
    """Write one JSON object; see `export.json.text`."""
    from clipsearch.export.json import text

    write(text(value, indent=indent))


def flush() -> None:
    _put(b"", flush=True)


def _put(data: bytes, *, flush: bool = False) -> None:
    if sys.stdout is None:
        return
    try:
        rest = memoryview(data)
        while rest:
            # With PYTHONUNBUFFERED, a write may be cut short.
            rest = rest[sys.stdout.buffer.write(rest) :]
        if flush:
            sys.stdout.flush()
    except BrokenPipeError as exc:
        raise ClosedPipe from exc
    except OSError as exc:
        raise Unwritable(f"cannot write the output: {reason(exc)}") from exc


def note(text: str) -> None:
    """Write a note beside the result."""
    _say("note: ", YELLOW, text)


def warn(text: str) -> None:
    """Write a warning between empty lines; `text` may have several lines."""
    _say("WARNING: ", f"{BOLD};{YELLOW}", text, before="\n", end="\n\n", keep="\n")


def error(text: str) -> None:
    _say("error: ", RED, text)


def say(text: str) -> None:
    """Write a line to stderr without a mark in front."""
    _say("", "", text)


def _say(mark: str, style: str, text: str, *, before: str = "", end: str = "\n", keep: str = "") -> None:
    if sys.stderr is None:
        return
    with contextlib.suppress(Unwritable):
        flush()  # Keeps their order where both go to the same place.
    line = before + (styled(mark, style, sys.stderr) if mark else "") + printable(as_options(text), keep=keep) + end
    try:
        sys.stderr.buffer.write(line.encode("utf-8", "replace"))
        sys.stderr.flush()
    except BrokenPipeError as exc:
        raise ClosedPipe from exc
