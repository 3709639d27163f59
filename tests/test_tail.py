"""What is newer than a snapshot is found at once, and few new images write no snapshot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import Shelf, draw

from clipsearch.catalog import snapshots
from clipsearch.catalog.catalog import Catalog

COUNT = 5_000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of 5,000 vectors with a published snapshot. Copy it, do not change it."""
    shelf = Shelf(tmp_path_factory.mktemp("filled") / "library")
    add_vectors(shelf, COUNT, seed=0)
    catalog = Catalog.open(shelf.folder, writable=True)
    try:
        row = catalog.active()
        assert row is not None
        assert snapshots.publish_if_due(catalog, row, final=True)
    finally:
        catalog.close()
    return shelf.folder


@pytest.fixture
def shelf(filled: Path, tmp_path: Path) -> Shelf:
    shutil.copytree(filled, tmp_path / "library")
    return Shelf(tmp_path / "library")


def add_vectors(shelf: Shelf, count: int, *, seed: int) -> None:
    """Contents with random vectors, each with a file that stands somewhere outside all roots."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 48)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    catalog = Catalog.open(shelf.folder, writable=True)
    try:
        with catalog.transaction():
            for i, vector in enumerate(vectors):
                content = catalog.contents.put(
                    rng.bytes(32), size=1, state="ok", reason=None, decoder="", now="2026-01-01"
                )
                catalog.files.put(b"/elsewhere/%d-%05d.png" % (seed, i), content_id=content, size=1, mtime_ns=0)
                catalog.embeddings.put(content, 1, vector)
    finally:
        catalog.close()


def faiss_files(shelf: Shelf) -> dict[str, tuple[int, int, int]]:
    stats = {path.name: path.stat() for path in shelf.folder.iterdir() if ".faiss" in path.name}
    return {name: (s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats.items()}


def test_one_more_picture_writes_no_snapshot_and_is_found(shelf: Shelf, tmp_path: Path) -> None:
    before = faiss_files(shelf)
    assert len(before) == 1
    image = draw(tmp_path / "photos" / "new.png", 3)
    report = shelf.index(tmp_path / "photos")
    assert (report.indexed, report.published) == (1, False)
    assert faiss_files(shelf) == before
    assert shelf.hits(image, k=1) == [str(image)]
    assert len(shelf.hits(k=COUNT + 10)) == COUNT + 1


def test_a_changed_and_a_deleted_picture_are_right_without_a_snapshot(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    first, second = draw(photos / "1.png", 1), draw(photos / "2.png", 2)
    shelf.index(photos)
    before = faiss_files(shelf)
    shown = first.read_bytes()
    draw(first, 30)
    os.utime(first, (1_000_000_000,) * 2)
    second.unlink()
    report = shelf.index()
    assert (report.indexed, report.missing, report.published) == (1, 1, False)
    assert faiss_files(shelf) == before
    assert shelf.hits(first, k=1) == [str(first)]
    old = tmp_path / "old.png"
    old.write_bytes(shown)
    assert str(first) not in shelf.hits(old, k=1)  # the former content of that path is nobody's now
    assert str(second) not in shelf.hits(k=COUNT + 10)


def test_a_tail_is_published_once_it_passes_its_limit(shelf: Shelf, tmp_path: Path) -> None:
    limit = snapshots.tail_limit(COUNT)
    add_vectors(shelf, limit - 1, seed=1)
    draw(tmp_path / "photos" / "a.png", 1)
    assert not shelf.index(tmp_path / "photos").published
    last = draw(tmp_path / "photos" / "b.png", 2)
    assert shelf.index().published
    assert shelf.rows("SELECT count FROM snapshots") == [(COUNT + limit + 1,)]
    assert shelf.hits(last, k=1) == [str(last)]


def test_many_dead_vectors_have_the_snapshot_rebuilt(shelf: Shelf, tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.png", 1)
    shelf.index(tmp_path / "photos")
    catalog = Catalog.open(shelf.folder, writable=True)
    try:
        for share, published in ((0.15, False), (0.10, True)):
            with catalog.transaction():
                catalog.conn.execute(
                    "DELETE FROM embeddings WHERE seq IN (SELECT seq FROM embeddings ORDER BY seq LIMIT ?)",
                    (int(COUNT * share),),
                )
            assert shelf.index().published is published
    finally:
        catalog.close()
    assert len(shelf.hits(k=COUNT)) == COUNT - int(COUNT * 0.15) - int(COUNT * 0.10) + 1


def test_only_the_newest_snapshot_and_the_one_before_are_kept(shelf: Shelf, tmp_path: Path) -> None:
    """A reader that has just looked up the name of the one before can still open it."""
    names = set(faiss_files(shelf))
    for seed in (1, 2, 3):
        add_vectors(shelf, snapshots.tail_limit(COUNT) + 300, seed=seed)
        draw(tmp_path / "photos" / f"{seed}.png", seed)
        assert shelf.index(tmp_path / "photos").published
        now = set(faiss_files(shelf))
        assert len(now) == 2
        assert len(now & names) == 1
        names = now


def test_a_long_run_publishes_in_the_middle_once_the_tail_outgrew_the_snapshot(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "library")
    for i in range(700):
        draw(tmp_path / "photos" / f"{i:03}.png", i, side=8)
    shelf.index(tmp_path / "photos", batch_size=32)
    [(file, count, revision)] = shelf.rows("SELECT file, count, revision FROM snapshots")
    assert (revision, count) == (2, 608)  # at 288, past 256; then once the tail had passed 288; the last 92 are tail
    assert file in faiss_files(shelf)
    assert len(shelf.hits()) == 700
