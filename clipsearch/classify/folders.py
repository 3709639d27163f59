"""Class folders: one folder per label, read as examples or as an evaluation set; `export.folders` writes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from clipsearch.classify.labels import Label, checked
from clipsearch.errors import UsageError, reason
from clipsearch.images.sniff import IMAGE_SUFFIXES
from clipsearch.indexing import excludes
from clipsearch.indexing.results import Problem
from clipsearch.indexing.rules import Rules, ScanOptions
from clipsearch.indexing.scanner import GONE, Walk
from clipsearch.types import is_text


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """The labels, and images with the index of each one's label.

    problems: folders that could not be read, and images without content. notice: how the labels were matched, where
    that is not obvious.
    """

    labels: tuple[Label, ...]
    paths: tuple[bytes, ...]
    places: tuple[int, ...]
    problems: tuple[Problem, ...] = ()
    notice: str | None = None


def class_folders(
    folder: bytes, labels: Sequence[str | Label] = (), *, in_order: bool = False, in_each: bool = False
) -> ClassFolders:
    """The images in the folders right below `folder`, links followed, hidden ones left out.

    A folder's name is its label, with underscores as spaces; with `labels`, it is one of their words, in any case, and
    labels without a folder have no images. `in_order`: where no folder has such a name and there are as many folders
    as labels, labels are assigned in the order of the folders' names: ImageNet's folders have names such as n01440764.

    Raises UsageError, whose `path` is the folder, where it contains no folders, a folder's name is not a label or not
    valid UTF-8, or two folders have the same label; with `in_each`, also for a folder without an image.
    """
    problems: dict[bytes, str] = {}
    names = _folders_in(folder, problems)
    notice = None
    if labels:
        chosen = checked(labels)
        places, notice = _places(names, chosen, folder, in_order=in_order)
    else:
        chosen, places = tuple(Label(_label(folder, name)) for name in names), list(range(len(names)))
    _check_distinct(names, [chosen[place] for place in places], folder)
    paths: list[bytes] = []
    classes: list[int] = []
    for name, place in zip(names, places, strict=True):
        below = os.path.join(folder, name)
        walk = Walk(below, Rules(below, ScanOptions(follow_symlinks=True)), IMAGE_SUFFIXES)
        found = [candidate.path for candidate in walk]
        if in_each and not found:
            at, why = next(iter(walk.unreadable.items()), (below, ""))
            raise UsageError(
                why or "no pictures in it", path=os.fsdecode(at), advice="" if why else "add some, or remove it"
            )
        paths += found
        classes += [place] * len(found)
        problems |= walk.unreadable | walk.placeholders
    unreadable = tuple(Problem(os.fsdecode(path), why) for path, why in sorted(problems.items()))
    return ClassFolders(chosen, tuple(paths), tuple(classes), unreadable, notice)


def _folders_in(folder: bytes, problems: dict[bytes, str]) -> list[bytes]:
    """The sorted names of folders and links to folders, less those that are left out by default."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(b"."):
                    continue
                try:
                    if entry.is_dir() and excludes.folder_kind(entry.name, os.path.basename(folder)) is None:
                        names.append(entry.name)
                except OSError as exc:  # A link to itself is not a folder, and no reason to stop.
                    if exc.errno not in GONE:
                        problems[entry.path] = reason(exc)
    except OSError as exc:
        raise UsageError(reason(exc), path=os.fsdecode(folder)) from exc
    if not names:
        raise UsageError(
            "no folders in it", path=os.fsdecode(folder), advice="expected one folder per class, named after its label"
        )
    return sorted(names)


def _label(folder: bytes, name: bytes) -> str:
    text = os.fsdecode(name)
    if not is_text(text):
        raise UsageError(
            f"the name of the folder {text} is not valid UTF-8", path=os.fsdecode(folder), advice="rename it"
        )
    return _spoken(text) or text


def _places(
    names: Sequence[bytes], labels: Sequence[Label], folder: bytes, *, in_order: bool
) -> tuple[list[int], str | None]:
    """The index of each folder's label, and a notice where labels were assigned by order."""
    by_word: dict[str, int] = {}
    # Exact case first, and names before synonyms: prompts say "missile (2)" with another label's name.
    for fold in (str, str.casefold):
        for words in (lambda label: (label.name,), lambda label: label.words):
            for place, label in enumerate(labels):
                for word in words(label):
                    # A slash in a label is an underscore in its folder's name, as `export.folders` writes it.
                    for form in (word, _spoken(word), _spoken(word.replace("/", "_"))):
                        by_word.setdefault(fold(form), place)
    found = []
    for name in names:
        text = os.fsdecode(name)
        forms = (text, _spoken(text), text.casefold(), _spoken(text).casefold())
        found.append(next((by_word[form] for form in forms if form in by_word), None))
    missing = [os.fsdecode(name) for name, place in zip(names, found, strict=True) if place is None]
    if in_order and len(missing) == len(names) == len(labels):
        return list(range(len(names))), (
            f"no folder is named after a label; the {len(labels)} labels are assigned in order of folder names"
        )
    if missing:
        raise UsageError(
            f"the folder {missing[0]} is not one of the labels ({len(missing)} of {len(names)} folders are not)",
            path=os.fsdecode(folder),
            advice="rename it, or leave out `labels`",
        )
    return [place for place in found if place is not None], None


def _check_distinct(names: Sequence[bytes], labels: Sequence[Label], folder: bytes) -> None:
    """Raise UsageError where two folders have the same label."""
    first: dict[str, bytes] = {}
    for name, label in zip(names, labels, strict=True):
        one = first.setdefault(label.name, name)
        if one != name:
            raise UsageError(
                f"the folders {os.fsdecode(one)} and {os.fsdecode(name)} both have the label {label.name!r}",
                path=os.fsdecode(folder),
                advice="merge them, or rename one",
            )


def _spoken(name: str) -> str:
    return " ".join(name.replace("_", " ").split())
