"""What contents lack: the views of an encoder that follow from their size and the library's mode, in SQL.

In a library without tiles these are plain conditions over indexes; only one with tiles calls back into Python
(`view_count`, which every connection knows).
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipsearch.images.tiles import Tiles

WITHOUT_WHOLE = """NOT EXISTS (SELECT 1 FROM embeddings e
    WHERE e.encoder_id = ? AND e.content_id = c.id AND e.view = 0)"""
"""Condition on `c` (contents): it has no vector of its whole picture by the encoder that the parameter names."""


def lacking(mode: Tiles) -> str:
    """A condition on `c` (contents): it lacks a view, by the encoder that its one parameter names."""
    if mode == "none":
        return WITHOUT_WHOLE
    count = f"view_count(c.width, c.height, '{mode}')"
    return f"""(SELECT count(*) FROM embeddings e
        WHERE e.encoder_id = ? AND e.content_id = c.id AND e.view < {count}) < {count}"""


def delete_surplus(conn: sqlite3.Connection, mode: Tiles) -> int:
    """Delete the vectors of views that pictures do not have in this mode, whatever their encoder; how many."""
    condition = "view > 0"  # The index over (encoder, content, view) answers that: no vector is read.
    if mode != "none":
        condition += f""" AND view >= (SELECT view_count(c.width, c.height, '{mode}') FROM contents c
            WHERE c.id = embeddings.content_id)"""
    return conn.execute(f"DELETE FROM embeddings WHERE seq IN (SELECT seq FROM embeddings WHERE {condition})").rowcount
