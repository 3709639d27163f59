"""What a run skipped: files that are not images or left out, folders without images, why files are unsupported."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Sequence

from clipsearch.files import is_within, upwards
from clipsearch.indexing.ignored import KINDS
from clipsearch.indexing.missing import Walked
from clipsearch.indexing.results import LeftOut, Problem
from clipsearch.indexing.rules import COUNTED


def ignored(walks: Sequence[Walked]) -> dict[str, int]:
    """Files that are not images, by kind; every kind is listed."""
    return {kind: sum(walked.walk.ignored[kind] for walked in walks) for kind in KINDS}


def left_out(walks: Sequence[Walked]) -> dict[str, LeftOut]:
    """Folders and single images that the rules leave out, by reason; every reason is listed."""
    total: Counter[tuple[str, bool]] = Counter()
    for walked in walks:
        total.update(walked.walk.left_out)
    return {why: LeftOut(total[why, True], total[why, False]) for why in COUNTED}


def placeholders(walks: Sequence[Walked]) -> list[Problem]:
    """Files that only stand for images, by path."""
    found = {path: what for walked in walks for path, what in walked.walk.placeholders.items()}
    return [Problem(os.fsdecode(path), what) for path, what in sorted(found.items())]


def without_images(walks: Sequence[Walked], conn: sqlite3.Connection) -> list[str]:
    """Folders in which neither these walks nor earlier ones found an image."""
    with_images = [
        walked.area.start
        for walked in walks
        if walked.walk.found or walked.walk.placeholders or walked.area.root.is_file
    ]
    folders = []
    for index, walked in enumerate(walks):
        start, walk = walked.area.start, walked.walk
        if walked.area.root.is_file or walk.found or walk.placeholders:
            continue
        if not walk.complete or walk.unreadable or not os.path.isdir(start):
            continue
        known = conn.execute("SELECT 1 FROM temp.unseen WHERE area = ? AND state != 'missing' LIMIT 1", (index,))
        if known.fetchone() is None and not any(is_within(other, start) for other in with_images):
            folders.append(os.fsdecode(start))
    return folders


def unsupported_reasons(walks: Sequence[Walked], conn: sqlite3.Connection, *, decoder: str) -> dict[str, int]:
    """Number of unsupported files by reason, those of earlier runs included; the most frequent reason first."""
    starts = {walked.area.start for walked in walks}
    rows = conn.execute(
        "SELECT f.path, c.reason FROM contents c JOIN files f ON f.content_id = c.id "
        "WHERE c.state = 'unsupported' AND c.decoder = ? AND f.state = 'present'",
        (decoder,),
    )
    found = Counter(reason for path, reason in rows if any(at in starts for at in upwards(path)))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
