"""Pictures with what is right about them: a folder for each class, or pictures with captions."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clipsearch import images
from clipsearch.classifying.labels import Label
from clipsearch.errors import UsageError, reason
from clipsearch.indexing.scanner import Rules, ScanOptions, Walk, pictures_in
from clipsearch.paths import absolute

if TYPE_CHECKING:
    from clipsearch.library import PathLike


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Pictures and the class of each, as an index into `labels`; classes without pictures compete as well.

    `notice` says what should be known about how the labels were found.
    """

    paths: tuple[bytes, ...]
    classes: tuple[int, ...]
    labels: tuple[Label, ...]
    notice: str | None = None

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


def pictures_of(paths: Sequence[PathLike]) -> tuple[bytes, ...]:
    """The pictures that are named, and those in the folders that are. Raises UsageError where there are none."""
    found = tuple(dict.fromkeys(pictures_in([absolute(p) for p in paths], suffixes=images.PICTURE_SUFFIXES)))
    if not found:
        raise UsageError(f"{os.fsdecode(absolute(paths[0]))}: no pictures there")
    return found


def sampled(paths: Sequence[bytes], count: int | None, *, seed: int = 0) -> tuple[bytes, ...]:
    """`count` of the paths, drawn at random, in their order; all for None."""
    if count is None or count >= len(paths):
        return tuple(paths)
    return tuple(paths[i] for i in sorted(random.Random(seed).sample(range(len(paths)), count)))


def folder_per_class(folder: PathLike, labels: Sequence[Label] = ()) -> LabelledPictures:
    """The pictures in the folders right below `folder`, links followed, hidden ones left out; each folder is a class.

    Its name is the label, with _ read as a blank. With `labels`, a folder belongs to the label of its name, whatever
    the case; where no folder has such a name and there are as many, the labels are taken in the order of the folders'
    names: ImageNet's folders are called n01440764. Labels without a folder compete as well.
    Raises UsageError where there are no such folders, no pictures in them, or a folder fits no label.
    """
    root = absolute(folder)
    name = os.fsdecode(root)
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(b"."))
    except OSError as exc:
        raise UsageError(f"{name}: {reason(exc)}") from exc
    if not names:
        raise UsageError(f"{name}: no folders in it; each class needs one of its own, named by its label")
    numbers, chosen, notice = _classes([os.fsdecode(n) for n in names], labels)
    paths: list[bytes] = []
    classes: list[int] = []
    for number, each in zip(numbers, names, strict=True):
        below = os.path.join(root, each)
        walk = Walk(below, Rules(below, ScanOptions(follow_symlinks=True)), images.PICTURE_SUFFIXES)
        found = [candidate.path for candidate in walk]
        paths += found
        classes += [number] * len(found)
    if not paths:
        raise UsageError(f"{name}: no pictures in its folders")
    return LabelledPictures(tuple(paths), tuple(classes), chosen, notice)


def _classes(folders: Sequence[str], labels: Sequence[Label]) -> tuple[list[int], tuple[Label, ...], str | None]:
    """The class of each folder, and the labels of the classes."""
    words = [_words(name) for name in folders]
    if not labels:
        plain = [name.replace("_", " ").strip() or name for name in folders]
        for word in plain:
            if plain.count(word) > 1:
                twice = " and ".join(n for n, p in zip(folders, plain, strict=True) if p == word)
                raise UsageError(f"the folders {twice} are both the label {word!r}; rename one")
        return list(range(len(folders))), tuple(Label(word) for word in plain), None
    known = {_words(label.name): i for i, label in enumerate(labels)}
    missing = [name for name, word in zip(folders, words, strict=True) if word not in known]
    if len(missing) == len(folders) == len(labels):
        said = f"no folder is named like a label; the {len(labels)} labels are taken in the order of the folders' names"
        return list(range(len(folders))), tuple(labels), said
    if missing:
        raise UsageError(f"the folder {missing[0]} is none of the labels ({len(missing)} of {len(folders)} are not)")
    return [known[word] for word in words], tuple(labels), None


def _words(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
