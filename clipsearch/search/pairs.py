"""Files of one shot as one hit: a raw file and its JPEG, HEIC and JPEG, an iPhone's picture and its edited version.

Files are of one shot if they are in one folder, have the same stem (IMG_E0012 is the edited IMG_0012) and no different
times of exposure, and if their images are nearly the same: a name and a clock alone prove little.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.files import OfStem, state_now
from clipsearch.search.neighbours import Neighbour
from clipsearch.types import Partner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAME_SHOT = 0.9
"""The least inner product of two images of one shot: a raw file's preview may have other colours than the JPEG."""

_PREFERRED = ("HEIF", "JPEG", "RAW")
"""Formats that cameras write side by side; the first of a shot is shown."""

_EDITED = re.compile(rb"(IMG_)E(\d+.*)", re.DOTALL)
"""The stem of an iPhone's edited picture."""


class _Member(NamedTuple):
    """A file of a shot; `rank` orders those of one shot, best first. It is 0 for an edited picture."""

    rank: int
    path: bytes
    id: int
    format: str | None
    taken_at: str

    def goes_with(self, other: _Member) -> bool:
        """Whether both may be of one shot, by their names, formats and times."""
        if (self.rank == 0) == (other.rank == 0) and not (
            self.format != other.format and self.format in _PREFERRED and other.format in _PREFERRED
        ):
            return False
        # A time may lack the fraction of a second, or be missing.
        return self.taken_at.startswith(other.taken_at) or other.taken_at.startswith(self.taken_at)


_Shot = tuple[_Member, ...]

Find = Callable[[int], list[Neighbour]]
"""The n best contents, best first, in one order for any n."""


class Shots:
    """The shots of a catalog, by the vectors of one encoder.

    `allowed`: the ids of the embeddings that a filter leaves, ascending; None where nothing is filtered. The first file
    of a shot that passes is the hit. `strict`: a shot has only the files that pass. For one transaction.
    """

    def __init__(
        self, catalog: Catalog, row: EncoderRow, allowed: NDArray[np.int64] | None = None, *, strict: bool = False
    ) -> None:
        self._catalog = catalog
        self._row = row
        self._allowed = allowed
        self._strict = strict
        self._shots: dict[int, _Shot] = {}

    def fold(self, neighbours: Iterable[Neighbour], most: int | None = None) -> list[Neighbour]:
        """Neighbours in their order, each shot once, where its best one is: at most `most`."""
        hits: list[Neighbour] = []
        seen: set[int] = set()
        for each in neighbours:
            shot = self._of(each.content_id)
            shown = shot[0].id if shot else each.content_id
            if shown in seen:
                continue
            if len(hits) == most:
                break
            seen.add(shown)
            hits.append(_as_hit(each, shot) if shot else each)
        return hits

    def count(self, content_ids: Iterable[int]) -> int:
        """How many hits these contents are."""
        shown = set()
        for each in content_ids:
            shot = self._of(each)
            shown.add(shot[0].id if shot else each)
        return len(shown)

    def nearest(self, find: Find, count: int) -> list[Neighbour]:
        """The `count` best shots, each by its best file, where `find` finds single files."""
        asked = count
        while True:
            found = find(asked)
            hits = self.fold(found, count)
            if len(hits) == count or len(found) < asked:
                return hits
            asked = 2 * asked + count

    def nearest_many(self, find: Callable[[int], list[list[Neighbour]]], count: int) -> list[list[Neighbour]]:
        """`nearest` for many queries."""
        asked = count
        while True:
            found = find(asked)
            hits = [self.fold(each, count) for each in found]
            if all(len(some) == count or len(each) < asked for some, each in zip(hits, found, strict=True)):
                return hits
            asked = 2 * asked + count

    def unfold(self, hits: Sequence[Neighbour], find: Find) -> list[Neighbour]:
        """Hits as the single files that pass, with scores of their own; those of a shot stay together."""
        asked = 2 * len(hits)
        wanted = {each for hit in hits for each in (hit.content_id, *(other.id for other in hit.also))}
        while True:
            found = find(asked)
            by_id = {each.content_id: each for each in found}
            if len(found) < asked or by_id.keys() >= wanted:
                break
            asked *= 4
        return [
            replace(by_id[each], relevance=hit.relevance)
            for hit in hits
            for each in (hit.content_id, *(other.id for other in hit.also))
            if each in by_id
        ]

    def _of(self, content_id: int) -> _Shot:
        if content_id not in self._shots:
            shot = self._find(content_id)
            self._shots[content_id] = ()  # If it is in no shot of several files that pass.
            self._shots |= {member.id: shot for member in shot}
        return self._shots[content_id]

    def _find(self, content_id: int) -> _Shot:
        """The files of a content's shot, the one to show first; empty for a content that is one by itself."""
        shots = []
        for path in self._catalog.files.live_paths(content_id):
            folder, name = os.path.split(path)
            stem, edited = _stems(name)
            rows = [row for each in (stem, edited) if each for row in self._catalog.files.of_stem(folder, each)]
            if len(rows) > 1:
                shots += [shot for shot in self._divided(rows) if any(member.id == content_id for member in shot)]
        # What cannot be seen now must not hide what can.
        best: _Shot = min(shots, default=(), key=_order)
        return self._passing(tuple(sorted(best, key=lambda member: not self._exists(member))))

    def _divided(self, rows: Sequence[OfStem]) -> list[_Shot]:
        """Files with one stem as the shots of several files that they belong to."""
        members = sorted({row.content_id: _member(row) for row in rows}.values())
        vectors = self._catalog.embeddings.vectors_of([member.id for member in members], self._row.id)
        shots: list[list[_Member]] = []
        for member in members:
            if member.id not in vectors:
                continue
            for shot in shots:
                if all(
                    member.goes_with(other) and float(vectors[member.id] @ vectors[other.id]) >= SAME_SHOT
                    for other in shot
                ):
                    shot.append(member)
                    break
            else:
                shots.append([member])
        return [tuple(shot) for shot in shots if len(shot) > 1]

    def _exists(self, member: _Member) -> bool:
        return any(state_now(path, "present") == "present" for path in self._catalog.files.live_paths(member.id))

    def _passing(self, shot: _Shot) -> _Shot:
        """The shot with the files that the filter leaves in front."""
        if self._allowed is None or not shot:
            return shot
        import numpy as np

        from clipsearch.vectors import exact

        seqs = self._catalog.embeddings.seqs_of([member.id for member in shot], self._row.id)
        wanted = np.array([seqs.get(member.id, 0) for member in shot], np.int64)
        passes = np.isin(wanted, self._allowed[exact.members(self._allowed, wanted)])
        passing = list(itertools.compress(shot, passes))
        others = [member for member in shot if member not in passing]
        return (*passing, *others) if passing and not self._strict else tuple(passing)


def _order(shot: _Shot) -> tuple[int, bytes]:
    return shot[0].rank, shot[0].path


def _stems(name: bytes) -> tuple[bytes, bytes]:
    """The stem of a name, and that of the picture that it edits, or that edits it; empty where there is none."""
    stem = name.rpartition(b".")[0]
    match = _EDITED.fullmatch(stem)
    if match:
        return match[1] + match[2], stem
    return stem, b"IMG_E" + stem[4:] if re.match(rb"IMG_\d", stem) else b""


def _member(row: OfStem) -> _Member:
    name = os.path.basename(row.path)
    edited = _EDITED.fullmatch(name.rpartition(b".")[0]) is not None
    rank = _PREFERRED.index(row.format) + 1 if row.format in _PREFERRED else len(_PREFERRED) + 1
    return _Member(0 if edited else rank, row.path, row.content_id, row.format, row.taken_at or "")


def _as_hit(neighbour: Neighbour, shot: _Shot) -> Neighbour:
    shown, *others = shot
    also = tuple(Partner(each.id, os.fsdecode(each.path), each.format) for each in others)
    if shown.id == neighbour.content_id:
        return replace(neighbour, also=also)
    return replace(neighbour, content_id=shown.id, also=also, view=0, box=None)  # The part is one of another image.
