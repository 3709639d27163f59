"""Libraries filled by version 0.1.0: their facts are read again, and only what it decoded wrongly is encoded again.

`older/` holds such a library, of pictures that `older/make.py` draws.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from older.make import CORRECT, REFUSED, WRONG, unpacked

from clipsearch import Library
from clipsearch.catalog.filters import Filter
from clipsearch.indexing.results import IndexReport
from clipsearch.indexing.run import RunOptions


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The folder of an old library, whose pictures are in `photos` beside it."""
    return unpacked(tmp_path.resolve())


def contents(folder: Path) -> dict[bytes, dict[str, Any]]:
    """All that the catalog in a folder has of each content, but its id and when it came, with its vector."""
    conn = sqlite3.connect(folder / "catalog.db")
    conn.row_factory = sqlite3.Row
    rows = conn.execute(
        "SELECT c.*, e.vector FROM contents c LEFT JOIN embeddings e ON e.content_id = c.id AND e.view = 0"
    )
    found = {}
    for row in map(dict, rows):
        del row["id"], row["added_at"], row["decoder"]
        found[row.pop("digest")] = row
    conn.close()
    return found


def run(folder: Path, **options: Any) -> IndexReport:
    with Library.open(folder) as library:
        return library.index(**options)


def test_it_answers_before_it_is_updated_and_is_not_written(older: Path) -> None:
    before = (older / "catalog.db").read_bytes()
    with Library.open(older) as library:
        assert len(library.query("a house", k=3).hits) == 3
        held = library.info().contents
        assert held["ok"] + held["partial"] == len(CORRECT) + len(WRONG)
        assert library.show(library.query("a house", k=1)[0].path)
        assert library.classify(None, ["a house", "a tree"]).results
        assert library.index(dry_run=True).indexed > 0
    assert (older / "catalog.db").read_bytes() == before


def test_one_run_makes_it_equal_to_a_new_one(older: Path, tmp_path: Path) -> None:
    report = run(older)
    assert (report.corrected, report.reread) == (len(WRONG), len(CORRECT))
    assert (report.encoded, report.indexed) == (len(WRONG) + len(REFUSED),) * 2, "what failed before is read now, too"
    with Library.create(tmp_path / "new", model="builtin") as library:
        library.index([tmp_path / "photos"])
    was, new = contents(older), contents(tmp_path / "new")
    assert was.keys() == new.keys()
    for digest, row in new.items():
        vectors = [np.frombuffer(each.pop("vector"), "<f4") for each in (row, was[digest])]
        assert vectors[0] @ vectors[1] > 0.99999, row
        assert was[digest] == row
    again = run(older)
    assert (again.opened, again.reread, again.corrected) == (0, 0, 0)


def test_an_interrupted_run_goes_on_with_what_is_left(older: Path) -> None:
    calls = iter(range(100))
    first = run(older, stop=lambda: next(calls) > 8)
    assert first.interrupted
    second = run(older)
    assert first.reread + second.reread == len(CORRECT)
    assert first.corrected + second.corrected == len(WRONG)
    assert 0 < second.reread + second.corrected < len(CORRECT) + len(WRONG)


def test_a_value_that_is_no_longer_read_is_cleared(older: Path) -> None:
    conn = sqlite3.connect(older / "catalog.db")
    conn.execute("UPDATE contents SET taken_at = '1999-01-01T00:00:00', camera = 'Nobody''s'")
    conn.commit()
    conn.close()
    run(older)
    with Library.open(older) as library:
        assert not library.query("a house", where=Filter(camera="nobody")).hits
        assert not library.query("a house", where=Filter(taken=("1999", "2000"))).hits


def test_all_copies_of_a_content_are_read_once(older: Path) -> None:
    photos = older.parent / "photos"
    for name in CORRECT[:3]:
        shutil.copy2(photos / name, photos / f"copy-of-{name}")
    assert run(older).reread == len(CORRECT)


def test_every_byte_is_read_again_where_that_is_asked_for(older: Path) -> None:
    report = run(older, run=RunOptions(rehash=True))
    assert (report.corrected, report.reread) == (len(WRONG), len(CORRECT))


def test_the_report_says_it(older: Path, cli: Cli) -> None:
    ran = cli("index", "--json", cwd=older.parent)
    report = ran.json
    assert (report["corrected"], report["reread"]) == (len(WRONG), len(CORRECT))
