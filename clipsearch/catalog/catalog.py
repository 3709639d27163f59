"""The catalog: one SQLite file that holds everything a library knows, vectors included. It is the truth.

A `Catalog` is opened for reading by any number of processes at once, and for writing by the one that holds the
library's lock. Searching needs nothing but `sqlite3` here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from clipsearch.catalog import migrations
from clipsearch.catalog.connections import Stats, connect, connect_unwritable, stats
from clipsearch.catalog.embeddings import LIVE, Embeddings, batches
from clipsearch.errors import ClipsearchError, DamagedError, NoLibraryError, UsageError
from clipsearch.types import Candidate, ContentState, EncoderInfo, FileState, ImageFacts, Preprocess

if TYPE_CHECKING:
    from clipsearch.images.tiles import Tiles

CATALOG_NAME = "catalog.db"

PathBytes = bytes


@dataclass(frozen=True, slots=True)
class EncoderRow:
    id: int
    info: EncoderInfo


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A published snapshot: the file, and what it must be to be trusted. `stat` is (size, mtime_ns, inode)."""

    encoder_id: int
    file: str
    previous: str | None
    revision: int
    watermark: int
    count: int
    bytes: int
    sha256: str
    stat: tuple[int, int, int]
    details: Mapping[str, Any]


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


class Catalog:
    """An open catalog. `writable` ones may change it; hold the library's lock for that."""

    def __init__(self, folder: Path, conn: sqlite3.Connection, *, writable: bool, scratch: Path | None = None) -> None:
        self.folder = folder
        self.conn = conn
        self.embeddings = Embeddings(conn)
        self.writable = writable
        self._scratch = scratch
        self._read_as: Stats | None = None

    @classmethod
    def create(cls, folder: Path) -> Catalog:
        """Make a catalog in `folder` (made where it does not exist). Raises UsageError where it cannot be written."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            conn = connect(folder / CATALOG_NAME, writable=True)
            conn.execute(f"PRAGMA page_size = {migrations.PAGE_SIZE}")
            conn.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
            catalog = cls(folder, conn, writable=True)
            catalog._prepare_writer()
            catalog.set_meta("library_id", catalog.meta("library_id") or uuid.uuid4().hex)
        except (OSError, sqlite3.OperationalError) as exc:
            raise UsageError(f"cannot make a library in {folder}: {exc}") from exc
        return catalog

    @classmethod
    def open(cls, folder: Path, *, writable: bool = False) -> Catalog:
        """Open the catalog in `folder`.

        Raises NoLibraryError where there is none, UsageError where it cannot be written although `writable` asks for
        it, and DamagedError where the file is no catalog of ours.
        """
        path = folder / CATALOG_NAME
        if not path.is_file():
            raise NoLibraryError(f"no library in {folder}; clipsearch index FOLDER makes one")
        scratch: Path | None = None
        read_as: Stats | None = None
        try:
            if writable:
                conn = connect(path, writable=True)
            elif os.access(folder, os.W_OK):
                conn = connect(path, writable=False)
            else:
                conn, scratch, read_as = connect_unwritable(path)
            catalog = cls(folder, conn, writable=writable, scratch=scratch)
            catalog._read_as = read_as
            try:
                catalog._check()
                if writable:
                    catalog._prepare_writer()
            except BaseException:
                conn.close()
                if scratch is not None:
                    shutil.rmtree(scratch, ignore_errors=True)
                raise
        except sqlite3.OperationalError as exc:
            raise UsageError(f"cannot open the catalog {path}: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            raise DamagedError(f"{path} is damaged or no catalog ({exc}); clipsearch doctor says more") from exc
        return catalog

    def is_stale(self) -> bool:
        """Whether this is a view of a catalog in an unwritable folder that has changed since it was opened."""
        return self._read_as is not None and self._read_as != stats(self.folder / CATALOG_NAME)

    def close(self) -> None:
        if self.writable:
            # What is in the WAL moves to the catalog now, so that the folder may be copied or made read-only.
            # Where a reader is in the way, the next writer moves it.
            with contextlib.suppress(sqlite3.OperationalError):
                self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.conn.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _check(self) -> None:
        found = self.conn.execute("PRAGMA application_id").fetchone()[0]
        if found != migrations.APPLICATION_ID:
            raise DamagedError(f"{self.folder / CATALOG_NAME} is not a clipsearch catalog")
        version = int(self.meta("schema_version") or 0) if self._has_meta() else 0
        if version > migrations.SCHEMA_VERSION:
            raise UsageError(
                f"the library in {self.folder} was written by a newer clipsearch (schema {version}); update clipsearch"
            )
        if version < migrations.SCHEMA_VERSION and not self.writable:
            if version == 0:
                raise NoLibraryError(f"the library in {self.folder} is still empty; clipsearch index FOLDER fills it")
            raise UsageError(f"the library in {self.folder} is of an older schema; clipsearch index updates it")

    def _has_meta(self) -> bool:
        return self.conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is not None

    def _prepare_writer(self) -> None:
        self.conn.execute("PRAGMA journal_mode = WAL")
        self.conn.execute("PRAGMA synchronous = FULL")
        self.conn.execute("PRAGMA foreign_keys = ON")
        if not self._has_meta() or int(self.meta("schema_version") or 0) < migrations.SCHEMA_VERSION:
            migrations.upgrade(self.conn)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction: everything in it is kept, or nothing.

        Raises ClipsearchError where SQLite cannot write it: a full disk, say.
        """
        try:
            self.conn.execute("BEGIN IMMEDIATE")
            yield
            self.conn.execute("COMMIT")
        except BaseException as exc:
            if self.conn.in_transaction:  # SQLite itself has rolled back where the disk is full.
                self.conn.execute("ROLLBACK")
            if isinstance(exc, sqlite3.OperationalError):
                raise ClipsearchError(
                    f"cannot write to {self.folder / CATALOG_NAME}: {exc}. "
                    "What was committed before is safe; mend that and run it again"
                ) from exc
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One consistent view of the catalog for all that is read inside, whatever a writer does meanwhile."""
        if self.conn.in_transaction:
            yield
            return
        self.conn.execute("BEGIN")
        try:
            yield
        finally:
            self.conn.execute("COMMIT")

    # Meta

    def meta(self, key: str) -> str | None:
        row = self.conn.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str | None) -> None:
        if value is None:
            self.conn.execute("DELETE FROM meta WHERE key = ?", (key,))
        else:
            self.conn.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            )

    # Encoders

    def encoders(self) -> list[EncoderRow]:
        return [_encoder_row(row) for row in self.conn.execute(f"{_SELECT_ENCODER} ORDER BY id")]

    def encoder(self, encoder_id: int) -> EncoderRow:
        row = self.conn.execute(f"{_SELECT_ENCODER} WHERE id = ?", (encoder_id,)).fetchone()
        if row is None:
            raise DamagedError(f"the catalog in {self.folder} names encoder {encoder_id}, but does not hold it")
        return _encoder_row(row)

    def answering(self) -> EncoderRow | None:
        """The encoder that queries use, None before the first index run."""
        return self._encoder_of("encoder_id")

    def filling(self) -> EncoderRow | None:
        """The encoder that is being filled beside it, to replace it."""
        return self._encoder_of("filling_id")

    def _encoder_of(self, key: str) -> EncoderRow | None:
        value = self.meta(key)
        return None if value is None else self.encoder(int(value))

    def add_encoder(self, info: EncoderInfo) -> EncoderRow:
        """The row of an encoder, made where its fingerprint is new; else brought to the newest spec and details."""
        details = dict(info.details) | {
            "preprocess": asdict(info.preprocess),
            "is_clip": info.is_clip,
            "template": info.template,
        }
        self.conn.execute(
            "INSERT INTO encoders (spec, fingerprint, dim, logit_scale, logit_bias, details) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (fingerprint) DO UPDATE SET spec = excluded.spec, details = excluded.details",
            (info.spec, info.fingerprint, info.dim, info.logit_scale, info.logit_bias, json.dumps(details)),
        )
        row = self.conn.execute(f"{_SELECT_ENCODER} WHERE fingerprint = ?", (info.fingerprint,)).fetchone()
        return _encoder_row(row)

    def drop_encoder(self, encoder_id: int) -> int:
        """Forget an encoder that is not in use, with its vectors; how many those were."""
        dropped = self.conn.execute("DELETE FROM embeddings WHERE encoder_id = ?", (encoder_id,)).rowcount
        self.conn.execute("DELETE FROM snapshots WHERE encoder_id = ?", (encoder_id,))
        self.conn.execute("DELETE FROM encoders WHERE id = ?", (encoder_id,))
        return dropped

    def tiles(self) -> Tiles:
        """Which parts of pictures get vectors of their own, besides the whole ones."""
        return cast("Tiles", self.meta("tiles") or "none")

    def count_owed(self, encoder_id: int, *, reachable: bool = False) -> int:
        """Live contents that lack a view of this encoder; `reachable` counts those with a present file only."""
        from clipsearch.catalog import pending

        return self._count_live(pending.lacking(self.tiles()), encoder_id, reachable=reachable)

    def count_unseen(self, encoder_id: int) -> int:
        """Live contents that this encoder has no vector of at all, so that they are no hits of its queries."""
        from clipsearch.catalog import pending

        return self._count_live(pending.WITHOUT_WHOLE, encoder_id)

    def _count_live(self, condition: str, encoder_id: int, *, reachable: bool = False) -> int:
        states = "('present')" if reachable else LIVE
        row = self.conn.execute(
            f"""SELECT count(*) FROM contents c
            WHERE c.state IN ('ok', 'partial')
              AND EXISTS (SELECT 1 FROM files f WHERE f.content_id = c.id AND f.state IN {states})
              AND {condition}""",
            (encoder_id,),
        ).fetchone()
        return int(row[0])

    # Contents and files, as a writer records them

    def content_by_digest(self, digest: bytes) -> tuple[int, ContentState, str] | None:
        """(id, state, decoder) of a content."""
        return cast(
            tuple[int, ContentState, str] | None,
            self.conn.execute("SELECT id, state, decoder FROM contents WHERE digest = ?", (digest,)).fetchone(),
        )

    def digest_of(self, content_id: int) -> bytes:
        """The SHA-256 of a content's bytes."""
        return bytes(self.conn.execute("SELECT digest FROM contents WHERE id = ?", (content_id,)).fetchone()[0])

    def unchanged_content(self, path: bytes) -> int | None:
        """The content of a file that is as the catalog saw it last: opening it would tell nothing new."""
        try:
            about = os.stat(path)
        except (OSError, ValueError):  # A name with a zero byte in it is a ValueError.
            return None
        return self.unchanged_contents([Candidate(path, about.st_size, about.st_mtime_ns)]).get(path)

    def unchanged_contents(self, candidates: Sequence[Candidate]) -> dict[bytes, int]:
        """The contents of those files that have the size and time under which the catalog saw them last, by path."""
        found: dict[bytes, int] = {}
        now = {candidate.path: (candidate.size, candidate.mtime_ns) for candidate in candidates}
        for part, marks in batches(list(now)):
            for path, size, mtime_ns, content_id in self.conn.execute(
                f"SELECT path, size, mtime_ns, content_id FROM files WHERE path IN ({marks})", part
            ):
                if content_id is not None and now[path] == (size, mtime_ns):
                    found[path] = content_id
        return found

    def put_content(
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
        f = facts
        values = (
            digest,
            size,
            f.format if f else None,
            f.width if f else None,
            f.height if f else None,
            f.taken_at if f else None,
            f.taken_offset if f else None,
            f.camera if f else None,
            f.lat if f else None,
            f.lon if f else None,
            json.dumps(dict(f.exif)) if f and f.exif else None,
            state,
            reason,
            decoder,
            now,
        )
        row = self.conn.execute(
            """INSERT INTO contents (digest, bytes, format, width, height, taken_at, taken_offset, camera, lat, lon,
                                     exif, state, reason, decoder, added_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (digest) DO UPDATE SET
                format = coalesce(excluded.format, format), width = coalesce(excluded.width, width),
                height = coalesce(excluded.height, height), taken_at = coalesce(excluded.taken_at, taken_at),
                taken_offset = coalesce(excluded.taken_offset, taken_offset),
                camera = coalesce(excluded.camera, camera), lat = coalesce(excluded.lat, lat),
                lon = coalesce(excluded.lon, lon), exif = coalesce(excluded.exif, exif),
                state = excluded.state, reason = excluded.reason, decoder = excluded.decoder
            RETURNING id""",
            values,
        ).fetchone()
        return int(row[0])

    def put_file(
        self,
        path: bytes,
        *,
        content_id: int | None,
        size: int,
        mtime_ns: int,
        state: FileState = "present",
        reason: str | None = None,
    ) -> None:
        self.conn.execute(
            """INSERT INTO files (path, content_id, size, mtime_ns, state, reason) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (path) DO UPDATE SET content_id = excluded.content_id, size = excluded.size,
                mtime_ns = excluded.mtime_ns, state = excluded.state, reason = excluded.reason""",
            (path, content_id, size, mtime_ns, state, reason),
        )

    # Contents and snapshots, as a search reads them

    def contents(self, ids: Sequence[int]) -> dict[int, ContentRow]:
        """Contents with their live files, by id."""
        files: dict[int, list[tuple[bytes, FileState]]] = {}
        for part, marks in batches(ids):
            for content_id, path, state in self.conn.execute(
                f"""SELECT content_id, path, state FROM files WHERE content_id IN ({marks}) AND state IN {LIVE}
                ORDER BY state != 'present', path""",
                part,
            ):
                files.setdefault(content_id, []).append((path, state))
        rows: dict[int, ContentRow] = {}
        for part, marks in batches(ids):
            for row in self.conn.execute(
                f"SELECT id, bytes, format, width, height, taken_at, state FROM contents WHERE id IN ({marks})", part
            ):
                rows[row[0]] = replace(ContentRow(*row), files=tuple(files.get(row[0], ())))
        return rows

    def snapshot(self, encoder_id: int) -> SnapshotRow | None:
        row = self.conn.execute(
            "SELECT encoder_id, file, previous, revision, watermark, count, bytes, sha256, stat, details "
            "FROM snapshots WHERE encoder_id = ?",
            (encoder_id,),
        ).fetchone()
        if row is None:
            return None
        plain = SnapshotRow(*row)
        return replace(plain, stat=tuple(json.loads(row[8])), details=json.loads(row[9]))

    def put_snapshot(self, row: SnapshotRow) -> None:
        self.conn.execute(
            "INSERT OR REPLACE INTO snapshots (encoder_id, file, previous, revision, watermark, count, bytes, sha256, "
            "stat, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.encoder_id,
                row.file,
                row.previous,
                row.revision,
                row.watermark,
                row.count,
                row.bytes,
                row.sha256,
                json.dumps(list(row.stat)),
                json.dumps(dict(row.details)),
            ),
        )

    # Counts

    def count_by_state(self, table: str) -> dict[str, int]:
        """How many rows of `contents` or `files` are in each state."""
        if table not in ("contents", "files"):
            raise ValueError(table)
        return dict(self.conn.execute(f"SELECT state, count(*) FROM {table} GROUP BY state ORDER BY state"))

    def quick_check(self) -> list[str]:
        """What SQLite finds wrong with the file; empty where it is sound."""
        try:
            found = [str(row[0]) for row in self.conn.execute("PRAGMA quick_check(20)")]
        except sqlite3.DatabaseError as exc:
            return [str(exc)]
        return [] if found == ["ok"] else found


_SELECT_ENCODER = "SELECT id, spec, fingerprint, dim, logit_scale, logit_bias, details FROM encoders"


def _encoder_row(row: Sequence[Any]) -> EncoderRow:
    details = json.loads(row[6])
    shape = details.pop("preprocess")
    preprocess = Preprocess(**{**shape, "mean": tuple(shape["mean"]), "std": tuple(shape["std"])})
    info = EncoderInfo(
        spec=row[1],
        fingerprint=row[2],
        dim=row[3],
        logit_scale=row[4],
        logit_bias=row[5],
        preprocess=preprocess,
        is_clip=details.pop("is_clip"),
        template=details.pop("template"),
        details=details,
    )
    return EncoderRow(row[0], info)
