"""What a walk finds, in which order, and what it leaves out."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from helpers import Drive, draw, without_privileges

from clipsearch.images.sniff import IMAGE_SUFFIXES
from clipsearch.indexing.ignored import KINDS
from clipsearch.indexing.results import Problem
from clipsearch.indexing.rules import Rules, ScanOptions
from clipsearch.indexing.scanner import Walk, images_in


def walk(root: Path, *, start: Path | None = None, never: Path | None = None, **options: object) -> Walk:
    about = never.stat() if never else None
    return Walk(
        os.fsencode(start or root),
        Rules(os.fsencode(root), ScanOptions(**options)),  # type: ignore[arg-type]
        IMAGE_SUFFIXES,
        never=(about.st_dev, about.st_ino) if about else None,
    )


def found(root: Path, **options: object) -> list[str]:
    return [os.fsdecode(c.path)[len(str(root)) + 1 :] for c in walk(root, **options)]  # type: ignore[arg-type]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_only_regular_files_with_a_pictures_suffix_are_found(tmp_path: Path) -> None:
    touch(*(tmp_path / n for n in ("a.jpg", "B.JPEG", "c.txt", "jpg", ".jpg", "d.jpg.bak", "e.heic", "f.tar.png")))
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(tmp_path) == ["B.JPEG", "a.jpg", "e.heic", "f.tar.png"]


def ignored(walk: Walk) -> dict[str, int]:
    list(walk)
    return {kind: number for kind, number in walk.ignored.items() if number}


def test_files_that_are_not_images_are_counted_by_kind(tmp_path: Path) -> None:
    names = (
        "a.jpg",
        "b.MP4",
        "c.mov",
        "d.pdf",
        "e.psd",
        "f.psb",
        "g.zip",
        "h.svg",
        "i.aae",
        "j.mp3",
        "k.txt",
        "README",
    )
    touch(*(tmp_path / "sub" / name for name in names))
    kinds = {"video": 2, "pdf": 1, "photoshop": 2, "archive": 1, "drawing": 1, "sidecar": 1, "audio": 1, "other": 2}
    assert ignored(walk(tmp_path)) == kinds
    assert walk(tmp_path).ignored.keys() == set(KINDS)


def test_only_regular_files_that_the_rules_allow_are_counted(tmp_path: Path) -> None:
    touch(tmp_path / ".hidden.mp4", tmp_path / ".git" / "a.mp4", tmp_path / "raw" / "b.mp4", tmp_path / "named.mp4")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "named.mp4")
    (tmp_path / "dead.mp4").symlink_to(tmp_path / "nowhere")
    assert ignored(walk(tmp_path, exclude=("raw", "named.*"))) == {}
    assert ignored(walk(tmp_path, hidden=True)) == {"video": 4}
    assert ignored(walk(tmp_path, exclude=("raw/b*",), follow_symlinks=True)) == {"video": 2}
    seen = walk(tmp_path, exclude=("raw",))
    seen.skip = frozenset([os.fsencode(tmp_path / "named.mp4")])  # A root of its own.
    assert ignored(seen) == {}


def test_all_files_finds_images_by_their_content(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.jpg", "IMG_0001", "b.dat", "c.jpg.bak", ".hidden")):
        draw(tmp_path / name, seed, format="PNG")
    touch(tmp_path / "d.mp4", tmp_path / "e", tmp_path / "f.jpg")
    (tmp_path / "g.txt").write_text("P1 is the first of the pages")
    (tmp_path / "h.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == ["a.jpg", "f.jpg"]
    seen = walk(tmp_path, all_files=True)
    assert ignored(seen) == {"video": 1, "other": 3}
    assert found(tmp_path, all_files=True) == ["IMG_0001", "a.jpg", "b.dat", "c.jpg.bak", "f.jpg"]


def test_a_file_whose_content_cannot_be_examined_is_counted_as_unreadable(tmp_path: Path) -> None:
    draw(tmp_path / "secret", format="PNG").chmod(0)
    draw(tmp_path / "secret.png").chmod(0)
    with without_privileges():
        assert found(tmp_path, all_files=True) == ["secret.png"]  # The reader reports it.
        assert ignored(walk(tmp_path, all_files=True)) == {"unreadable": 1}


def test_candidates_tell_size_and_time(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png")
    [candidate] = walk(tmp_path)
    about = path.stat()
    assert (candidate.size, candidate.mtime_ns) == (about.st_size, about.st_mtime_ns)


def test_paths_come_in_byte_order_whatever_their_names(tmp_path: Path) -> None:
    rng = random.Random(3)
    letters = [b"a", b"b", b"!", b".", b"-", b"0", b"\xc3\xa9", b"\xff", b" ", b"~", b"\n"]
    for _ in range(300):
        parts = [b"".join(rng.choices(letters, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
        if any(part in (b".", b"..") for part in parts):
            continue
        path = os.path.join(os.fsencode(tmp_path), *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path + b".jpg", "wb") as file:
                file.write(b"x")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    paths = [c.path for c in walk(tmp_path, hidden=True)]
    expected = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(os.fsencode(tmp_path))
        for name in names
        if name.lower().endswith(b".jpg") and name.strip(b".") != b"jpg"
    )
    assert len(paths) > 150
    assert paths == expected


def test_hidden_names_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    touch(tmp_path / ".a.jpg", tmp_path / ".git" / "b.jpg", tmp_path / "c.jpg")
    assert found(tmp_path) == ["c.jpg"]
    assert found(tmp_path, hidden=True) == [".a.jpg", ".git/b.jpg", "c.jpg"]


def test_a_hidden_root_is_walked(tmp_path: Path) -> None:
    touch(tmp_path / ".photos" / "a.jpg")
    assert found(tmp_path / ".photos") == ["a.jpg"]


ALL = ["a.png", "raw/a.jpg", "raw/old/a.jpg", "x/raw/a.jpg"]


@pytest.mark.parametrize(
    ("patterns", "left", "by_glob"),
    [
        ("*.png", ["raw/a.jpg", "raw/old/a.jpg", "x/raw/a.jpg"], None),
        ("raw", ["a.png"], None),
        ("raw/", ["a.png"], None),
        ("a.jpg/", ALL, ["a.png"]),
        ("/raw", ["a.png", "x/raw/a.jpg"], None),
        ("raw/old", ["a.png", "raw/a.jpg", "x/raw/a.jpg"], None),
        ("**/raw", ["a.png"], ["a.png", "raw/a.jpg", "raw/old/a.jpg"]),
        ("*/raw", ["a.png", "raw/a.jpg", "raw/old/a.jpg"], None),
        ("*/raw/*", ["a.png", "raw/a.jpg", "raw/old/a.jpg"], None),
        ("raw/*.jpg", ["a.png", "raw/old/a.jpg", "x/raw/a.jpg"], ["a.png", "x/raw/a.jpg"]),
        ("raw/**/*.jpg", ["a.png", "x/raw/a.jpg"], ["a.png", "raw/a.jpg", "x/raw/a.jpg"]),
        ("[ab].jpg", ["a.png"], None),
        ("/raw/* !/raw/old", ["a.png", "raw/old/a.jpg", "x/raw/a.jpg"], ["a.png", "x/raw/a.jpg"]),
        ("*.jpg !a.jpg", ALL, ["a.png"]),
        ("raw !raw/a.jpg", ["a.png"], None),  # What is in an excluded folder stays excluded.
        ("{raw,x}", ALL, None),
        ("", ALL, None),
    ],
)
def test_exclusions_follow_gitignore_and_those_of_older_libraries_stay_globs(
    tmp_path: Path, patterns: str, left: list[str], by_glob: list[str] | None
) -> None:
    touch(*(tmp_path / name for name in ALL))
    exclude = tuple(patterns.split(" "))
    assert found(tmp_path, exclude=exclude) == left
    assert found(tmp_path, exclude=exclude, exclude_style="fnmatch") == (left if by_glob is None else by_glob)


def test_rules_agree_with_the_walk(tmp_path: Path) -> None:
    """What `reaches` says decides which rows leave the catalog: it must say what a walk does."""
    touch(*(tmp_path / n for n in ("a.jpg", ".h/b.jpg", "raw/c.jpg", "x/raw/d.jpg", "x/e.jpg")))
    (tmp_path / "link").symlink_to(tmp_path / "x")
    everything = [*found(tmp_path, hidden=True), "link/e.jpg"]
    for options in ({}, {"hidden": True}, {"exclude": ("raw",)}, {"exclude": ("x/raw",), "hidden": True}):
        rules = Rules(os.fsencode(tmp_path), ScanOptions(**options))  # type: ignore[arg-type]
        assert [p for p in everything if rules.reaches(os.fsencode(tmp_path / p))] == found(tmp_path, **options)


def test_links_are_followed_only_when_asked_for(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "a.jpg", tmp_path / "root" / "b.jpg")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "file.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    assert found(tmp_path / "root") == ["b.jpg"]
    assert found(tmp_path / "root", follow_symlinks=True) == ["b.jpg", "file.jpg", "folder/a.jpg"]


def test_loops_and_dead_links_end_no_walk(tmp_path: Path) -> None:
    touch(tmp_path / "root" / "a" / "1.jpg", tmp_path / "out" / "2.jpg")
    root = tmp_path / "root"
    for name, target in {
        "a/up": root,
        "a/above": tmp_path,
        "self.jpg": root / "self.jpg",
        "dead.jpg": tmp_path / "nowhere",
        "away": tmp_path / "out",
        "again": tmp_path / "out",
        "inside": root / "a",
    }.items():
        (root / name).symlink_to(target)
    (tmp_path / "out" / "back").symlink_to(root)
    (tmp_path / "out" / "round").symlink_to(tmp_path / "out")
    seen = walk(root, follow_symlinks=True)
    assert [os.path.relpath(os.fsdecode(c.path), root) for c in seen] == ["a/1.jpg", "again/2.jpg"]
    assert seen.complete
    assert not seen.unreadable


def test_the_librarys_own_folder_is_not_entered_under_any_name(tmp_path: Path) -> None:
    touch(tmp_path / "root" / "index" / "a.jpg", tmp_path / "root" / "b.jpg")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root" / "index")
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    index = tmp_path / "root" / "index"
    assert found(tmp_path / "root", never=index, follow_symlinks=True) == ["b.jpg"]
    assert found(tmp_path / "alias", never=index) == ["b.jpg"]


@pytest.mark.skipif(not Drive.possible("link"), reason="there is no second device here to be found")
def test_a_walk_says_which_folders_are_empty_and_which_are_mount_points(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root / "full" / "a.txt")
    (root / "empty").mkdir()
    drive = Drive("link", root / "drive")
    try:
        touch(root / "drive" / "sub" / "a.jpg")
        seen = walk(root, follow_symlinks=True)
        assert len(list(seen)) == 1
        assert seen.empty == {os.fsencode(root / "empty")}
        assert seen.mounts == {os.fsencode(root / "drive")}
    finally:
        drive.remove()


def test_folders_that_may_not_be_read_are_told(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "shut" / "b.jpg", tmp_path / "listed" / "c.jpg")
    os.chmod(tmp_path / "shut", 0o000)
    os.chmod(tmp_path / "listed", 0o644)
    seen = walk(tmp_path)
    with without_privileges():
        assert [os.path.basename(c.path) for c in seen] == [b"a.jpg"]
    assert seen.complete
    assert sorted(p.path for p in seen.problems()) == [str(tmp_path / "listed"), str(tmp_path / "shut")]
    assert all("permission denied" in p.reason for p in seen.problems())


def test_a_stopped_walk_is_not_complete(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg", tmp_path / "b" / "2.jpg", tmp_path / "c" / "3.jpg")
    seen = walk(tmp_path)
    names = []
    seen.stop = lambda: len(names) >= 1
    for candidate in seen:
        names.append(os.path.basename(candidate.path))
    assert names == [b"1.jpg"]
    assert not seen.complete


def test_named_files_are_taken_as_they_are_and_folders_walked(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "2.jpg", tmp_path / "b" / "1.jpg", tmp_path / "odd.name")
    paths = [os.fsencode(tmp_path / "odd.name"), os.fsencode(tmp_path / "b")]
    (tmp_path / "b" / "shut").mkdir()
    (tmp_path / "b" / "shut").chmod(0)
    problems: list[Problem] = []
    with without_privileges():
        found = list(images_in(paths, suffixes=IMAGE_SUFFIXES, problems=problems))
    assert [os.path.basename(p) for p in found] == [b"odd.name", b"1.jpg", b"2.jpg"]
    assert problems == [Problem(str(tmp_path / "b" / "shut"), "permission denied")]
