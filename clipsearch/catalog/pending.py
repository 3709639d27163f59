"""Pending contents: those without a vector of a view that follows from their size and the library's mode, in SQL.

In a library without tiles these are plain conditions over indexes; only one with tiles calls back into Python
(`view_count`, which every connection knows).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipsearch.catalog.catalog import NOT_FINITE, Catalog
from clipsearch.catalog.files import LIVE

if TYPE_CHECKING:
    from clipsearch.images.tiles import Tiles

WITHOUT_WHOLE = """NOT EXISTS (SELECT 1 FROM embeddings e
    WHERE e.encoder_id = ?1 AND e.content_id = c.id AND e.view = 0)"""
"""Condition on `c` (contents): it has no vector of its whole image by the encoder that the parameter names."""

_NO_FAILURE = f"NOT EXISTS (SELECT 1 FROM meta m WHERE m.key = '{NOT_FINITE}:' || ?1 || ':' || c.id)"

OLDER_FAILURE = "gave no finite vector for it"
"""End of the reason with which earlier versions recorded such a content as failed, for every encoder."""

OLDER_RETRIED = "older_failures_retried"
"""Key of `meta`, set once these contents are pending again."""


def condition(mode: Tiles) -> str:
    """A condition on `c` (contents): it has no vector of a view, by the encoder that the parameter ?1 names."""
    if mode == "none":
        return f"({WITHOUT_WHOLE} AND {_NO_FAILURE})"
    count = f"view_count(c.width, c.height, '{mode}')"
    return f"""((SELECT count(*) FROM embeddings e
        WHERE e.encoder_id = ?1 AND e.content_id = c.id AND e.view < {count}) < {count} AND {_NO_FAILURE})"""


def count(catalog: Catalog, encoder_id: int, *, reachable: bool = False) -> int:
    """Live contents that are pending for an encoder; `reachable` counts those with a present file only."""
    return _count_live(catalog, condition(catalog.tiles()), encoder_id, "('present')" if reachable else LIVE)


def count_without_vectors(catalog: Catalog, encoder_id: int) -> int:
    """Live contents that an encoder has no vector of at all, so that they are no hits of its queries."""
    return _count_live(catalog, WITHOUT_WHOLE, encoder_id, LIVE)


def _count_live(catalog: Catalog, condition: str, encoder_id: int, states: str) -> int:
    row = catalog.conn.execute(
        f"""SELECT count(*) FROM contents c
        WHERE c.state IN ('ok', 'partial')
          AND EXISTS (SELECT 1 FROM files f WHERE f.content_id = c.id AND f.state IN {states})
          AND {condition}""",
        (encoder_id,),
    ).fetchone()
    return int(row[0])


def put_failure(catalog: Catalog, content_id: int, encoder_id: int, *, device: str | None) -> None:
    """Record that an encoder gave no finite vector for a content on a device; None: it has now given one."""
    catalog.set_meta(f"{NOT_FINITE}:{encoder_id}:{content_id}", device)


def failed(catalog: Catalog, encoder_id: int) -> list[int]:
    """The ids of the contents for which an encoder gave no finite vector."""
    keys = catalog.conn.execute("SELECT key FROM meta WHERE key > ? AND key < ?", _failures_of(encoder_id))
    return [int(key.rpartition(":")[2]) for (key,) in keys]


def retry_failed(catalog: Catalog, encoder_id: int, *, device: str) -> None:
    """Make contents pending again that failed on another device, or under a version that blamed the image."""
    catalog.conn.execute(
        "DELETE FROM meta WHERE key > ? AND key < ? AND value != ?", (*_failures_of(encoder_id), device)
    )
    if catalog.meta(OLDER_RETRIED) is None:
        catalog.conn.execute(
            "UPDATE contents SET state = 'ok', reason = NULL WHERE state = 'failed' AND reason LIKE ?",
            (f"% {OLDER_FAILURE}",),
        )
        catalog.set_meta(OLDER_RETRIED, "yes")


def _failures_of(encoder_id: int) -> tuple[str, str]:
    """The bounds of an encoder's keys, both exclusive: in ASCII, ";" follows ":"."""
    return f"{NOT_FINITE}:{encoder_id}:", f"{NOT_FINITE}:{encoder_id};"


def delete_surplus(catalog: Catalog, mode: Tiles) -> int:
    """Delete the vectors of views that images do not have in this mode, by any encoder; how many."""
    surplus = "view > 0"  # The index over (encoder, content, view) answers that: no vector is read.
    if mode != "none":
        surplus += f""" AND view >= (SELECT view_count(c.width, c.height, '{mode}') FROM contents c
            WHERE c.id = embeddings.content_id)"""
    return catalog.conn.execute(
        f"DELETE FROM embeddings WHERE seq IN (SELECT seq FROM embeddings WHERE {surplus})"
    ).rowcount


def delete_oversized_tiles(catalog: Catalog, max_pixels: int) -> int:
    """Delete the vectors of tiles that exceeded a lower limit than this, so that they are pending again; how many.

    Such a tile has the vector of the whole image, and therefore no box. `contents.decoder` ends with the limit in
    megapixels (`images.open.decoder_version`).
    """
    limit = "CAST(substr(decoder, instr(decoder, '; ') + 2) AS REAL) * 1e6"
    return catalog.conn.execute(
        f"""DELETE FROM embeddings WHERE view > 0 AND box IS NULL AND content_id IN (
            SELECT id FROM contents WHERE {limit} < ? AND width * height > {limit})""",
        (max_pixels,),
    ).rowcount
