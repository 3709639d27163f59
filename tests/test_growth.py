"""What must not grow with the square of a library: CPU time, or rows that are read, for n and for four times n."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import Shelf, TinyEncoder, draw
from numpy.typing import NDArray

from clipsearch.catalog import cache, embeddings
from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog
from clipsearch.search.neighbours import Searcher
from clipsearch.vectors import exact

FOURFOLD = 7
"""The most that a cost may grow by when n grows fourfold; the square of n would make it sixteen times."""


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of the quickest of three rounds."""
    found = []
    for _ in range(3):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def test_named_files_that_are_gone(tmp_path: Path) -> None:
    costs = []
    for count in (1000, 4000):
        photos = tmp_path / str(count)
        photos.mkdir()
        shown = draw(tmp_path / "one.png", 1, side=16).read_bytes()
        paths = [photos / f"{number:05}.png" for number in range(count)]
        for number, path in enumerate(paths):
            path.write_bytes(shown + number.to_bytes(4, "big"))
            os.utime(path, (1e9, 1e9))
        shelf = Shelf(tmp_path / f"index-{count}")
        shelf.index(*paths, batch_size=512)
        for path in paths:
            path.unlink()
        assert len(shelf.index().failed) == 0
        costs.append(cpu_seconds(shelf.index))
    assert costs[1] < FOURFOLD * costs[0], costs


def test_a_new_text_in_a_full_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vector, costs = np.ones(384, np.float32), []
    for limit in (2_500, 10_000):
        monkeypatch.setattr(cache, "MAX_TEXTS", limit)
        (tmp_path / str(limit)).mkdir()
        kept = QueryCache(tmp_path / str(limit))
        kept.put_texts("encoder", {f"old {number}": vector for number in range(limit)}, now=1)

        def add(kept: QueryCache = kept) -> None:
            for number in range(50):
                kept.put_texts("encoder", {f"new {number}": vector}, now=2 + number)

        costs.append(cpu_seconds(add) / 50)
        kept.close()
    assert costs[1] < 0.005, costs  # It was 0.02 s and more.


def test_a_tail_that_has_grown_is_read_from_where_it_ended(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "index")
    for number in range(300):
        draw(tmp_path / "photos" / f"{number:03}.png", number, side=16)
    shelf.index(tmp_path / "photos")
    query = np.ones(48, np.float32) / np.sqrt(np.float32(48))
    catalog = Catalog.open(shelf.folder)
    read: list[str] = []
    try:
        searcher = Searcher(catalog, QueryCache(None))
        row = catalog.active()
        assert row is not None
        for number in (300, 301):
            draw(tmp_path / "photos" / f"{number}.png", number, side=16)
            shelf.index(tmp_path / "photos")
            catalog.conn.set_trace_callback(read.append)
            searcher.nearest(row, query, 5)
            catalog.conn.set_trace_callback(None)
    finally:
        catalog.close()
    parts = [text.partition("encoder_id = 1 AND ")[2] for text in read if "SELECT seq, vector FROM embeddings" in text]
    assert parts[-1] == "seq > 301 AND seq <= 302 ORDER BY seq"


def test_images_that_a_filter_leaves_are_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For --without and --all: each chunk among the images, not all images in each chunk."""
    monkeypatch.setattr(embeddings, "CHUNK", 16)
    looked_up: list[int] = []
    members = exact.members

    def counting(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        looked_up.append(len(wanted))
        return members(ids, wanted)

    monkeypatch.setattr(exact, "members", counting)
    costs = []
    for count in (100, 400):
        for number in range(count):
            draw(tmp_path / f"photos {count}" / f"{number:03}.png", number, side=16)
        shelf = Shelf(tmp_path / f"index {count}")
        shelf.index(tmp_path / f"photos {count}")
        looked_up.clear()
        with contextlib.closing(Catalog.open(shelf.folder)) as catalog:
            row = catalog.active()
            assert row is not None
            queries = np.eye(48, dtype=np.float32)[:2]
            found = Searcher(catalog, QueryCache(None)).scored(row, queries, lambda q, scores: scores[0], 5, wanted=1)
        assert len(found) == 5
        costs.append(sum(looked_up))
    assert costs[1] < FOURFOLD * costs[0], costs


@pytest.mark.parametrize("kinds", [2, 3, 4])
@pytest.mark.parametrize("step", [2, 3, 4, 6, 10, 30])
def test_a_sample_has_images_of_each_kind_where_kinds_take_turns(tmp_path: Path, kinds: int, step: int) -> None:
    """Every second file of a folder is a raw one, for example."""
    count = 6000
    with contextlib.closing(Catalog.create(tmp_path)) as catalog, catalog.transaction():
        row = catalog.add_encoder(TinyEncoder().info)
        ids = range(1, count + 1)
        catalog.conn.executemany(
            "INSERT INTO contents (id, digest, bytes, state, decoder, added_at) VALUES (?, ?, 1, 'ok', '', '')",
            [(number, number.to_bytes(32, "big")) for number in ids],
        )
        catalog.conn.executemany(
            "INSERT INTO files (path, content_id, size, mtime_ns, state) VALUES (?, ?, 1, 1, 'present')",
            [(b"/%d" % number, number) for number in ids],
        )
        vector = embeddings.to_bytes(np.ones(48, np.float32))
        catalog.conn.executemany(
            "INSERT INTO embeddings (content_id, encoder_id, vector) VALUES (?, ?, ?)",
            [(number, row.id, vector) for number in ids],
        )
        owners = catalog.embeddings.every(row.id, step, dim=48)[1]
        live = catalog.embeddings.live_every(row.id, step, dim=48)[1]
    assert owners.tolist() == live.tolist() == sorted(owners)
    assert len(owners) == pytest.approx(count / step, rel=0.2)
    shares = np.bincount(owners % kinds, minlength=kinds) / len(owners)
    assert shares == pytest.approx(1 / kinds, rel=0.25)
