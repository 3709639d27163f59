"""Folders of a network drive, a phone, Google Takeout and Lightroom: which images are found, with which facts.

A library that the previous version made of them has the same after one run, and nothing is encoded again.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import load_tiny, reload_tiny, use_encoders
from trees import TREES, Tree, write

from clipsearch import Library
from clipsearch.catalog.filters import Filter
from clipsearch.indexing.results import IndexReport
from clipsearch.indexing.roots import GivenOptions
from clipsearch.indexing.run import RunOptions
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Indexed
from clipsearch.types import Hit

EVERYTHING = GivenOptions(default_excludes=False, ignore_files=False)
"""What the previous version would scan."""

PATH_FACTS = (
    *("sidecars", "taken_at", "taken_offset", "taken_source", "lat", "lon", "place_source"),
    *("caption", "caption_source", "keywords", "rating"),
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_encoders(monkeypatch.setattr, load_tiny, reload_tiny)


@pytest.fixture(params=TREES, ids=lambda tree: tree.__name__)
def tree(request: pytest.FixtureRequest) -> Callable[[Path], Tree]:
    make: Callable[[Path], Tree] = request.param
    return make


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.create(tmp_path / "index", model="tiny") as library:
        yield library


def hits(library: Library, *, where: Filter | None = None, unfold: bool = False) -> tuple[Hit, ...]:
    return library.query(Indexed(1), k=100, where=where, options=QueryOptions(explain=False, unfold=unfold)).hits


def facts(folder: Path) -> dict[bytes, dict[str, Any]]:
    """What a catalog has of each file and its content, but ids, stamps, times of recording and what is missing."""
    conn = sqlite3.connect(folder / "catalog.db")
    conn.row_factory = sqlite3.Row
    found = {}
    for row in conn.execute("SELECT * FROM files WHERE state != 'missing'"):
        content = dict(conn.execute("SELECT * FROM contents WHERE id = ?", (row["content_id"],)).fetchone() or {})
        for name in ("id", "added_at"):
            content.pop(name, None)
        kept = {name: value for name, value in dict(row).items() if name not in ("id", "content_id")}
        found[kept.pop("path")] = kept | {f"content {name}": value for name, value in content.items()}
    conn.close()
    return found


def make_previous(folder: Path) -> None:
    """Take from a catalog all that the previous version did not record: its schema was 2."""
    conn = sqlite3.connect(folder / "catalog.db")
    nothing = ", ".join(f"{name} = NULL" for name in PATH_FACTS if name != "caption_source")
    conn.execute(f"UPDATE files SET ctime_ns = NULL, {nothing}")
    conn.execute(
        "UPDATE contents SET facts_revision = 2, taken_at = NULL, taken_offset = NULL, taken_source = NULL, "
        "lat = NULL, lon = NULL, place_source = NULL, caption = NULL, keywords = NULL, rating = NULL"
    )
    for root, options in conn.execute("SELECT id, options FROM roots").fetchall():
        known = {key: json.loads(options)[key] for key in ("exclude", "hidden", "follow_symlinks", "all_files")}
        conn.execute("UPDATE roots SET options = ? WHERE id = ?", (json.dumps(known), root))
    conn.execute("UPDATE contents SET state = 'failed', reason = 'the file is empty' WHERE bytes = 0")
    conn.execute("ALTER TABLE files DROP COLUMN caption_source")
    conn.execute("DELETE FROM _sqlite_migrations WHERE name >= '0003'")
    conn.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
    conn.commit()
    conn.close()


def test_the_right_images_are_found_with_their_facts(
    library: Library, tree: Callable[[Path], Tree], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    expected = tree(folder)
    report = library.index([folder])
    assert not report.failed
    assert report.indexed == len(expected)
    assert {str(Path(hit.path).relative_to(folder)) for hit in hits(library, unfold=True)} == set(expected)
    shown = {str(Path(hit.path).relative_to(folder)): hit for hit in hits(library)}
    assert set(shown) == {path for path, about in expected.items() if about.hit is None}
    for path, about in expected.items():
        if about.hit is not None:
            assert str(folder / path) in [partner.path for partner in shown[about.hit].also]
        assert of(library, folder / path) == (about.taken, about.place, about.caption, about.keywords, about.rating), (
            path
        )


def of(library: Library, path: Path) -> tuple[Any, ...]:
    """What a library shows of an image."""
    about = library.show(path).facts
    assert about is not None
    taken = (about.taken_at, about.taken_source) if about.taken_at else None
    place = (about.lat, about.lon, about.place_source) if about.lat is not None else None
    return taken, place, about.caption, about.keywords, about.rating


def test_a_library_of_the_previous_version_becomes_equal_to_a_new_one(
    tree: Callable[[Path], Tree], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    expected = tree(folder)
    with Library.create(tmp_path / "new", model="tiny") as library:
        library.index([folder])
    with Library.create(tmp_path / "old", model="tiny") as library:
        everything = library.index([folder], run=RunOptions(given=EVERYTHING)).indexed
    make_previous(tmp_path / "old")
    before = (tmp_path / "old" / "catalog.db").read_bytes()
    with Library.open(tmp_path / "old") as library:
        assert len(hits(library, unfold=True)) == everything, "it answers before it is updated"
        assert library.index(dry_run=True).indexed > 0
    assert (tmp_path / "old" / "catalog.db").read_bytes() == before
    with Library.open(tmp_path / "old") as library:
        report = library.index()
        assert (report.encoded, report.indexed) == (0, 0)
        left = everything - len(expected)
        assert report.excluded >= left
        if left:
            options = "default_excludes=False", "ignore_files=False"
            assert any(option in notice for notice in report.notices for option in options), report.notices
        assert (library.index().opened, len(hits(library, unfold=True))) == (0, len(expected))
    assert facts(tmp_path / "old") == facts(tmp_path / "new")


def test_left_out_images_keep_their_vectors_until_prune(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    nas = next(make for make in TREES if make.__name__ == "nas")
    found = len(nas(folder))
    with Library.create(tmp_path / "index", model="tiny") as library:
        everything = library.index([folder], run=RunOptions(given=EVERYTHING)).indexed
        library.index(run=RunOptions(given=GivenOptions(default_excludes=True)))
        assert len(hits(library, unfold=True)) == found
        again = library.index(run=RunOptions(given=EVERYTHING))
        assert (again.encoded, len(hits(library, unfold=True))) == (0, everything)


def test_filters_find_what_is_written_about_images(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    lightroom = next(make for make in TREES if make.__name__ == "lightroom")
    lightroom(folder)
    library.index([folder])

    def named(where: Filter) -> list[str]:
        return sorted(Path(hit.path).name for hit in hits(library, where=where))

    assert named(Filter(tags=("evian",))) == ["DSC2.JPG"]
    assert named(Filter(tags=("EDITED",))) == ["DSC3.JPG"]
    assert named(Filter(rating=(4, 5))) == ["DSC1.DNG", "DSC2.JPG"]
    assert named(Filter(caption="SUNSET")) == ["DSC2.JPG"]
    assert named(Filter(name="dsc3")) == ["DSC3.JPG"]


def test_a_corrected_sidecar_is_noticed_and_the_image_not_read(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    lightroom = next(make for make in TREES if make.__name__ == "lightroom")
    lightroom(folder)
    library.index([folder])
    image, sidecar = folder / "2021" / "DSC3.JPG", folder / "2021" / "DSC3.JPG.xmp"
    write(sidecar, sidecar.read_text().replace("After", "Later").replace("2020-01-02", "2019-12-31T23:59:59"))
    report = library.index()
    assert report.opened == 0
    assert of(library, image)[0] == ("2019-12-31T23:59:59", "sidecar") and of(library, image)[2] == "Later"
    sidecar.unlink()
    assert library.index().opened == 0
    assert of(library, image) == (("2021-05-03T14:02:11", "exif"), None, "Before", (), 2)


def run_counts(report: IndexReport) -> tuple[int, int]:
    return report.indexed, report.encoded


def test_a_renamed_folder_keeps_its_facts(library: Library, tree: Callable[[Path], Tree], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    expected = tree(folder)
    library.index([folder])
    before = {path: of(library, folder / path) for path in expected}
    shutil.move(folder, tmp_path / "elsewhere")
    library.reroot(folder, tmp_path / "elsewhere")
    assert run_counts(library.index()) == (0, 0)
    assert {path: of(library, tmp_path / "elsewhere" / path) for path in expected} == before
