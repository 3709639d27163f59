"""`--labels`: everything after it, up to the next option, is a label; and what the labels given in four ways mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from clipsearch.classify import Label

OPTION = "--labels"
COMMAND = "classify"


def spread_labels(arguments: Sequence[str]) -> list[str]:
    """Put `--labels` before each label of `classify`, as Typer takes one value an option.

    `--` ends the labels as it ends the options.
    """
    command = next((i for i, argument in enumerate(arguments) if not argument.startswith("-")), None)
    if command is None or arguments[command] != COMMAND:
        return list(arguments)
    spread = list(arguments[: command + 1])
    in_labels = ended = False
    for argument in arguments[command + 1 :]:
        if ended:
            spread.append(argument)
        elif argument.startswith("-") and argument != "-":
            ended = argument == "--"
            in_labels = argument == OPTION or argument.startswith(OPTION + "=")
            if argument != OPTION:
                spread.append(argument)
        elif in_labels:
            spread += [OPTION, argument]
        else:
            spread.append(argument)
    return spread


def read_labels(values: Sequence[str]) -> list[Label]:
    """Labels from what `--labels` was given: words, several with commas between, `@file`, `@-` for standard input.

    Raises UsageError for a file that cannot be read, or that holds no label.
    """
    from clipsearch.classify import Label, parse_labels

    labels: list[Label] = []
    for value in values:
        if value.startswith("@") and len(value) > 1:
            found = parse_labels(read_text(value[1:], option=f"{OPTION} @"))
            if not found:
                raise UsageError(f"--labels {value}: no label in it")
            labels += found
        else:
            labels += [Label(word) for part in value.split(",") if (word := part.strip())]
    return labels


def pictures_among(values: Sequence[str]) -> list[str]:
    """Labels that are also names of pictures: probably meant as such, but they came behind `--labels`."""
    from clipsearch.query import is_picture_path

    return [value for value in values if is_picture_path(value)]


def read_text(name: str, *, option: str) -> str:
    """The text of a file, or of standard input for "-". Raises UsageError that begins with `option` and the name."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else _bytes_of(name)
    except OSError as exc:
        raise UsageError(f"{option}{name}: {(exc.strerror or str(exc)).lower()}") from exc
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{option}{name}: not a text in UTF-8") from exc


def _bytes_of(name: str) -> bytes:
    with open(os.path.expanduser(name), "rb") as file:
        return file.read()
