"""What a hit says of its files as they are when it is shown, whatever the last run saw."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers import Shelf, draw, load_tiny, reload_tiny, use_encoders, without_privileges

from clipsearch import Library
from clipsearch.catalog.filters import Filter
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Indexed
from clipsearch.types import Hit


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    use_encoders(monkeypatch.setattr, load_tiny, reload_tiny)
    for seed, name in enumerate(("drive/a.png", "drive/b.png", "other/c.png")):
        draw(tmp_path / name, seed)
    shutil.copy2(tmp_path / "drive" / "b.png", tmp_path / "other" / "copy of b.png")
    shelf = Shelf(tmp_path / "library")
    shelf.index(tmp_path / "drive", tmp_path / "other")
    return shelf


def hits(shelf: Shelf, tmp_path: Path, *within: Path) -> dict[str, Hit]:
    where = Filter(within=tuple(map(os.fsencode, within)))
    options = QueryOptions(explain=False, relevant=False, judge=False)
    with Library.open(shelf.folder) as library:
        found = library.query(Indexed(1), k=10, where=where, options=options)
    return {os.path.relpath(hit.path, tmp_path): hit for hit in found}


def test_files_of_a_root_that_is_gone_are_offline_before_any_run(shelf: Shelf, tmp_path: Path) -> None:
    assert set(hits(shelf, tmp_path)) == {"drive/a.png", "drive/b.png", "other/c.png"}
    (tmp_path / "drive").rename(tmp_path / "away")
    found = hits(shelf, tmp_path)
    assert {path: hit.offline for path, hit in found.items()} == {
        "drive/a.png": True, "other/copy of b.png": False, "other/c.png": False,
    }  # fmt: skip
    copied = found["other/copy of b.png"]
    assert [os.path.relpath(path, tmp_path) for path in copied.paths] == ["other/copy of b.png", "drive/b.png"]
    assert list(hits(shelf, tmp_path, tmp_path / "drive")) == ["drive/a.png", "drive/b.png"]  # the filter's paths first
    with Library.open(shelf.folder) as library:
        states = dict(library.show(copied.id, k=0).files)
    assert {os.path.relpath(path, tmp_path): state for path, state in states.items()} == {
        "drive/b.png": "offline", "other/copy of b.png": "present",
    }  # fmt: skip
    assert set(shelf.states().values()) == {"present"}  # nothing was written


def test_files_of_a_root_that_is_back_are_not_offline_any_more(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "drive").rename(tmp_path / "away")
    assert shelf.index().offline == 2
    assert hits(shelf, tmp_path)["drive/a.png"].offline
    (tmp_path / "away").rename(tmp_path / "drive")
    assert not any(hit.offline for hit in hits(shelf, tmp_path).values())


def test_a_link_to_a_file_that_is_gone_is_offline(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    draw(tmp_path / "x.png", 7)
    (tmp_path / "links" / "x.png").symlink_to(tmp_path / "x.png")
    shelf.index(tmp_path / "links", follow=True)
    assert not hits(shelf, tmp_path)["links/x.png"].offline
    (tmp_path / "x.png").unlink()
    assert hits(shelf, tmp_path)["links/x.png"].offline


def test_unreadable_and_offline_are_told_apart(shelf: Shelf, tmp_path: Path) -> None:
    os.chmod(tmp_path / "other" / "c.png", 0)
    with without_privileges():
        report = shelf.index(rehash=True)
    assert len(report.failed) == 1
    (tmp_path / "drive").rename(tmp_path / "away")
    with without_privileges():
        found = hits(shelf, tmp_path)
    assert {path: (hit.offline, hit.unreadable) for path, hit in found.items()} == {
        "drive/a.png": (True, False), "other/copy of b.png": (False, False), "other/c.png": (True, True),
    }  # fmt: skip
    from clipsearch.cli.render.hits import query_text
    from clipsearch.export.json import hit_json
    from clipsearch.types import QueryResult

    value = hit_json(found["other/c.png"])
    assert (value["offline"], value["unreadable"]) == (True, True)
    text = query_text(QueryResult("", shelf.encoder.info, tuple(found.values())))
    assert "other/c.png  (unreadable)" in text and "drive/a.png  (offline)" in text


def test_a_folder_that_may_not_be_entered_is_unreadable(shelf: Shelf, tmp_path: Path) -> None:
    os.chmod(tmp_path / "drive", 0)
    with without_privileges():
        found = hits(shelf, tmp_path)
    os.chmod(tmp_path / "drive", 0o755)
    assert (found["drive/a.png"].offline, found["drive/a.png"].unreadable) == (True, True)
