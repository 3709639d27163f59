"""The contents that a catalog knows: what the bytes of files are, whatever the path; known by their SHA-256."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.catalog import facts
from clipsearch.catalog.files import LIVE, ORDER, batches
from clipsearch.types import MAX_INTEGER, ContentState, FileState, HitState

if TYPE_CHECKING:
    from clipsearch.image_facts import ImageFacts

PathBytes = bytes  # where a field is called `bytes`


class ContentRow(NamedTuple):
    """What a search result shows of a content; `files` are its live ones as (path, state), present ones first.

    The date, the place and the words are those of `catalog.facts`.
    """

    id: int
    bytes: int
    format: str | None
    width: int | None
    height: int | None
    state: ContentState
    taken_at: str | None
    taken_offset: int | None
    taken_source: str | None
    lat: float | None
    lon: float | None
    place_source: str | None
    caption: str | None
    rating: int | None
    keywords: tuple[str, ...]
    files: tuple[tuple[PathBytes, FileState], ...]


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


class Entry(NamedTuple):
    """What decides whether a file with these bytes must be read again.

    `decoder` is the `images.open.decoder_version`, and `revision` the READER_REVISION, that read it last.
    """

    id: int
    state: ContentState
    decoder: str
    revision: int


BLANK = "blank"
"""The reason recorded for an image of one colour. It is not a hit: all blank images look alike."""

_FACTS = (
    *("format", "width", "height", "taken_at", "taken_offset", "taken_source", "camera", "lat", "lon", "place_source"),
    *("caption", "rating"),
)
"""The columns of `contents` that hold the attributes of `ImageFacts` of the same names."""


class Contents:
    """The contents of one catalog, through its connection. What changes them belongs into a transaction."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    def by_digest(self, digest: bytes) -> Entry | None:
        """The content with this SHA-256."""
        return self._entry("digest = ?", digest)

    def by_id(self, content_id: int) -> Entry | None:
        """The content with this id."""
        return self._entry("id = ?", content_id)

    def is_blank(self, content_id: int) -> bool:
        """Whether a content is an image of one colour."""
        query = "SELECT 1 FROM contents WHERE id = ? AND reason = ?"
        return self._conn.execute(query, (content_id, BLANK)).fetchone() is not None

    def sizes(self) -> frozenset[int]:
        """The sizes of all contents, in bytes: a file of another size is a new one."""
        return frozenset(size for (size,) in self._conn.execute("SELECT DISTINCT bytes FROM contents"))

    def _entry(self, condition: str, value: bytes | int) -> Entry | None:
        row = self._conn.execute(
            f"SELECT id, state, decoder, coalesce(facts_revision, 1) FROM contents WHERE {condition}", (value,)
        ).fetchone()
        return None if row is None else Entry(*row)

    def digest(self, content_id: int) -> bytes | None:
        """The SHA-256 of a content; None where there is none with this id."""
        if not 0 < content_id <= MAX_INTEGER:
            return None
        row = self._conn.execute("SELECT digest FROM contents WHERE id = ?", (content_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, digest: bytes, *, size: int, state: ContentState, reason: str | None, decoder: str, now: str) -> int:
        """Record a content, or the state that a later decode gave it; its id, which stays the same, like its facts."""
        if reason is not None:  # A decoder's message may hold anything.
            reason = reason.encode(errors="backslashreplace").decode()
        row = self._conn.execute(
            """INSERT INTO contents (digest, bytes, state, reason, decoder, added_at) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (digest) DO UPDATE SET
                state = excluded.state, reason = excluded.reason, decoder = excluded.decoder
            RETURNING id""",
            (digest, size, state, reason, decoder, now),
        ).fetchone()
        return int(row[0])

    def put_state(self, content_id: int, state: HitState, reason: str | None) -> None:
        """Replace the state and the reason of a content that was decoded."""
        self._conn.execute("UPDATE contents SET state = ?, reason = ? WHERE id = ?", (state, reason, content_id))

    def put_facts(self, content_id: int, facts: ImageFacts | None, *, revision: int) -> None:
        """Replace the facts of a content by those that the reader of a `revision` read; None clears them."""
        columns = (*_FACTS, "keywords", "exif", "facts_revision")
        keywords = json.dumps(facts.keywords, ensure_ascii=False) if facts and facts.keywords else None
        exif = json.dumps(dict(facts.exif)) if facts and facts.exif else None
        values = (*(getattr(facts, name, None) for name in _FACTS), keywords, exif, revision)
        self._conn.execute(
            f"UPDATE contents SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?", (*values, content_id)
        )

    def get(self, content_id: int) -> Content | None:
        """All that is recorded of a content, but its files and vectors."""
        from clipsearch.image_facts import ImageFacts  # Takes 1 ms, and queries do without.

        row = self._conn.execute(
            f"SELECT digest, bytes, state, reason, decoder, added_at, keywords, exif, {', '.join(_FACTS)} "
            "FROM contents WHERE id = ?",
            (content_id,),
        ).fetchone()
        if row is None:
            return None
        digest, size, state, reason, decoder, added_at, words, exif, *known = row
        keywords = tuple(json.loads(words)) if words else ()
        named = dict(zip(_FACTS, known, strict=True))
        facts = ImageFacts(**named, keywords=keywords, exif=json.loads(exif) if exif else {})
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
                f"SELECT content_id, path, state FROM files WHERE content_id IN ({marks}) AND state IN {LIVE} "
                f"ORDER BY {ORDER}",
                part,
            ):
                files.setdefault(content_id, []).append((path, state))
        rows: dict[int, ContentRow] = {}
        columns = ", ".join(facts.EXPRESSIONS.values())  # In the order of `ContentRow`.
        for part, marks in batches(ids):
            for row in self._conn.execute(
                f"SELECT c.id, c.bytes, c.format, c.width, c.height, c.state, {columns} "
                f"FROM contents c {facts.PATH} WHERE c.id IN ({marks})",
                part,
            ):
                *known, words = row
                known += [tuple(json.loads(words)) if words else (), tuple(files.get(row[0], ()))]
                rows[row[0]] = ContentRow(*known)
        return rows

    def sources(self, content_id: int) -> dict[str, str]:
        """Where the facts that a content shows were found, by their names in `facts.SOURCES`; only the known ones."""
        columns = ", ".join(facts.SOURCES.values())
        row = self._conn.execute(f"SELECT {columns} FROM contents c {facts.PATH} WHERE c.id = ?", (content_id,))
        return {name: found for name, found in zip(facts.SOURCES, row.fetchone(), strict=True) if found}
