"""Notices of a run about what it could not do as it was meant: exclusions, ignore files, modification times."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Sequence

from clipsearch.files import EARLIEST, LATEST
from clipsearch.indexing.missing import Walked
from clipsearch.indexing.results import shortened

CLAMPED = (
    "modification time outside the years 1678 to 2261; changes that keep the size go unnoticed until the time is "
    "corrected (touch FILE)"
)


def about_times(conn: sqlite3.Connection) -> list[str]:
    """About the files of this run whose times the catalog cannot hold."""
    rows = conn.execute("SELECT path FROM temp.work WHERE mtime_ns IN (?, ?) ORDER BY path", (EARLIEST, LATEST))
    return shortened([f"{os.fsdecode(path)}: {CLAMPED}" for (path,) in rows], f"file: {CLAMPED}", f"files: {CLAMPED}")


def about_ignore_files(walks: Sequence[Walked]) -> list[str]:
    """About ignore files that cannot be used."""
    files = {path: text for walked in walks for path, text in walked.walk.rules.notices.items()}
    found = [f"{os.fsdecode(path)}: {text}" for path, text in sorted(files.items())]
    why = "ignore files that cannot be used as they are"
    return shortened(found, f"file: {why}", f"files: {why}")


def about_exclusions(walks: Sequence[Walked], given: Collection[str] | None) -> list[str]:
    """About exclusions that match nothing or contain braces, if they were given for this run or stored by an older
    version."""
    used: dict[str, bool] = {}
    folders: dict[str, bytes] = {}
    for walked in walks:
        options, root = walked.walk.rules.options, walked.area.root
        if not given and not root.older:
            continue
        for number, pattern in enumerate(options.exclude):
            matched = number not in walked.walk.rules.unmatched or not _is_whole(walked)
            used[pattern] = used.get(pattern, False) or matched
            folders.setdefault(pattern, root.path)
    return [text for pattern, is_used in used.items() if (text := _about(pattern, folders[pattern], is_used))]


def _about(pattern: str, folder: bytes, is_used: bool) -> str:
    nothing = "" if is_used else f" matches nothing in {os.fsdecode(folder)}"
    if "{" in pattern:
        both = f"{nothing}, and" if nothing else ""
        return f"`exclude`: {pattern}{both} contains {{, which has no special meaning; give one pattern for each name"
    if nothing:
        return f"`exclude`: {pattern}{nothing}; one with a slash is compared with the whole path below that folder"
    return ""


def _is_whole(walked: Walked) -> bool:
    """Whether the walk saw everything that its root contains."""
    walk = walked.walk
    return (
        walk.start == walked.area.root.path
        and walk.complete
        and not (walk.unreadable or walk.start in walk.empty)
        and os.path.isdir(walk.start)
    )
