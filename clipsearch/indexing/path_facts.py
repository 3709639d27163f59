"""The facts that belong to a path, and not to its content: what its sidecars tell, and the date in its name."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.facts import NAME, SIDECAR, TAKEOUT
from clipsearch.catalog.path_facts import PathFacts
from clipsearch.errors import reason
from clipsearch.files import open_seen
from clipsearch.image_facts import Facts
from clipsearch.indexing import takeout
from clipsearch.indexing.filesystems import FileSystems
from clipsearch.indexing.names import date_in
from clipsearch.indexing.results import Problem, shortened
from clipsearch.indexing.rules import Rules, ScanOptions
from clipsearch.indexing.scanner import GONE
from clipsearch.indexing.sidecars import ENDINGS, Beside, of_folder

_STEP = 500
"""Files in one transaction."""


class PathFactsReader:
    """Reads the facts of paths for one run, and records them; keeps what is wrong with sidecars for its report."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._problems: list[Problem] = []

    def record(self, path: bytes, sidecars: str) -> None:
        """Read the facts of a known file and record them, in a transaction. sidecars: see `Candidate`."""
        stamps: dict[str, Any] = json.loads(sidecars) if sidecars else {}
        found = list(self._in_sidecars(path, stamps))
        if moment := date_in(os.fsdecode(os.path.basename(path))):
            found.append((NAME, Facts(taken_at=moment.text, taken_offset=moment.offset)))
        self._catalog.files.put_facts(path, json.dumps(stamps) if stamps else "", _best(found))

    def update(self, stop: Callable[[], bool]) -> int:
        """Record the facts of the unchanged files whose sidecars have changed (`temp.beside`); how many."""
        conn, done, last = self._catalog.conn, 0, b""
        while not stop():
            rows = conn.execute(
                "SELECT path, sidecars FROM temp.beside WHERE path > ? ORDER BY path LIMIT ?", (last, _STEP)
            ).fetchall()
            if not rows:
                break
            with self._catalog.transaction():
                for path, sidecars in rows:
                    self.record(path, sidecars)
            last, done = rows[-1][0], done + len(rows)
        return done

    def notices(self) -> list[str]:
        """About sidecars that cannot be used."""
        lines = [f"{problem.path}: {problem.reason}; its facts are ignored" for problem in self._problems]
        return shortened(lines, "sidecar cannot be used", "sidecars cannot be used")

    def _in_sidecars(self, path: bytes, stamps: dict[str, Any]) -> Iterator[tuple[str, Facts]]:
        """The facts in each sidecar with their source. The stamp of one to be tried again becomes None in `stamps`."""
        folder = os.path.dirname(path)
        for name in list(stamps):
            file = os.path.join(folder, os.fsencode(name))
            try:
                source, facts = _read(file)
            except OSError as exc:
                stamps[name] = None
                if exc.errno in GONE:
                    continue
                self._problems.append(Problem(os.fsdecode(file), f"the sidecar cannot be read: {reason(exc)}"))
            except ValueError as exc:
                self._problems.append(Problem(os.fsdecode(file), str(exc)))
            else:
                yield source, facts


def sidecars_in(folder: bytes, root: bytes, options: ScanOptions, file_systems: FileSystems) -> Beside:
    """The sidecars of all files in a folder that the options of a root allow; nothing where it cannot be read."""
    rules, images, others = Rules(root, options), [], []
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                if entry.name.rpartition(b".")[2].lower() not in ENDINGS:
                    images.append(entry.name)
                    continue
                with contextlib.suppress(OSError):  # A link that leads nowhere.
                    if entry.is_file(follow_symlinks=options.follow_symlinks) and rules.reaches(entry.path):
                        others.append(entry)
    except OSError:
        return {}
    return of_folder(images, others, file_systems)[0] if others else {}


def _read(file: bytes) -> tuple[str, Facts]:
    """The facts in a sidecar, and their source. Raises OSError, and ValueError for what cannot be used."""
    if file.lower().endswith(b".xmp"):
        from clipsearch.images import xmp  # A query may load this module.

        return SIDECAR, xmp.read(_bytes(file, xmp.MAX_SIDECAR_BYTES), limit_bytes=xmp.MAX_SIDECAR_BYTES)
    return TAKEOUT, takeout.read(_bytes(file, takeout.MAX_BYTES)) or Facts()


def _bytes(file: bytes, most: int) -> bytes:
    """The content of a regular file. Raises OSError, and ValueError for anything else and for a larger one."""
    descriptor = open_seen(file)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("the sidecar is not a regular file")
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"the sidecar has more than {most / 1e6:g} MB")
    return data


def _best(found: list[tuple[str, Facts]]) -> PathFacts:
    """Of each fact the first; `found` has the most telling source first."""
    taken = next(((s, f) for s, f in found if f.taken_at is not None), (None, Facts()))
    place = next(((s, f) for s, f in found if f.lat is not None), (None, Facts()))
    words = next((f.keywords for _, f in found if f.keywords), ())
    caption = next(((s, f) for s, f in found if f.caption is not None), (None, Facts()))
    return PathFacts(
        taken_at=taken[1].taken_at,
        taken_offset=taken[1].taken_offset,
        taken_source=taken[0],
        lat=place[1].lat,
        lon=place[1].lon,
        place_source=place[0],
        caption=caption[1].caption,
        caption_source=caption[0],
        keywords=json.dumps(words, ensure_ascii=False) if words else None,
        rating=next((f.rating for _, f in found if f.rating is not None), None),
    )
