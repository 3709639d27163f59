"""Notices about pictures that leave a library though their files exist: for new default excludes, or behind a link."""

from __future__ import annotations

import os
from collections import Counter

from clipsearch.indexing import excludes
from clipsearch.indexing.results import shortened
from clipsearch.indexing.rules import IGNORE_FILE, LINK, LeftOut


class Leaving:
    """Pictures that one run excludes, counted by what must be reported once."""

    def __init__(self) -> None:
        self._new: Counter[str] = Counter()
        self._links: Counter[bytes] = Counter()

    def add(self, path: bytes, left: LeftOut, *, older: bool) -> None:
        """A picture that was a hit. `older`: its root was scanned by a version without default excludes."""
        if left.why == LINK and left.at != path:
            self._links[left.at] += 1
        elif older and (left.why in excludes.KINDS or left.why == IGNORE_FILE):
            self._new[left.why] += 1

    def notices(self) -> list[str]:
        return [*self._about_new(), *self._about_links()]

    def _about_new(self) -> list[str]:
        ignored = self._new[IGNORE_FILE]
        default = self._new.total() - ignored
        parts = []
        if default:
            parts.append(f"{default:,} in trash, previews and system folders (`default_excludes=False` keeps them)")
        if ignored:
            parts.append(f"{ignored:,} by .nomedia and similar files (`ignore_files=False` keeps them)")
        if not parts:
            return []
        total = default + ignored
        leave = "1 picture leaves" if total == 1 else f"{total:,} pictures leave"
        why = f"as this version leaves them out: {', '.join(parts)}"
        return [f"{leave} the library, {why}; their vectors stay until `prune`"]

    def _about_links(self) -> list[str]:
        found = [
            f"{os.fsdecode(link)}: a link, not followed; {_pictures(count)} below it left the results "
            "(`follow_symlinks=True` follows links)"
            for link, count in sorted(self._links.items())
        ]
        one, several = ("folder is now a link, which is", "folders are now links, which are")
        return shortened(found, f"{one} not followed", f"{several} not followed")


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"
