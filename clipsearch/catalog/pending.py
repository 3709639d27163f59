"""Pending contents: those without a vector of a view that follows from their size and the library's mode, in SQL.

In a library without tiles these are plain conditions over indexes; only one with tiles calls back into Python
(`view_count`, which every connection knows).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.files import LIVE

if TYPE_CHECKING:
    from clipsearch.images.tiles import Tiles

WITHOUT_WHOLE = """NOT EXISTS (SELECT 1 FROM embeddings e
    WHERE e.encoder_id = ? AND e.content_id = c.id AND e.view = 0)"""
"""Condition on `c` (contents): it has no vector of its whole image by the encoder that the parameter names."""


def condition(mode: Tiles) -> str:
    """A condition on `c` (contents): it has no vector of a view, by the encoder that its one parameter names."""
    if mode == "none":
        return WITHOUT_WHOLE
    count = f"view_count(c.width, c.height, '{mode}')"
    return f"""(SELECT count(*) FROM embeddings e
        WHERE e.encoder_id = ? AND e.content_id = c.id AND e.view < {count}) < {count}"""


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
