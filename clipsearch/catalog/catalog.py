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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from clipsearch.catalog import migrations
from clipsearch.catalog.connections import SEE_DOCTOR, Stats, connect, connect_unwritable, inode, stats
from clipsearch.catalog.contents import Contents
from clipsearch.catalog.embeddings import Embeddings
from clipsearch.catalog.files import Files
from clipsearch.encoders.base import preprocess_from_json, preprocess_json
from clipsearch.errors import ClipsearchError, DamagedError, NoLibraryError, UsageError, reason
from clipsearch.types import EncoderInfo

if TYPE_CHECKING:
    from clipsearch.images.tiles import Tiles

NOT_FINITE = "not_finite"
"""Prefix of the keys of `meta` that name an encoder and a content for which it gave no finite vector. The value is the
device; the content is pending only on another one (`catalog.pending`)."""

FITTED = "fitted"
"""Prefix of the keys of `meta` that hold the constants fitted for an encoder (`search.fitted`)."""

CATALOG_NAME = "catalog.db"


class EncoderRow(NamedTuple):
    id: int
    info: EncoderInfo


def exists(path: Path) -> bool:
    """Whether there is a file at the path of a catalog. Raises UsageError where that cannot be checked."""
    try:
        return path.is_file()
    except OSError as exc:
        raise UsageError(reason(exc), path=str(path)) from exc


class Catalog:
    """An open catalog. `writable` ones may change it; hold the library's lock for that."""

    def __init__(self, folder: Path, conn: sqlite3.Connection, *, writable: bool, scratch: Path | None = None) -> None:
        self.folder = folder
        self.conn = conn
        self.contents = Contents(conn)
        self.embeddings = Embeddings(conn)
        self.files = Files(conn)
        self.writable = writable
        self._scratch = scratch
        self._read_as: Stats | None = None
        self._inode = inode(folder / CATALOG_NAME)

    @classmethod
    def create(cls, folder: Path) -> Catalog:
        """Create a catalog in `folder`, and that if need be. Raises UsageError where it cannot be written."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            conn = connect(folder / CATALOG_NAME, writable=True)
            conn.execute(f"PRAGMA page_size = {migrations.PAGE_SIZE}")
            conn.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
            catalog = cls(folder, conn, writable=True)
            catalog._prepare_writer()
            catalog.set_meta("library_id", catalog.meta("library_id") or uuid.uuid4().hex)
        except (OSError, sqlite3.OperationalError) as exc:
            raise UsageError(f"cannot create a library in {folder}: {exc}") from exc
        return catalog

    @classmethod
    def open(cls, folder: Path, *, writable: bool = False) -> Catalog:
        """Open the catalog in `folder`.

        Raises NoLibraryError where there is none, UsageError where it cannot be written although `writable` asks for
        it, and DamagedError where the file is not a catalog.
        """
        path = folder / CATALOG_NAME
        if not exists(path):
            raise NoLibraryError(f"no library in {folder}", advice="`clipsearch index FOLDER` creates one")
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
            raise DamagedError(f"{path} is damaged or not a catalog ({exc})", advice=SEE_DOCTOR) from exc
        return catalog

    def is_stale(self) -> bool:
        """Whether another catalog is in the folder now, or this one is in an unwritable folder and has changed."""
        path = self.folder / CATALOG_NAME
        return self._inode != inode(path) if self._read_as is None else self._read_as != stats(path)

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
                f"the library in {self.folder} was written by a newer clipsearch (schema {version})",
                advice="update clipsearch",
            )
        if version < migrations.SCHEMA_VERSION and not self.writable:
            if version == 0:
                raise NoLibraryError(
                    f"the library in {self.folder} is still empty", advice="`clipsearch index FOLDER` fills it"
                )
            migrations.read_older(self.conn)

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

        Raises ClipsearchError where SQLite cannot write it, for instance to a full disk.
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
                    f"cannot write to {self.folder / CATALOG_NAME}: {exc}",
                    advice="what was committed before is safe; fix the cause and run it again",
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

    def version(self) -> tuple[int, int]:
        """Changes with every change of the catalog, by this connection or by another one."""
        return int(self.conn.execute("PRAGMA data_version").fetchone()[0]), self.conn.total_changes

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

    def fingerprints(self) -> set[str]:
        """Those of all encoders."""
        return {fingerprint for (fingerprint,) in self.conn.execute("SELECT fingerprint FROM encoders")}

    def encoder(self, encoder_id: int) -> EncoderRow:
        row = self.conn.execute(f"{_SELECT_ENCODER} WHERE id = ?", (encoder_id,)).fetchone()
        if row is None:
            raise DamagedError(f"the catalog in {self.folder} names encoder {encoder_id}, but does not hold it")
        return _encoder_row(row)

    def active(self) -> EncoderRow | None:
        """The active encoder, which queries use; None before the first index run."""
        return self._encoder_of("encoder_id")

    def building(self) -> EncoderRow | None:
        """The encoder that is being built beside the active one, to replace it."""
        return self._encoder_of("filling_id")

    def _encoder_of(self, key: str) -> EncoderRow | None:
        value = self.meta(key)
        return None if value is None else self.encoder(int(value))

    def add_encoder(self, info: EncoderInfo) -> EncoderRow:
        """The row of an encoder, added if its fingerprint is new, or updated to its newest spec and details."""
        details = dict(info.details) | {
            "preprocess": preprocess_json(info.preprocess),
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
        self.conn.execute("DELETE FROM meta WHERE key GLOB ?", (f"{NOT_FINITE}:{encoder_id}:*",))
        self.set_meta(f"{FITTED}:{encoder_id}", None)
        self.conn.execute("DELETE FROM encoders WHERE id = ?", (encoder_id,))
        return dropped

    def tiles(self) -> Tiles:
        """Which parts of images get vectors of their own, besides the whole ones."""
        return cast("Tiles", self.meta("tiles") or "none")

    # The file

    def keep_pages(self, kib: int) -> None:
        """Keep so many KiB of the file in memory from one query to the next."""
        self.conn.execute(f"PRAGMA cache_size = -{kib}")

    def compact(self, *, free_share: int) -> None:
        """Rewrite the file where more than 1 in `free_share` of its pages are free."""
        free = self.conn.execute("PRAGMA freelist_count").fetchone()[0]
        if free * free_share > self.conn.execute("PRAGMA page_count").fetchone()[0]:
            self.conn.execute("VACUUM")

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
    """Raises DamagedError for details that clipsearch cannot have written."""
    try:
        details = json.loads(row[6])
        info = EncoderInfo(
            spec=row[1],
            fingerprint=row[2],
            dim=row[3],
            logit_scale=row[4],
            logit_bias=row[5],
            preprocess=preprocess_from_json(details.pop("preprocess")),
            is_clip=details.pop("is_clip"),
            template=details.pop("template"),
            details=details,
        )
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise DamagedError(f"the catalog's details of the model {row[1]} cannot be read", advice=SEE_DOCTOR) from exc
    return EncoderRow(row[0], info)
