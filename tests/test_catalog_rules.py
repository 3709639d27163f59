"""The catalog's rules, one test each: what is read, what is remembered, and what is missing or merely away."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import Drive, Shelf, TinyEncoder, age, draw, without_privileges
from numpy.typing import NDArray
from PIL import Image

from clipsearch import Library
from clipsearch.catalog.catalog import Catalog
from clipsearch.errors import UsageError
from clipsearch.images import worker
from clipsearch.indexing import filesystems, reader
from clipsearch.indexing.results import IndexReport, Progress, Unreachable
from clipsearch.library.doctor import doctor
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Indexed


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "library")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(5):
        draw(tmp_path / "photos" / f"{i}.png", i)
    return tmp_path / "photos"


@pytest.fixture(params=["tmpfs", "bind", "link"])
def drive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Drive]:
    """A drive at photos/drive."""
    if not Drive.possible(request.param):
        pytest.skip("this machine lets nobody mount; the link to another device tests the same rules")
    (tmp_path / "photos").mkdir()
    made = Drive(request.param, tmp_path / "photos" / "drive")
    try:
        yield made
    finally:
        made.remove()


def opened(report: IndexReport) -> tuple[int, int]:
    return report.opened, report.encoded


# What is opened


def test_unchanged_files_are_not_opened(shelf: Shelf, photos: Path) -> None:
    assert opened(shelf.index(photos)) == (5, 5)
    loaded = shelf.loaded
    report = shelf.index()
    assert opened(report) == (0, 0)
    assert (report.unchanged, report.indexed, report.failed) == (5, 0, ())
    assert shelf.loaded == loaded


def test_unchanged_files_need_not_even_be_readable(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    for path in photos.iterdir():
        os.chmod(path, 0)
    with without_privileges():
        report = shelf.index()
    assert (report.unchanged, report.failed) == (5, ())


@pytest.mark.skipif(shutil.which("strace") is None, reason="counts by itself elsewhere; strace is the second witness")
def test_the_kernel_agrees_that_nothing_is_opened(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from helpers import Shelf; from pathlib import Path\n"
        "assert Shelf(Path(sys.argv[2])).index().unchanged == 5"
    )
    log = tmp_path / "strace"
    command = ["strace", "-f", "-e", "trace=openat,open", "-o", str(log), sys.executable, "-c", code]
    subprocess.run([*command, str(Path(__file__).parent), str(shelf.folder)], check=True, env=environment())
    calls = log.read_text()
    assert f'"{photos}"' in calls  # the folder was listed
    assert f"{photos}/" not in calls


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "2"}


def test_a_second_run_loads_no_model_and_no_heavy_package(tmp_path: Path) -> None:
    """Through the library itself, with the built-in encoder, in a process of its own."""
    draw(tmp_path / "photos" / "a.png")
    with Library.create(tmp_path / "library", model="builtin") as library:
        assert library.index([tmp_path / "photos"]).encoded == 1
    code = (
        "import sys; from clipsearch import Library\n"
        "report = Library.open(sys.argv[1]).index()\n"
        "heavy = {'torch', 'open_clip', 'onnxruntime', 'faiss', 'PIL', 'numpy', 'transformers', 'sqlite_utils'}\n"
        "print(report.unchanged, report.opened, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "library")], capture_output=True, text=True, env=environment()
    )
    assert (done.stdout.strip(), done.stderr) == ("1 0 []", "")


def test_a_changed_file_is_read_again(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    draw(photos / "0.png", 100)
    age(photos / "0.png", 5)
    report = shelf.index()
    assert (report.indexed, report.unchanged, report.opened) == (1, 4, 1)
    assert len(shelf.hits()) == 5


def test_a_touched_file_is_read_but_not_encoded(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    age(photos / "0.png", 60)
    report = shelf.index()
    assert (report.opened, report.encoded, report.unchanged) == (1, 0, 5)
    assert shelf.index().opened == 0


def test_a_file_written_just_before_it_was_read_is_looked_at_again(shelf: Shelf, photos: Path) -> None:
    """Its time may not tell of a second write within the same tick of the clock."""
    os.utime(photos / "0.png")
    shelf.index(photos)
    seen = (photos / "0.png").stat()
    draw(photos / "other.png", 50)
    data = (photos / "other.png").read_bytes()
    (photos / "other.png").unlink()
    assert len(data) == seen.st_size  # a change that neither size nor time tells of
    (photos / "0.png").write_bytes(data)
    os.utime(photos / "0.png", ns=(seen.st_mtime_ns, seen.st_mtime_ns))
    report = shelf.index()
    assert (report.opened, report.indexed) == (1, 1)
    age(photos / "0.png", -5)
    assert shelf.index().opened == 1
    assert shelf.index().opened == 0


def test_a_file_from_the_far_future_is_not_read_over_and_over(shelf: Shelf, photos: Path) -> None:
    os.utime(photos / "0.png", (time.time() + 10 * 365 * 86400,) * 2)
    shelf.index(photos)
    assert shelf.index().opened == 0


def test_rehash_reads_everything_and_encodes_what_changed_unseen(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    draw(photos / "0.png", 50)  # same size, same modification time
    forget_change_times(shelf)
    assert shelf.index().unchanged == 5
    report = shelf.index(rehash=True)
    assert (report.opened, report.encoded, report.indexed, report.unchanged) == (5, 1, 1, 4)


def forget_change_times(shelf: Shelf) -> None:
    """As if an earlier version had made the library, or its files were on a network drive."""
    with contextlib.closing(Catalog.open(shelf.folder, writable=True)) as catalog, catalog.transaction():
        catalog.conn.execute("UPDATE files SET ctime_ns = NULL")


def test_a_change_that_keeps_size_and_time_is_noticed(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    draw(photos / "0.png", 50)
    report = shelf.index()
    assert (report.opened, report.encoded, report.indexed, report.unchanged) == (1, 1, 1, 4)
    assert shelf.index().opened == 0


def test_files_whose_mode_or_links_changed_are_hashed_once_and_not_decoded(
    shelf: Shelf, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.index(photos)
    before = (
        shelf.rows("SELECT path, content_id, size, mtime_ns, state FROM files"),
        shelf.rows("SELECT * FROM contents"),
    )
    os.chmod(photos / "0.png", 0o600)
    os.link(photos / "1.png", photos.parent / "kept")
    monkeypatch.setattr(worker, "open_image", None)  # Whoever decodes fails.
    for opened_now in (2, 0):
        report = shelf.index(workers=None)
        assert (report.opened, report.unchanged, report.encoded, report.reread) == (opened_now, 5, 0, 0)
    now = shelf.rows("SELECT path, content_id, size, mtime_ns, state FROM files"), shelf.rows("SELECT * FROM contents")
    assert before == now


def test_a_failure_whose_mode_changed_is_not_reported_again(shelf: Shelf, photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    age(photos / "bad.jpg")
    shelf.index(photos)
    os.chmod(photos / "bad.jpg", 0o600)
    report = shelf.index()
    assert (report.opened, report.failed, report.failed_before) == (1, (), 1)
    assert shelf.index().opened == 0


def test_a_folder_that_was_renamed_and_back_is_not_read(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos)
    photos.rename(tmp_path / "other").rename(photos)
    assert shelf.index().opened == 0


def test_rows_of_an_earlier_version_take_the_change_time_without_reading(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    forget_change_times(shelf)
    assert shelf.index(preview=True).unchanged == 5
    assert shelf.index().opened == 0
    assert {time for (time,) in shelf.rows("SELECT ctime_ns FROM files")} == {
        path.stat().st_ctime_ns for path in photos.iterdir()
    }
    draw(photos / "0.png", 50)
    assert shelf.index().indexed == 1


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "vfat", "unknown"])
def test_change_times_of_other_than_local_file_systems_are_not_believed(
    shelf: Shelf, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = str(photos).replace(photos.name, "with blank").replace(" ", "\\040")
    photos = photos.rename(tmp_path / "with blank")
    mounts = tmp_path / "mounts"
    lines = ["1 0 8:1 / / rw - ext4 /dev/sda rw", f"2 1 0:9 / {place} rw shared:7 - {kind} server:/x rw"]
    mounts.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(filesystems, "_MOUNTS", str(mounts))
    os.link(photos / "0.png", photos / "link.png")
    assert shelf.index(photos).opened == 6
    os.chmod(photos / "0.png", 0o600)
    assert shelf.index().opened == 0
    mounts.write_text(lines[0] + "\n")
    assert shelf.index().opened == 0  # it takes the times of now
    os.chmod(photos / "1.png", 0o600)
    assert shelf.index().opened == 1


# Hard links


@pytest.fixture
def linked(photos: Path) -> Path:
    for i in range(3):
        os.link(photos / f"{i}.png", photos / f"a link to {i}.png")
        (photos / "zoo").mkdir(exist_ok=True)
        os.link(photos / f"{i}.png", photos / "zoo" / f"link {i}.png")
    return photos


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_file_with_several_names_is_read_once(shelf: Shelf, linked: Path, batch_size: int) -> None:
    report = shelf.index(linked, batch_size=batch_size)
    assert (report.opened, report.encoded, report.indexed, report.copied, report.unchanged) == (5, 5, 5, 6, 0)
    assert len(shelf.states()) == 11 and len(shelf.hits()) == 5
    assert opened(shelf.index()) == (0, 0)
    for i in range(3):
        os.chmod(linked / f"{i}.png", 0o600)
    report = shelf.index()
    assert (report.opened, report.unchanged) == (3, 11)
    assert (shelf.index(rehash=True).opened, shelf.index().opened) == (5, 0)


def test_a_new_name_of_a_known_file_is_a_copy(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    os.link(photos / "0.png", photos / "also.png")
    report = shelf.index()
    assert (report.opened, report.copied, report.unchanged, report.encoded) == (1, 1, 5, 0)


def test_a_failure_under_several_names_is_one_under_each(shelf: Shelf, photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    age(photos / "bad.jpg")
    os.link(photos / "bad.jpg", photos / "worse.jpg")
    report = shelf.index(photos)
    assert ([Path(p.path).name for p in report.failed], report.opened) == (["bad.jpg", "worse.jpg"], 6)
    assert shelf.index().failed_before == 2


def test_a_name_that_is_lost_before_it_is_read_leaves_the_others_to_the_next_run(shelf: Shelf, linked: Path) -> None:
    for i in range(30):
        draw(linked / f"0{i:02}.png", 300 + i)

    def lose(progress: Progress) -> None:
        if progress.stage == "encoding":
            (linked / "2.png").unlink(missing_ok=True)

    report = shelf.index(linked, progress=lose, batch_size=2, workers=None)
    assert len(report.failed) == 1 and len(report.changing) == 2
    report = shelf.index()
    assert (report.indexed, report.copied, report.failed) == (1, 1, ())


def test_names_of_one_file_get_a_new_encoders_vectors_at_once(shelf: Shelf, linked: Path) -> None:
    shelf.index(linked)
    report = shelf.index(encoder=TinyEncoder("other"))
    assert (report.opened, report.encoded, report.switched) == (5, 5, True)
    assert report.indexed + report.unchanged == 11


# Moved, copied, restored


def test_a_moved_file_is_not_encoded(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    ids = shelf.rows("SELECT id FROM contents ORDER BY id")
    (photos / "new").mkdir()
    (photos / "0.png").rename(photos / "new" / "name.png")
    report = shelf.index()
    assert (report.moved, report.encoded, report.missing, report.unchanged) == (1, 0, 0, 4)
    assert shelf.rows("SELECT id FROM contents ORDER BY id") == ids
    assert str(photos / "new" / "name.png") in shelf.states()
    assert str(photos / "0.png") not in shelf.states()


def test_a_file_moved_between_roots_is_moved(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    draw(tmp_path / "before" / "x.png", 40)  # before and behind the other root in the order of paths
    draw(tmp_path / "zoo" / "y.png", 41)
    shelf.index(photos, tmp_path / "before", tmp_path / "zoo")
    (photos / "0.png").rename(tmp_path / "before" / "0.png")
    (photos / "1.png").rename(tmp_path / "zoo" / "1.png")
    report = shelf.index()
    assert (report.moved, report.encoded, report.missing, report.copied) == (2, 0, 0, 0)


def test_a_file_that_moved_after_it_went_missing_is_moved(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos)
    (photos / "0.png").rename(tmp_path / "0.png")
    assert shelf.index().missing == 1
    assert len(shelf.hits()) == 4
    (tmp_path / "0.png").rename(photos / "again.png")
    report = shelf.index()
    assert (report.moved, report.encoded) == (1, 0)
    assert "missing" not in shelf.states().values()


def test_a_copied_file_is_not_encoded_and_folds_into_one_hit(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    shutil.copy2(photos / "0.png", photos / "copy.png")
    report = shelf.index()
    assert (report.copied, report.encoded, report.indexed) == (1, 0, 0)
    assert len(shelf.hits()) == 5


def test_copies_met_in_one_run_are_encoded_once(shelf: Shelf, photos: Path) -> None:
    """Within a batch, and across batches that were decoded ahead of the first one's commit."""
    for i in range(40):
        shutil.copy2(photos / "0.png", photos / f"copy-{i:02}.png")
    report = shelf.index(photos, batch_size=4)
    assert (report.encoded, report.indexed, report.copied) == (5, 5, 40)
    assert shelf.encoder.encoded == 5


def test_two_files_that_swap_names_lose_nothing(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    first, second = photos / "0.png", photos / "1.png"
    before = {path: nearest(shelf, path) for path in (first, second)}
    assert before == {first: [str(first)], second: [str(second)]}
    first.rename(photos / "x")
    second.rename(first)
    (photos / "x").rename(second)
    age(first, 7)
    age(second, 8)
    report = shelf.index()
    assert (report.encoded, report.missing) == (0, 0)
    assert nearest(shelf, first) == [str(first)]


def nearest(shelf: Shelf, image: Path) -> list[str]:
    return shelf.hits(image, k=1)


def test_a_deleted_file_is_missing_and_comes_back_without_being_read(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    kept = (photos / "0.png").read_bytes()
    (photos / "0.png").unlink()
    report = shelf.index()
    assert (report.missing, report.unchanged) == (1, 4)
    assert len(shelf.hits()) == 4
    assert shelf.index().missing == 0  # told once
    (photos / "0.png").write_bytes(kept)
    age(photos / "0.png")
    report = shelf.index()
    assert (report.restored, report.opened) == (1, 0)
    assert len(shelf.hits()) == 5


def test_a_missing_file_that_comes_back_with_another_time_is_restored_too(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    kept = (photos / "0.png").read_bytes()
    (photos / "0.png").unlink()
    shelf.index()
    (photos / "0.png").write_bytes(kept)
    age(photos / "0.png", 99)
    report = shelf.index()
    assert (report.restored, report.opened, report.encoded) == (1, 1, 0)


@pytest.mark.parametrize("between", [0, 60])
@pytest.mark.parametrize("state", ["missing", "offline"])
def test_a_file_that_returns_beside_a_new_copy_of_it_is_present(
    shelf: Shelf, photos: Path, tmp_path: Path, between: int, state: str
) -> None:
    """Whether the copy was encoded long before it is its turn, or in the same batch."""
    away = draw(tmp_path / "zoo" / "x.png", 90)
    shelf.index(photos, away.parent)
    if state == "missing":
        draw(away.parent / "y.png", 91)
    away.rename(tmp_path / "x.png")
    if state == "missing":
        shelf.index()
    shelf.index()
    assert shelf.states()[str(away)] == state
    shutil.copy2(tmp_path / "x.png", photos / "copy.png")
    for i in range(between):
        draw(photos / "more" / f"{i}.png", 200 + i)
    (tmp_path / "x.png").rename(away)
    before = len(shelf.states())
    report = shelf.index(encoder=TinyEncoder("other"), batch_size=2)
    assert (report.restored, report.moved, report.missing, report.offline) == (1, 0, 0, 0)
    assert set(shelf.states().values()) == {"present"}
    assert len(shelf.states()) == before + 1 + between
    assert shelf.index().unchanged == before + 1 + between


# Missing or offline


def test_a_vanished_root_leaves_its_files_offline(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos)
    photos.rename(tmp_path / "away")
    report = shelf.index()
    assert (report.offline, report.missing) == (5, 0)
    assert report.unreachable == (Unreachable(str(photos), 5, "gone"),)
    assert set(shelf.states().values()) == {"offline"}
    assert len(shelf.hits()) == 5
    (tmp_path / "away").rename(photos)
    report = shelf.index()
    assert (report.restored, report.opened) == (5, 0)


def test_an_emptied_root_leaves_its_files_offline(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    for path in photos.iterdir():
        path.unlink()
    report = shelf.index()
    assert (report.offline, report.unreachable) == (5, (Unreachable(str(photos), 5, "empty"),))


def test_a_root_that_may_not_be_read_leaves_its_files_offline(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    os.chmod(photos, 0)
    with without_privileges():
        report = shelf.index()
    os.chmod(photos, 0o755)
    assert (report.offline, report.missing) == (5, 0)
    assert [p.path for p in report.failed] == [str(photos)]
    assert shelf.index().restored == 5


def test_an_unreadable_folder_inside_leaves_its_files_offline(shelf: Shelf, photos: Path) -> None:
    draw(photos / "sub" / "deep" / "x.png", 20)
    shelf.index(photos)
    os.chmod(photos / "sub", 0)
    (photos / "0.png").unlink()
    with without_privileges():
        report = shelf.index()
    os.chmod(photos / "sub", 0o755)
    assert (report.offline, report.missing) == (1, 1)


@pytest.mark.parametrize("removed", ["sub/deep", "sub"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_that_was_emptied_or_removed_has_missing_files(
    shelf: Shelf, photos: Path, removed: str, empty: bool
) -> None:
    """Only a root, and a folder that was a mount point, may be one whose drive is away."""
    for i in range(4):
        draw(photos / "sub" / "deep" / f"{i}.png", 20 + i)
    shelf.index(photos)
    kept = (photos / removed).rename(photos.parent / "kept")
    if empty:
        (photos / removed).mkdir()
    for preview in (True, False):
        report = shelf.index(preview=preview)
        assert (report.offline, report.missing, report.unreachable) == (0, 4, ())
    assert len(shelf.hits()) == 5
    if empty:
        (photos / removed).rmdir()
    kept.rename(photos / removed)
    report = shelf.index()
    assert (report.restored, report.opened) == (4, 0)


def test_a_folder_that_was_emptied_by_moving_its_files_has_missing_ones(shelf: Shelf, photos: Path) -> None:
    for i in range(4):
        draw(photos / "sub" / f"{i}.png", 20 + i)
    shelf.index(photos)
    for i in range(3):
        (photos / "sub" / f"{i}.png").rename(photos / f"moved-{i}.png")
    (photos / "sub" / "3.png").unlink()
    report = shelf.index()
    assert (report.moved, report.missing, report.offline) == (3, 1, 0)


def test_an_unplugged_drive_inside_a_root_marks_nothing_missing(shelf: Shelf, drive: Drive) -> None:
    photos = drive.at.parent
    draw(photos / "own.png", 1)
    for i in range(3):
        draw(drive.at / "sub" / f"{i}.png", 10 + i)
    assert shelf.index(photos, follow=True).indexed == 4
    drive.unplug()
    if drive.kind != "link":
        draw(drive.at / "beneath.png", 30)  # the folder below the mount point isn't even empty
    (photos / "own.png").unlink()
    draw(photos / "another.png", 31)
    report = shelf.index()
    assert (report.offline, report.missing) == (3, 1)
    assert shelf.index().offline == 3  # still, and the mount point is still known
    if drive.kind != "link":
        (drive.at / "beneath.png").unlink()
    drive.plug()
    report = shelf.index()
    assert (report.restored, report.opened) == (3, 0)
    (drive.at / "sub" / "0.png").unlink()
    report = shelf.index()
    assert (report.missing, report.offline) == (1, 0)


def test_an_unplugged_drive_is_told_from_a_deleted_folder(shelf: Shelf, drive: Drive) -> None:
    photos = drive.at.parent
    draw(photos / "own.png", 1)
    draw(photos / "sub" / "x.png", 2)
    draw(drive.at / "deep" / "y.png", 3)
    shelf.index(photos, follow=True)
    drive.unplug()
    shutil.rmtree(photos / "sub")
    for preview in (True, False):
        report = shelf.index(preview=preview)
        assert (report.offline, report.missing) == (1, 1)
        why = "empty" if drive.kind != "link" else "gone"
        assert report.unreachable == (Unreachable(str(drive.at), 1, why),)
    if drive.kind != "link":
        (drive.at / "left-behind.txt").touch()
        assert shelf.index().unreachable == (Unreachable(str(drive.at), 1, "unmounted"),)
        (drive.at / "left-behind.txt").unlink()
    away = photos.rename(photos.parent / "away")
    assert shelf.index().unreachable == (Unreachable(str(photos), 2, "gone"),)
    away.rename(photos)
    drive.plug()
    assert shelf.index().restored == 2
    shutil.rmtree(drive.at / "deep")
    draw(drive.at / "other.png", 4)
    report = shelf.index()
    assert (report.offline, report.missing) == (0, 1)


def test_a_drive_is_remembered_by_a_run_over_it_alone_and_by_one_that_was_stopped(shelf: Shelf, drive: Drive) -> None:
    photos = drive.at.parent
    draw(photos / "own.png", 1)
    shelf.index(photos, follow=True)
    for i in range(3):
        draw(drive.at / "sub" / f"{i}.png", 10 + i)
    shelf.index(drive.at / "sub" if drive.kind != "link" else photos)
    for i in range(3, 9):
        draw(drive.at / "sub" / f"{i}.png", 10 + i)
    drive.unplug()
    report = shelf.index()
    assert (report.offline, report.missing) == (3, 0)


def test_a_drive_that_only_a_stopped_run_has_seen_is_known_as_one(shelf: Shelf, drive: Drive) -> None:
    photos = drive.at.parent
    draw(photos / "own.png", 1)
    for i in range(30):
        draw(drive.at / f"{i}.png", 10 + i)
    answers = iter([False] * 12 + [True] * 1000)
    report = shelf.index(photos, follow=True, stop=lambda: next(answers), batch_size=2)
    assert report.interrupted and report.indexed > 1
    drive.unplug()
    report = shelf.index()
    assert report.offline > 0 and report.missing == 0


def test_a_root_on_a_drive_is_offline_with_it(shelf: Shelf, drive: Drive) -> None:
    """Even where a folder of that name is there without the drive."""
    root = drive.at / "pictures"
    draw(root / "a.png", 1)
    draw(root / "b.png", 2)
    shelf.index(root)
    drive.unplug()
    if drive.kind != "link":
        draw(root / "left-behind.png", 3)
    report = shelf.index()
    assert (report.offline, report.missing) == (2, 0)
    if drive.kind != "link":
        shutil.rmtree(root)
    drive.plug()
    report = shelf.index()
    assert (report.restored, report.opened) == (2, 0)


def test_a_file_found_on_another_drive_is_a_copy_of_the_one_away(shelf: Shelf, drive: Drive) -> None:
    photos = drive.at.parent
    draw(photos / "own.png", 1)
    draw(drive.at / "a.png", 10)
    shelf.index(photos, follow=True)
    drive.unplug()
    draw(photos / "backup.png", 10)
    report = shelf.index()
    assert (report.copied, report.moved, report.offline, report.encoded) == (1, 0, 1, 0)
    drive.plug()
    assert shelf.index().restored == 1
    assert len(shelf.hits()) == 2


def test_files_that_moved_from_a_drive_to_its_folder_are_judged_as_plain_ones(shelf: Shelf, drive: Drive) -> None:
    """A mount point that is none any more is forgotten once nothing is offline below it."""
    photos = drive.at.parent
    draw(photos / "own.png", 1)
    draw(drive.at / "a.png", 10)
    draw(drive.at / "b.png", 11)
    shelf.index(photos, follow=True)
    drive.unplug()
    if drive.kind == "link":
        drive.at.unlink()
    draw(drive.at / "a.png", 10)
    draw(drive.at / "b.png", 11)
    assert shelf.index().unchanged == 3
    (drive.at / "a.png").unlink()
    report = shelf.index()
    assert (report.missing, report.offline) == (1, 0)


def test_offline_files_are_never_pruned(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    from clipsearch.library.maintenance import prune

    shelf.index(photos)
    (photos / "0.png").unlink()
    shelf.index()
    photos.rename(tmp_path / "away")
    shelf.index()
    catalog = Catalog.open(shelf.folder, writable=True)
    try:
        prune(catalog)
    finally:
        catalog.close()
    assert list(shelf.states().values()) == ["offline"] * 4
    assert len(shelf.hits()) == 4


def test_the_first_path_of_a_hit_is_one_that_is_there(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    draw(tmp_path / "aaa" / "x.png", 0)
    shelf.index(tmp_path / "aaa", photos)
    shutil.rmtree(tmp_path / "aaa")
    shelf.index()
    assert nearest(shelf, photos / "0.png") == [str(photos / "0.png")]


class Interrupting(TinyEncoder):
    """Does something once the first few images are encoded."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.encoded <= 4 < self.encoded + len(batch):
            self._act()
        return super().encode_images(batch)


@pytest.mark.parametrize("kind", ["root", "folder", "emptied root"])
def test_a_folder_that_disappears_during_a_run_is_reported_in_one_line(
    shelf: Shelf, photos: Path, tmp_path: Path, kind: str
) -> None:
    for i in range(120):
        draw(photos / "sub" / str(i % 3) / f"{i}.png", 10 + i)
    draw(tmp_path / "zoo" / "last.png", 300)

    def go_away() -> None:
        if kind == "emptied root":
            (tmp_path / "away").mkdir()
            for path in photos.iterdir():
                path.rename(tmp_path / "away" / path.name)
        else:
            (photos if kind == "root" else photos / "sub").rename(tmp_path / "away")

    report = shelf.index(photos, tmp_path / "zoo", encoder=Interrupting(go_away), batch_size=2, workers=None)
    [problem] = report.failed
    lost = 126 - report.indexed
    assert problem.path == str(photos / "sub" if kind == "folder" else photos)
    assert problem.reason == f"it disappeared during the run; {lost} files in it were not read"
    assert lost > 20
    assert str(tmp_path / "zoo" / "last.png") in shelf.hits()
    for path in (tmp_path / "away").iterdir() if kind == "emptied root" else ():
        path.rename(photos / path.name)
    if kind != "emptied root":
        (tmp_path / "away").rename(photos if kind == "root" else photos / "sub")
    report = shelf.index()
    assert (report.indexed, report.unchanged, report.failed) == (lost, 126 - lost, ())


def test_a_folder_that_is_closed_during_a_run_has_not_disappeared(shelf: Shelf, photos: Path) -> None:
    for i in range(60):
        draw(photos / "sub" / "deep" / f"{i}.png", 10 + i)
    closing = Interrupting(lambda: (photos / "sub").chmod(0))
    with without_privileges():
        report = shelf.index(photos, encoder=closing, batch_size=2, workers=None)
    (photos / "sub").chmod(0o755)
    assert len(report.failed) > 20
    assert {Path(problem.path).parent for problem in report.failed} == {photos / "sub" / "deep"}
    assert shelf.index().failed == ()


def test_a_drive_that_is_unplugged_during_a_run_is_reported_in_one_line(shelf: Shelf, drive: Drive) -> None:
    photos = drive.at.parent
    draw(photos / "own.png", 1)
    for i in range(120):
        draw(drive.at / "sub" / f"{i}.png", 10 + i)

    report = shelf.index(photos, follow=True, encoder=Interrupting(drive.unplug), batch_size=2, workers=None)
    [problem] = report.failed
    assert problem.path == str(drive.at)
    drive.plug()
    report = shelf.index()
    assert (report.missing, report.failed, set(shelf.states().values())) == (0, (), {"present"})


def test_a_run_that_is_stopped_judges_nothing(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    (photos / "4.png").unlink()
    for i in range(30):
        draw(photos / f"new-{i}.png", 200 + i)
    reads = iter([False] * 6 + [True] * 1000)
    report = shelf.index(stop=lambda: next(reads), batch_size=2)
    assert report.interrupted
    assert report.missing == 0
    assert shelf.index().missing == 1


# What fails


def test_a_failure_is_remembered(shelf: Shelf, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    age(photos / "bad.png")
    report = shelf.index(photos)
    assert ([p.path for p in report.failed], report.failed_before) == ([str(photos / "bad.png")], 0)
    report = shelf.index()
    assert (report.failed, report.failed_before, report.opened) == ((), 1, 0)


def test_a_failure_is_retried_when_the_limit_changes(shelf: Shelf, photos: Path) -> None:
    report = shelf.index(photos, max_pixels=100)
    assert len(report.failed) == 5
    assert "`max_pixels`" in report.failed[0].reason
    report = shelf.index()
    assert (report.indexed, report.failed) == (5, ())


def test_a_failure_is_retried_when_the_decoder_changes(
    shelf: Shelf, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    age(photos / "bad.png")
    shelf.index(photos)
    monkeypatch.setattr("clipsearch.images.open.READER_REVISION", 99)
    report = shelf.index()
    assert (len(report.failed), report.opened) == (1, 1)
    assert shelf.index().opened == 0


def test_a_copy_of_a_failed_file_has_failed_before(shelf: Shelf, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    age(photos / "bad.png")
    shelf.index(photos)
    shutil.copy2(photos / "bad.png", photos / "bad2.png")
    (photos / "bad.png").rename(photos / "bad3.png")
    report = shelf.index()
    assert (report.failed_before, report.failed, report.missing, report.copied) == (2, (), 0, 0)


def test_refused_formats_are_unsupported_not_failed(shelf: Shelf, photos: Path) -> None:
    (photos / "drawing.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    age(photos / "drawing.png")
    report = shelf.index(photos)
    assert (report.unsupported, report.failed, report.indexed) == (1, (), 5)
    report = shelf.index()
    assert (report.unsupported, report.opened) == (1, 0)


def test_files_that_may_not_be_read_are_tried_in_every_run(shelf: Shelf, photos: Path) -> None:
    os.chmod(photos / "0.png", 0)
    for _ in range(2):
        with without_privileges():
            report = shelf.index(photos)
        assert [(p.path, p.reason) for p in report.failed] == [(str(photos / "0.png"), "permission denied")]
        assert shelf.states()[str(photos / "0.png")] == "unreadable"
    os.chmod(photos / "0.png", 0o644)
    assert shelf.index().indexed == 1


def test_a_known_file_that_may_not_be_read_stays_a_hit(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    os.chmod(photos / "0.png", 0)
    age(photos / "0.png", 50)
    with without_privileges():
        assert len(shelf.index().failed) == 1
    assert len(shelf.hits()) == 5
    os.chmod(photos / "0.png", 0o644)
    report = shelf.index()
    assert (report.restored, report.encoded) == (1, 0)


def test_a_new_picture_that_takes_an_unreadable_ones_place_is_not_taken_for_it(shelf: Shelf, photos: Path) -> None:
    """It changed while it could not be read, went away with its folder, and came back: nobody has read it yet."""
    shelf.index(photos)
    draw(photos / "0.png", 70)
    age(photos / "0.png", 50)
    os.chmod(photos / "0.png", 0)
    with without_privileges():
        shelf.index()
    photos.rename(photos.with_name("away"))
    shelf.index()
    photos.with_name("away").rename(photos)
    os.chmod(photos / "0.png", 0o644)
    assert shelf.index().indexed == 1
    assert nearest(shelf, photos / "0.png") == [str(photos / "0.png")]


class Broken(TinyEncoder):
    """Its first vector of a batch is not finite."""

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        vectors = super().encode_images(batch)
        vectors[0] = float("nan")
        return vectors


def test_a_vector_that_is_not_finite_is_a_failure(shelf: Shelf, photos: Path) -> None:
    report = shelf.index(photos, encoder=Broken())
    assert (len(report.failed), report.indexed, report.encoded) == (1, 4, 4)
    assert "no finite vector" in report.failed[0].reason
    assert len(shelf.hits()) == 4
    again = shelf.index(encoder=Broken())
    assert (again.failed, again.failed_before, again.unchanged, again.opened) == ((), 1, 4, 0)
    assert any("images that got no finite vector: 1" in finding.text for finding in doctor(shelf.folder))


def test_a_vector_that_is_not_finite_fails_for_one_encoder_on_one_device(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos, encoder=Broken())
    another = shelf.index(encoder=TinyEncoder("another"))
    assert (another.failed, another.indexed, another.switched, len(shelf.hits())) == ((), 5, True, 5)
    back = shelf.index(encoder=Broken())  # It has failed there; all others are known.
    assert (back.failed_before, back.opened, back.switched) == (1, 0, True)
    assert len(shelf.hits()) == 4
    elsewhere = shelf.index(encoder=TinyEncoder(), device="cuda")
    assert (elsewhere.indexed, elsewhere.failed, len(shelf.hits())) == (1, (), 5)
    assert shelf.rows("SELECT key FROM meta WHERE key LIKE 'not_finite%'") == []


def test_an_encoder_can_fail_where_the_one_before_did_not(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)

    class Other(Broken):
        def __init__(self) -> None:
            super().__init__("other")

    report = shelf.index(encoder=Other())
    assert (len(report.failed), report.switched, report.filling_left, len(shelf.hits())) == (1, True, 0, 4)
    assert shelf.index(encoder=TinyEncoder()).switched and len(shelf.hits()) == 5


def test_an_image_that_an_older_version_blamed_is_encoded(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    catalog = Catalog.open(shelf.folder, writable=True)
    with catalog.transaction():
        catalog.conn.execute(
            "UPDATE contents SET state = 'failed', reason = 'x gave no finite vector for it' WHERE id = 1"
        )
        catalog.conn.execute("DELETE FROM embeddings WHERE content_id = 1")
        catalog.set_meta("older_failures_retried", None)  # Such a version does not know of it.
    catalog.close()
    assert (shelf.index().indexed, len(shelf.hits())) == (1, 5)


def test_one_vector_that_is_not_finite_hides_no_other_image(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    before = shelf.hits(photos / "0.png")
    catalog = Catalog.open(shelf.folder, writable=True)
    worst = os.fsencode(before[-1])
    [(content,)] = catalog.conn.execute("SELECT content_id FROM files WHERE path = ?", (worst,)).fetchall()
    bad = np.full(48, np.nan, "<f4").tobytes()
    with catalog.transaction():
        catalog.conn.execute("UPDATE embeddings SET vector = ? WHERE content_id = ?", (bad, content))
    catalog.close()
    assert shelf.hits(photos / "0.png") == before[:-1]
    [problem] = [finding for finding in doctor(shelf.folder) if finding.level == "problem"]
    assert "vectors that are not finite numbers: 1;" in problem.text


def test_one_vector_that_is_not_finite_spoils_no_other_answer(tmp_path: Path) -> None:
    for number in range(14):
        draw(tmp_path / "photos" / f"{number:02}.png", seed=number)
    with Library.create(tmp_path / "index", model="builtin") as library:
        library.index([tmp_path / "photos"])
    with contextlib.closing(Catalog.open(tmp_path / "index", writable=True)) as catalog, catalog.transaction():
        bad = np.full(384, np.nan, "<f4").tobytes()
        catalog.conn.execute("UPDATE embeddings SET vector = ? WHERE content_id = 3", (bad,))
        path = Path(os.fsdecode(catalog.conn.execute("SELECT path FROM files WHERE content_id = 3").fetchone()[0]))
    with Library.open(tmp_path / "index") as library:
        others = set(range(1, 15)) - {3}
        answers = [
            *library.query_many(["a dog", "a cat"], k=20),
            library.query(path, k=20),  # It is encoded again.
            library.query(["a dog", "a cat"], k=20, options=QueryOptions(match_all=True)),
            library.query("a dog", k=20, options=QueryOptions(negative=["a cat"])),
        ]
        for answer in answers:
            assert {hit.id for hit in answer} == others
            assert all(math.isfinite(hit.score) for hit in answer)
        assert len(library.show(4, k=20).neighbours) == 12 and library.show(3).neighbours == ()
        for term in (Indexed(3), ["a dog", Indexed(3)]):
            with pytest.raises(UsageError, match="no vector of it"):
                library.query(term)
        with pytest.raises(UsageError, match="no vector of it"):
            library.similarity(["a dog", Indexed(3)])
        assert np.isfinite(library.similarity(["a dog", path, Indexed(4)]).cosines).all()
        drawn = library.project()
        assert {hit.id for hit in drawn.hits} == others and np.isfinite(drawn.positions).all()
        library.query("a dog", options=QueryOptions(relevant=True))
        assert all(0 <= (hit.relevance or 0) <= 1 for hit in library.query("a dog", k=20))
        labelled = library.classify(None, ["dog", "cat"])
        assert {each.id for each in labelled} == others
        assert all(math.isfinite(each.predictions[0].probability) for each in labelled)
        assert library.classify([path], ["dog", "cat"])[0].predictions


def test_an_empty_file_is_not_a_failure(shelf: Shelf, photos: Path) -> None:
    (photos / "none.png").touch()
    age(photos / "none.png")
    report = shelf.index(photos)
    assert [(Path(p.path).name, report.failed) for p in report.placeholders] == [("none.png", ())]


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_run(shelf: Shelf, photos: Path) -> None:
    growing = photos / "0.png"
    image = growing.read_bytes()
    done = threading.Event()

    def append() -> None:
        with open(growing, "ab", buffering=0) as file:
            while not done.is_set() and file.tell() < 200 << 20:
                file.write(bytes(4096))

    writer = threading.Thread(target=append)
    writer.start()
    try:
        while growing.stat().st_size < 8 << 20:
            time.sleep(0.001)
        report = shelf.index(photos)
    finally:
        done.set()
        writer.join()
    assert [Path(p.path).name for p in report.changing] == ["0.png"]
    assert (report.indexed, report.failed) == (4, ())
    assert str(growing) not in shelf.states()
    growing.write_bytes(image)
    age(growing)
    assert shelf.index().indexed == 1


def test_large_files_are_hashed_in_pieces_and_decoded_from_the_disk(
    shelf: Shelf, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Shelf(tmp_path / "other")
    other.index(photos)
    for module in (reader, worker):
        monkeypatch.setattr(module, "IN_MEMORY_BYTES", 50)
    monkeypatch.setattr(worker, "_PIECE", 64)
    (photos / "bad.png").write_bytes(b"no picture" * 20)
    (photos / "cut.png").write_bytes(draw(tmp_path / "whole.png", 9, side=300).read_bytes()[:-200])
    report = shelf.index(photos, workers=None)
    assert (report.indexed, len(report.failed), len(report.partial)) == (6, 1, 1)
    assert [r for r in contents(shelf) if r in contents(other)] == contents(other)


def contents(shelf: Shelf) -> list[tuple[object, ...]]:
    return shelf.rows("SELECT c.digest, e.vector FROM contents c JOIN embeddings e ON e.content_id = c.id ORDER BY 1")


def test_truncated_files_are_partial_and_damaged_ones_fail_with_every_decoder_busy(
    shelf: Shelf, tmp_path: Path
) -> None:
    """Pillow's switch for truncated files is the whole process's: it must not let a damaged file pass as sound."""
    photos = tmp_path / "photos"
    count = 24
    for i in range(count):
        whole = draw(photos / f"{i:02}-whole.jpg", i, side=1000, quality=90).read_bytes()
        (photos / f"{i:02}-cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
        damage(draw(photos / f"{i:02}-damaged.png", 1000 + i, side=1000, compress_level=6))
    report = shelf.index(photos, workers=8, batch_size=4)
    assert [Path(p.path).name for p in report.partial] == [f"{i:02}-cut.jpg" for i in range(count)]
    assert sorted(Path(p.path).name for p in report.failed) == [f"{i:02}-damaged.png" for i in range(count)]
    assert (report.indexed, report.encoded, report.opened) == (2 * count, 2 * count, 3 * count)
    states = dict(shelf.rows("SELECT state, count(*) FROM contents GROUP BY state"))
    assert states == {"ok": count, "partial": count, "failed": count}


def damage(path: Path) -> None:
    """Spoil a PNG in its middle, so that it takes long to be found out, in a way that only the switch passes over."""
    sound = path.read_bytes()
    for at in range(len(sound) // 2, len(sound)):
        path.write_bytes(sound[:at] + b"\xff" * 8 + sound[at + 8 :])
        try:
            Image.open(path).load()
        except OSError:
            return
    raise AssertionError("nothing spoils it")


def test_where_one_path_cannot_be_read_a_sibling_pays_for_both(shelf: Shelf, photos: Path) -> None:
    shutil.copy2(photos / "4.png", photos / "a-copy.png")
    shelf.index(photos)
    os.chmod(photos / "4.png", 0)
    other = TinyEncoder("another")
    with without_privileges():
        report = shelf.index(photos, encoder=other)
    assert other.encoded == 5
    assert report.switched
    assert report.filling is None


def test_siblings_that_are_paid_already_are_not_opened(shelf: Shelf, photos: Path) -> None:
    for i in range(50):
        shutil.copy2(photos / "0.png", photos / f"copy-{i:02}.png")
    shelf.index(photos)
    report = shelf.index(photos, encoder=TinyEncoder("another"), batch_size=2, workers=1)
    assert report.encoded == 5
    assert report.indexed + report.unchanged == 55
    assert report.opened < 20


# A look ahead, and one at the counts


def test_a_dry_run_tells_and_changes_nothing(shelf: Shelf, photos: Path) -> None:
    draw(photos / "sub" / "x.png", 60)
    shelf.index(photos)
    before = shelf.rows("SELECT * FROM files"), shelf.rows("SELECT * FROM roots")
    (photos / "0.png").unlink()
    draw(photos / "new.png", 61)
    report = shelf.index(photos, exclude=["sub"], preview=True)
    assert (report.indexed, report.unchanged, report.missing, report.excluded) == (1, 4, 1, 1)
    assert report.dry_run
    assert (shelf.rows("SELECT * FROM files"), shelf.rows("SELECT * FROM roots")) == before


def test_every_file_is_counted_once(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    for i in range(5, 12):
        draw(photos / f"{i}.png", i)
    (photos / "bad.png").write_bytes(b"bad")
    age(photos / "bad.png")
    draw(photos / "ex" / "x.png", 80)
    draw(tmp_path / "gone" / "y.png", 81)
    shelf.index(photos, tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    (photos / "0.png").unlink()
    (photos / "1.png").rename(photos / "moved.png")
    shutil.copy2(photos / "2.png", photos / "copied.png")
    age(draw(photos / "3.png", 83), 9)
    os.chmod(photos / "4.png", 0)
    age(photos / "4.png", 9)
    (photos / "new-bad.png").write_bytes(b"also bad")
    draw(photos / "new.png", 84)
    (photos / "cut.png").write_bytes(draw(tmp_path / "w.png", 85, side=300).read_bytes()[:-300])
    with without_privileges():
        report = shelf.index(exclude=["ex"])
    counts = {
        "indexed": (report.indexed, 3),  # 3, new, cut
        "unchanged": (report.unchanged, 8),  # 2, 5 … 11
        "moved": (report.moved, 1),
        "copied": (report.copied, 1),
        "missing": (report.missing, 1),
        "offline": (report.offline, 1),
        "excluded": (report.excluded, 1),
        "failed": (len(report.failed), 2),  # 4, new-bad
        "failed_before": (report.failed_before, 1),
        "partial": (len(report.partial), 1),
    }
    assert {name: got for name, (got, _) in counts.items()} == {name: want for name, (_, want) in counts.items()}


def test_a_file_found_and_gone_before_it_is_read_is_reported(shelf: Shelf, photos: Path) -> None:
    class Deleting(TinyEncoder):
        def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            (photos / "z.png").unlink(missing_ok=True)
            return super().encode_images(batch)

    draw(photos / "z.png", 90)
    report = shelf.index(photos, encoder=Deleting(), workers=1, batch_size=1)
    assert [(Path(p.path).name, p.reason) for p in report.failed] == [("z.png", "it vanished before it was read")]
    assert report.indexed == 5
