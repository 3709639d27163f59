"""Reads `--labels` and `--template`: several values per option, files, saved sets; `classify.labels` parses files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipsearch.cli.arguments import read_bytes
from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from clipsearch.classify.labels import Label

OPTION = "--labels"
COMMAND = "classify"


def spread_labels(arguments: Sequence[str]) -> list[str]:
    """Put `--labels` before each label of `classify`, as Typer takes one value per option.

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


def read_labels(values: Sequence[str], library: Path | None = None) -> list[Label]:
    """Labels from the values of `--labels`: words, several separated by commas, `label: synonym, synonym` with a space
    after the colon, `@file`, `@-` for standard input, `@name` of a set saved in the library, `@imagenet`.

    Raises UsageError for a file that cannot be read or contains no label, and for a name of both a set and a file.
    """
    from clipsearch.classify.labels import labels_in

    labels: list[Label] = []
    for value in values:
        if value.startswith("@") and len(value) > 1:
            labels += _from_place(value[1:], library)
        else:
            labels += labels_in(value)
    return labels


def _from_place(name: str, library: Path | None) -> Sequence[Label]:
    from clipsearch.classify import store
    from clipsearch.classify.labels import IMAGENET, imagenet, parse_labels

    saved = library is not None and os.sep not in name and store.label_sets(library).holds(name)
    built_in = name == IMAGENET
    if (saved or built_in) and os.path.lexists(name):
        kind = "a saved" if saved else "the built-in"
        raise UsageError(
            f"{OPTION} @{name}: that is both {kind} label set and a file here; @./{name} is the file; for the set, "
            "move the file away"
        )
    if built_in:
        return imagenet()
    if saved and library is not None:
        return store.load_labels(library, name)
    try:
        labels = parse_labels(read_text(name, option=f"{OPTION} @"))
    except UsageError as exc:
        sets = store.label_sets(library).names() if library is not None and os.sep not in name else []
        if sets and not os.path.lexists(name):
            raise UsageError(f"{exc}, and no saved label set; existing ones: {', '.join([*sets, IMAGENET])}") from exc
        raise
    if not labels:
        raise UsageError(f"{OPTION} @{name}: no labels in it")
    return labels


def read_templates(values: Sequence[str]) -> list[str]:
    """Templates from the values of `--template`: sentences, `simple`, `openai`, and `@file` with one per line.

    In a file, lines that begin with # are comments. Raises UsageError.
    """
    templates: list[str] = []
    for value in values:
        if not value.startswith("@"):
            templates.append(value)
            continue
        lines = [line.strip() for line in read_text(value[1:], option="--template @").splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise UsageError(f"--template {value}: no templates in it")
        templates += found
    return templates


def images_among(values: Sequence[str]) -> list[str]:
    """Labels that are also names of images: probably meant as images, but given after `--labels`."""
    from clipsearch.images.sniff import is_image_path

    return [value for value in values if is_image_path(value)]


def read_text(name: str, *, option: str) -> str:
    """The text of a file, or of standard input for "-". Raises UsageError, which names `option` and the file."""
    try:
        return read_bytes(name, option=option).decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{option}{name}: not valid UTF-8") from exc
