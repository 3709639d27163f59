"""Folders and files that are not the user's pictures: which are left out, how they are counted, and what keeps them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cli
from helpers import Shelf, age, draw, without_privileges
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.errors import UsageError
from clipsearch.images.sniff import IMAGE_SUFFIXES
from clipsearch.indexing import ignorefiles
from clipsearch.indexing.patterns import Style, compiled, literal
from clipsearch.indexing.results import IndexReport, LeftOut
from clipsearch.indexing.rules import Rules, ScanOptions
from clipsearch.indexing.scanner import Walk, images_in

APPLE_DOUBLE = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(4000)

KEPT = (
    "IMG_1.jpg",
    "LOST+FOUND/a.jpg",  # A name of a system that distinguishes upper and lower case.
    "Masters/a.jpg",
    "Photos.photoslibrary/originals/0/A.jpg",
    "Old.photoslibrary/Masters/2012/B.jpg",
    "Aperture.aplibrary/Masters/2010/C.jpg",
    "Capture.cocatalog/Originals/D.jpg",
    "Shoot/CaptureOne.jpg",
    "Shoot/Cache/E.jpg",
    "Shoot/trash/F.jpg",
    "Shoot/recycle/G.jpg",
)
LEFT_OUT = {
    "trash": (
        "#recycle/a.jpg",
        "@Recycle/b.jpg",
        "$RECYCLE.BIN/S-1-5-21/$R1.jpg",
        "Drive/$Recycle.Bin/S-1-5-21/$R2.jpg",
        ".Trash-1000/files/c.jpg",
        ".Trashes/501/d.jpg",
        ".dtrash/files/e.jpg",
    ),
    "previews": (
        "@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "Shoot/@eaDir/f.jpg/SYNOPHOTO_THUMB_XL.jpg",
        ".@__thumb/default_IMG_1.jpg",
        "DCIM/.thumbnails/1.jpg",
        "Photos.photoslibrary/resources/derivatives/0/A_1_105_c.jpeg",
        "Old.photoslibrary/Thumbnails/2012/B.jpg",
        "Aperture.aplibrary/Previews/C.jpg",
        "Capture.cocatalog/Cache/Thumbnails/D.jpg",
        "Lightroom/Catalog Previews.lrdata/0/g.jpg",
        "Lightroom/Catalog Smart Previews.LRDATA/0/h.dng",
        "Shoot/CaptureOne/Cache/Previews/i.tif",
        "Shoot/CaptureOne/Settings153/j.tif",
    ),
    "system": ("System Volume Information/k.jpg", "lost+found/l.jpg", "#snapshot/daily/m.jpg"),
    "apple_double": ("__MACOSX/IMG_1.jpg",),
}
FOLDERS = {"trash": 7, "previews": 12, "system": 3, "apple_double": 1}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "library")


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    """A shared folder that a NAS, Windows, macOS, phones and photo programs have written to."""
    root = tmp_path / "nas"
    for i, name in enumerate((*KEPT, *(path for paths in LEFT_OUT.values() for path in paths))):
        draw(root / name, i, format="PNG")
    (root / "._IMG_1.jpg").write_bytes(APPLE_DOUBLE)
    (root / "Shoot" / "._a.mov").write_bytes(APPLE_DOUBLE)
    draw(root / "DCIM" / ".trashed-1700000000-2.jpg", 100)
    draw(root / "DCIM" / ".pending-1700000000-3.jpg", 101)
    age(root / "._IMG_1.jpg")
    return root


def known(shelf: Shelf, base: Path) -> set[str]:
    return {os.path.relpath(path, base) for path, state in shelf.states().items() if state == "present"}


def counted(report: IndexReport) -> dict[str, tuple[int, int]]:
    return {why: tuple(count) for why, count in report.left_out.items() if any(count)}


def walked(root: Path, **options: object) -> Walk:
    rules = Rules(os.fsencode(root), ScanOptions(**options))  # type: ignore[arg-type]
    return Walk(os.fsencode(root), rules, IMAGE_SUFFIXES)


def found(root: Path, **options: object) -> list[str]:
    return [os.fsdecode(c.path)[len(str(root)) + 1 :] for c in walked(root, **options)]


# Left out by default


@pytest.mark.parametrize("hidden", [False, True])
def test_only_the_users_pictures_of_a_nas_are_indexed(shelf: Shelf, nas: Path, hidden: bool) -> None:
    report = shelf.index(nas, hidden=hidden)
    assert known(shelf, nas) == set(KEPT)
    assert report.failed == ()
    files = {"apple_double": 1, "trash": 2}
    assert counted(report) == {why: (count, files.get(why, 0)) for why, count in FOLDERS.items()}
    assert report.left_out["exclude"] == LeftOut(0, 0)
    assert report.ignored["video"] == 0


def test_everything_is_indexed_on_request_and_the_choice_is_remembered(shelf: Shelf, nas: Path) -> None:
    report = shelf.index(nas, hidden=True, default_excludes=False)
    everything = {*KEPT, *(path for paths in LEFT_OUT.values() for path in paths)}
    everything |= {"DCIM/.trashed-1700000000-2.jpg", "DCIM/.pending-1700000000-3.jpg"}
    assert known(shelf, nas) == everything | {"._IMG_1.jpg"}
    assert (report.failed, report.unsupported, counted(report)) == ((), 1, {})
    assert (shelf.index().excluded, known(shelf, nas)) == (0, everything | {"._IMG_1.jpg"})
    report = shelf.index(default_excludes=True)
    assert (report.excluded, known(shelf, nas)) == (len(everything) - len(KEPT) + 1, set(KEPT))


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", ".Trash-1000", "X.lrdata", "lost+found"])
def test_a_named_folder_or_file_is_never_left_out(shelf: Shelf, tmp_path: Path, name: str) -> None:
    draw(tmp_path / "nas" / "a.jpg", 1)
    inside = draw(tmp_path / "nas" / name / "sub" / "b.jpg", 2)
    single = draw(tmp_path / "nas" / name / "c.jpg", 3)
    shelf.index(tmp_path / "nas")
    assert known(shelf, tmp_path) == {"nas/a.jpg"}
    shelf.index(single)
    assert known(shelf, tmp_path) == {"nas/a.jpg", f"nas/{name}/c.jpg"}
    shelf.index(tmp_path / "nas" / name)
    expected = {"nas/a.jpg", f"nas/{name}/c.jpg", f"nas/{name}/sub/b.jpg"}
    for paths in ((), (tmp_path / "nas",)):  # A root inside another one that does not come to it stays one.
        report = shelf.index(*paths)
        assert (known(shelf, tmp_path), report.excluded) == (expected, 0)
    assert inside.exists()


def test_a_named_photo_library_is_indexed_by_its_originals(shelf: Shelf, nas: Path) -> None:
    shelf.index(nas / "Photos.photoslibrary")
    assert known(shelf, nas) == {"Photos.photoslibrary/originals/0/A.jpg"}
    shelf.index(nas / "Photos.photoslibrary" / "resources")
    assert len(known(shelf, nas)) == 2


def test_a_hidden_image_that_looks_like_metadata_by_its_name_only_is_indexed(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "._real.png", 1)
    (photos / "._a.jpg").write_bytes(APPLE_DOUBLE)
    (photos / "._b.jpg").write_bytes(APPLE_DOUBLE)
    (photos / "._b.jpg").chmod(0)
    with without_privileges():
        report = shelf.index(photos, hidden=True)
    assert known(shelf, photos) == {"._real.png"}
    assert [Path(p.path).name for p in report.failed] == ["._b.jpg"]  # What it contains is unknown.
    assert counted(report) == {"apple_double": (0, 1)}


def test_the_walk_and_the_rules_agree(nas: Path) -> None:
    """What the rules say about a path decides whether its row leaves the catalog: it must be what a walk does."""
    (nas / "DCIM" / ".immichignore").write_text("*.png\n!keep.png\n")
    (nas / "Shoot" / ".nomedia").touch()
    everything = found(nas, hidden=True, default_excludes=False, ignore_files=False)
    assert len(everything) > 30
    for options in (
        {},
        {"hidden": True},
        {"default_excludes": False},
        {"ignore_files": False, "exclude": ("Shoot/*", "!Shoot/trash/")},
        {"hidden": True, "exclude": ("@eaDir", "/*.photoslibrary"), "exclude_style": "fnmatch"},
    ):
        rules = Rules(os.fsencode(nas), ScanOptions(**options))  # type: ignore[arg-type]
        assert [p for p in everything if rules.reaches(os.fsencode(nas / p))] == found(nas, **options)


FOLDERS_OF_A_TREE = st.lists(
    st.sampled_from(("a", ".b", "@eaDir", "X.photoslibrary", "originals", "CaptureOne", "Cache", "lost+found")),
    max_size=3,
)
FILES_OF_A_TREE = st.sampled_from(("1.jpg", "2.png", "._3.jpg", "._4.jpg", ".5.jpg", ".nomedia", ".ppignore", "6.txt"))
OPTIONS = st.fixed_dictionaries(
    {
        "exclude": st.lists(st.sampled_from(("a", "*.png", "/a/*", "!1.jpg", "**/Cache", "a/")), max_size=3).map(tuple),
        "exclude_style": st.sampled_from(("gitignore", "fnmatch")),
        "hidden": st.booleans(),
        "default_excludes": st.booleans(),
        "ignore_files": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(files=st.lists(st.tuples(FOLDERS_OF_A_TREE, FILES_OF_A_TREE), max_size=12), options=OPTIONS)
def test_the_walk_and_the_rules_agree_on_any_tree(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str]], options: dict[str, object]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for folders, name in files:
        path = root.joinpath(*folders, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes({"._3.jpg": APPLE_DOUBLE, ".ppignore": b"*.png\n!/1.jpg\nCache/\n"}.get(name, b"x"))
    everything = found(root, hidden=True, default_excludes=False, ignore_files=False)
    rules = Rules(os.fsencode(root), ScanOptions(**options))  # type: ignore[arg-type]
    expected = found(root, **options)
    assert [path for path in everything if rules.reaches(os.fsencode(root / path))] == expected
    for folder in {path.rpartition("/")[0] for path in everything}:
        seen = Walk(os.fsencode(root / folder), rules, IMAGE_SUFFIXES)
        if rules.reaches(os.fsencode(root / folder), is_folder=True):
            below = [os.path.relpath(os.fsdecode(c.path), root) for c in seen]
            assert below == [path for path in expected if path.startswith(f"{folder}/" if folder else "")]


def test_folders_of_examples_are_not_named_after_recycle_bins(tmp_path: Path) -> None:
    from clipsearch.classify.folders import class_folders

    for i, name in enumerate(("cats/1.png", "cats/@eaDir/2.png", "__MACOSX/3.png", "#recycle/4.png")):
        draw(tmp_path / name, i)
    folders = class_folders(os.fsencode(tmp_path))
    assert [label.name for label in folders.labels] == ["cats"]
    assert [os.path.basename(path) for path in folders.paths] == [b"1.png"]


def test_named_folders_of_images_are_read_by_the_same_rules(nas: Path) -> None:
    paths = list(images_in([os.fsencode(nas)], suffixes=IMAGE_SUFFIXES, problems=[]))
    assert {os.path.relpath(os.fsdecode(path), nas) for path in paths} == set(KEPT)


# Ignore files


def test_nomedia_leaves_out_its_folder_and_everything_below(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for i, name in enumerate(("a.jpg", "Documents/b.jpg", "Documents/deep/c.jpg", "Memes/d.jpg", "Other/e.jpg")):
        draw(photos / name, i)
    (photos / "Documents" / ".nomedia").touch()
    (photos / "Memes" / ".noimage").touch()
    report = shelf.index(photos)
    assert known(shelf, photos) == {"a.jpg", "Other/e.jpg"}
    assert counted(report) == {"ignore_file": (2, 0)}
    (photos / "Memes" / ".noimage").unlink()
    (photos / "Other" / ".nomedia").touch()
    report = shelf.index()
    assert (report.indexed, report.excluded) == (1, 1)
    assert known(shelf, photos) == {"a.jpg", "Memes/d.jpg"}
    report = shelf.index(ignore_files=False)
    assert len(known(shelf, photos)) == 5
    assert (report.copied, counted(report)) == (1, {})  # The content of `Other` has stayed.


def test_the_named_folders_own_nomedia_has_no_effect(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "a.jpg", 1)
    draw(photos / "sub" / "b.jpg", 2)
    (photos / ".nomedia").touch()
    shelf.index(photos)
    assert known(shelf, photos) == {"a.jpg", "sub/b.jpg"}
    (photos / "sub" / ".nomedia").touch()
    shelf.index(photos)
    assert known(shelf, photos) == {"a.jpg"}
    shelf.index(photos / "sub")  # Named now: a root of its own.
    for paths in ((), (photos,)):
        shelf.index(*paths)
        assert known(shelf, photos) == {"a.jpg", "sub/b.jpg"}


def test_a_folder_that_an_ignore_file_reaches_is_not_absorbed(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "sub" / "a.png", 1)
    draw(photos / "sub" / "b.jpg", 2)
    shelf.index(photos / "sub")
    (photos / ".immichignore").write_text("*.png\n")
    shelf.index(photos)
    assert known(shelf, photos) == {"sub/a.png", "sub/b.jpg"}
    (photos / ".immichignore").unlink()
    shelf.index(photos)
    assert shelf.rows("SELECT path FROM roots") == [(os.fsencode(photos),)]


def test_a_run_over_a_folder_inside_a_root_obeys_the_ignore_files_above(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "a.jpg", 0)
    draw(photos / "sub" / "deep" / "b.png", 1)
    draw(photos / "sub" / "deep" / "c.jpg", 2)
    (photos / ".ppignore").write_text("sub/**/*.png\n")
    shelf.index(photos)
    shelf.index(photos / "sub" / "deep")
    assert known(shelf, photos) == {"a.jpg", "sub/deep/c.jpg"}
    assert len(shelf.rows("SELECT path FROM roots")) == 1


NAMES = ("a", "b", "sub", "a.jpg", "b.jpg", "x.png")
LINES = (
    *("*", "*.jpg", "!a.jpg", "/sub", "sub/", "!sub/", "sub/*", "!sub/b.jpg", "**/x.png", "a/**", "!a/**/b.jpg"),
    *("# comment", "", "a/b/", "\\#x", "/*", "!*/", "x.*", "[ab].jpg", "b", "!b", "a/*/b.jpg", "  ", "*.png "),
    *(
        "**",
        "!**",
        "**/",
        "!**/",
        "**/b/**",
        "/**/a",
        "!/a/b/",
        *("a/b/**", "*a*", "*.*p*g", "a*/*b*", "*a*/**/*.*g", "*.jp?", "*[a-b]*.*", "*a*b*/*"),
        *("[!x]*", "su[!b]*", "a[!0-9]*", "*[!g]"),
        "?.jpg",
        "\\!a",
        "!*.png",
        "/a/*",
        "!a",
        "*/",
    ),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", root], check=True)
    for folder in ("", "a", "a/b", "sub", "sub/a", "b"):
        (root / folder).mkdir(exist_ok=True)
        for name in ("a.jpg", "b.jpg", "x.png"):
            (root / folder / name).write_bytes(b"x")
    yield root


@settings(max_examples=100, deadline=None)
@given(
    files=st.dictionaries(
        st.sampled_from(("", "a", "sub", "a/b")), st.lists(st.sampled_from(LINES), max_size=5), max_size=3
    )
)
def test_nested_ignore_files_combine_as_in_git(tree: Path, files: dict[str, list[str]]) -> None:
    for folder in ("", "a", "a/b", "sub"):
        text = "".join(f"{line}\n" for line in files.get(folder, []))
        for name in (".gitignore", ".immichignore"):
            (tree / folder / name).write_text(text)
    command = ["git", "-C", str(tree), "ls-files", "--others", "--exclude-standard", "*.jpg", "*.png"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert found(tree) == sorted(listed)


@pytest.mark.parametrize(
    ("content", "notice"),
    [
        (b"[z-a]\n*.png\n", "a line that is not a pattern"),
        (b"!\n*.png\n", "a line that is not a pattern"),
        (b"**/a/**/a/**/a/**/a/**/b\n*.png\n", "a line that is not a pattern"),
        (b"*a*a*a*a*a*a*a*a*a*a*a*a*c\n*.png\n", None),
        (b"\xef\xbb\xbf*.png\r\n", None),
        (b"\xff\xfe\n*.png", None),
        (b"[[:alpha:]]\n*.png\n", None),
    ],
)
def test_a_broken_line_of_an_ignore_file_costs_only_itself(
    shelf: Shelf, tmp_path: Path, content: bytes, notice: str | None
) -> None:
    photos = tmp_path / "photos"
    long = f"{'a' * 200}.jpg"
    draw(photos / long, 1)
    draw(photos / "b.png", 2)
    (photos / ".ppignore").write_bytes(content)
    report = shelf.index(photos)
    assert known(shelf, photos) == {long}
    assert [notice is not None and notice in text for text in report.notices] == [True] * (notice is not None)


def test_ignore_files_that_cannot_be_used_are_reported_and_nothing_is_lost(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for i, name in enumerate(("huge", "many", "shut", "pipe", "folder", "link")):
        draw(photos / name / "a.png", i)
    (photos / "huge" / ".immichignore").write_bytes(b"*.png\n" + b"#" * ignorefiles.MAX_BYTES)
    (photos / "many" / ".immichignore").write_text("*.png\n" * (ignorefiles.MAX_PATTERNS + 1))
    (photos / "shut" / ".immichignore").write_text("*.png\n")
    (photos / "shut" / ".immichignore").chmod(0)
    os.mkfifo(photos / "pipe" / ".immichignore")
    (photos / "folder" / ".immichignore").mkdir()
    (photos / "link" / ".immichignore").symlink_to("nowhere")
    with without_privileges():
        report = shelf.index(photos)
    assert len(known(shelf, photos)) == 6
    assert sorted(text.split(": ")[0].rsplit("/", 2)[1] for text in report.notices) == ["huge", "link", "many", "shut"]


# Exclusions

STYLES: tuple[Style, ...] = ("gitignore", "fnmatch")


def test_new_exclusions_are_patterns_of_gitignore_and_replace_the_old_ones(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for i, name in enumerate(("a.jpg", "#recycle bin/b.jpg", "raw/c.jpg", "raw/keep/d.jpg", "x/raw/e.jpg")):
        draw(photos / name, i)
    report = shelf.index(photos, exclude=["/raw/*", "!/raw/keep/", "#recycle bin"])
    assert known(shelf, photos) == {"a.jpg", "raw/keep/d.jpg", "x/raw/e.jpg"}
    assert (report.notices, counted(report)) == ((), {"exclude": (1, 1)})
    report = shelf.index(photos, exclude=["./x", f"!{photos}/raw"])
    assert known(shelf, photos) == {"a.jpg", "#recycle bin/b.jpg", "raw/c.jpg", "raw/keep/d.jpg"}


def test_exclusions_of_an_older_library_keep_their_meaning(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for i, name in enumerate(("a.jpg", "raw/b.jpg", "raw/deep/c.jpg", "x/y/raw/d.jpg")):
        draw(photos / name, i)
    shelf.index(photos)
    as_older(shelf, exclude=["raw/*.jpg", "*/raw"])
    report = shelf.index()
    assert known(shelf, photos) == {"a.jpg"}
    assert (report.excluded, report.notices) == (3, ())
    options = json.loads(shelf.rows("SELECT options FROM roots")[0][0])
    assert (options["exclude"], options["exclude_style"]) == (["raw/*.jpg", "*/raw"], "fnmatch")
    shelf.index(hidden=True)
    assert known(shelf, photos) == {"a.jpg"}
    shelf.index(photos, exclude=["raw/*.jpg", "*/raw"])  # The same, but as gitignore means it.
    assert known(shelf, photos) == {"a.jpg", "raw/deep/c.jpg", "x/y/raw/d.jpg"}


def as_older(shelf: Shelf, **changes: object) -> None:
    """Store the roots as a version did that had neither default excludes nor patterns of gitignore."""
    from clipsearch.catalog.catalog import Catalog

    catalog = Catalog.open(shelf.folder, writable=True)
    with catalog.transaction():
        for path, options in catalog.conn.execute("SELECT path, options FROM roots").fetchall():
            new = ("default_excludes", "ignore_files", "exclude_style", "older")
            kept = {key: value for key, value in json.loads(options).items() if key not in new}
            catalog.conn.execute("UPDATE roots SET options = ? WHERE path = ?", (json.dumps(kept | changes), path))
    catalog.close()


def test_exclusions_that_match_nothing_or_contain_braces_are_reported(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "a.jpg", 1)
    draw(photos / "raw" / "b.jpg", 2)
    draw(photos / "{x}" / "c.jpg", 3)
    (photos / ".git").mkdir()
    report = shelf.index(photos, exclude=["raw", "*.{png,gif}", "/rw", "{x}", ".git"])
    assert known(shelf, photos) == {"a.jpg"}
    braces, nothing, used = report.notices
    assert "*.{png,gif} matches nothing" in braces and "no special meaning" in braces
    assert nothing.startswith("`exclude`: /rw matches nothing in ")
    assert "{x}" in used and "matches nothing" not in used
    assert shelf.index().notices == ()
    other = tmp_path / "other"
    draw(other / "rw" / "d.jpg", 4)
    assert shelf.index(photos, other, exclude=["/rw"]).notices == ()  # It matches in one of the two.


@pytest.mark.parametrize("pattern", ["[z-a]", "!", "a\\", "**/a/" * 5])
def test_an_exclusion_that_is_not_a_pattern_is_refused(shelf: Shelf, tmp_path: Path, pattern: str) -> None:
    draw(tmp_path / "photos" / "a.jpg", 1)
    with pytest.raises(UsageError, match="exclude"):
        shelf.index(tmp_path / "photos", exclude=[pattern])
    assert shelf.rows("SELECT path FROM roots") == []


@given(
    name=st.text(st.sampled_from("ab#! \\*?[]{}~.$^-\n\t\udcffé"), min_size=1, max_size=6),
    style=st.sampled_from(STYLES),
)
def test_a_forgotten_name_is_excluded_and_no_other(name: str, style: Style) -> None:
    patterns = compiled((literal(f"a/{name}", style),), style)
    assert patterns.excludes(f"a/{name}") and patterns.excludes(f"a/{name}/")
    assert not any(patterns.excludes(other) for other in (name, f"b/a/{name}", f"a/{name}x", f"a/x{name}"))
    others = name.translate(str.maketrans("*?[\\", "xxxx"))
    assert others == name or not patterns.excludes(f"a/{others}")


# An existing library


def test_the_first_run_with_default_excludes_reports_what_leaves(shelf: Shelf, nas: Path) -> None:
    (nas / "Shoot" / ".nomedia").touch()
    shelf.index(nas, hidden=True, default_excludes=False, ignore_files=False)
    vectors = shelf.vectors()
    as_older(shelf)
    for preview in (True, False):
        report = shelf.index(preview=preview)
        assert len(report.notices) == 1
        assert report.notices[0].startswith("29 pictures leave the library")
        assert "22 in trash" in report.notices[0] and "7 by .nomedia" in report.notices[0]
        assert "`default_excludes=False`" in report.notices[0] and "`ignore_files=False`" in report.notices[0]
    assert report.excluded == 30  # With the metadata of macOS, which never was a picture.
    assert shelf.vectors() == vectors
    assert shelf.index().notices == ()
    report = shelf.index(default_excludes=False, ignore_files=False)
    assert (report.encoded, report.failed, shelf.vectors()) == (0, (), vectors)


def test_an_existing_library_may_keep_everything_from_the_start(shelf: Shelf, nas: Path) -> None:
    shelf.index(nas, default_excludes=False)
    as_older(shelf)
    report = shelf.index(default_excludes=False)
    assert (report.excluded, report.notices) == (0, ())


def test_a_stopped_run_reports_what_leaves_only_once_it_does(shelf: Shelf, nas: Path) -> None:
    shelf.index(nas, default_excludes=False)
    as_older(shelf)
    assert shelf.index(nas, hidden=True, stop=lambda: True).interrupted
    assert "leave the library" in shelf.index().notices[0]


# Placeholders


def test_empty_files_are_placeholders_and_noticed_when_they_have_content(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos / "a.jpg", 1)
    (photos / "b.jpg").touch()
    for name in (".IMG_1.HEIC.icloud", "c.jpg.nextcloud", "notes.txt.nextcloud", ".notes.txt.icloud", "empty.txt"):
        (photos / name).write_bytes(b"x" * (name != "empty.txt"))
    for hidden in (False, True):
        report = shelf.index(photos, hidden=hidden)
        assert [Path(p.path).name for p in report.placeholders] == [".IMG_1.HEIC.icloud", "b.jpg", "c.jpg.nextcloud"]
        assert (report.failed, report.failed_before) == ((), 0)
        assert known(shelf, photos) == {"a.jpg"}
    draw(photos / "b.jpg", 2)
    draw(photos / "c.jpg", 3)
    (photos / "c.jpg.nextcloud").unlink()
    report = shelf.index()
    assert (report.indexed, len(report.placeholders)) == (2, 1)


def test_a_picture_that_becomes_a_placeholder_stays_a_hit(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    stamps = {}
    for i, name in enumerate(("a.jpg", "b.jpg", "c.jpg", "d.jpg")):
        stamps[name] = draw(photos / name, i).read_bytes()
    shelf.index(photos)
    (photos / "b.jpg").write_bytes(b"")
    (photos / "c.jpg").rename(tmp_path / "away")
    (photos / ".c.jpg.icloud").write_bytes(b"bplist00")
    report = shelf.index()
    assert (report.offline, report.missing, len(report.placeholders)) == (2, 0, 2)
    assert len(shelf.hits()) == 4
    (photos / "b.jpg").write_bytes(stamps["b.jpg"])
    age(photos / "b.jpg")
    (tmp_path / "away").rename(photos / "c.jpg")
    (photos / ".c.jpg.icloud").unlink()
    report = shelf.index()
    assert (report.restored, report.encoded, report.offline) == (2, 0, 0)


def test_an_empty_file_that_had_failed_is_a_placeholder_now(shelf: Shelf, tmp_path: Path) -> None:
    from clipsearch.catalog.catalog import Catalog

    photos = tmp_path / "photos"
    draw(photos / "a.jpg", 1)
    (photos / "b.jpg").touch()
    shelf.index(photos)
    catalog = Catalog.open(shelf.folder, writable=True)
    with catalog.transaction():
        empty = catalog.contents.put(
            b"\xe3" * 32, size=0, state="failed", reason="the file is empty", decoder="", now="2026-01-01T00:00:00Z"
        )
        catalog.files.put(os.fsencode(photos / "b.jpg"), content_id=empty, size=0, mtime_ns=1)
    catalog.close()
    report = shelf.index()
    assert (report.failed_before, report.failed, report.excluded, report.missing) == (0, (), 0, 0)
    assert [Path(p.path).name for p in report.placeholders] == ["b.jpg"]
    assert known(shelf, photos) == {"a.jpg"}
    assert shelf.rows("SELECT count(*) FROM contents") == [(1,)]


def test_a_named_empty_file_is_a_placeholder_too(shelf: Shelf, tmp_path: Path) -> None:
    empty = tmp_path / "a.jpg"
    empty.touch()
    report = shelf.index(empty)
    assert ([p.path for p in report.placeholders], report.failed) == ([str(empty)], ())
    draw(empty, 1)
    assert shelf.index().indexed == 1


def test_files_without_content_on_the_disk_are_not_read_to_find_their_type(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1, side=200)
    draw(tmp_path / "b", 2, format="PNG")
    draw(tmp_path / "tiny", 3, side=4, format="PNG")  # Some file systems keep it in the inode.
    with open(tmp_path / "hollow", "wb") as file:
        file.truncate(1_000_000)
    seen = walked(tmp_path, all_files=True)
    assert [os.path.basename(c.path) for c in seen] == [b"a.png", b"b", b"tiny"]
    assert list(seen.placeholders) == [os.fsencode(tmp_path / "hollow")]
    shutil.rmtree(tmp_path / "alone", ignore_errors=True)
    (tmp_path / "alone").mkdir()
    (tmp_path / "hollow").rename(tmp_path / "alone" / "hollow")
    seen = walked(tmp_path / "alone", all_files=True)  # No other file shows that blocks are counted here.
    assert (list(seen), len(seen.placeholders)) == ([], 1)


# Live Photos and links


def test_the_video_of_a_live_photo_is_not_counted(tmp_path: Path) -> None:
    for name in ("IMG_1.HEIC", "IMG_2.JPG", "IMG_3.heic", "IMG_3.jpg", "IMG_5.png"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("IMG_1.MOV", "img_2.mov", "IMG_3.MP4", "IMG_4.MOV", "IMG_5.MOV", "IMG_2.mp4"):
        (tmp_path / name).write_bytes(b"x")
    seen = walked(tmp_path)
    assert len(list(seen)) == 5
    assert seen.ignored["video"] == 3


def test_a_folder_that_became_a_link_is_reported_once(shelf: Shelf, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for i, name in enumerate(("a.jpg", "sub/b.jpg", "sub/deep/c.jpg")):
        draw(photos / name, i)
    shelf.index(photos)
    (photos / "sub").rename(tmp_path / "elsewhere")
    (photos / "sub").symlink_to(tmp_path / "elsewhere")
    report = shelf.index()
    assert (report.excluded, len(report.notices)) == (2, 1)
    assert report.notices[0].startswith(f"{photos / 'sub'}: a link, not followed; 2 pictures")
    assert shelf.index().notices == ()
    report = shelf.index(follow=True)
    assert (report.copied, report.encoded) == (2, 0)


def test_classifying_a_folder_leaves_out_the_same_and_mentions_placeholders(cli: Cli, tmp_path: Path) -> None:
    for i, name in enumerate(("a.jpg", "@eaDir/b.jpg", "Private/c.jpg")):
        draw(tmp_path / "photos" / name, i)
    (tmp_path / "photos" / "Private" / ".nomedia").touch()
    (tmp_path / "photos" / "cloud.jpg").touch()
    ran = cli("classify", "photos", "--labels", "dog", "sky", "--model", "builtin", "--json", cwd=tmp_path)
    assert (ran.code, [Path(image["path"]).name for image in ran.json["results"]]) == (0, ["a.jpg"])
    assert "1 file is a placeholder" in ran.err and "cloud.jpg" in ran.err
