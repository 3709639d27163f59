"""Data sets with ground truth: one folder per class, or images with captions; samples of them."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from clipsearch.classify.folders import class_folders
from clipsearch.classify.labels import Label
from clipsearch.errors import UsageError
from clipsearch.files import absolute
from clipsearch.images.sniff import IMAGE_SUFFIXES
from clipsearch.indexing.results import Problem
from clipsearch.indexing.scanner import images_in

if TYPE_CHECKING:
    from clipsearch.files import PathLike

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images and the class of each, as an index into `labels`; classes without images compete as well.

    notice: how the labels were matched, where that is not obvious. unreadable: folders that could not be read.
    """

    paths: tuple[bytes, ...]
    classes: tuple[int, ...]
    labels: tuple[Label, ...]
    notice: str | None = None
    unreadable: tuple[Problem, ...] = ()

    def sample(self, count: int | None, *, seed: int = 0) -> LabelledImages:
        """`count` of the images, in their order, as evenly from the classes as possible; all for None."""
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
    """Captions, and the image of each as an index into `paths`. Every image has at least one."""

    paths: tuple[bytes, ...]
    captions: tuple[str, ...]
    pictures: tuple[int, ...]

    def sample(self, count: int | None, *, seed: int = 0) -> Captioned:
        """`count` of the images, in their order, with all their captions; all for None."""
        if count is None or count >= len(self.paths):
            return self
        return self.only(sampled(range(len(self.paths)), count, seed=seed))

    def only(self, kept: Sequence[int]) -> Captioned:
        """The images at these places, with their captions."""
        new = {old: i for i, old in enumerate(kept)}
        chosen = [(c, new[p]) for c, p in zip(self.captions, self.pictures, strict=True) if p in new]
        return Captioned(tuple(self.paths[i] for i in kept), tuple(c for c, _ in chosen), tuple(p for _, p in chosen))


def images_of(paths: Sequence[PathLike], *, problems: list[Problem]) -> tuple[bytes, ...]:
    """The given images and those in the given folders; adds folders that cannot be read to `problems`.

    Raises UsageError where there are none.
    """
    named = [absolute(p) for p in paths]
    found = tuple(dict.fromkeys(images_in(named, suffixes=IMAGE_SUFFIXES, problems=problems)))
    if not found:
        raise _no_images(problems, named[0], "no pictures there")
    return found


def sampled(items: Sequence[Item], count: int | None, *, seed: int = 0) -> tuple[Item, ...]:
    """`count` of the items, drawn at random, in their order; all for None."""
    if count is None or count >= len(items):
        return tuple(items)
    return tuple(items[i] for i in sorted(random.Random(seed).sample(range(len(items)), count)))


def folder_per_class(folder: PathLike, labels: Sequence[Label] = ()) -> LabelledImages:
    """The images in the folders right below `folder`; each folder is a class. See `folders.class_folders`.

    Labels without a folder, and folders without an image, compete as well.
    Raises UsageError where there are no such folders, no images in them, or a folder fits no label.
    """
    root = absolute(folder)
    found = class_folders(root, labels, in_order=True)
    if not found.paths:
        raise _no_images(found.problems, root, "no pictures in its folders")
    return LabelledImages(found.paths, found.places, found.labels, found.notice, found.problems)


def _no_images(problems: Sequence[Problem], path: bytes, reason: str) -> UsageError:
    """The error for a place without images, or for its first unreadable folder."""
    if problems:
        return UsageError(problems[0].reason, path=problems[0].path)
    return UsageError(reason, path=os.fsdecode(path))
