"""Pictures with what is right about them: a folder for each class, or pictures with captions."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clipsearch.classify.folders import class_folders
from clipsearch.classify.labels import Label
from clipsearch.errors import UsageError
from clipsearch.files import absolute
from clipsearch.images.sniff import PICTURE_SUFFIXES
from clipsearch.indexing.scanner import pictures_in
from clipsearch.types import Problem

if TYPE_CHECKING:
    from clipsearch.files import PathLike


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Pictures and the class of each, as an index into `labels`; classes without pictures compete as well.

    `notice` says what should be known about how the labels were found; `unreadable` are folders that could not be
    looked into.
    """

    paths: tuple[bytes, ...]
    classes: tuple[int, ...]
    labels: tuple[Label, ...]
    notice: str | None = None
    unreadable: tuple[Problem, ...] = ()

    def sample(self, count: int | None, *, seed: int = 0) -> LabelledPictures:
        """`count` of the pictures, in their order, as evenly from the classes as they have them; all for None."""
        if count is None or count >= len(self.paths):
            return self
        rng = random.Random(seed)
        places = list(range(len(self.paths)))
        rng.shuffle(places)
        turn: dict[int, int] = {}
        drawn: list[tuple[int, float, int]] = []
        for place in places:
            own = self.classes[place]
            turn[own] = turn.get(own, 0) + 1
            drawn.append((turn[own], rng.random(), place))  # the first of every class, then the second …
        kept = sorted(place for _, _, place in sorted(drawn)[:count])
        return replace(self, paths=tuple(self.paths[i] for i in kept), classes=tuple(self.classes[i] for i in kept))


@dataclass(frozen=True, slots=True)
class Captioned:
    """Captions, and the picture of each as an index into `paths`. Every picture has at least one."""

    paths: tuple[bytes, ...]
    captions: tuple[str, ...]
    pictures: tuple[int, ...]

    def sample(self, count: int | None, *, seed: int = 0) -> Captioned:
        """`count` of the pictures, in their order, with all their captions; all for None."""
        if count is None or count >= len(self.paths):
            return self
        return self.only(sorted(random.Random(seed).sample(range(len(self.paths)), count)))

    def only(self, kept: Sequence[int]) -> Captioned:
        """The pictures at these places, with their captions."""
        new = {old: i for i, old in enumerate(kept)}
        chosen = [(c, new[p]) for c, p in zip(self.captions, self.pictures, strict=True) if p in new]
        return Captioned(tuple(self.paths[i] for i in kept), tuple(c for c, _ in chosen), tuple(p for _, p in chosen))


def pictures_of(paths: Sequence[PathLike], *, problems: list[Problem]) -> tuple[bytes, ...]:
    """The pictures that are named, and those in the folders that are; adds folders that cannot be read to `problems`.

    Raises UsageError where there are none.
    """
    named = [absolute(p) for p in paths]
    found = tuple(dict.fromkeys(pictures_in(named, suffixes=PICTURE_SUFFIXES, problems=problems)))
    if not found:
        raise UsageError(_shut(problems) or f"{os.fsdecode(named[0])}: no pictures there")
    return found


def sampled(paths: Sequence[bytes], count: int | None, *, seed: int = 0) -> tuple[bytes, ...]:
    """`count` of the paths, drawn at random, in their order; all for None."""
    if count is None or count >= len(paths):
        return tuple(paths)
    return tuple(paths[i] for i in sorted(random.Random(seed).sample(range(len(paths)), count)))


def folder_per_class(folder: PathLike, labels: Sequence[Label] = ()) -> LabelledPictures:
    """The pictures in the folders right below `folder`; each folder is a class. See `folders.class_folders`.

    Labels without a folder, and folders without a picture, compete as well.
    Raises UsageError where there are no such folders, no pictures in them, or a folder fits no label.
    """
    root = absolute(folder)
    name = os.fsdecode(root)
    found = class_folders(root, labels, in_order=True)
    if not found.paths:
        raise UsageError(_shut(found.problems) or f"{name}: no pictures in its folders")
    return LabelledPictures(found.paths, found.places, found.labels, found.notice, found.problems)


def _shut(problems: Sequence[Problem]) -> str | None:
    return f"{problems[0].path}: {problems[0].reason}" if problems else None
