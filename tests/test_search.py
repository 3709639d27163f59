"""Search over snapshot and tail, held to a plain product over all live vectors."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.catalog import snapshots
from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.library.maintenance import prune
from clipsearch.search.neighbours import Searcher
from clipsearch.types import EncoderInfo, Preprocess

DIM = 16


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Filled:
    """A catalog with `n` contents of random vectors, one file each."""

    def __init__(self, folder: Path, n: int, *, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.catalog = Catalog.create(folder)
        info = EncoderInfo("test", f"print-{seed}", DIM, 10.0, None, Preprocess(8))
        with self.catalog.transaction():
            self.row: EncoderRow = self.catalog.add_encoder(info)
            self.catalog.set_meta("encoder_id", str(self.row.id))
        self.vectors: dict[int, np.ndarray] = {}
        self.add(n)

    def add(self, n: int) -> None:
        self.put(unit(self.rng.normal(size=(n, DIM))))

    def put(self, vectors: np.ndarray) -> None:
        with self.catalog.transaction():
            for vector in vectors:
                number = len(self.vectors)
                content = self.catalog.contents.put(
                    number.to_bytes(32, "big"), size=1, state="ok", reason=None, decoder="", now=""
                )
                self.catalog.files.put(f"/pictures/{number}.jpg".encode(), content_id=content, size=1, mtime_ns=1)
                self.catalog.embeddings.put(content, self.row.id, vector)
                self.vectors[content] = vector

    def lose(self, contents: list[int]) -> None:
        with self.catalog.transaction():
            for content in contents:
                self.catalog.conn.execute("UPDATE files SET state = 'missing' WHERE content_id = ?", (content,))
                del self.vectors[content]

    def expected(self, query: np.ndarray, k: int) -> list[int]:
        ids = list(self.vectors)
        scores = np.stack(list(self.vectors.values())).astype(np.float64) @ query.astype(np.float64)
        return [ids[i] for i in np.argsort(-scores)[:k]]


@contextlib.contextmanager
def searching(folder: Path) -> Iterator[Searcher]:
    catalog, cache = Catalog.open(folder), QueryCache(folder)
    try:
        yield Searcher(catalog, cache)
    finally:
        cache.close()
        catalog.close()


def found(folder: Path, row: EncoderRow, query: np.ndarray, k: int) -> tuple[list[int], list[str]]:
    with searching(folder) as searcher:
        return [n.content_id for n in searcher.nearest(row, query, k)], searcher.notices


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    filled = Filled(tmp_path / "library", 400)
    yield filled
    filled.catalog.close()


@pytest.mark.parametrize("engine", ["none", "small", "exact", "ivf"])
def test_search_equals_the_plain_product_over_live_vectors(
    filled: Filled, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled.catalog.folder
    if engine in ("exact", "ivf"):
        monkeypatch.setattr(snapshots, "SMALL", 0)
    if engine != "none":
        filled.catalog.set_meta("engine", "ivf" if engine == "ivf" else "exact")
        snapshots.publish(filled.catalog, filled.row)
    filled.add(100)  # the tail
    queries = unit(filled.rng.normal(size=(20, DIM)))
    # IVF may miss a neighbour in a hundred; where images were lost, it searches every list.
    for query in queries[:10]:
        ids, _ = found(folder, filled.row, query, 10)
        assert len(set(ids) & set(filled.expected(query, 10))) >= (8 if engine == "ivf" else 10)
    for query in queries[10:]:
        filled.lose(filled.expected(query, 25))
        ids, notices = found(folder, filled.row, query, 10)
        if engine == "ivf":
            assert len(set(ids) & set(filled.expected(query, 10))) >= 8
        else:
            assert ids == filled.expected(query, 10)
        assert not notices


def test_k_live_hits_come_back_even_when_most_pictures_are_gone(filled: Filled) -> None:
    snapshots.publish(filled.catalog, filled.row)
    kept = list(filled.vectors)[::40]
    filled.lose([content for content in filled.vectors if content not in kept])
    query = unit(filled.rng.normal(size=(1, DIM)))[0]
    assert found(filled.catalog.folder, filled.row, query, 10)[0] == filled.expected(query, 10)
    assert len(found(filled.catalog.folder, filled.row, query, 50)[0]) == len(kept)


def test_a_long_lived_searcher_sees_what_is_added_and_published(filled: Filled) -> None:
    folder = filled.catalog.folder
    query = unit(filled.rng.normal(size=(1, DIM)))[0]
    with searching(folder) as searcher:
        for step in range(6):
            assert [n.content_id for n in searcher.nearest(filled.row, query, 5)] == filled.expected(query, 5)
            filled.add(50)
            if step % 2:
                snapshots.publish(filled.catalog, filled.row)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("harm", ["deleted", "truncated", "flipped", "foreign", "garbage"])
def test_a_harmed_snapshot_is_announced_and_answered_around(
    filled: Filled, harm: str, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SMALL", 1000 if small else 0)
    folder = filled.catalog.folder
    published = snapshots.publish(filled.catalog, filled.row)
    query = unit(filled.rng.normal(size=(1, DIM)))[0]
    before = found(folder, filled.row, query, 10)
    assert before == (filled.expected(query, 10), [])
    path = folder / published.file.name
    data = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "flipped":
        path.write_bytes(data[:5000] + bytes([data[5000] ^ 4]) + data[5001:])
    elif harm == "garbage":
        path.write_bytes(os.urandom(len(data)))
    else:
        other = Filled(tmp_path / "other", 400, seed=1)
        foreign = snapshots.publish(other.catalog, other.row)
        shutil.copyfile(other.catalog.folder / foreign.file.name, path)
        other.catalog.close()
    ids, notices = found(folder, filled.row, query, 10)
    assert ids == before[0]
    assert len(notices) == 1 and "next index run" in notices[0]
    # The next run writes it anew, from the catalog alone.
    assert snapshots.publish_if_due(filled.catalog, filled.row, final=True)
    assert found(folder, filled.row, query, 10) == before


def test_a_copied_library_is_hashed_once_and_that_is_noted(filled: Filled, tmp_path: Path) -> None:
    snapshots.publish(filled.catalog, filled.row)
    filled.catalog.close()
    copy = tmp_path / "copy"
    shutil.copytree(filled.catalog.folder, copy)
    filled.catalog = Catalog.open(copy, writable=True)
    row = snapshots.current(filled.catalog, filled.row.id)
    assert row is not None
    cache = QueryCache(copy)
    assert snapshots.open_trusted(filled.catalog, row, cache, dim=DIM).hashed
    assert not snapshots.open_trusted(filled.catalog, row, cache, dim=DIM).hashed
    cache.close()


def test_the_previous_snapshot_stays_for_one_generation(filled: Filled) -> None:
    folder = filled.catalog.folder
    names = []
    for _ in range(3):
        filled.add(10)
        names.append(snapshots.publish(filled.catalog, filled.row).file.name)
    assert sorted(p.name for p in folder.glob("*.faiss*")) == sorted(names[1:])


def test_a_snapshot_is_due_only_when_the_tail_is_long(filled: Filled) -> None:
    catalog, row = filled.catalog, filled.row
    assert snapshots.publish_if_due(catalog, row, final=True)
    filled.add(256)
    assert not snapshots.publish_if_due(catalog, row, final=True)
    filled.add(1)
    assert not snapshots.publish_if_due(catalog, row, final=False)  # the run goes on: not before it has doubled
    assert snapshots.publish_if_due(catalog, row, final=True)


def test_a_snapshot_is_due_when_over_a_fifth_of_it_is_gone(filled: Filled) -> None:
    catalog, row = filled.catalog, filled.row
    snapshots.publish(catalog, row)
    with catalog.transaction():
        catalog.conn.execute("DELETE FROM embeddings WHERE seq <= 80")
    assert not snapshots.publish_if_due(catalog, row, final=True)
    with catalog.transaction():
        catalog.conn.execute("DELETE FROM embeddings WHERE seq <= 81")
    assert snapshots.publish_if_due(catalog, row, final=True)


def clustered(rng: np.random.Generator, n: int) -> np.ndarray:
    centres = np.random.default_rng(99).normal(size=(30, DIM))
    return unit(centres[rng.integers(0, len(centres), n)] + 0.4 * rng.normal(size=(n, DIM)))


@pytest.mark.parametrize("lost", [0, 40])
def test_pages_are_slices_of_one_order(tmp_path: Path, lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SMALL", 0)
    filled = Filled(tmp_path / "library", 0)
    filled.put(clustered(filled.rng, 1200))
    filled.catalog.set_meta("engine", "ivf")
    published = snapshots.publish(filled.catalog, filled.row)
    filled.put(clustered(filled.rng, 100))  # the tail
    assert published.file.details["nprobe"] * 4 < published.file.details["nlist"]
    with searching(filled.catalog.folder) as searcher:
        for query in clustered(filled.rng, 5):
            filled.lose(filled.expected(query, lost))
            first = [n.content_id for n in searcher.nearest(filled.row, query, 10)]
            assert len(set(first) & set(filled.expected(query, 10))) >= 8
            long = [n.content_id for n in searcher.nearest(filled.row, query, len(filled.vectors))]
            assert sorted(long) == sorted(filled.vectors)
            for k in range(20, len(long), 20):
                assert [n.content_id for n in searcher.nearest(filled.row, query, k)] == long[:k]
    filled.catalog.close()


def test_an_index_that_prune_rewrites_is_tuned_with_texts(tmp_path: Path) -> None:
    filled = Filled(tmp_path / "library", 0)
    catalog, row = filled.catalog, filled.row
    filled.put(clustered(filled.rng, 3000))
    catalog.set_meta("engine", "ivf")

    def embed(texts: Sequence[str]) -> np.ndarray:
        return unit(np.random.default_rng(len(texts)).normal(size=(len(texts), DIM)))  # Far from the images.

    alone = snapshots.publish(catalog, row).file.details["nprobe"]
    snapshots.publish(catalog, row, embed=embed)

    def pruned(lost: int, *, cache: bool) -> dict[str, Any]:
        filled.lose(list(filled.vectors)[:lost])
        prune(catalog, cache=cache)
        snapshot = snapshots.current(catalog, row.id)
        assert snapshot is not None and snapshot.file.count == len(filled.vectors)
        return dict(snapshot.file.details)

    tuned = pruned(700, cache=True)
    assert tuned["probes"]["texts"] == snapshots.PROBES
    assert tuned["recall"]["texts"] >= tuned["target"]
    assert tuned["nprobe"] > alone
    without = pruned(600, cache=False)  # The prompts are gone with the cache.
    assert "texts" not in without["probes"] and without["nprobe"] >= tuned["nprobe"]
    catalog.close()
