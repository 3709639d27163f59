"""A folder a class: pictures whose label is the name of their folder, as examples or to be measured by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipsearch.classify.labels import Label, checked, is_text
from clipsearch.errors import UsageError, reason
from clipsearch.images.sniff import PICTURE_SUFFIXES
from clipsearch.indexing.scanner import GONE, Rules, ScanOptions, Walk
from clipsearch.types import Problem


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """The labels, and pictures with the place of each one's label.

    `problems` are folders that could not be looked into; `notice` says what should be known of how the labels were
    found.
    """

    labels: tuple[Label, ...]
    paths: tuple[bytes, ...]
    places: tuple[int, ...]
    problems: tuple[Problem, ...] = ()
    notice: str | None = None


def class_folders(
    folder: bytes, labels: Sequence[str | Label] = (), *, said: str, in_order: bool = False, in_each: bool = False
) -> ClassFolders:
    """The pictures in the folders right below `folder`, links followed, hidden ones left out.

    A folder's name is its label, underscores being blanks; with `labels`, it is one of their words, whatever the case,
    and labels without a folder have no picture. `in_order`: where no folder has such a name and there are as many, the
    labels are taken in the order of the folders' names: ImageNet's are called n01440764.

    Raises UsageError, which begins with `said`, where there is no folder in it, one is none of the labels or cannot be
    one, or two are the same one; with `in_each`, also for a folder without a picture.
    """
    problems: dict[bytes, str] = {}
    names = _folders_in(folder, problems, said=said)
    notice = None
    if labels:
        chosen = checked(labels)
        places, notice = _places(names, chosen, said=said, in_order=in_order)
    else:
        chosen, places = tuple(Label(_label(name, said=said)) for name in names), list(range(len(names)))
    _check_apart(names, places, chosen, given=bool(labels), said=said)
    paths: list[bytes] = []
    classes: list[int] = []
    for name, place in zip(names, places, strict=True):
        below = os.path.join(folder, name)
        walk = Walk(below, Rules(below, ScanOptions(follow_symlinks=True)), PICTURE_SUFFIXES)
        found = [candidate.path for candidate in walk]
        if in_each and not found:
            at, why = next(iter(walk.unreadable.items()), (below, ""))
            raise UsageError(
                f"{said}: {os.fsdecode(at)}: {why}"
                if why
                else f"{said}: no picture in {os.fsdecode(name)}; put some there, or remove it"
            )
        paths += found
        classes += [place] * len(found)
        problems |= walk.unreadable
    told = tuple(Problem(os.fsdecode(path), why) for path, why in sorted(problems.items()))
    return ClassFolders(chosen, tuple(paths), tuple(classes), told, notice)


def example_folders(folder: Path, labels: Sequence[str | Label] = ()) -> ClassFolders:
    """`class_folders` of `--examples`. Raises UsageError also for a folder without a picture."""
    return class_folders(os.fsencode(folder), labels, said=f"--examples {folder}", in_each=True)


def _folders_in(folder: bytes, problems: dict[bytes, str], *, said: str) -> list[bytes]:
    """The names of the folders, and of links to folders, in their order."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(b"."):
                    continue
                try:
                    if entry.is_dir():
                        names.append(entry.name)
                except OSError as exc:  # A link that leads to itself is no folder, and no reason to stop.
                    if exc.errno not in GONE:
                        problems[entry.path] = reason(exc)
    except OSError as exc:
        raise UsageError(f"{said}: {reason(exc)}") from exc
    if not names:
        raise UsageError(f"{said}: no folders in it; it takes one a class, named by its label, with pictures in each")
    return sorted(names)


def _label(name: bytes, *, said: str) -> str:
    text = os.fsdecode(name)
    if not is_text(text):
        raise UsageError(f"{said}: the folder {text} has a name that is not UTF-8, so it can be no label; rename it")
    return _spoken(text) or text


def _places(
    names: Sequence[bytes], labels: Sequence[Label], *, said: str, in_order: bool
) -> tuple[list[int], str | None]:
    """The place of each folder's label, and what should be known of it."""
    by_word: dict[str, int] = {}
    # As they are before whatever the case, and names before other words: "missile (2)" is spoken as another's name.
    for fold in (str, str.casefold):
        for words in (lambda label: (label.name,), lambda label: label.words):
            for place, label in enumerate(labels):
                for word in words(label):
                    # A slash in a label is an underscore in its folder's name, as --copy-to writes it.
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
            f"no folder is named like a label; the {len(labels)} labels are taken in the order of the folders' names"
        )
    if missing:
        raise UsageError(
            f"{said}: the folder {missing[0]} is none of the labels ({len(missing)} of {len(names)} folders); "
            "rename it, or leave out --labels"
        )
    return [place for place in found if place is not None], None


def _check_apart(
    names: Sequence[bytes], places: Sequence[int], labels: Sequence[Label], *, given: bool, said: str
) -> None:
    """Raise UsageError where two folders are one label."""
    first: dict[int | str, bytes] = {}
    for name, place in zip(names, places, strict=True):
        one = first.setdefault(place if given else labels[place].name, name)
        if one != name:
            raise UsageError(
                f"{said}: the folders {os.fsdecode(one)} and {os.fsdecode(name)} are both the label "
                f"{labels[place].name!r}; {'merge them' if given else 'rename one'}"
            )


def _spoken(name: str) -> str:
    return " ".join(name.replace("_", " ").split())
