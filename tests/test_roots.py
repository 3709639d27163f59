"""Which folders a run walks, with which options, and to which root a file belongs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import Shelf, draw, without_privileges

from clipsearch.errors import UsageError


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "library")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images: in the folder, in `sub`, in `sub/deep`, in a hidden folder, and a PNG in `sub`."""
    for i, name in enumerate(("a.jpg", "sub/b.jpg", "sub/deep/c.jpg", ".hidden/d.jpg", "sub/e.png")):
        draw(tmp_path / "photos" / name, i)
    return tmp_path / "photos"


def roots(shelf: Shelf, base: Path) -> list[str]:
    return sorted(os.path.relpath(os.fsdecode(path), base) for (path,) in shelf.rows("SELECT path FROM roots"))


def known(shelf: Shelf, base: Path) -> list[str]:
    return [os.path.relpath(path, base) for path in shelf.states()]


def test_a_run_without_paths_scans_every_known_root_again(shelf: Shelf, tmp_path: Path) -> None:
    for i, name in enumerate(("one", "two")):
        draw(tmp_path / name / "a.jpg", i)
    shelf.index(tmp_path / "one")
    shelf.index(tmp_path / "two")
    draw(tmp_path / "one" / "b.jpg", 2)
    draw(tmp_path / "two" / "b.jpg", 3)
    report = shelf.index()
    assert (report.indexed, report.unchanged) == (2, 2)


def test_a_run_over_one_root_leaves_the_others_alone(shelf: Shelf, tmp_path: Path) -> None:
    for i, name in enumerate(("one", "two")):
        draw(tmp_path / name / "a.jpg", i)
        shelf.index(tmp_path / name)
    (tmp_path / "two" / "a.jpg").unlink()
    report = shelf.index(tmp_path / "one")
    assert (report.unchanged, report.missing, report.offline) == (1, 0, 0)
    assert set(shelf.states().values()) == {"present"}


def test_options_stay_with_their_root(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos, exclude=["*.png"], hidden=True)
    assert known(shelf, photos) == [".hidden/d.jpg", "a.jpg", "sub/b.jpg", "sub/deep/c.jpg"]
    report = shelf.index()
    assert (report.unchanged, report.indexed, report.excluded) == (4, 0, 0)


def test_given_options_replace_the_old_ones_and_the_rest_stay(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos, exclude=["*.png"], hidden=True)
    report = shelf.index(photos, exclude=["deep"])
    assert (report.indexed, report.excluded) == (1, 1)
    assert known(shelf, photos) == [".hidden/d.jpg", "a.jpg", "sub/b.jpg", "sub/e.png"]
    report = shelf.index(exclude=[])
    assert (report.copied, report.encoded) == (1, 0)  # its content is still known
    report = shelf.index(hidden=False)
    assert report.excluded == 1
    assert ".hidden/d.jpg" not in known(shelf, photos)


def test_images_found_by_their_content_stay_until_the_option_is_turned_off(shelf: Shelf, photos: Path) -> None:
    draw(photos / "sub" / "IMG_1", 9, format="PNG")
    assert shelf.index(photos).ignored["other"] == 1
    report = shelf.index(photos, all_files=True)
    assert (report.indexed, report.unchanged, report.ignored["other"]) == (1, 4, 0)
    for paths in ((), (photos,), (photos / "sub",), (photos / "sub" / "IMG_1",)):
        report = shelf.index(*paths)
        assert (report.indexed, report.excluded, report.opened) == (0, 0, 0)
        assert roots(shelf, photos) == ["."]
    report = shelf.index(all_files=False)
    assert (report.unchanged, report.excluded, report.ignored["other"]) == (4, 1, 1)
    assert "sub/IMG_1" not in known(shelf, photos)


def test_a_file_that_is_no_image_any_more_leaves_and_an_unreadable_one_stays(shelf: Shelf, photos: Path) -> None:
    for seed, name in enumerate(("secret", "changed")):
        draw(photos / name, 20 + seed, format="PNG")
    shelf.index(photos, all_files=True)
    (photos / "secret").chmod(0)
    (photos / "changed").write_text("words")
    with without_privileges():
        report = shelf.index()
    assert (report.excluded, report.missing, report.failed) == (1, 0, ())
    assert (report.ignored["unreadable"], report.ignored["other"]) == (1, 1)
    assert str(photos / "secret") in shelf.hits() and str(photos / "changed") not in shelf.hits()


def test_an_inner_root_with_all_files_stays_in_an_outer_one_without(shelf: Shelf, photos: Path) -> None:
    draw(photos / "sub" / "IMG_1", 9, format="PNG")
    shelf.index(photos / "sub", all_files=True)
    shelf.index(photos)
    assert roots(shelf, photos) == [".", "sub"]
    assert "sub/IMG_1" in known(shelf, photos)
    shelf.index(photos, all_files=True)
    assert roots(shelf, photos) == ["."]
    assert shelf.index().unchanged == 5


def test_a_named_file_becomes_part_of_a_root_that_finds_it_by_its_content(shelf: Shelf, photos: Path) -> None:
    named = draw(photos / "picture.dat", 9, format="PNG")
    words = photos / "words.dat"
    words.write_text("words")
    shelf.index(photos, named, words)
    assert roots(shelf, photos) == [".", "picture.dat", "words.dat"]
    report = shelf.index(photos, all_files=True)
    assert roots(shelf, photos) == [".", "words.dat"]
    assert (report.unchanged, sum(report.ignored.values())) == (5, 0)


def test_folders_without_images_are_reported(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    for name in ("Videos/a.mp4", "Videos/sub/b.mp4", "outer/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    draw(tmp_path / "outer" / "inner" / "a.jpg", 9)
    videos, outer = str(tmp_path / "Videos"), str(tmp_path / "outer")
    shelf.index(Path(outer) / "inner", exclude=["*.png"])
    for preview in (True, False):
        report = shelf.index(photos, Path(videos), Path(outer), preview=preview)
        assert report.without_images == (videos,)
        assert (report.ignored["video"], report.ignored["other"]) == (2, 1)
    report = shelf.index(Path(videos) / "sub")
    assert report.without_images == (f"{videos}/sub",)
    assert report.ignored["video"] == 1


def test_a_folder_that_lost_its_images_is_not_said_to_be_without_images(shelf: Shelf, photos: Path) -> None:
    """Its files are offline or missing; one line is enough."""
    shelf.index(photos)
    away = photos.rename(photos.parent / "away")
    photos.mkdir()
    report = shelf.index()
    assert (report.offline, report.without_images) == (4, ())
    (photos / "a.txt").touch()
    report = shelf.index()
    assert (report.missing, report.without_images) == (4, ())
    assert shelf.index().without_images == (str(photos),)
    photos.joinpath("a.txt").unlink()
    photos.rmdir()
    away.rename(photos)
    assert shelf.index().restored == 4


def test_what_an_exclusion_leaves_out_leaves_the_results(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    assert str(photos / "sub" / "e.png") in shelf.hits()
    report = shelf.index(photos, exclude=["*.png"])
    assert (report.excluded, report.missing) == (1, 0)
    assert str(photos / "sub" / "e.png") not in shelf.hits()


@pytest.mark.parametrize("given", ["./sub", "{photos}/sub"])
def test_an_exclusion_may_be_given_as_a_path(shelf: Shelf, photos: Path, given: str) -> None:
    draw(photos / "a" / "sub" / "x.png", 30)
    shelf.index(photos, exclude=[given.format(photos=photos)])
    assert known(shelf, photos) == ["a.jpg", "a/sub/x.png"]


def test_a_kept_exclusion_is_always_relative_to_its_root(shelf: Shelf, tmp_path: Path) -> None:
    """Even where it reads like a full path: what was forgotten is what stays away."""
    from clipsearch.catalog.catalog import Catalog
    from clipsearch.library.maintenance import forget

    root = Path("/").joinpath(*tmp_path.parts[1:], "photos")
    inner = root.joinpath(*root.parts[1:])  # the root's own path, once more below it
    draw(inner / "x.png", 1)
    draw(root / "x.png", 2)
    shelf.index(root)
    catalog = Catalog.open(shelf.folder, writable=True)
    try:
        forget(catalog, [os.fsencode(inner / "x.png")])
    finally:
        catalog.close()
    assert shelf.index().unchanged == 1
    assert list(shelf.states()) == [str(root / "x.png")]


def test_links_that_are_no_longer_followed_leave_the_results(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "x.jpg", 9)
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    shelf.index(photos, follow=True)
    assert str(photos / "link" / "x.jpg") in shelf.hits()
    report = shelf.index(photos, follow=False)
    assert report.excluded == 1
    assert str(photos / "link" / "x.jpg") not in shelf.hits()


def test_a_second_way_to_a_folder_takes_the_place_of_the_first(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    """Else the row under the old name would never be looked at again, and answer with an image that has changed."""
    draw(tmp_path / "elsewhere" / "x.jpg", 9)
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    shelf.index(photos, follow=True)
    (photos / "earlier").symlink_to(tmp_path / "elsewhere")
    report = shelf.index()
    assert (report.moved, report.encoded, report.copied, report.missing) == (1, 0, 0, 0)
    assert [p for p in known(shelf, photos) if p.endswith("x.jpg")] == ["earlier/x.jpg"]


def test_a_folder_inside_a_root_makes_no_root(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    draw(photos / "sub" / "new.jpg", 10)
    report = shelf.index(photos / "sub")
    assert (report.indexed, report.unchanged) == (1, 3)
    assert roots(shelf, photos) == ["."]


def test_deletions_are_judged_in_the_folder_that_was_scanned_only(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos)
    (photos / "a.jpg").unlink()
    (photos / "sub" / "b.jpg").unlink()
    report = shelf.index(photos / "sub")
    assert report.missing == 1
    states = shelf.states()
    assert (states[str(photos / "a.jpg")], states[str(photos / "sub" / "b.jpg")]) == ("present", "missing")


def test_an_outer_root_absorbs_an_inner_one_that_it_reaches(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos / "sub")
    report = shelf.index(photos)
    assert (report.indexed, report.unchanged) == (1, 3)
    assert roots(shelf, photos) == ["."]


def test_an_inner_root_stays_where_the_outer_one_does_not_come(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos / ".hidden")
    shelf.index(photos)
    assert roots(shelf, photos) == [".", ".hidden"]
    report = shelf.index()
    assert (report.unchanged, report.excluded) == (5, 0)
    shelf.index(photos, hidden=True)
    assert roots(shelf, photos) == ["."]
    assert len(shelf.hits()) == 5


def test_a_file_belongs_to_the_innermost_root(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos / "sub", exclude=["*.png"])
    report = shelf.index(photos)
    assert roots(shelf, photos) == [".", "sub"]
    assert (report.indexed, report.unchanged) == (1, 2)
    assert "sub/e.png" not in known(shelf, photos)
    report = shelf.index(photos, exclude=["*.jpg"])  # the outer root's only
    assert report.excluded == 1
    assert known(shelf, photos) == ["sub/b.jpg", "sub/deep/c.jpg"]


def test_what_was_forgotten_is_not_absorbed_back(shelf: Shelf, photos: Path) -> None:
    """An exclusion by path is its own root's: an outer root knows nothing of it."""
    shelf.index(photos / "sub", exclude=["/deep"])
    shelf.index(photos)
    shelf.index()
    assert "sub/deep/c.jpg" not in known(shelf, photos)
    shelf.index(photos, exclude=["/deep"])  # the same words, and another folder
    assert "sub/deep/c.jpg" not in known(shelf, photos)


def test_options_for_a_folder_inside_a_root_make_it_a_root(shelf: Shelf, photos: Path) -> None:
    draw(photos / "sub" / ".h" / "f.jpg", 11)
    shelf.index(photos)
    report = shelf.index(photos / "sub", hidden=True)
    assert report.indexed == 1
    assert roots(shelf, photos) == [".", "sub"]
    report = shelf.index()
    assert (report.unchanged, report.excluded) == (5, 0)


def test_named_files_are_scanned_again_and_never_excluded(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    odd = draw(tmp_path / "elsewhere" / "picture.dat", 20, format="PNG")
    hidden = photos / ".hidden" / "d.jpg"
    report = shelf.index(photos, odd, hidden)
    assert report.indexed == 6
    report = shelf.index(exclude=["*.dat", "d.jpg"])
    assert (report.unchanged, report.excluded) == (6, 0)
    draw(odd, 21, format="PNG")
    os.utime(odd, (1_000_000_000,) * 2)
    assert shelf.index().indexed == 1


def test_a_named_file_that_a_root_walks_to_is_no_root_of_its_own(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos / "a.jpg")
    assert roots(shelf, photos) == ["a.jpg"]
    shelf.index(photos)
    assert roots(shelf, photos) == ["."]
    shelf.index(photos / "sub" / "b.jpg")
    assert roots(shelf, photos) == ["."]


def test_a_named_file_that_was_deleted_is_missing(shelf: Shelf, photos: Path) -> None:
    shelf.index(photos / "a.jpg")
    (photos / "a.jpg").unlink()
    assert shelf.index().missing == 1
    assert shelf.hits() == []


def test_many_named_files_cost_no_more_than_their_number(shelf: Shelf, tmp_path: Path) -> None:
    """`--files-from` with thousands of names: looking for each one's root among all of them would never end."""
    from clipsearch.catalog.catalog import Catalog
    from clipsearch.images.sniff import IMAGE_SUFFIXES
    from clipsearch.indexing.roots import GivenOptions, Roots

    catalog = Catalog.open(shelf.folder)
    try:
        found = Roots(catalog)
        folder = os.fsencode(tmp_path / "many")
        os.mkdir(folder)
        paths = [folder + b"/%05d.jpg" % i for i in range(20_000)]
        for path in paths:
            with open(path, "wb"):
                pass
        looked_up = 0
        original = type(found).owner

        class Counting(Roots):
            def owner(self, path: bytes):  # type: ignore[no-untyped-def]
                nonlocal looked_up
                looked_up += 1
                return original(self, path)

        counting = Counting(catalog)
        areas = counting.plan(paths, GivenOptions(), suffixes=IMAGE_SUFFIXES, own=os.fsencode(shelf.folder))
        assert [area.start for area in areas] == paths
        assert looked_up <= 3 * len(paths)
    finally:
        catalog.close()


def test_paths_that_do_not_exist_or_are_no_files_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: no such file"):
        shelf.index(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UsageError, match=r"pipe\.jpg: neither a folder nor a regular file"):
        shelf.index(tmp_path / "pipe.jpg")
    assert roots(shelf, tmp_path) == []


def test_the_librarys_own_folder_is_refused_and_passed_by(shelf: Shelf, tmp_path: Path) -> None:
    draw(shelf.folder / "inside.jpg", 1)
    draw(tmp_path / "outside.jpg", 2)
    (tmp_path / "alias").symlink_to(shelf.folder)
    for path in (shelf.folder, shelf.folder / "inside.jpg", tmp_path / "alias"):
        with pytest.raises(UsageError, match="own folder"):
            shelf.index(path)
    assert shelf.index(tmp_path, follow=True).indexed == 1
    assert shelf.hits() == [str(tmp_path / "outside.jpg")]


def test_a_bad_run_records_no_root(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        shelf.index(photos, tmp_path / "nowhere")
    assert roots(shelf, photos) == []


def test_names_that_are_no_text_round_trip(shelf: Shelf, tmp_path: Path) -> None:
    names = [b"new\nline.png", b"tab\there.png", b"\xff\xfe.png", "é🦊.png".encode(), b" .png", b"-k.png"]
    folder = os.fsencode(tmp_path / "photos") + b"/\xffolder"
    os.makedirs(folder)
    for i, name in enumerate(names):
        draw(tmp_path / "one.png", i).rename(os.fsdecode(os.path.join(folder, name)))
    report = shelf.index(tmp_path / "photos")
    assert (report.indexed, report.failed) == (len(names), ())
    assert {os.fsencode(path) for path in shelf.states()} == {os.path.join(folder, name) for name in names}
    assert shelf.index(folder).unchanged == len(names)


def test_a_folder_where_a_named_file_was_is_walked_and_the_other_way_round(shelf: Shelf, tmp_path: Path) -> None:
    place = draw(tmp_path / "place.png", 1)
    shelf.index(place)
    place.unlink()
    draw(place / "inside.png", 2)
    assert shelf.index().missing == 1  # a file was named, and there is none
    assert shelf.index(place).indexed == 1
    assert shelf.hits() == [str(place / "inside.png")]
