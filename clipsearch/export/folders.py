"""Sorts images into one folder per label, as copies or links."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipsearch.classify.options import UNKNOWN
from clipsearch.classify.results import Classification, ClassifyResult
from clipsearch.errors import UsageError
from clipsearch.export.copies import ExportedCopy, export_copies
from clipsearch.indexing.results import Problem

_NAME_BYTES = 200
"""Maximum bytes of a folder's name: file systems allow 255, and a number may have to be added."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')
"""Characters that some common file system does not allow in a name."""


@dataclass(frozen=True, slots=True)
class FolderExport:
    """Number of images by label, how many of all were already there, and those that failed."""

    folder: str
    counts: Mapping[str, int]
    existed: int
    failed: tuple[Problem, ...]


def export_folders(result: ClassifyResult, folder: str | Path, *, link: bool = False) -> FolderExport:
    """Copy the images of a result into folders below `folder`, named after their labels; with `link`, link to them.

    An image goes into the folder of its best label, or into `unknown` if none stands out. If each label was judged on
    its own, it goes into the folder of each of its labels, if any. Existing files are never overwritten: see
    `export_copies`. Raises UsageError if the folder cannot be created, ClipsearchError if it cannot be written to.
    """
    target = os.path.abspath(folder)
    if os.path.lexists(target) and not os.path.isdir(target):
        raise UsageError(f"cannot create the folder {target}: there is a file of that name")
    names = folder_names((*result.labels, UNKNOWN))
    groups: dict[str, list[Classification]] = {}
    for item in result.results:
        for label in _labels_of(item, every=result.threshold is not None):
            groups.setdefault(label, []).append(item)
    counts: dict[str, int] = {}
    handed: list[ExportedCopy] = []
    failed: dict[str, Problem] = {}
    for label, items in groups.items():
        done = export_copies(items, os.path.join(target, names[label]), link=link)
        counts[label] = len(done.handed)
        handed += done.handed
        failed |= {problem.path: problem for problem in done.failed}
    return FolderExport(target, counts, sum(each.existed for each in handed), tuple(failed.values()))


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """A folder name for each label: all different, even on a file system that ignores case, and none leads elsewhere.

    Characters that are not allowed become `_`; if a name is taken, a number is added.
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
