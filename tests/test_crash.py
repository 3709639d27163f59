"""The crash boundary: a kill loses at most the batch in hand, and whatever becomes of snapshots, answers stay right."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Drive, Shelf, draw

from clipsearch import Library
from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.lock import writer_lock
from clipsearch.errors import ClipsearchError, LockedError

HERE = Path(__file__).parent
TINY = HERE / "tinyclip" / "tiny_clip.pt"
COUNT = 200
KILLS = 20


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 small images, some of them copies of others, damaged or cut short."""
    folder = tmp_path_factory.mktemp("crash") / "photos"
    for i in range(COUNT):
        path = draw(folder / f"{i % 7}" / f"{i:03}.png", i - i % 10 if i % 10 == 9 else i, side=80)
        if i % 40 == 5:
            path.write_bytes(b"damaged" + bytes([i]))
        if i % 40 == 15:
            path.write_bytes(path.read_bytes()[:-4000])
        os.utime(path, (1_700_000_000 + i,) * 2)
    return folder


def facts(folder: Path) -> tuple[list[Any], list[Any]]:
    """Contents and files, with nothing in them that depends on when or in which order they were found."""
    catalog = Catalog.open(folder)
    try:
        assert catalog.quick_check() == []
        columns = "digest, bytes, format, width, height, taken_at, exif, state, reason, decoder"
        contents = catalog.conn.execute(f"SELECT {columns} FROM contents ORDER BY digest").fetchall()
        files = catalog.conn.execute(
            "SELECT f.path, f.size, f.mtime_ns, f.state, c.digest FROM files f JOIN contents c ON c.id = f.content_id "
            "ORDER BY f.path"
        ).fetchall()
        return contents, files
    finally:
        catalog.close()


def vectors(folder: Path) -> dict[bytes, np.ndarray[Any, Any]]:
    catalog = Catalog.open(folder)
    try:
        rows = catalog.conn.execute(
            "SELECT c.digest, e.vector FROM embeddings e JOIN contents c ON c.id = e.content_id"
        ).fetchall()
        assert len(rows) == len({digest for digest, _ in rows})
        return {digest: np.frombuffer(vector, "<f4") for digest, vector in rows}
    finally:
        catalog.close()


def assert_equal_libraries(first: Path, second: Path, asked: list[Path]) -> None:
    assert facts(first) == facts(second)
    ours, theirs = vectors(first), vectors(second)
    assert ours.keys() == theirs.keys()
    assert max(float(np.abs(ours[digest] - theirs[digest]).max()) for digest in ours) <= 1e-6
    with Library.open(first) as one, Library.open(second) as other:
        for path in asked:
            hits = [library.query(path, k=10).hits for library in (one, other)]
            assert [hit.paths for hit in hits[0]] == [hit.paths for hit in hits[1]]
            assert [hit.score for hit in hits[0]] == pytest.approx([hit.score for hit in hits[1]], abs=1e-6)


def test_an_index_run_that_is_killed_twenty_times_ends_as_one_that_is_not(
    cli: Any, photos: Path, tmp_path: Path
) -> None:
    """The true program with a CLIP checkpoint; killed while it makes the library, scans, encodes and publishes."""
    arguments = ("index", photos, "--batch-size", "4", "--model", TINY)
    cli("index", photos / "0", "--index", tmp_path / "warm", "--model", TINY, cwd=tmp_path)  # towers are made once
    began = time.monotonic()
    ran = cli(*arguments, "--index", tmp_path / "whole", cwd=tmp_path)
    duration = time.monotonic() - began
    assert ran.code == 3, ran.err  # some are damaged
    rng = random.Random(1)
    library = tmp_path / "killed"
    kills = seen = 0
    while kills < KILLS:
        process = cli.start(*arguments, "--index", library, cwd=tmp_path)
        time.sleep(rng.uniform(0.2, 1.0) * duration)
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            grown = count_vectors(library)
            assert grown >= seen
            seen = grown
        else:  # it was done before the signal came: begin anew
            assert process.returncode in (0, 3)
            shutil.rmtree(library)
            seen = 0
    ran = cli(*arguments, "--index", library, cwd=tmp_path)
    assert ran.code in (0, 3), ran.err
    asked = [photos / "0" / "000.png", photos / "1" / "001.png", photos / "2" / "177.png"]
    assert_equal_libraries(tmp_path / "whole", library, asked)
    leftovers = [p.name for p in library.iterdir() if p.name.endswith(".tmp") or p.name == "catalog.new"]
    assert leftovers == []
    assert len(list(library.glob("*.faiss"))) <= 2


def count_vectors(library: Path) -> int:
    """What a query would find while nobody writes; 0 where the library is not even made."""
    if not (library / "catalog.db").exists():
        return 0
    return len(vectors(library))


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from helpers import Shelf
Shelf(Path(sys.argv[2])).index(Path(sys.argv[3]), batch_size=3)
"""


def script(library: Path, photos: Path) -> list[str]:
    return [sys.executable, "-c", SCRIPT, str(HERE), str(library), str(photos)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}


def test_kills_between_any_two_commits_lose_nothing_that_was_committed(photos: Path, tmp_path: Path) -> None:
    """Killed as soon as so many vectors can be seen, so that no phase of the writing is spared."""
    whole = Shelf(tmp_path / "whole")
    whole.index(photos, batch_size=3)
    killed = Shelf(tmp_path / "killed")
    total = whole.vectors()
    for i in range(1, KILLS + 1):
        process = subprocess.Popen(script(killed.folder, photos), env=environment())
        goal = i * total // (KILLS + 1)
        while process.poll() is None and killed.vectors() < goal:
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert killed.vectors() >= goal
    killed.index(photos)
    assert facts(killed.folder) == facts(whole.folder)
    ours, theirs = vectors(killed.folder), vectors(whole.folder)
    assert all(np.array_equal(ours[digest], theirs[digest]) for digest in theirs)
    assert killed.index().opened == 0


def test_a_stop_keeps_what_was_encoded(photos: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "library")
    asked = iter([False] * 60 + [True] * 10_000)
    report = shelf.index(photos, batch_size=4, stop=lambda: next(asked))
    assert report.interrupted
    assert 0 < report.encoded == shelf.vectors() < COUNT
    assert report.published  # what there is can be searched
    rest = shelf.index()
    assert not rest.interrupted
    assert rest.encoded + report.encoded == shelf.vectors()
    whole = Shelf(tmp_path / "whole")
    whole.index(photos)
    assert facts(shelf.folder) == facts(whole.folder)


def test_ctrl_c_says_what_is_done_and_how_to_go_on(cli: Any, photos: Path, tmp_path: Path) -> None:
    arguments = ("index", photos, "--index", tmp_path / "library", "--model", TINY, "--batch-size", "1")
    process = cli.start(*arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while count_vectors(tmp_path / "library") < 10 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert b"clipsearch index" in err
    kept = count_vectors(tmp_path / "library")
    assert kept >= 10
    ran = cli("index", "--index", tmp_path / "library", "--json", cwd=tmp_path)
    assert ran.json["encoded"] + kept == count_vectors(tmp_path / "library")


def test_a_query_during_an_index_run_answers(photos: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "library")
    process = subprocess.Popen(script(shelf.folder, photos), env=environment())
    counts = []
    while process.poll() is None:
        counts.append(len(shelf.hits()))
    assert process.returncode == 0
    assert counts == sorted(counts)
    assert len(set(counts)) > 2  # it grew under our eyes


# Snapshots that are not what they were


@pytest.fixture
def shelf(photos: Path, tmp_path: Path) -> Shelf:
    """A library with a snapshot and a tail."""
    shelf = Shelf(tmp_path / "library")
    assert shelf.index(photos).published
    draw(tmp_path / "more" / "tail.png", 7000)
    assert not shelf.index(tmp_path / "more").published
    return shelf


def delete(path: Path) -> None:
    path.unlink()


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def replace_by_another_librarys(path: Path) -> None:
    """One that FAISS opens without complaint: of the same shape, with other vectors."""
    other = Shelf(path.parent.parent / "foreign")
    folder = path.parent.parent / "foreign photos"
    for i in range(50):
        draw(folder / f"{i}.png", 9000 + i)
    other.index(folder)
    [foreign] = other.folder.glob("*.faiss")
    shutil.copyfile(foreign, path)


@pytest.mark.parametrize("damage", [delete, flip_a_bit, cut, empty, replace_by_another_librarys])
def test_a_snapshot_that_is_not_what_was_published_changes_no_answer(shelf: Shelf, photos: Path, damage: Any) -> None:
    asked = [photos / "0" / "000.png", photos / "3" / "003.png", shelf.folder.parent / "more" / "tail.png"]
    before = [shelf.hits(path, k=10) for path in asked]
    assert all(len(hits) == 10 for hits in before)
    [snapshot] = shelf.folder.glob("*.faiss")
    damage(snapshot)
    assert [shelf.hits(path, k=10) for path in asked] == before
    report = shelf.index()
    assert (report.published, report.encoded, report.opened) == (True, 0, 0)
    catalog = Catalog.open(shelf.folder)
    try:
        from clipsearch.catalog import snapshots

        [row] = [snapshots.current(catalog, 1)]
        assert row is not None
        snapshots.check(catalog, row)
    finally:
        catalog.close()
    assert [shelf.hits(path, k=10) for path in asked] == before


def test_a_lost_snapshot_is_told_once_per_query(cli: Any, photos: Path, tmp_path: Path) -> None:
    ran = cli("index", photos, "--index", tmp_path / "library", "--model", TINY, cwd=tmp_path)
    assert ran.code == 3
    query = ("query", "a red circle", "--index", tmp_path / "library")
    before = cli(*query, cwd=tmp_path)
    assert before.err == ""
    [snapshot] = (tmp_path / "library").glob("*.faiss")
    snapshot.unlink()
    after = cli(*query, cwd=tmp_path)
    assert (after.code, after.out) == (0, before.out)
    assert after.err.count(snapshot.name) == 1
    assert cli("index", "--index", tmp_path / "library", cwd=tmp_path).code == 0
    assert cli(*query, cwd=tmp_path).err == ""


def test_a_snapshot_whose_time_changed_is_still_trusted(shelf: Shelf, photos: Path) -> None:
    """Copied with the library to another disk, say: its hash is taken once, and no snapshot is written."""
    [snapshot] = shelf.folder.glob("*.faiss")
    os.utime(snapshot, (1_000_000_000,) * 2)
    about = snapshot.stat()
    before = [about.st_size, about.st_mtime_ns, about.st_ino]
    assert shelf.index().published is False
    about = snapshot.stat()
    assert [about.st_size, about.st_mtime_ns, about.st_ino] == before
    assert shelf.rows("SELECT stat FROM snapshots") == [(str(before),)]


# Full disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if not Drive.possible("tmpfs"):
        pytest.skip("a disk that can be filled needs the right to mount one")
    (tmp_path / "parent").mkdir()
    made = Drive("tmpfs", tmp_path / "parent" / "disk")
    try:
        yield made.at
    finally:
        made.remove()


def fill(disk: Path, *, leave: int) -> Path:
    ballast = disk / "ballast"
    about = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(bytes(max(0, about.f_bavail * about.f_frsize - leave)))
    return ballast


def test_a_disk_that_fills_up_before_publication_costs_no_vector(disk: Path, photos: Path) -> None:
    shelf = Shelf(disk / "library")

    def full(progress: Any) -> None:
        if progress.stage == "publishing" and not (disk / "ballast").exists():
            fill(disk, leave=20_000)

    report = shelf.index(photos, progress=full)
    assert not report.published
    assert len(report.notices) == 1
    assert "cannot write the vector index" in report.notices[0]
    assert report.encoded == shelf.vectors() > 100
    assert shelf.hits(photos / "0" / "000.png", k=1) == [str(photos / "0" / "000.png")]
    (disk / "ballast").unlink()
    report = shelf.index()
    assert (report.published, report.opened, report.notices) == (True, 0, ())


def test_a_disk_that_fills_up_during_a_run_keeps_what_was_committed(disk: Path, photos: Path) -> None:
    shelf = Shelf(disk / "library")
    ballast = fill(disk, leave=600_000)
    with pytest.raises(ClipsearchError, match="what was committed before is safe"):
        shelf.index(photos, batch_size=4)
    kept = shelf.vectors()
    assert 0 < kept < 150
    ballast.unlink()
    report = shelf.index()
    assert report.encoded + kept == shelf.vectors()
    assert facts(shelf.folder)[1]


# One writer


def test_the_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from clipsearch.catalog.lock import writer_lock\n"
        "with writer_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=str(process.pid)) as caught, writer_lock(tmp_path / "lock"):
            raise AssertionError("two writers at once")
        assert (caught.value.pid, caught.value.exit_code) == (process.pid, 75)
    finally:
        process.kill()
        process.communicate()
    with writer_lock(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_writer_can_wait_for_the_other_one(photos: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with writer_lock(tmp_path / "lock"):
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path; from clipsearch.catalog.lock import writer_lock\n"
                "with writer_lock(Path(sys.argv[1]), wait=True): print('mine')",
                str(tmp_path / "lock"),
            ],
            stdout=subprocess.PIPE,
            env=environment(),
        )
        time.sleep(1)
        assert process.poll() is None
    out, _ = process.communicate(timeout=60)
    assert out == b"mine\n"
    assert time.monotonic() - began >= 1


def test_a_library_whose_making_was_killed_is_made_anew(tmp_path: Path) -> None:
    """What such a kill leaves behind is a folder with a half-made catalog beside the place of the real one."""
    library = tmp_path / "library"
    (library / "catalog.new").mkdir(parents=True)
    Catalog.create(library / "catalog.new").conn.close()
    (library / "catalog.db-wal").write_bytes(b"of a catalog that is gone")
    assert not Library(library).exists
    draw(tmp_path / "photos" / "a.png")
    with Library.create(library, model="builtin") as made:
        assert made.info().encoders[0].role == "answering"
    assert not (library / "catalog.new").exists()
    catalog = Catalog.open(library)
    assert catalog.quick_check() == []
    catalog.close()
