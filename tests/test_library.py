"""`Library` from Python: what is asked of it, with the built-in encoder on real photographs."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import skimage
from helpers import draw

from clipsearch import Label, Library
from clipsearch.catalog import snapshots
from clipsearch.catalog.cache import CACHE_NAME
from clipsearch.catalog.lock import writer_lock
from clipsearch.classify.options import ClassifyOptions
from clipsearch.errors import (
    DamagedError,
    EncoderError,
    ImageError,
    LockedError,
    ModelMismatchError,
    NoLibraryError,
    UsageError,
)
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Text

PHOTOS = Path(skimage.__file__).parent / "data"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("chelsea.png", "rocket.jpg", "coffee.png"):
        shutil.copy2(PHOTOS / name, folder)
    return folder


@pytest.fixture
def library(tmp_path: Path, photos: Path) -> Iterator[Library]:
    with Library.create(tmp_path / "library", model="builtin") as library:
        report = library.index([photos])
        assert (report.indexed, report.failed, report.published) == (3, (), True)
        yield library


def test_words_find_the_picture_they_describe(library: Library) -> None:
    for words, name in (("a cat", "chelsea.png"), ("a rocket launch", "rocket.jpg"), ("a cup of coffee", "coffee.png")):
        [hit] = library.query(words, k=1).hits
        assert Path(hit.path).name == name
        assert hit.explain and hit.explain[0].score > 0.5


def test_a_picture_finds_itself_whether_or_not_it_is_indexed(library: Library, photos: Path, tmp_path: Path) -> None:
    hit, *_ = library.query(photos / "rocket.jpg").hits
    assert (Path(hit.path).name, hit.score) == ("rocket.jpg", pytest.approx(1, abs=1e-6))
    half = tmp_path / "half.jpg"
    half.write_bytes((photos / "rocket.jpg").read_bytes()[:80_000])
    result = library.query(half, k=1)
    assert Path(result.hits[0].path).name == "rocket.jpg"
    assert result.notices[0].kind == "partial" and "half.jpg is truncated" in result.notices[0]


def test_a_hit_names_every_path_of_its_content(library: Library, photos: Path) -> None:
    shutil.copy2(photos / "rocket.jpg", photos / "another.jpg")
    report = library.index()
    assert (report.copied, report.encoded) == (1, 0)
    hit, *_ = library.query("a rocket launch").hits
    assert [Path(p).name for p in hit.paths] == ["another.jpg", "rocket.jpg"]


def test_classify_uses_stored_vectors_and_reports_what_it_cannot_read(library: Library, photos: Path) -> None:
    bad = photos / "bad.jpg"
    bad.write_bytes(b"no picture")
    result = library.classify(
        [photos], ["cat", Label("drink", ("a cup of coffee",)), "rocket"], options=ClassifyOptions(k=1)
    )
    best = {Path(r.path).name: [p.label for p in r.predictions] for r in result.results}
    assert best == {"chelsea.png": ["cat"], "coffee.png": ["drink"], "rocket.jpg": ["rocket"], "bad.jpg": []}
    assert next(r.reason for r in result.results if r.path == str(bad))


def test_info_counts_what_there_is(library: Library, photos: Path) -> None:
    info = library.info()
    assert (dict(info.files), dict(info.contents), info.roots) == ({"present": 3}, {"ok": 3}, (str(photos),))
    [status] = info.encoders
    assert (status.role, status.vectors, status.owed, status.engine, status.tail) == ("answering", 3, 0, "exact", 0)
    assert info.last_run is not None and info.last_run["indexed"] == 3


def test_a_dry_run_changes_nothing(library: Library, photos: Path, tmp_path: Path) -> None:
    shutil.copy2(photos / "rocket.jpg", photos / "another.jpg")
    before = library.info()
    report = library.index(dry_run=True)
    assert (report.indexed, report.unchanged, report.dry_run) == (1, 3, True)
    assert library.info() == before
    nowhere = Library(tmp_path / "none")
    assert nowhere.index([photos], dry_run=True).indexed == 4
    assert not nowhere.path.exists()


def test_what_cannot_be_asked_is_said(library: Library, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="empty"):
        library.query("  ")
    with pytest.raises(UsageError, match="`k=0`"):
        library.query("a cat", k=0)
    with pytest.raises(UsageError, match="no such file"):
        library.query(tmp_path / "none.jpg")
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    with pytest.raises(ImageError, match=r"text\.jpg"):
        library.query(text)
    with pytest.raises(UsageError, match="no such file"):
        library.index([tmp_path / "nowhere"])


def test_a_failed_creation_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises((EncoderError, UsageError)):
        Library.create(tmp_path / "new", model="./no-such-checkpoint.pt")
    with pytest.raises(UsageError, match="no 8-bit form"):
        Library.create(tmp_path / "new", model="builtin", precision="int8")
    assert not (tmp_path / "new").exists()


def test_there_must_be_a_library(tmp_path: Path) -> None:
    with pytest.raises(NoLibraryError):
        Library.open(tmp_path)
    (tmp_path / "catalog.db").write_bytes(b"something else entirely, and long enough to be looked at" * 100)
    with pytest.raises(DamagedError):
        Library.open(tmp_path)
    assert [f.level for f in Library(tmp_path).doctor()][-1] == "problem"


def test_creating_twice_is_refused(library: Library) -> None:
    with pytest.raises(UsageError, match="already"):
        Library.create(library.path, model="builtin")


def test_a_model_that_is_not_held_is_a_mismatch(library: Library) -> None:
    tiny = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
    with pytest.raises(ModelMismatchError, match="has no embeddings"):
        library.query("a cat", options=QueryOptions(model=str(tiny)))


def test_only_one_may_write(library: Library) -> None:
    with writer_lock(library.path / "lock"), pytest.raises(LockedError) as caught:
        library.index()
    assert caught.value.pid is not None and caught.value.exit_code == 75
    assert library.query("a cat", k=1).hits  # readers never wait


# Keeping it in order


def test_prune_forgets_what_is_gone_for_good(library: Library, photos: Path) -> None:
    (photos / "coffee.png").unlink()
    assert library.index().missing == 1
    assert [Path(f.path).name for f in library.files("missing")] == ["coffee.png"]
    assert len(library.query("a cup of coffee").hits) == 2
    pruned = library.prune(cache=True)
    assert (pruned.files, pruned.contents, pruned.vectors) == (1, 1, 1)
    assert dict(library.info().contents) == {"ok": 2}
    assert len(library.query("a cup of coffee").hits) == 2


def test_forgotten_files_and_folders_do_not_come_back(library: Library, photos: Path) -> None:
    (photos / "more").mkdir()
    shutil.copy2(photos / "rocket.jpg", photos / "more")
    library.index()
    assert library.forget([photos / "more", photos / "chelsea.png"]) == 2
    assert library.index().indexed == 0
    assert {Path(h.path).name for h in library.query("a cat").hits} == {"rocket.jpg", "coffee.png"}
    with pytest.raises(UsageError, match="the library has no files there"):
        library.forget([photos / "never"])


def test_forgetting_a_root_forgets_all_of_it(library: Library, photos: Path) -> None:
    assert library.forget([photos]) == 3
    assert library.query("a cat").hits == ()
    assert library.index().indexed == 0
    report = library.index([photos])  # the vectors are still there until they are pruned
    assert (report.encoded, report.copied + report.restored + report.moved) == (0, 3)


def test_reroot_keeps_the_row_that_is_there(library: Library, photos: Path, tmp_path: Path) -> None:
    new = tmp_path / "elsewhere"
    shutil.copytree(photos, new)
    library.index([new / "rocket.jpg"])
    shutil.rmtree(photos)
    assert library.reroot(photos, new) == 2
    report = library.index()
    assert (report.unchanged, report.opened, report.missing) == (3, 0, 0)
    assert {Path(h.path).parent for h in library.query("a cat").hits} == {new}
    with pytest.raises(UsageError, match="no such folder"):
        library.reroot(new, tmp_path / "nowhere")


def test_doctor_finds_a_damaged_cache_and_prune_removes_it(library: Library) -> None:
    library.close()
    (library.path / CACHE_NAME).write_bytes(b"not a database" * 100)
    library = Library(library.path)
    note = next(f for f in library.doctor() if f.level == "note")
    assert "query cache cannot be read" in note.text and "`cache=True`" in note.advice
    library.prune(cache=True)
    assert {f.level for f in library.doctor()} == {"ok"}


def test_doctor_finds_a_damaged_snapshot_and_index_mends_it(library: Library) -> None:
    assert {f.level for f in library.doctor()} == {"ok"}
    [snapshot] = library.path.glob("*.faiss")
    data = bytearray(snapshot.read_bytes())
    data[-100] ^= 1
    snapshot.write_bytes(data)
    assert [f.level for f in library.doctor()].count("problem") == 1
    assert library.index().published
    assert {f.level for f in library.doctor()} == {"ok"}


def test_mended_preparation_is_said_by_index_and_never_stops_a_query(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipsearch.catalog.catalog import Catalog

    with contextlib.closing(Catalog.open(library.path, writable=True)) as catalog:
        catalog.conn.execute("UPDATE encoders SET fingerprint = 'older', details = replace(details, ?, ?)", _OLDER)
    library = Library.open(library.path)
    assert library.query("a cat", k=1).hits
    [notice] = library.index().notices
    assert "prepared better" in notice
    report = library.index(model="builtin")
    assert (report.encoded, report.switched) == (3, True)
    assert library.index().notices == ()


_OLDER = ('"pixels": 1', '"pixels": 0')


def test_many_texts_at_once_answer_as_one_by_one(library: Library) -> None:
    texts = ["a cat", "a rocket launch", "a cup of coffee", "a cat"]
    together = library.query_many(texts, k=2)
    assert [r.query for r in together] == texts
    for text, result in zip(texts, together, strict=True):
        assert result.hits == library.query(text, k=2, options=QueryOptions(explain=False)).hits
    assert library.query_many([]) == ()


def test_show_tells_all_there_is(library: Library, photos: Path) -> None:
    shown = library.show(photos / "chelsea.png", k=5)
    assert shown.facts is not None and (shown.facts.format, shown.facts.width, shown.facts.height) == ("PNG", 451, 300)
    assert shown.files == ((str(photos / "chelsea.png"), "present"),)
    assert [spec for spec, _, _ in shown.views] == ["builtin"]
    assert {Path(hit.path).name for hit in shown.neighbours} == {"coffee.png", "rocket.jpg"}
    assert library.show(shown.id) == shown
    for unknown in (photos / "none.jpg", 999):
        with pytest.raises(UsageError):
            library.show(unknown)


def test_answers_are_whole_while_files_come_and_go(library: Library, photos: Path) -> None:
    from clipsearch.catalog.catalog import Catalog

    done = threading.Event()

    def come_and_go() -> None:
        with contextlib.closing(Catalog.open(library.path, writable=True)) as catalog:
            while not done.is_set():
                for state in ("missing", "present"):
                    with catalog.transaction():
                        catalog.conn.execute("UPDATE files SET state = ?", (state,))

    writer = threading.Thread(target=come_and_go)
    writer.start()
    try:
        counts = {len(library.query("a cat", options=QueryOptions(explain=False)).hits) for _ in range(150)}
    finally:
        done.set()
        writer.join()
    assert counts <= {0, 3}


def test_threads_may_share_a_library(library: Library) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda _: library.query("a cat", k=1, options=QueryOptions(explain=False)).hits[0].id, range(60))
        )
    assert len(set(answers)) == 1


def test_a_preview_of_a_run_is_no_part_of_another_threads_answer(library: Library, photos: Path) -> None:
    """It fills temporary tables, which every thread of one connection would share."""
    for seed in range(40):
        draw(photos / "more" / f"{seed}.png", seed)

    def work(number: int) -> object:
        if number % 2:
            return library.query("a cat", k=1, options=QueryOptions(explain=False)).hits[0].path
        report = library.index(dry_run=True)
        return report.indexed, report.unchanged

    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(work, range(120)))
    assert answers == {(40, 3), str(photos / "chelsea.png")}


def test_closing_waits_for_the_query_that_runs_and_refuses_the_next(library: Library) -> None:
    begun = threading.Event()

    def ask() -> int:
        answered = 0
        while True:
            try:
                library.query("a cat", k=3, options=QueryOptions(explain=False, use_cache=False))
            except UsageError as exc:
                assert "closed" in str(exc)
                return answered
            answered += 1
            begun.set()

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        begun.wait()
        library.close()
        library.close()  # again: nothing to do
        assert sum(each.result() for each in asking) > 0
    for use in (library.index, library.info, library.prune, lambda: library.index(dry_run=True)):
        with pytest.raises(UsageError, match="is closed"):
            use()


def test_a_snapshots_name_may_come_again_for_another_encoder(library: Library) -> None:
    from clipsearch.catalog.catalog import Catalog

    [before] = library.query("a cat", k=1, options=QueryOptions(explain=False)).hits
    with contextlib.closing(Catalog.open(library.path, writable=True)) as catalog:
        [row] = catalog.encoders()
        snapshot = snapshots.current(catalog, row.id)
        assert snapshot is not None
        (library.path / snapshot.file.name).unlink()
        with catalog.transaction():
            catalog.conn.execute("UPDATE embeddings SET seq = seq + 1000")
            catalog.conn.execute("DELETE FROM snapshots")
        again = snapshots.publish(catalog, row)
        assert again.file.name == snapshot.file.name
    assert [hit.id for hit in library.query("a cat", k=1, options=QueryOptions(explain=False)).hits] == [before.id]


def test_damage_inside_the_catalog_is_known_as_such(library: Library) -> None:
    library.close()
    catalog = library.path / "catalog.db"
    data = bytearray(catalog.read_bytes())
    data[3 * 16384 :] = os.urandom(len(data) - 3 * 16384)
    catalog.write_bytes(data)
    library = Library(library.path)
    with pytest.raises(DamagedError, match="doctor"):
        library.query("a cat")
    with pytest.raises(DamagedError):
        library.index()
    assert "problem" in {finding.level for finding in library.doctor()}


def test_a_cache_with_rubbish_in_it_costs_no_answer(library: Library) -> None:
    before = library.query("a cat", k=1, options=QueryOptions(relevant=False)).hits
    with sqlite3.connect(library.path / "cache.db") as cache:
        cache.execute("UPDATE texts SET vector = x'0102'")
        cache.execute("INSERT INTO facts SELECT fingerprint, 'background', 3, x'00' FROM texts LIMIT 1")
        cache.execute("INSERT INTO checked SELECT sha, '7' FROM (SELECT 'x' AS sha)")
    assert library.query("a cat", k=1).hits == before
    assert library.query("a cat", k=1, options=QueryOptions(negative=[Text("a dog")])).hits
