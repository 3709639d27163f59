"""The catalog's schema, as numbered steps; a released step is never changed, only followed by another.

sqlite-utils costs 0.3 s to import, so `catalog` asks for `upgrade` only where the recorded version is behind.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clipsearch.errors import DamagedError

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x636C7370
"""Stands in the header of every catalog ("clsp"), so that a foreign SQLite file is recognised."""

PAGE_SIZE = 16384
"""A row with a 512-d vector takes 2,351 bytes on such pages against 4,107 on SQLite's own 4 KiB."""

_INITIAL = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE roots (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    options TEXT NOT NULL,
    mounts TEXT NOT NULL DEFAULT '[]',
    scanned_at TEXT
);

CREATE TABLE contents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    format TEXT,
    width INTEGER,
    height INTEGER,
    taken_at TEXT,
    taken_offset INTEGER,
    camera TEXT,
    lat REAL,
    lon REAL,
    exif TEXT,
    state TEXT NOT NULL CHECK (state IN ('ok', 'partial', 'unsupported', 'failed')),
    reason TEXT,
    decoder TEXT NOT NULL,
    added_at TEXT NOT NULL
);

CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    content_id INTEGER REFERENCES contents (id),
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('present', 'missing', 'offline', 'unreadable')),
    reason TEXT
);
CREATE INDEX files_content ON files (content_id);

CREATE TABLE encoders (
    id INTEGER PRIMARY KEY,
    spec TEXT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    dim INTEGER NOT NULL,
    logit_scale REAL NOT NULL,
    logit_bias REAL,
    details TEXT NOT NULL
);

CREATE TABLE embeddings (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    content_id INTEGER NOT NULL REFERENCES contents (id),
    encoder_id INTEGER NOT NULL REFERENCES encoders (id),
    view INTEGER NOT NULL DEFAULT 0,
    box TEXT,
    vector BLOB NOT NULL,
    UNIQUE (encoder_id, content_id, view)
);
CREATE INDEX embeddings_encoder ON embeddings (encoder_id);
CREATE INDEX embeddings_content ON embeddings (content_id);

CREATE TABLE snapshots (
    encoder_id INTEGER NOT NULL UNIQUE REFERENCES encoders (id),
    file TEXT NOT NULL,
    previous TEXT,
    revision INTEGER NOT NULL,
    watermark INTEGER NOT NULL,
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    stat TEXT NOT NULL,
    details TEXT NOT NULL
);
"""


_FACTS = {
    "contents": (
        *("taken_source TEXT", "place_source TEXT", "caption TEXT", "keywords TEXT", "rating INTEGER"),
        "facts_revision INTEGER",
    ),
    "files": (
        *("ctime_ns INTEGER", "sidecars TEXT", "taken_at TEXT", "taken_offset INTEGER", "taken_source TEXT"),
        *("lat REAL", "lon REAL", "place_source TEXT", "caption TEXT", "keywords TEXT", "rating INTEGER"),
    ),
}
"""Columns for what the bytes of a content say, and for what belongs to a path: its sidecars, its name. The sources name
where a date or place was found; `keywords` is a JSON list, `sidecars` a JSON object of their names and stamps.
`facts_revision` is the `images.open.READER_REVISION` that read the facts and pixels of a content."""


def _add_columns(columns: Mapping[str, Sequence[str]]) -> str:
    return ";".join(f"ALTER TABLE {table} ADD COLUMN {each}" for table, added in columns.items() for each in added)


_CAPTION_SOURCE = {"files": ("caption_source TEXT",)}
"""A sidecar's caption comes before that of the bytes, Takeout's after it."""

_STEPS = (
    ("0001_initial", _INITIAL),
    ("0002_facts", _add_columns(_FACTS)),
    ("0003_caption_source", _add_columns(_CAPTION_SOURCE)),
)

SCHEMA_VERSION = len(_STEPS)


def read_older(conn: sqlite3.Connection) -> None:
    """Let `conn` read the catalog of an older schema as one of this schema, without writing to it.

    Temporary views stand in front of its tables; the columns that these lack read as null.
    """
    for table, columns in _FACTS.items():
        known = {name for _, name, *_ in conn.execute(f"PRAGMA main.table_info({table})")}
        names = [column.split()[0] for column in (*columns, *_CAPTION_SOURCE.get(table, ()))]
        nulls = "".join(f", NULL AS {name}" for name in names if name not in known)
        conn.execute(f"CREATE TEMP VIEW {table} AS SELECT *{nulls} FROM main.{table}")


def _run(statements: str, db: Database) -> None:
    for statement in statements.split(";"):
        if statement.strip():
            db.conn.execute(statement)


def upgrade(conn: sqlite3.Connection) -> None:
    """Bring the catalog behind `conn` to `SCHEMA_VERSION`, each step in a transaction of its own.

    Raises DamagedError where a step cannot be applied.
    """
    from sqlite_utils import Database, Migrations

    migrations = Migrations("clipsearch")
    for name, statements in _STEPS:
        migrations(name=name)(functools.partial(_run, statements))
    try:
        migrations.apply(Database(conn, execute_plugins=False))
        with conn:
            conn.execute(
                "INSERT INTO meta (key, value) VALUES ('schema_version', ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (str(SCHEMA_VERSION),),
            )
    except sqlite3.OperationalError:
        raise  # A full disk, say: the caller knows what was being done.
    except sqlite3.DatabaseError as exc:
        raise DamagedError(f"the catalog could not be brought to schema {SCHEMA_VERSION}: {exc}") from exc
