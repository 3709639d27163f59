"""TAB completion: callbacks for the values of options and arguments, and the answer to a shell's script (`shells`).

Typer knows the commands, options and choices, and finds out which value is being typed. Its shell scripts are not used:
Typer does not rejoin words that bash splits at @, = and :; zsh would run commands in file names; fish would start the
program twice per TAB; and the answers for zsh and fish need Rich. zsh and fish complete folders and files on their own.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import typer

Candidate = tuple[str, str]
"""A word and its description, which bash does not show."""

FOLDERS, FILES = "*/", "*"
"""Answers that make zsh and fish complete folders, or folders and files."""

_PATHS = dict.fromkeys(("DIR", "FOLDER", "FOLDER|GLOB", "OLD", "NEW"), FOLDERS) | dict.fromkeys(
    ("FILE", "PATHS", "PICTURE", "IMAGES", "IMAGES", "WORDS", "X", "A B", "CAPTIONS", "SPEC"), FILES
)
"""Metavars of values that are, or may be, paths."""

_SPECIAL = r"[ \t\\'\"$&;|<>()*?\[\]{}!#`]"
_END = "."


# Callbacks for `autocompletion=`


def labels(context: typer.Context, incomplete: str) -> list[str]:
    """For `--labels`: saved label sets, @imagenet, and label files."""
    from clipsearch.classify.labels import IMAGENET

    files = _paths(incomplete[1:]) if incomplete.startswith("@") else []
    return [f"@{name}" for name in (*label_sets(context), IMAGENET, *files)]


def label_sets(context: typer.Context) -> list[str]:
    """The label sets saved in the library."""
    from clipsearch.classify import store

    library = _library(context)
    return store.label_sets(library).names() if library else []


def classifiers(context: typer.Context) -> list[str]:
    """The classifiers saved in the library."""
    from clipsearch.classify import store

    library = _library(context)
    return store.classifiers(library).names() if library else []


def models(context: typer.Context) -> list[Candidate]:
    """The models in the library, and all known ones."""
    from clipsearch.encoders.known import ROWS

    known = {row.spec: row.note for row in ROWS}
    return list((dict.fromkeys(library_models(context), "") | known).items())


def library_models(context: typer.Context) -> list[str]:
    """The models in the library."""
    from clipsearch.catalog.catalog import Catalog
    from clipsearch.errors import ClipsearchError

    library = _library(context)
    if library is not None:
        with contextlib.suppress(ClipsearchError), contextlib.closing(Catalog.open(library)) as catalog:
            return [row.info.spec for row in catalog.encoders()]
    return []


def engines() -> list[str]:
    """The search engines."""
    from clipsearch.vectors import engines

    return list(engines.names())


def ids(context: typer.Context, incomplete: str) -> list[Candidate]:
    """`id:N` of images in the library whose ids begin with the given digits; described by their paths."""
    from clipsearch.catalog.catalog import Catalog

    library = _library(context)
    if library is None or not re.fullmatch("id:[0-9]*", incomplete):
        return []
    with contextlib.closing(Catalog.open(library)) as catalog:
        found = catalog.files.of_contents_from(incomplete.removeprefix("id:"))
    return [(f"id:{number}", os.fsdecode(path)) for number, path in found.items()]


def _library(context: typer.Context) -> Path | None:
    from clipsearch.cli.place import find_library

    return find_library(context.params.get("index"))


def _paths(text: str, *, folders: bool = False) -> list[str]:
    """Files and folders whose path begins with `text`; folders end in a slash."""
    name = os.path.basename(text)
    start = text[: len(text) - len(name)]
    with os.scandir(os.path.expandvars(os.path.expanduser(start)) or ".") as entries:
        return sorted(
            start + entry.name + ("/" if entry.is_dir() else "")
            for entry in entries
            if entry.name.startswith(name) and (name or not entry.name.startswith("."))
            if entry.is_dir() or not folders
        )


# The answer to a shell


def answer(shell: str, line: str, word: str = "") -> str:
    """The completions of the last word of `line`, one per line; or FOLDERS or FILES; or nothing.

    shell: bash, zsh or fish. word: the part of the line that bash is going to replace, as typed.
    """
    from clipsearch.display.text import printable

    try:
        # The callbacks of options also run here, and must not print.
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            current, found = _complete(line, list_paths=shell == "bash")
            found = [(value, description) for value, description in found if value == printable(value)]
    except Exception:  # Pressing TAB must never print an error.
        return ""
    is_quoted = line.removesuffix(word).endswith(("'", '"'))
    answers = []
    for value, description in found:
        if shell == "bash":
            rest = value[len(current) :]
            end = "" if rest.endswith("/") else " "
            answers.append(word + (rest if is_quoted else re.sub(_SPECIAL, r"\\\g<0>", rest) + end))
        elif shell == "zsh":
            shown = value if value.endswith("/") else value.replace(":", "\\:")
            answers.append(shown + f":{printable(description)}" * bool(description))
        else:
            answers.append(value + f"\t{printable(description)}" * bool(description))
    return "".join(f"{answer}\n" for answer in answers)


def _complete(line: str, *, list_paths: bool) -> tuple[str, list[Candidate]]:
    """The last word of a line, unquoted, and its completions. May raise any exception."""
    from typer._click.core import Parameter
    from typer._click.shell_completion import _resolve_context, _resolve_incomplete, split_arg_string

    from clipsearch.cli.app import COMMANDS, application
    from clipsearch.cli.labels import spread_labels

    # One more character keeps the last word even if it is empty; it belongs to that word whatever quotes are open.
    _, *words = split_arg_string(line + _END)
    *words, current = spread_labels([word for word in words if word != "--debug"])
    current = current.removesuffix(_END)
    name = next((word for word in words if not word.startswith("-")), None)
    command = typer.main.get_command(application(only=name if name in COMMANDS else None))
    context = _resolve_context(command, {}, "clipsearch", words)
    target, value = _resolve_incomplete(context, words, current)
    start = current.removesuffix(value)  # --option=
    found = [(start + item.value, item.help or "") for item in target.shell_complete(context, value)]
    kind = _PATHS.get((target.metavar or "").strip("[].@")) if isinstance(target, Parameter) else None
    if found or kind is None:
        return current, found
    if list_paths or start:
        return current, [(start + path, "") for path in _paths(value, folders=kind == FOLDERS)]
    return current, [(kind, "")]
