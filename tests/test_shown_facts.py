"""What the program shows of dates, places, captions, keywords and ratings, whatever their source; and their order."""

from __future__ import annotations

import csv
import io
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from conftest import Cli
from helpers import draw
from older.make import WRONG, unpacked
from test_sidecars import exif, record, xmp

from clipsearch import Library

SUMMER_TIME = {"TZ": "Etc/GMT-9"}
"""A machine nine hours east of UTC."""


@pytest.fixture(scope="module")
def library(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library of pictures whose facts come from different sources. Do not change it."""
    folder = tmp_path_factory.mktemp("facts").resolve()
    photos = folder / "photos"
    draw(photos / "sidecar.jpg", 1, exif=exif("2003:04:05 06:07:08"))
    words = xmp(date="2001-02-03T04:05:06+02:00", caption=escape("a <b>barn</b>"), rating="4", tag="barn")
    (photos / "sidecar.jpg.xmp").write_text(words)
    (photos / "sidecar.xmp").write_text(xmp(lat="10,30S", lon="20,0E"))
    draw(photos / "takeout.jpg", 2)
    (photos / "takeout.jpg.json").write_text(record(words="a river"))
    draw(photos / "PXL_20210503_160000123.jpg", 3)
    draw(photos / "IMG-20210504-WA0001.jpg", 4)
    draw(photos / "later.jpg", 5, exif=exif("2021:05:04 01:00:00"))
    draw(photos / "earlier.jpg", 6, exif=exif("2021:05:03 19:00:00"))
    draw(photos / "unknown.jpg", 7)
    assert cli("index", photos, cwd=folder, env=SUMMER_TIME).code == 0
    return folder


def hits(cli: Cli, library: Path, *options: str) -> list[dict[str, Any]]:
    ran = cli("query", "a photo", "-k", "20", *options, "--json", cwd=library, env=SUMMER_TIME)
    found: list[dict[str, Any]] = ran.json["hits"]
    return found


def test_show_names_the_source_of_each_fact(cli: Cli, library: Path) -> None:
    lines = [" ".join(line.split()) for line in cli("show", "photos/sidecar.jpg", cwd=library).lines]
    for line in (
        "taken 2001-02-03T04:05:06, UTC+2 (from the sidecar)",
        "place -10.50000, 20.00000 (from the sidecar)",
        "caption a <b>barn</b> (from the sidecar)",
        "keywords barn (from the sidecar)",
        "rating ★★★★☆ (from the sidecar)",
    ):
        assert line in lines
    lines = [" ".join(line.split()) for line in cli("show", "photos/takeout.jpg", cwd=library).lines]
    assert "taken 2021-05-03T10:20:30 UTC (from Google Takeout)" in lines
    assert "caption a river (from Google Takeout)" in lines
    lines = [" ".join(line.split()) for line in cli("show", "photos/later.jpg", cwd=library).lines]
    assert "taken 2021-05-04T01:00:00 (from EXIF)" in lines


def test_show_as_json_has_the_facts_and_their_sources(cli: Cli, library: Path) -> None:
    facts = cli("show", "photos/sidecar.jpg", "--json", cwd=library).json["facts"]
    expected = {
        "taken_at": "2001-02-03T04:05:06",
        "taken_offset": 120,
        "taken_source": "sidecar",
        "lat": -10.5,
        "lon": 20.0,
        "place_source": "sidecar",
        "caption": "a <b>barn</b>",
        "caption_source": "sidecar",
        "keywords": ["barn"],
        "keywords_source": "sidecar",
        "rating": 4,
        "rating_source": "sidecar",
    }
    assert {name: facts[name] for name in expected} == expected


def test_hits_have_the_facts_in_json_and_csv(cli: Cli, library: Path) -> None:
    found = {os.path.basename(hit["path"]): hit for hit in hits(cli, library)}
    names = "taken_at", "taken_offset", "taken_source", "lat", "place_source", "caption", "keywords", "rating"
    assert [found["sidecar.jpg"][name] for name in names] == [
        *("2001-02-03T04:05:06", 120, "sidecar", -10.5, "sidecar", "a <b>barn</b>", ["barn"], 4)
    ]
    assert [found["unknown.jpg"][name] for name in names] == [None] * 6 + [[], None]
    table = csv.DictReader(io.StringIO(cli("query", "a photo", "--csv", cwd=library).text))
    rows = {os.path.basename(row["path"]): row for row in table}
    assert [rows["sidecar.jpg"][name] for name in names] == [
        *("2001-02-03T04:05:06", "120", "sidecar", "-10.5", "sidecar", "a <b>barn</b>", "barn", "4")
    ]


def test_a_page_shows_the_facts(cli: Cli, library: Path, tmp_path: Path) -> None:
    assert cli("query", "a photo", "--html", tmp_path / "page.html", cwd=library).code == 0
    page = (tmp_path / "page.html").read_text()
    for text in (
        "2001-02-03 04:05:06, UTC+2 (from the sidecar)",
        "2021-05-03 10:20:30 UTC (from Google Takeout)",
        "-10.50000, 20.00000 (from the sidecar)",
        "a &lt;b&gt;barn&lt;/b&gt;",
        "★★★★☆",
    ):
        assert text in page
    assert "<b>barn" not in page


def test_hits_are_sorted_by_the_local_time_of_the_exposure(cli: Cli, library: Path) -> None:
    found = [os.path.basename(hit["path"]) for hit in hits(cli, library, "--sort", "taken")]
    assert found == [
        "sidecar.jpg",
        "takeout.jpg",  # 12:20:30 in Paris
        "earlier.jpg",  # 19:00
        *("IMG-20210504-WA0001.jpg", "later.jpg"),  # the day before its moments, and 01:00
        "PXL_20210503_160000123.jpg",  # 01:00:00.123 on the next day, on this machine
        "unknown.jpg",
    ]


def test_an_older_library_has_the_facts_of_a_new_one_after_one_run(tmp_path: Path) -> None:
    older = unpacked(tmp_path.resolve())
    photos = older.parent / "photos"
    (photos / "coast.png.xmp").write_text(xmp(date="2001-02-03", caption="a coast", tag="sea", rating="2"))
    (photos / "garden.bmp.supplemental-metadata.json").write_text(record(words="a garden"))
    shutil.copy(photos / "garden.bmp", photos / "IMG-20210504-WA0001.bmp")
    with Library.open(older) as library:
        assert len(library.query("a coast", k=3).hits) == 3
        report = library.index()
    assert (report.encoded, report.notices) == (len(WRONG) + 2, ())
    with Library.create(tmp_path / "new", model="builtin") as library:
        library.index([photos])
    assert facts(older) == facts(tmp_path / "new")


def facts(folder: Path) -> list[tuple[Any, ...]]:
    """All that a catalog has of each path, but when it was read, and ids."""
    conn = sqlite3.connect(folder / "catalog.db")
    names = [name for _, name, *_ in conn.execute("PRAGMA table_info(files)")]
    columns = [name for name in names if name not in ("id", "content_id", "mtime_ns")]
    rows = conn.execute(f"SELECT {', '.join(columns)} FROM files ORDER BY path").fetchall()
    conn.close()
    return rows
