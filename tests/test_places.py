"""A folder is found under every name that means it: `--in`, and the paths that `show`, `forget` and `reroot` take."""

from __future__ import annotations

import os
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import Shelf, draw, load_tiny, reload_tiny, use_encoders

from clipsearch import Library
from clipsearch.catalog.filters import Filter
from clipsearch.errors import UsageError
from clipsearch.search.filter_options import parse_within, read_filter
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Indexed

Found = Callable[..., list[str]]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    use_encoders(monkeypatch.setattr, load_tiny, reload_tiny)
    return Shelf(tmp_path / "library")


@pytest.fixture
def found(shelf: Shelf, tmp_path: Path) -> Found:
    """The hits of a query with `--in` for each of these places, by their paths below the test's folder."""

    def ask(*places: str) -> list[str]:
        options = QueryOptions(explain=False, relevant=False, judge=False)
        with Library.open(shelf.folder) as library:
            hits = library.query(Indexed(1), k=100, where=Filter(within=parse_within(places)), options=options)
        return sorted(os.path.relpath(hit.path, tmp_path) for hit in hits)

    return ask


def enter(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Go to a folder as a shell does: PWD has the name by which it was entered."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PWD", str(folder))


@pytest.mark.parametrize("name", ["a [1]", "what?", "st*r", "[a-z]", "[[]x]"])
def test_the_name_of_the_working_folder_is_no_glob(
    shelf: Shelf, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for seed, place in enumerate((f"{name}/2020/x.png", f"{name}/2021/y.png", "a 1/2020/z.png", "m/2020/z.png")):
        draw(tmp_path / place, seed)
    draw(tmp_path / "star" / "2020" / "z.png", 9)
    shelf.index(tmp_path)
    enter(monkeypatch, tmp_path / name)
    both = [f"{name}/2020/x.png", f"{name}/2021/y.png"]
    assert found("./202?/*.png") == both
    assert found("202*/*") == found("./*/*") == found(".") == found("202?/../20*/") == found("*0/*", "*1/*") == both
    assert found("2020") == found("./2020/") == found("2020/x.*") == both[:1]
    assert found(str(tmp_path / name / "2021")) == both[1:]
    assert found("x.*") == both[:1]


def test_a_folder_whose_name_looks_like_a_glob_is_found_by_it(
    shelf: Shelf, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "2020 [best]" / "x.png", 1)
    draw(tmp_path / "2020 b" / "x.png", 2)
    shelf.index(tmp_path)
    enter(monkeypatch, tmp_path)
    for place in ("2020 [best]", "2020 [best]/", "./2020 [best]", str(tmp_path / "2020 [best]")):
        assert found(place) == ["2020 [best]/x.png"]
    assert found("2020 [best]/*") == ["2020 b/x.png"]


def test_a_folder_that_was_entered_through_a_link_has_both_names(
    shelf: Shelf, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "disk" / "photos" / "sub" / "a.png", 1)
    draw(tmp_path / "disk" / "photos" / "b.png", 2)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "photos")
    shelf.index(tmp_path / "link")
    everywhere = (tmp_path, tmp_path / "link", tmp_path / "link" / "sub", tmp_path / "disk" / "photos")
    for folder in everywhere:
        enter(monkeypatch, folder)
        for base in (tmp_path / "link", tmp_path / "disk" / "photos"):
            assert found(str(base / "sub")) == found(f"{base}/s*/*") == ["link/sub/a.png"]
    enter(monkeypatch, tmp_path / "link")
    assert found("sub") == found("./s*/*") == found("sub/a.png") == ["link/sub/a.png"]
    assert found(".") == found("./*") == ["link/b.png", "link/sub/a.png"]
    assert found("../link/sub") == ["link/sub/a.png"]
    monkeypatch.setenv("PWD", str(tmp_path / "nowhere"))  # as a program may leave it behind
    assert found("sub") == ["link/sub/a.png"]
    monkeypatch.delenv("PWD")
    assert found("sub") == ["link/sub/a.png"]
    assert found(str(tmp_path / "disk")) == ["link/b.png", "link/sub/a.png"]


def test_a_library_of_the_real_folder_is_asked_through_a_link(
    shelf: Shelf, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "disk" / "photos" / "sub" / "a.png", 1)
    draw(tmp_path / "disk" / "photos" / "b.png", 2)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "photos")
    shelf.index(tmp_path / "disk")
    for folder in (tmp_path, tmp_path / "link"):
        enter(monkeypatch, folder)
        assert found(str(tmp_path / "link" / "sub")) == found(f"{tmp_path}/link/s*/*") == ["disk/photos/sub/a.png"]
    assert found("sub") == found("./sub/*") == ["disk/photos/sub/a.png"]
    assert found("nowhere") == found("./nowhere/*") == []


def test_two_slashes_at_the_beginning_are_one(shelf: Shelf, found: Found, tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.png", 1)
    shelf.index(Path(f"/{tmp_path}/photos"))
    assert [path.decode() for (path,) in shelf.rows("SELECT path FROM roots")] == [str(tmp_path / "photos")]
    for slashes in ("/", "//", "///"):
        place = slashes + str(tmp_path).lstrip("/")
        assert found(f"{place}/photos") == found(f"{place}//photos/*.png") == ["photos/a.png"]


FORMS = ("NFC", "NFD")


@pytest.mark.parametrize("stored", FORMS)
@pytest.mark.parametrize("given", FORMS)
def test_composed_and_decomposed_names_are_the_same(
    shelf: Shelf, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str, given: str
) -> None:
    def form(name: str) -> str:
        return unicodedata.normalize(given, name)

    folder = tmp_path / unicodedata.normalize(stored, "Märchen") / unicodedata.normalize("NFD", "Zürich")
    draw(folder / unicodedata.normalize(stored, "é.png"), 1)
    draw(tmp_path / "Marchen" / "a.png", 2)
    shelf.index(tmp_path)
    only = [os.path.relpath(folder, tmp_path) + "/" + unicodedata.normalize(stored, "é.png")]
    enter(monkeypatch, tmp_path)
    for place in ("Märchen", "Märchen/Zürich", "Märchen/Zürich/é.png", "./M*/Zü*", "é.*", "Märchen/*", "*/Z*/é*"):
        assert found(form(place)) == only, place
    with Library.open(shelf.folder) as library:
        path = tmp_path / form("Märchen") / form("Zürich")
        assert library.show(path / form("é.png"), k=0).id
        assert library.forget([path]) == 1
        with pytest.raises(UsageError):
            library.show(path / form("é.png"))


def test_both_forms_may_stand_for_different_folders(
    shelf: Shelf, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, form in enumerate(FORMS):
        draw(tmp_path / unicodedata.normalize(form, "é") / f"{form}.png", seed)
    shelf.index(tmp_path)
    enter(monkeypatch, tmp_path)
    for form in FORMS:
        assert [os.path.basename(path) for path in found(unicodedata.normalize(form, "é"))] == [f"{form}.png"]


def test_case_matters_where_the_file_system_tells_names_apart(
    shelf: Shelf, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "Photos" / "a.png", 1)
    shelf.index(tmp_path)
    enter(monkeypatch, tmp_path)
    assert found("Photos") == ["Photos/a.png"]
    assert found("photos") == found("photos/*") == found("PHOTOS") == []
    (tmp_path / "photos").mkdir()
    assert found("photos") == []


@pytest.fixture
def without_case(tmp_path: Path) -> Iterator[Path]:
    """A folder that does not tell names apart that differ in case: a FAT image, or links that make it look so."""
    place = tmp_path / "drive"
    place.mkdir()
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    mounted = False
    if os.path.exists("/sbin/mkfs.vfat"):
        subprocess.run(["/sbin/mkfs.vfat", image], check=True, capture_output=True)
        mounted = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True).returncode == 0
    yield place
    if mounted:
        subprocess.run(["umount", "-l", place], check=True)


def test_case_does_not_matter_where_the_file_system_ignores_it(
    shelf: Shelf, found: Found, without_case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(without_case / "Photos" / "Über" / "a.png", 1)
    draw(without_case / "Other" / "b.png", 2)
    if not (without_case / "photos").exists():
        for name in ("photos", "PHOTOS", "pHOTOS"):
            (without_case / name).symlink_to("Photos")
    shelf.index(without_case)
    enter(monkeypatch, without_case)
    for place in ("Photos", "photos", "PHOTOS", "photos/*"):
        assert found(place) == ["drive/Photos/Über/a.png"], place
    with Library.open(shelf.folder) as library:
        assert library.forget([without_case / "photos"]) == 1


# As texts: what a server is sent


def test_as_texts_places_are_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "*", "[a]"):
        (tmp_path / name).mkdir()
    enter(monkeypatch, tmp_path)
    for place, expected in (
        ("/a//b/../c/", [b"/a/c"]),
        ("//a", [b"/a"]),
        ("/", [b"/"]),
        ("/a/*", [b"/a/*"]),
        ("/a/./2?/*.jpg", [b"/a/2?/*.jpg"]),
        ("/a [1]/b", [b"/a [[]1]/b", b"/a [1]/b"]),
        ("*.jpg", [b"*/*.jpg"]),
        ("[a]", [b"*/[a]"]),
        ("*", [b"*/*"]),
        ("~*", [b"*/~*"]),
        ("*/2019/*", [b"*/2019/*"]),
        ("*/2019/", [b"*/2019"]),
        ("*/../a", [b"*/a"]),
    ):
        assert parse_within([place], as_text=True) == tuple(expected), place
    for place in (
        "a",
        "",
        ".",
        "..",
        "a/",
        "a/*",
        "./*",
        "../*.jpg",
        "~",
        "~/photos",
        "~root/*",
        "a/b",
        "[a]/b",
        "[[]",
    ):
        with pytest.raises(UsageError, match="must be an absolute path, or a glob such as"):
            parse_within(["/", place], as_text=True)
    for place in ("/a\0b", "\0*", "/\udc80\ud800"):
        with pytest.raises(UsageError, match="a path cannot contain"):
            parse_within([place], as_text=True)


def test_as_texts_places_have_the_names_that_the_library_knows(shelf: Shelf, tmp_path: Path) -> None:
    draw(tmp_path / "disk" / unicodedata.normalize("NFD", "Zürich") / "a.png", 1)
    draw(tmp_path / "disk" / "b.png", 2)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "second").symlink_to(tmp_path / "disk")
    shelf.index(tmp_path / "link")
    with Library.open(shelf.folder) as library:
        for place, count in (
            (tmp_path / "link", 2),
            (tmp_path / "link" / "Zürich", 1),
            (tmp_path / "disk", 2),  # The library's own folder is a link to it.
            (tmp_path / "disk" / "*.png", 2),
            (tmp_path, 2),
            (tmp_path / "second", 0),
            (tmp_path / "second" / "*", 0),
        ):
            where = read_filter(within=[str(place)], as_text=True)
            assert len(library.query(Indexed(1), where=where, options=QueryOptions(relevant=False))) == count, place
    assert read_filter(as_text=True) is None
