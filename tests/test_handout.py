"""Copies and links of hits in a folder: every image arrives, nothing that is there is lost."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.export.copies import ExportedCopy, export_copies
from clipsearch.types import Hit


def hit(path: Path | str, *copies: Path | str) -> Hit:
    paths = tuple(str(each) for each in (path, *copies))
    return Hit(1, paths[0], paths, 0.3, 4, "JPEG", 1, 1, None, "ok", False)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def three_dogs(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / folder / "dog.jpg", folder.encode()) for folder in ("a", "b", "c")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pictures_of_one_name_all_arrive_and_what_was_there_stays(tmp_path: Path, three_dogs: list[Path]) -> None:
    mine = write(tmp_path / "out" / "dog.jpg", b"mine")
    result = export_copies([hit(dog) for dog in three_dogs], tmp_path / "out")
    assert [Path(each.target).name for each in result.handed] == ["dog-2.jpg", "dog-3.jpg", "dog-4.jpg"]
    assert [Path(each.target).read_bytes() for each in result.handed] == [b"a", b"b", b"c"]
    assert mine.read_bytes() == b"mine"
    assert result.failed == ()


def test_a_folder_is_made_and_times_and_permissions_are_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "dog.jpg", b"dog")
    os.utime(source, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    source.chmod(0o440)
    [handed] = export_copies([hit(source)], tmp_path / "deep" / "out").handed
    there = os.stat(handed.target)
    assert there.st_mtime_ns == 1_500_000_000_987_654_321
    assert stat.S_IMODE(there.st_mode) == 0o440


@pytest.mark.parametrize("link", [False, True])
def test_a_second_time_adds_nothing(tmp_path: Path, three_dogs: list[Path], link: bool) -> None:
    hits = [hit(dog) for dog in three_dogs]
    first = export_copies(hits, tmp_path / "out", link=link)
    again = export_copies(hits, tmp_path / "out", link=link)
    assert [each.target for each in again.handed] == [each.target for each in first.handed]
    assert not any(each.existed for each in first.handed) and all(each.existed for each in again.handed)
    assert names(tmp_path / "out") == ["dog-2.jpg", "dog-3.jpg", "dog.jpg"]


@pytest.mark.parametrize("link", [False, True])
def test_pictures_that_lie_in_the_folder_already_are_left_alone(tmp_path: Path, link: bool) -> None:
    dog = write(tmp_path / "dog.jpg", b"dog")
    assert export_copies([hit(dog)], tmp_path, link=link).handed == (ExportedCopy(str(dog), str(dog), existed=True),)
    assert names(tmp_path) == ["dog.jpg"] and not dog.is_symlink()


@pytest.mark.parametrize("link", [False, True])
def test_a_hit_that_is_a_link_in_the_folder_is_left_alone(tmp_path: Path, link: bool) -> None:
    dog = write(tmp_path / "dog.jpg", b"dog")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dog.jpg").symlink_to(dog)
    [handed] = export_copies([hit(tmp_path / "out" / "dog.jpg")], tmp_path / "out", link=link).handed
    assert handed.existed and names(tmp_path / "out") == ["dog.jpg"]


def test_links_lead_to_the_originals_from_any_working_folder(
    tmp_path: Path, three_dogs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = export_copies([hit(dog) for dog in three_dogs], "out", link=True)
    assert [os.readlink(each.target) for each in result.handed] == [str(dog) for dog in three_dogs]
    assert names(tmp_path / "out") == ["dog-2.jpg", "dog-3.jpg", "dog.jpg"]


def test_a_link_is_no_copy(tmp_path: Path, three_dogs: list[Path]) -> None:
    export_copies([hit(three_dogs[0])], tmp_path / "out", link=True)
    [handed] = export_copies([hit(three_dogs[0])], tmp_path / "out").handed
    assert (Path(handed.target).name, handed.existed) == ("dog-2.jpg", False)
    assert not Path(handed.target).is_symlink()


def test_a_hit_without_a_file_is_reported_and_the_rest_goes_on(tmp_path: Path, three_dogs: list[Path]) -> None:
    three_dogs[1].unlink()
    os.mkfifo(three_dogs[1])
    hits = [hit(tmp_path / "gone.jpg"), hit(three_dogs[1]), hit(tmp_path / "gone.jpg", three_dogs[2])]
    result = export_copies(hits, tmp_path / "out")
    assert [(Path(each.path).parent.name, each.reason) for each in result.failed] == [
        (tmp_path.name, "no such file or directory"),
        ("b", "not a regular file"),
    ]
    assert [each.source for each in result.handed] == [str(three_dogs[2])]


def test_any_name_the_file_system_takes_arrives(tmp_path: Path) -> None:
    odd = [b"new\nline.jpg", b"\x1b[31m.jpg", b"caf\xe9.jpg", "ü".encode() * 125 + b".jpg", b".jpg", b"a." + b"b" * 250]
    sources = [tmp_path / os.fsdecode(folder) / os.fsdecode(name) for name in odd for folder in (b"x", b"y")]
    for source in sources:
        write(source, os.fsencode(source))
    result = export_copies([hit(source) for source in sources], tmp_path / "out")
    assert result.failed == ()
    assert [Path(each.target).read_bytes() for each in result.handed] == [os.fsencode(source) for source in sources]
    kept = os.listdir(os.fsencode(tmp_path / "out"))
    assert set(odd) <= set(kept) and len(kept) == 2 * len(odd)
    assert "ü".encode() * 124 + b"-2.jpg" in kept


def test_a_folder_that_cannot_be_is_a_usage_error(tmp_path: Path) -> None:
    dog = write(tmp_path / "dog.jpg", b"dog")
    with pytest.raises(UsageError, match=r"cannot create the folder .*dog\.jpg: file exists"):
        export_copies([hit(dog)], dog)


SMALL_FILES = """
import resource, signal, sys
from clipsearch.export.copies import export_copies
from clipsearch.types import Hit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
hits = [Hit(1, path, (path,), 0.3, 4, "JPEG", 1, 1, None, "ok", False) for path in sys.argv[2:]]
try:
    export_copies(hits, sys.argv[1])
except Exception as exc:
    sys.stdout.write(f"{type(exc).__name__}: {exc}")
"""


def test_where_the_folder_takes_no_more_it_says_so_in_a_line_and_leaves_no_half_picture(tmp_path: Path) -> None:
    small, big = write(tmp_path / "small.jpg", b"s" * 1000), write(tmp_path / "big.jpg", b"b" * 200_000)
    out = tmp_path / "out"
    command = [sys.executable, "-c", SMALL_FILES, str(out), str(small), str(big)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"ClipsearchError: cannot write to {out}: file too large (1 picture done)"
    assert names(out) == ["small.jpg"]


def test_an_error_of_the_folder_is_one_of_ours(tmp_path: Path) -> None:
    # /proc takes no files from anyone, root included.
    dog = write(tmp_path / "dog.jpg", b"dog")
    with pytest.raises(ClipsearchError, match=r"cannot write to /proc/self: .* \(0 pictures done\)"):
        export_copies([hit(dog)], "/proc/self")
