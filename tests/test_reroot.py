"""`reroot`: a folder has moved, and what is deleted or added at its new place must be noticed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers import Shelf, draw

from clipsearch.catalog.catalog import Catalog
from clipsearch.errors import UsageError
from clipsearch.files import absolute
from clipsearch.indexing.roots import Root, Roots
from clipsearch.library.doctor import doctor


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "library")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for seed, name in enumerate(("own.png", "sub/a.png", "sub/b.png", "sub/deep/c.png", "sub/.hidden/d.png")):
        draw(tmp_path / "photos" / name, seed)
    return tmp_path / "photos"


def reroot(shelf: Shelf, old: Path, new: Path) -> int:
    from clipsearch.library import library

    with contextlib.closing(library.Library.open(shelf.folder)) as opened:
        return opened.reroot(old, new)


def roots(shelf: Shelf) -> dict[str, Root]:
    with contextlib.closing(Catalog.open(shelf.folder)) as catalog:
        return {os.fsdecode(path): root for path, root in sorted(Roots(catalog).all.items())}


def move(shelf: Shelf, old: Path, new: Path) -> int:
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(old, new)
    return reroot(shelf, old, new)


def check_lives(shelf: Shelf, folder: Path, count: int) -> None:
    """What is deleted from a folder with `count` images is missing in the next run, and what is added is found."""
    assert sum(path.startswith(f"{folder}/") for path in shelf.hits()) == count
    draw(folder / "new.png", 90)
    next(folder.rglob("a.png")).unlink()
    report = shelf.index()
    assert (report.indexed, report.missing, report.offline, report.excluded, report.failed) == (1, 1, 0, 0, ())
    assert sum(path.startswith(f"{folder}/") for path in shelf.hits()) == count


def test_a_folder_of_a_root_that_leaves_every_root_becomes_one(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos)
    assert move(shelf, photos / "sub", tmp_path / "elsewhere" / "sub") == 3
    assert list(roots(shelf)) == [str(tmp_path / "elsewhere" / "sub"), str(photos)]
    assert (shelf.index().unchanged, shelf.index().opened) == (4, 0)
    check_lives(shelf, tmp_path / "elsewhere" / "sub", 3)


def test_it_takes_the_options_of_its_old_root_along(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    for name in ("sub/deep/no/x.png", "sub/no/x.png", "no/x.png", "sub/raw-1/x.png", "other/y.png", "sub/z.jpg"):
        draw(photos / name, 50 + len(name))
    given = ["/sub/deep/no", "/sub/raw-*/", "/other", "/deep", "*.jpg", "./sub/deep/never"]
    shelf.index(photos, exclude=given, hidden=True)
    before = len(shelf.states())
    assert move(shelf, photos / "sub", tmp_path / "new") == 5
    options = roots(shelf)[str(tmp_path / "new")].options
    assert options.exclude == ("/deep/no", "/raw-*/", "*.jpg", "/deep/never")
    assert options.hidden
    report = shelf.index()
    assert (report.unchanged, report.indexed, report.excluded) == (before, 0, 0)
    check_lives(shelf, tmp_path / "new", 5)


BOTH = (
    ("name", ("name",)),
    ("name/", ("name/",)),
    ("/one/two/x", ("/x",)),
    ("one/two/x/*.png", ("/x/*.png",)),
    ("/o*/t?o/x", ("/x",)),
    ("/one/**/x", ("/**/x",)),
    ("/one/two", ()),
    ("/one/two/", ()),
    ("/one", ()),
    ("/one/three/x", ()),
    ("!/one/two/x", ("!/x",)),
)


@pytest.mark.parametrize(
    ("pattern", "kept", "style"),
    [
        *((pattern, kept, style) for pattern, kept in BOTH for style in ("gitignore", "fnmatch")),
        ("*/x", ("*/x", "/x"), "fnmatch"),
        ("**/x", ("**/x", "/x"), "fnmatch"),
        ("*/x", (), "gitignore"),
        ("*/*/x", ("/x",), "gitignore"),
        ("/[n-p]ne/t[!a]o/x", ("/x",), "gitignore"),
        ("**/x", ("**/x",), "gitignore"),
        ("!**/x", ("!**/x",), "gitignore"),
    ],
)
def test_an_exclusion_with_a_slash_is_kept_where_it_has_a_meaning(
    shelf: Shelf, tmp_path: Path, pattern: str, kept: tuple[str, ...], style: str
) -> None:
    draw(tmp_path / "photos" / "one" / "two" / "a.png")
    shelf.index(tmp_path / "photos")
    with contextlib.closing(Catalog.open(shelf.folder, writable=True)) as catalog, catalog.transaction():
        [row] = catalog.conn.execute("SELECT options FROM roots")
        options = json.dumps(json.loads(row[0]) | {"exclude": [pattern], "exclude_style": style})
        catalog.conn.execute("UPDATE roots SET options = ?", (options,))
    assert move(shelf, tmp_path / "photos" / "one" / "two", tmp_path / "new") == 1
    assert roots(shelf)[str(tmp_path / "new")].options.exclude == kept


def test_forgotten_names_stay_forgotten_though_they_look_like_globs(shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "2020 [best] *"
    draw(folder / "a.png", 1)
    draw(folder / "[x]" / "b.png", 2)
    shelf.index(tmp_path / "photos")
    from clipsearch.library.library import Library

    with Library.open(shelf.folder) as library:
        assert library.forget([folder / "[x]"]) == 1
    assert move(shelf, folder, tmp_path / "new") == 1
    assert shelf.index().unchanged == 1
    assert shelf.hits() == [str(tmp_path / "new" / "a.png")]


def test_a_folder_that_another_root_walks_to_makes_no_root(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    draw(tmp_path / "archive" / "own.png", 40)
    shelf.index(photos, tmp_path / "archive")
    assert move(shelf, photos / "sub", tmp_path / "archive" / "2020") == 3
    assert list(roots(shelf)) == [str(tmp_path / "archive"), str(photos)]
    check_lives(shelf, tmp_path / "archive" / "2020", 3)


@pytest.mark.parametrize("place", ["archive/.hidden/sub", "archive/left out/sub", "photos/.moved"])
def test_a_folder_that_no_walk_comes_to_becomes_a_root(shelf: Shelf, photos: Path, tmp_path: Path, place: str) -> None:
    draw(tmp_path / "archive" / "own.png", 40)
    shelf.index(photos)
    shelf.index(tmp_path / "archive", exclude=["left out"])
    assert move(shelf, photos / "sub", tmp_path / place) == 3
    assert str(tmp_path / place) in roots(shelf)
    check_lives(shelf, tmp_path / place, 3)


def test_a_folder_that_stays_in_its_root_makes_no_root(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    assert move(shelf, photos / "sub", photos / "2020" / "sub") == 3
    assert list(roots(shelf)) == [str(photos)]
    check_lives(shelf, photos / "2020" / "sub", 3)


def test_a_root_keeps_its_options_at_its_new_place(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos, exclude=["/sub/deep"], hidden=True)
    assert move(shelf, photos, tmp_path / "new") == 4
    [root] = roots(shelf).values()
    assert (root.path, root.options.exclude, root.options.hidden) == (
        os.fsencode(tmp_path / "new"), ("/sub/deep",), True,
    )  # fmt: skip
    check_lives(shelf, tmp_path / "new", 4)


def test_roots_and_named_files_below_move_with_their_folder(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    odd = draw(photos / "sub" / "deep" / "odd.dat", 41, format="PNG")
    shelf.index(photos, photos / "sub" / ".hidden", odd)
    assert move(shelf, photos / "sub", tmp_path / "new") == 5
    assert list(roots(shelf)) == [
        *(str(tmp_path / "new"), str(tmp_path / "new" / ".hidden"), str(tmp_path / "new" / "deep" / "odd.dat")),
        str(photos),
    ]
    check_lives(shelf, tmp_path / "new", 5)


def test_a_folder_around_several_roots_does_not_become_one(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    draw(photos / "other" / "x.png", 42)
    shelf.index(photos / "sub", photos / "other")
    assert move(shelf, photos, tmp_path / "new") == 4
    assert list(roots(shelf)) == [str(tmp_path / "new" / "other"), str(tmp_path / "new" / "sub")]
    check_lives(shelf, tmp_path / "new" / "sub", 3)


def test_a_folder_that_its_outer_root_left_out_does_not_become_one(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    draw(photos / ".private" / "roots" / "a.png", 60)
    draw(photos / ".private" / "a.png", 61)
    shelf.index(photos, photos / ".private" / "roots")
    assert move(shelf, photos / ".private", tmp_path / "new") == 1
    assert list(roots(shelf)) == [str(tmp_path / "new" / "roots"), str(photos)]
    assert shelf.index().indexed == 0


def test_files_that_an_earlier_version_left_in_no_root_get_one(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos)
    with contextlib.closing(Catalog.open(shelf.folder, writable=True)) as catalog, catalog.transaction():
        catalog.conn.execute("DELETE FROM roots")
    assert move(shelf, photos / "sub", tmp_path / "new") == 3
    check_lives(shelf, tmp_path / "new", 3)


def test_doctor_reports_files_in_no_root(shelf: Shelf, photos: Path) -> None:
    for seed, name in enumerate(("sub-b/x.png", "sub/y.png", "sub0.png", "named.png")):
        draw(photos / name, 70 + seed)
    shelf.index(photos)

    def found(*roots: str) -> list[str]:
        with contextlib.closing(Catalog.open(shelf.folder, writable=True)) as catalog, catalog.transaction():
            catalog.conn.execute("DELETE FROM roots")
            for root in roots:
                values = os.fsencode(photos / root), "{}", "[]"
                catalog.conn.execute("INSERT INTO roots (path, options, mounts) VALUES (?, ?, ?)", values)
        notes = [
            f"{f.text.split()[0]} {f.advice.split()[-1]}" for f in doctor(shelf.folder) if "in no indexed" in f.text
        ]
        return [note.replace(str(photos), "photos") for note in notes]

    assert found("") == []
    assert found() == ["8 photos"]
    assert found("sub", "own.png") == ["3 photos"]
    assert found("named.png", "sub", "own.png") == ["2 photos/sub-b"]
    assert found("named.png", "sub", "own.png", "sub-b") == ["1 photos"]
    assert found("named.png", "sub", "own.png", "sub-b", "sub0.png", "sub/deep") == []


def test_a_folder_where_a_named_file_was_becomes_a_root(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    place = draw(tmp_path / "place.png", 43)
    shelf.index(photos, place)
    place.unlink()
    assert move(shelf, photos / "sub", place) == 3
    assert not roots(shelf)[str(place)].is_file
    assert shelf.index().missing == 1  # the named file
    check_lives(shelf, place, 3)


def test_a_named_file_is_not_a_folder_that_moves(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.index(photos / "own.png")
    with pytest.raises(UsageError, match="no files there"):
        reroot(shelf, photos / "own.png", shelf.folder)
    assert list(roots(shelf)) == [str(photos / "own.png")]


def test_a_folder_that_was_copied_to_another_place_is_not_read_again(
    shelf: Shelf, photos: Path, tmp_path: Path
) -> None:
    shelf.index(photos)
    shutil.copytree(photos, tmp_path / "new")
    shutil.rmtree(photos)
    assert reroot(shelf, photos, tmp_path / "new") == 4
    report = shelf.index()
    assert (report.unchanged, report.opened) == (4, 0)


def test_mount_points_move_with_their_folder(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    """An absent drive stays known as one, and a folder that is none is forgotten."""
    shelf.index(photos)
    with contextlib.closing(Catalog.open(shelf.folder, writable=True)) as catalog, catalog.transaction():
        known = Roots(catalog)
        mounts = tuple(absolute(photos / name) for name in ("sub/deep", "sub/drive", "elsewhere"))
        known.put(Root(absolute(photos), mounts=mounts))
        known.save()
    move(shelf, photos / "sub", tmp_path / "new")
    assert roots(shelf)[str(tmp_path / "new")].mounts == (absolute(tmp_path / "new" / "drive"),)
