"""The contents that a catalog knows: what the bytes of files are, whatever the path; known by their SHA-256."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

from clipsearch.catalog.files import LIVE, batches
from clipsearch.types import ContentState, FileState, ImageFacts

PathBytes = bytes  # where a field is called `bytes`


@dataclass(frozen=True, slots=True)
class ContentRow:
    """What a search result shows of a content; `files` are its live ones as (path, state), present ones first."""

    id: int
    bytes: int
    format: str | None
    width: int | None
    height: int | None
    taken_at: str | None
    state: ContentState
    files: tuple[tuple[PathBytes, FileState], ...] = ()


class Content(NamedTuple):
    """All that is recorded of a content; `facts` are None where it was never decoded."""

    id: int
    digest: bytes
    size: int
    state: ContentState
    reason: str | None
    decoder: str
    added_at: str
    facts: ImageFacts | None


_FACTS = ("format", "width", "height", "taken_at", "taken_offset", "camera", "lat", "lon")
"""The columns of `contents` that hold the attributes of `ImageFacts` of the same names."""


class Contents:
    """The contents of one catalog, through its connection. What changes them belongs into a transaction."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    def by_digest(self, digest: bytes) -> tuple[int, ContentState, str] | None:
        """(id, state, decoder) of a content."""
        return cast(
            tuple[int, ContentState, str] | None,
            self._conn.execute("SELECT id, state, decoder FROM contents WHERE digest = ?", (digest,)).fetchone(),
        )

    def put(
        self,
        digest: bytes,
        *,
        size: int,
        state: ContentState,
        reason: str | None,
        decoder: str,
        facts: ImageFacts | None,
        now: str,
    ) -> int:
        """Record a content, or what a later decode found out about it: its id stays, and so do facts once known."""
        known = [getattr(facts, name) if facts else None for name in _FACTS]
        exif = json.dumps(dict(facts.exif)) if facts and facts.exif else None
        kept = ", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in (*_FACTS, "exif"))
        row = self._conn.execute(
            f"""INSERT INTO contents (digest, bytes, {", ".join(_FACTS)}, exif, state, reason, decoder, added_at)
            VALUES (?, ?, {"?, " * len(_FACTS)} ?, ?, ?, ?, ?)
            ON CONFLICT (digest) DO UPDATE SET {kept},
                state = excluded.state, reason = excluded.reason, decoder = excluded.decoder
            RETURNING id""",
            (digest, size, *known, exif, state, reason, decoder, now),
        ).fetchone()
        return int(row[0])

    def get(self, content_id: int) -> Content | None:
        """All that is recorded of a content, but its files and vectors."""
        row = self._conn.execute(
            f"SELECT digest, bytes, state, reason, decoder, added_at, exif, {', '.join(_FACTS)} "
            "FROM contents WHERE id = ?",
            (content_id,),
        ).fetchone()
        if row is None:
            return None
        digest, size, state, reason, decoder, added_at, exif, *known = row
        facts = ImageFacts(**dict(zip(_FACTS, known, strict=True)), exif=json.loads(exif) if exif else {})
        return Content(content_id, digest, size, state, reason, decoder, added_at, facts if facts.format else None)

    def drop_orphans(self) -> tuple[int, int]:
        """Drop contents that no file has, with their vectors; how many contents and vectors those were."""
        orphans = "SELECT id FROM contents c WHERE NOT EXISTS (SELECT 1 FROM files f WHERE f.content_id = c.id)"
        vectors = self._conn.execute(f"DELETE FROM embeddings WHERE content_id IN ({orphans})").rowcount
        return self._conn.execute(f"DELETE FROM contents WHERE id IN ({orphans})").rowcount, vectors

    def with_files(self, ids: Sequence[int]) -> dict[int, ContentRow]:
        """Contents with their live files, by id."""
        files: dict[int, list[tuple[bytes, FileState]]] = {}
        for part, marks in batches(ids):
            for content_id, path, state in self._conn.execute(
                f"""SELECT content_id, path, state FROM files WHERE content_id IN ({marks}) AND state IN {LIVE}
                ORDER BY state != 'present', path""",
                part,
            ):
                files.setdefault(content_id, []).append((path, state))
        rows: dict[int, ContentRow] = {}
        for part, marks in batches(ids):
            for row in self._conn.execute(
                f"SELECT id, bytes, format, width, height, taken_at, state FROM contents WHERE id IN ({marks})", part
            ):
                rows[row[0]] = replace(ContentRow(*row), files=tuple(files.get(row[0], ())))
        return rows
