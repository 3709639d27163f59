"""Sorts pictures into a folder a label, as copies or as links."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipsearch.classify.options import UNKNOWN
from clipsearch.classify.results import Classification, ClassifyResult
from clipsearch.errors import UsageError
from clipsearch.export.copies import Handed, hand_out
from clipsearch.types import Hit, Problem

__all__ = ["SortedOut", "folder_names", "sort_out"]

_NAME_BYTES = 200
"""Of a folder's name: file systems take 255, and a number may have to be added."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')
"""What cannot be in a name on every file system that pictures are carried to."""


@dataclass(frozen=True, slots=True)
class SortedOut:
    """What came of it, by label: how many pictures, of which how many were there already; and those that failed."""

    folder: str
    counts: Mapping[str, int]
    existed: int
    failed: tuple[Problem, ...]


def sort_out(result: ClassifyResult, folder: str | Path, *, link: bool = False) -> SortedOut:
    """Copy the pictures of a result into folders below `folder`, named by their labels; with `link`, link to them.

    A picture goes where its best label says, into `unknown` where none stands out; where labels were judged by
    themselves, into the folder of each, and of none where it has none. Nothing that is there is overwritten: see
    `hand_out`. Raises UsageError where the folder cannot be made, ClipsearchError where it cannot be written to.
    """
    target = os.path.abspath(folder)
    if os.path.lexists(target) and not os.path.isdir(target):
        raise UsageError(f"cannot make the folder {target}: there is a file of that name")
    names = folder_names((*result.labels, UNKNOWN))
    groups: dict[str, list[Hit]] = {}
    for item in result.results:
        for label in _labels_of(item, every=result.threshold is not None):
            groups.setdefault(label, []).append(_hit(item))
    counts: dict[str, int] = {}
    handed: list[Handed] = []
    failed: dict[str, Problem] = {}
    for label, hits in groups.items():
        done = hand_out(hits, os.path.join(target, names[label]), link=link)
        counts[label] = len(done.handed)
        handed += done.handed
        failed |= {problem.path: problem for problem in done.failed}
    return SortedOut(target, counts, sum(each.existed for each in handed), tuple(failed.values()))


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """A folder's name for each label: no two are the same, upper and lower case being one, and none can lead elsewhere.

    What a name cannot hold becomes `_`; a name that is taken gets a number.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        if label in names:
            continue
        safe = _UNSAFE.sub("_", label).strip().rstrip(".")
        if safe.startswith("."):
            safe = "_" + safe[1:]
        safe = _cut(safe) or "_"
        name, number = safe, 2
        while name.casefold() in taken:
            name, number = f"{safe}-{number}", number + 1
        taken.add(name.casefold())
        names[label] = name
    return names


def _cut(name: str) -> str:
    return os.fsencode(name)[:_NAME_BYTES].decode("utf-8", "ignore").rstrip(" .")


def _labels_of(item: Classification, *, every: bool) -> list[str]:
    if item.reason is not None:
        return []
    if item.unknown:
        return [UNKNOWN]
    return [p.label for p in item.predictions[: None if every else 1]]


def _hit(item: Classification) -> Hit:
    """What `hand_out` needs of a picture: where it is."""
    return Hit(
        id=item.id or 0,
        path=item.path,
        paths=item.paths or (item.path,),
        score=0.0,
        bytes=0,
        format=None,
        width=None,
        height=None,
        taken_at=None,
        state="ok",
        offline=item.offline,
    )
