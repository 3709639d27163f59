"""What a shell may complete a command line with; the shells' own side is in `shells`.

The commands, their options and the known models stand in `completion.txt`, which `python -m clipsearch.cli.reference`
makes from their declarations: a key press must not wait for Typer. Its lines are fields with tabs between:

    command  its words                                      help
    option   its command's words, "" for all  name  value   help     value: the metavar, "" for a flag
    argument its command's words              value
    model    spec                             note
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

TABLE = os.path.join(os.path.dirname(__file__), "completion.txt")

Candidate = tuple[str, str]
"""A word and what it means, "" where nothing is to be said."""

FOLDERS = frozenset(("DIR", "FOLDER", "FOLDER|GLOB", "OLD", "NEW"))
FILES = frozenset(("FILE", "PICTURE", "PATHS", "IMAGES", "WORDS", "X"))
LABELS = "LABEL"
CHOICES = {
    ("index", "--engine"): "auto exact ivf",
    ("query", "--sort"): "score taken path",
    ("query", "--state"): "ok partial",
    ("query", "--format"): "jpeg png gif webp bmp tiff jpeg2000 ppm avif heif raw",
    ("info", "--files"): "failed unsupported partial missing offline unreadable",
    ("", "--device"): "auto cpu cuda mps",
    ("", "--shell"): "bash zsh fish",
}
"""What an option takes where its metavar does not say it, by command ("" for any) and option."""

HELD = frozenset(("query", "show", "prune"))
"""Commands whose model must be one that the library holds."""


class Table:
    """The commands as `completion.txt` has them."""

    def __init__(self, text: str) -> None:
        self.commands: dict[str, str] = {}
        self.options: dict[str, dict[str, tuple[str, str]]] = {}
        self.arguments: dict[str, list[str]] = {}
        self.models: list[Candidate] = []
        for line in text.splitlines():
            kind, *fields = line.split("\t")
            if kind == "command":
                self.commands[fields[0]] = fields[1]
            elif kind == "option":
                self.options.setdefault(fields[0], {})[fields[1]] = (fields[2], fields[3])
            elif kind == "argument":
                self.arguments.setdefault(fields[0], []).append(fields[1])
            else:
                self.models.append((fields[0], fields[1]))

    @classmethod
    def load(cls) -> Table:
        with open(TABLE, encoding="utf-8") as file:
            return cls(file.read())

    def below(self, command: str) -> list[Candidate]:
        """The commands that may follow these words."""
        found = ((name.split(" "), text) for name, text in self.commands.items())
        parent = command.split(" ") if command else []
        return [(words[-1], text) for words, text in found if words[:-1] == parent]


def complete(words: Sequence[str], table: Table) -> tuple[str, list[Candidate]]:
    """What the last of `words` (the program's name left out; it may be "") can become.

    The first value is "words" for the candidates alone, or "files" or "folders" where the shell itself knows best.
    """
    *before, current = words
    command, pending, arguments, ended = _read(before, table)
    known = table.options.get("", {}) | table.options.get(command, {})
    if not ended and current.startswith("-"):
        name, equals, value = current.partition("=")
        if not equals:
            return "words", _matching(current, ((option, text) for option, (_, text) in known.items()))
        kind, found = _values(command, name, known.get(name, ("", ""))[0], value, before, table)
        if kind != "words":
            found = paths(value, folders=kind == "folders")
        return "words", [(f"{name}={candidate}", text) for candidate, text in found]
    if pending:
        return _values(command, pending, known[pending][0], current, before, table)
    below = table.below(command)
    if below and not arguments:
        return "words", _matching(current, below)
    metavars = table.arguments.get(command, [])
    if not metavars:
        return "words", []
    metavar = metavars[min(arguments, len(metavars) - 1)].strip("[].")
    return _values(command, "", metavar, current, before, table)


def _read(before: Sequence[str], table: Table) -> tuple[str, str, int, bool]:
    """Of the words before: the command, the option that waits for a value, how many arguments, whether `--` came."""
    command, pending, arguments, ended = "", "", 0, False
    for word in before:
        known = table.options.get("", {}) | table.options.get(command, {})
        is_option = word.startswith("-") and word != "-" and not ended
        if pending and not (is_option and known[pending][0].startswith(LABELS)):
            if not known[pending][0].startswith(LABELS):  # All that follows --labels is a label.
                pending = ""
        elif is_option:
            name, equals, _ = word.partition("=")
            ended = word == "--"
            takes_value = name in known and known[name][0]
            pending = name if takes_value and (not equals or known[name][0].startswith(LABELS)) else ""
        elif not arguments and f"{command} {word}".strip() in table.commands:
            command = f"{command} {word}".strip()
        else:
            arguments += 1
    return command, "" if ended else pending, arguments, ended


def _values(
    command: str, option: str, metavar: str, current: str, before: Sequence[str], table: Table
) -> tuple[str, list[Candidate]]:
    """What an option, or an argument (`option` ""), can be given."""
    choices = CHOICES.get((command, option)) or CHOICES.get(("", option))
    if choices is None and metavar == metavar.lower() and "|" in metavar:
        choices = metavar.replace("|", " ")
    if choices is not None:
        return "words", _matching(current, ((choice, "") for choice in choices.split()))
    if (command, option) == ("classify", "--use"):
        return "words", _matching(current, kept("classifiers", before))
    if metavar == "SPEC" or command == "models pull":
        if current.startswith((".", "/", "~")):
            return "files", []
        return "words", _matching(current, held_models(before) if command in HELD else table.models)
    if metavar.startswith(LABELS):
        return "words", labels(current, before)
    if metavar.strip(".") in FOLDERS:
        return "folders", []
    if metavar.strip(".") in FILES:
        return "files", []
    return "words", []


def labels(current: str, before: Sequence[str]) -> list[Candidate]:
    """What follows `--labels`: a set of labels that the library keeps, or a file of labels, both behind `@`."""
    found = _matching(current, ((f"@{name}", text) for name, text in kept("label_sets", before)))
    if current.startswith("@"):
        found += [(f"@{path}", text) for path, text in paths(current[1:])]
    elif not current:
        found.append(("@", "a file of labels"))
    return found


def kept(kind: Literal["label_sets", "classifiers"], before: Sequence[str]) -> list[Candidate]:
    """The names under which the library that the command line means keeps label sets or classifiers."""
    try:
        from clipsearch.classify import store

        return [(name, "") for name in getattr(store, kind)(_library(before)).names()]
    except Exception:  # A key press is no place for errors.
        return []


def held_models(before: Sequence[str]) -> list[Candidate]:
    """The models of the library that the command line means."""
    try:
        from clipsearch.catalog.catalog import Catalog

        catalog = Catalog.open(_library(before))
        try:
            return [(row.info.spec, "") for row in catalog.encoders()]
        finally:
            catalog.close()
    except Exception:  # A key press is no place for errors.
        return []


def _library(before: Sequence[str]) -> Path:
    """The library that the words before mean. Raises NoLibraryError."""
    from clipsearch.cli.place import require_library

    given = [value for option, value in itertools.pairwise(before) if option == "--index"]
    given += [word.removeprefix("--index=") for word in before if word.startswith("--index=")]
    return require_library(given[0] if given else None)


def paths(text: str, *, folders: bool = False) -> list[Candidate]:
    """Files and folders whose path begins with `text`; folders end in a slash."""
    folder, name = os.path.split(text)
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda entry: entry.name)
        found = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return []
    return [
        (os.path.join(folder, each) + ("/" if is_folder else ""), "")
        for each, is_folder in found
        if each.startswith(name) and (name or not each.startswith(".")) and (is_folder or not folders)
    ]


def _matching(current: str, candidates: Iterable[Candidate]) -> list[Candidate]:
    return [(value, text) for value, text in candidates if value.startswith(current)]


# The shells


def answer(arguments: Sequence[str]) -> str:
    """The reply to a shell: what `complete` says, a line each, a tab before the meanings where the shell shows them.

    `arguments`: "zsh" or "fish" and the words up to the cursor; or "bash", the line up to the cursor, and its
    COMP_WORDBREAKS.
    """
    shell, *rest = arguments or ["zsh"]
    if shell != "bash":
        kind, found = complete(rest or [""], Table.load())
        lines = [f"{value}\t{text}" if text else value for value, text in found if "\n" not in value]
        return "\n".join([kind, *lines]) + "\n"
    line, breaks = (*rest, "", "")[:2]
    words, kept, quoted = split_bash(line, breaks)
    kind, found = complete(words[1:] or [""], Table.load())
    values = [value[kept:] for value, _ in found if "\n" not in value]
    return "\n".join([kind, *(value if quoted else _escaped(value) for value in values)]) + "\n"


def split_bash(line: str, breaks: str) -> tuple[list[str], int, bool]:
    """The words of a line as the shell would take them, the last one perhaps unfinished.

    And what of the last one bash keeps, as it replaces only what follows a character of `breaks` or an open quote; and
    whether a quote is open.
    """
    words, word, quote, started, escaped, kept = [], "", "", False, False, 0
    for character in line:
        if escaped:
            word, escaped = word + character, False
        elif character == "\\" and quote != "'":
            escaped = started = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                word += character
        elif character in "'\"":
            quote, started, kept = character, True, len(word)
        elif character.isspace():
            if started:
                words.append(word)
            word, started, kept = "", False, 0
        else:
            word, started = word + character, True
            if character in breaks:
                kept = len(word) - (character in "@$")  # Readline leaves these two in what it replaces.
    return [*words, word], kept, bool(quote)


def _escaped(value: str) -> str:
    return "".join(f"\\{c}" if c in " \t\\'\"$&;|<>()*?[]{}!#`" else c for c in value)
