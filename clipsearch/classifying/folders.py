"""A folder of examples: a folder a class, and a few pictures in each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipsearch import images
from clipsearch.classifying.labels import Label, checked
from clipsearch.errors import UsageError, reason
from clipsearch.indexing.scanner import Rules, ScanOptions, Walk


@dataclass(frozen=True, slots=True)
class ExampleFolders:
    """The labels, and example pictures with the place of each one's label."""

    labels: tuple[Label, ...]
    paths: tuple[bytes, ...]
    places: tuple[int, ...]


def example_folders(folder: Path, labels: Sequence[str | Label] = ()) -> ExampleFolders:
    """What `folder` holds. A folder's name is its label, underscores being blanks; with `labels`, it is one of their
    words, and labels without a folder have no example.

    Raises UsageError where there is no folder in it, one is empty or is none of the labels, or two are the same one.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as exc:
        raise UsageError(f"--examples {folder}: {reason(exc)}") from exc
    if not names:
        raise UsageError(f"--examples {folder}: no folder in it; it takes a folder a class, with pictures in each")
    chosen = checked(labels or [_spoken(name) for name in names])
    # A label with a slash in it has it as an underscore in its folder's name, as --copy-to writes it.
    by_word = {
        form.casefold(): place
        for place, label in enumerate(chosen)
        for word in (label.name, *label.words)
        for form in (word, _spoken(word.replace("/", "_")))
    }
    paths: list[bytes] = []
    places: list[int] = []
    for name in names:
        place = by_word.get(_spoken(name).casefold(), by_word.get(name.casefold()))
        if place is None:
            raise UsageError(f"--examples {folder}: {name} is none of the labels; rename it, or leave out --labels")
        if place in places:
            raise UsageError(f"--examples {folder}: two folders are examples of {chosen[place].name!r}; merge them")
        path = os.fsencode(folder / name)
        found = [candidate.path for candidate in Walk(path, Rules(path, ScanOptions()), images.PICTURE_SUFFIXES)]
        if not found:
            raise UsageError(f"--examples {folder}: no picture in {name}; put some there, or remove it")
        paths += found
        places += [place] * len(found)
    return ExampleFolders(chosen, tuple(paths), tuple(places))


def _spoken(name: str) -> str:
    return " ".join(name.replace("_", " ").split())
