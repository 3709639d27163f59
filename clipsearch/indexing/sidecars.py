"""Which files beside an image tell more about it: XMP, and the JSON of Google Takeout; by their names alone.

XMP belongs to the image whose whole name it has ("X.jpg.xmp"), otherwise to those with its stem ("X.xmp"). Takeout
names its JSON after the image, adds ".supplemental-metadata", cuts the result off, and puts the number of a second
"X.jpg" elsewhere: "X(1).jpg" has "X.jpg(1).json".
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from clipsearch.files import mtime_of
from clipsearch.images.sniff import IMAGE_SUFFIXES, RAW_SUFFIXES
from clipsearch.indexing.filesystems import FileSystems

ENDINGS = frozenset((b"xmp", b"json"))
"""Endings, in lower case, of the files that may be sidecars."""

Beside = Mapping[bytes, str]
"""The sidecars of the images in a folder, by the images' names: see `Candidate.sidecars`."""

_MOST = 8
"""Sidecars of one image."""

_TAKEOUT = ".supplemental-metadata"
_CUT = 46
"""Characters that Takeout leaves of a name before ".json"."""

_NUMBERED = re.compile(r"(.+)(\(\d{1,9}\))", re.DOTALL)
_EDITED = re.compile(
    r"(.+)-(?:edited|effects|smile|mix|bearbeitet|bewerkt|edytowane|modifié|modificato|editado|ha editado|editat"
    r"|編集済み)(\(\d{1,9}\))?",
    re.DOTALL,
)
"""Names of copies that were edited in Google Photos: they have the JSON of the original."""


def of_folder(
    images: Iterable[bytes], others: Iterable[os.DirEntry[bytes]], file_systems: FileSystems
) -> tuple[Beside, set[bytes]]:
    """The sidecars of `images`, names in one folder, among its `others`; and the names of these that are in use.

    A stamp is a size, a modification time, and the change time where that can be relied on: programs that correct a
    rating may keep the other two.
    """
    entries = {os.fsdecode(entry.name): entry for entry in others}
    found = _matches([os.fsdecode(name) for name in images], entries)
    beside, used = {}, set()
    for image, names in found.items():
        stamps = {}
        for name in names:
            try:
                entry = entries[name]
                about = entry.stat()
            except OSError:  # It has just vanished.
                continue
            stamps[name] = (about.st_size, mtime_of(about), file_systems.kept(about, entry.path).ctime_ns)
            used.add(entry.name)
        if stamps:
            beside[os.fsencode(image)] = json.dumps(stamps)
    return beside, used


def _matches(images: list[str], sidecars: Iterable[str]) -> dict[str, list[str]]:
    """The sidecars of each image that has any, the most telling first."""
    known = _Images(images)
    found: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in sidecars:
        base, ending = _split(name)
        rank, owners = known.of_xmp(base) if ending.lower() == ".xmp" else known.of_json(base)
        for image in owners:
            found[image].append((rank, name))
    return {image: [name for _, name in sorted(ranked)[:_MOST]] for image, ranked in found.items()}


class _Images:
    """The images of a folder, by what the names of their sidecars begin with."""

    def __init__(self, names: list[str]) -> None:
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            key = _key(name)
            self._by_name[key].append(name)
            self._by_stem[_split(key)[0]].append(name)

    def of_xmp(self, base: str) -> tuple[int, list[str]]:
        """The images that "<base>.xmp" belongs to, and its rank among their sidecars."""
        key = _key(base)
        if named := self._by_name.get(key):
            return 0, _exact(named, base, whole=True)
        same = self._by_stem.get(key, [])
        raw = [name for name in same if _split(name)[1].lower() in RAW_SUFFIXES]
        return 1, _exact(raw or same, base)

    def of_json(self, base: str) -> tuple[int, list[str]]:
        """The images that "<base>.json" belongs to if it is Takeout's, and its rank among their sidecars."""
        titles = list(_titles(base))
        for title, number in titles:
            stem, ending = _split(title)
            named = self._by_name.get(_key(stem + number + ending), [])
            edited = self._edited.get(_key(stem + number), []) if ending.lower() in IMAGE_SUFFIXES else []
            if named or edited:
                return 2, [*_exact(named, stem + number + ending, whole=True), *edited]
        for title, number in titles:
            if _CUT in (len(title), len(title) + len(number), _utf16(title)) and (cut := self._cut(title, number)):
                return 3, cut
        for title, number in titles:
            if same := self._by_stem.get(_key(title + number)):
                return 4, _exact(same, title + number)
        return 5, []

    @cached_property
    def _edited(self) -> dict[str, list[str]]:
        """Edited copies by the stems of their originals."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for stem, names in self._by_stem.items():
            if "-" in stem and (match := _EDITED.fullmatch(stem)):
                found[match[1] + (match[2] or "")] += names
        return found

    @cached_property
    def _in_order(self) -> list[tuple[str, str, str, str]]:
        """(number, name as the title has it, its stem, name) of all images, sorted."""
        found = []
        for stem, names in self._by_stem.items():
            if match := _EDITED.fullmatch(stem):
                stem = match[1] + (match[2] or "")
            match = _NUMBERED.fullmatch(stem)
            bare, number = (match[1], match[2]) if match else (stem, "")
            found += [(number, bare + _split(_key(name))[1], bare, name) for name in names]
        return sorted(found)

    def _cut(self, title: str, number: str) -> list[str]:
        """The images whose name begins with `title`; none where these have several stems."""
        images, stems, key = [], set(), _key(title)
        for at in range(bisect_left(self._in_order, (number, key)), len(self._in_order)):
            known, begins, stem, name = self._in_order[at]
            stems.add(stem)
            if known != number or not begins.startswith(key):
                break
            if len(stems) > 1:
                return []
            images.append(name)
        return images


def _titles(base: str) -> Iterator[tuple[str, str]]:
    """The names, and numbers, that Takeout's JSON may be about: cut short, perhaps; `base` itself first."""
    match = _NUMBERED.fullmatch(base)
    for text, number in ((base, ""), *([(match[1], match[2])] if match else [])):
        yield text, number
        title, dot, rest = text.rpartition(".")
        if title and _TAKEOUT.startswith(dot + rest.lower()):
            yield title, number


def _exact(names: list[str], base: str, *, whole: bool = False) -> list[str]:
    """Those of `names` that are written as `base` is, capitals included; all if none is."""
    if len(names) == 1:
        return names
    return [name for name in names if (name if whole else _split(name)[0]) == base] or names


def _split(name: str) -> tuple[str, str]:
    """A name without its suffix, and that suffix; like os.path.splitext, but fast, and only for single names."""
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if stem else (name, "")


def _utf16(text: str) -> int:
    """The length of a text as JavaScript and Java count it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _key(name: str) -> str:
    """What names are compared by: file systems differ in capitals, and in how they compose letters."""
    return (name if name.isascii() else unicodedata.normalize("NFC", name)).lower()
