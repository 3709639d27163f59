"""From neighbours to hits: what a query returns of each content, and in which order."""

from __future__ import annotations

import os
from collections.abc import Sequence

from clipsearch.catalog import filters
from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.contents import ContentRow
from clipsearch.catalog.files import state_now
from clipsearch.catalog.filters import Filter
from clipsearch.encoders.base import Encoder
from clipsearch.search.neighbours import Neighbour
from clipsearch.types import FileState, Hit, Sort


def make_hits(
    catalog: Catalog,
    neighbours: Sequence[Neighbour],
    *,
    where: Filter | None = None,
    encoder: Encoder | None = None,
    unfold: bool = False,
) -> tuple[Hit, ...]:
    """Hits in the order of `neighbours`; paths that match `where` come first. `encoder` adds what it recognised.

    `unfold`: one hit for each file that matches `where` and exists.
    """
    rows = catalog.contents.with_files([n.content_id for n in neighbours])
    inside = filters.paths_inside(catalog, list(rows), where)
    if not unfold:
        return tuple(_hit(rows[n.content_id], n, inside, encoder) for n in neighbours)
    return tuple(
        _hit(rows[n.content_id]._replace(files=(file,)), n, inside, encoder)
        for n in neighbours
        for file in rows[n.content_id].files
        if (inside is None or file[0] in inside) and state_now(*file) == "present"
    )


def make_many_hits(
    catalog: Catalog, found: Sequence[Sequence[Neighbour]], *, where: Filter | None = None
) -> list[tuple[Hit, ...]]:
    """`make_hits` for many queries, each content read once."""
    ids = sorted({n.content_id for neighbours in found for n in neighbours})
    rows = catalog.contents.with_files(ids)
    inside = filters.paths_inside(catalog, ids, where)
    return [tuple(_hit(rows[n.content_id], n, inside, None) for n in neighbours) for neighbours in found]


def _hit(row: ContentRow, neighbour: Neighbour, inside: set[bytes] | None, encoder: Encoder | None) -> Hit:
    files, states = _as_they_are(row.files, inside)
    return Hit(
        id=row.id,
        path=os.fsdecode(files[0]),
        paths=tuple(map(os.fsdecode, files)),
        score=neighbour.score,
        bytes=row.bytes,
        format=row.format,
        width=row.width,
        height=row.height,
        taken_at=row.taken_at,
        state=row.state,
        offline="present" not in states,
        unreadable="present" not in states and "unreadable" in states,
        explain=encoder.explain(neighbour.vector) if encoder and neighbour.vector is not None else (),
        relevance=neighbour.relevance,
        view=neighbour.view,
        box=neighbour.box,
        taken_offset=row.taken_offset,
        taken_source=row.taken_source,
        lat=row.lat,
        lon=row.lon,
        place_source=row.place_source,
        caption=row.caption,
        keywords=row.keywords,
        rating=row.rating,
        also=neighbour.also,
    )


def _as_they_are(
    files: Sequence[tuple[bytes, FileState]], inside: set[bytes] | None
) -> tuple[list[bytes], set[FileState]]:
    """The paths of a hit, those in `inside` first, and of these the first that exists now; the states of all tried.

    A drive may have been unplugged, or plugged in, since the last run. Mostly one look at the disk is enough.
    """
    states: set[FileState] = set()
    ordered: list[bytes] = []
    for is_outside in (False, True):
        group = [file for file in files if (inside is not None and file[0] not in inside) is is_outside]
        paths = [path for path, _ in group]
        for path, state in group if "present" not in states else ():
            states.add(now := state_now(path, state))
            if now == "present":
                paths.remove(path)
                paths.insert(0, path)
                break
        ordered += paths
    return ordered, states


def sort_hits(hits: tuple[Hit, ...], sort: Sort) -> tuple[Hit, ...]:
    """A page of hits in another order."""
    if sort == "taken":
        return tuple(sorted(hits, key=_time))
    return tuple(sorted(hits, key=lambda hit: hit.path)) if sort == "path" else hits


def _time(hit: Hit) -> tuple[bool, str]:
    """What hits are sorted by: local time as text, in which a day comes before the moments of that day."""
    from clipsearch.catalog.local_time import local_text

    if hit.taken_at is None:
        return True, ""
    return False, local_text(hit.taken_at, hit.taken_offset, hit.taken_source, lat=hit.lat, lon=hit.lon)
