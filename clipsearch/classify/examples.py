"""From folders of examples to a fitted classifier: reads the images, and counts exact copies once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.classify import few_shot, unknown
from clipsearch.classify.classifier import Classifier
from clipsearch.classify.folders import ClassFolders
from clipsearch.classify.known import Everyday, near_equal
from clipsearch.classify.library_images import Item, named
from clipsearch.classify.prototypes import Report, prototypes
from clipsearch.errors import UsageError
from clipsearch.files import sha256
from clipsearch.search.embed import Embedder
from clipsearch.types import Notice


def taught(
    plain: Classifier, classes: ClassFolders, embedder: Embedder, *, blend: float | None, progress: Report
) -> Classifier:
    """`plain`, made from prompts alone, with the examples of its classes blended in.

    Raises UsageError where none can be read.
    """
    gathered = named(classes.paths, embedder, progress=progress)
    problems = [Notice("partial", f"{problem.path}: {problem.reason}") for problem in classes.problems]
    problems += [
        Notice("partial", f"{os.fsdecode(item.path)} cannot be used as an example: {item.reason}")
        for item in gathered.items
        if item.reason
    ]
    readable = [(item, place) for item, place in zip(gathered.items, classes.places, strict=True) if not item.reason]
    if not readable:
        raise UsageError(f"`examples`: none of the images can be read; {problems[0]}")
    kept = _distinct(readable)
    places = np.array([place for _, place in kept], np.int64)
    vectors = gathered.vectors[[item.row for item, _ in kept if item.row is not None]]
    everyday = Everyday.of(prototypes(embedder, unknown.labels(), plain.distractor_templates, progress=progress))
    fitted = few_shot.fit(plain, vectors, places, blend=blend, everyday=everyday)
    alike = [*_about_copies(len(readable) - len(kept)), *_about_bursts(vectors, places)]
    return replace(fitted, notices=(*plain.notices, *gathered.notices, *problems, *alike))


def _distinct(examples: Sequence[tuple[Item, int]]) -> list[tuple[Item, int]]:
    """Examples with their labels, exact copies of one label once. Only files of the same size are compared."""
    sizes = [_size(item) for item, _ in examples]
    common = Counter(zip(sizes, (place for _, place in examples), strict=True))
    seen: set[tuple[str, int]] = set()
    kept = []
    for size, (item, place) in zip(sizes, examples, strict=True):
        if size is not None and common[size, place] > 1 and (digest := _digest(item)):
            if (digest, place) in seen:
                continue
            seen.add((digest, place))
        kept.append((item, place))
    return kept


def _size(item: Item) -> int | None:
    """A file's size in bytes; None where it is unreachable now."""
    try:
        return os.stat(item.path).st_size
    except OSError:
        return None


def _digest(item: Item) -> str | None:
    try:
        return sha256(Path(os.fsdecode(item.path)))
    except OSError:
        return None


def _about_copies(count: int) -> list[Notice]:
    if not count:
        return []
    one = "one of the examples is an exact copy of another of its class, and does not count"
    more = f"{count:,} of the examples are exact copies of others of their class, and do not count"
    return [Notice("labels", one if count == 1 else more)]


def _about_bursts(vectors: NDArray[np.float32], classes: NDArray[np.int64]) -> list[Notice]:
    """What a caller should know about examples that look nearly the same."""
    groups = near_equal(vectors, classes)
    sizes = np.bincount(groups)
    count = int((sizes[groups] > 1).sum())
    if not count:
        return []
    text = f"{count:,} of the {len(classes):,} examples are nearly equal to others of their class; leave-one-out "
    return [Notice("labels", text + "accuracy and calibration error leave them out together")]
