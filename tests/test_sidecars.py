"""Facts that belong to a path: those of XMP sidecars, of Google Takeout's JSON and of names, and what comes first."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Shelf, age, draw, without_privileges
from PIL import Image

from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.contents import ContentRow
from clipsearch.image_facts import Facts
from clipsearch.indexing import takeout
from clipsearch.indexing.filesystems import FileSystems
from clipsearch.indexing.path_facts import sidecars_in
from clipsearch.indexing.rules import ScanOptions
from clipsearch.indexing.sidecars import Beside


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "index")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def exif(date: str) -> Image.Exif:
    found = Image.Exif()
    found.get_ifd(0x8769)[0x9003] = date
    return found


def xmp(*, date: str = "", caption: str = "", rating: str = "", lat: str = "", lon: str = "", tag: str = "") -> str:
    values = {"photoshop:DateCreated": date, "xmp:Rating": rating, "exif:GPSLatitude": lat, "exif:GPSLongitude": lon}
    attributes = " ".join(f'{name}="{value}"' for name, value in values.items() if value)
    described = f"<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>{caption}</rdf:li></rdf:Alt></dc:description>"
    tagged = f"<dc:subject><rdf:Bag><rdf:li>{tag}</rdf:li></rdf:Bag></dc:subject>"
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
        <rdf:Description xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
        xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" {attributes}>
        {described if caption else ""}{tagged if tag else ""}</rdf:Description></rdf:RDF></x:xmpmeta>"""


def record(*, seconds: object = "1620037230", place: tuple[float, float] = (48.85, 2.35), words: object = "") -> str:
    """As Takeout writes it; 1620037230 is 2021-05-03, 10:20:30 UTC."""
    lat, lon = place
    geo = {"latitude": lat, "longitude": lon, "altitude": 0.0}
    return json.dumps({"title": "x", "description": words, "photoTakenTime": {"timestamp": seconds}, "geoData": geo})


def shown(shelf: Shelf) -> dict[str, ContentRow]:
    """What results show of each content, by the name of its first file."""
    catalog = Catalog.open(shelf.folder)
    try:
        ids = [content_id for (content_id,) in catalog.conn.execute("SELECT id FROM contents")]
        rows = catalog.contents.with_files(ids).values()
        return {os.fsdecode(os.path.basename(row.files[0][0])): row for row in rows if row.files}
    finally:
        catalog.close()


def taken(shelf: Shelf) -> dict[str, tuple[str | None, str | None]]:
    return {name: (row.taken_at, row.taken_source) for name, row in shown(shelf).items()}


def beside(folder: Path) -> Beside:
    return sidecars_in(os.fsencode(folder), os.fsencode(folder), ScanOptions(), FileSystems())


# Which file belongs to which image


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("X.jpg", "X.jpg.xmp"),
        ("X.jpg", "X.JPG.XMP"),
        ("X.jpg", "X.xmp"),
        ("x.NEF", "X.Xmp"),
        ("X.jpg", "X.jpg.json"),
        ("X.JPG", "X.jpg.json"),
        ("X.jpg", "X.jpg.supplemental-metadata.json"),
        ("X.jpg", "X.jpg.supplemental-meta.json"),
        ("X.jpg", "X.jpg.suppl.json"),
        ("X.jpg", "X.jpg.s.json"),
        ("X.jpg", "X.jpg..json"),
        ("X.jpg", "X.json"),
        ("X(1).jpg", "X.jpg(1).json"),
        ("X(1).jpg", "X(1).jpg.json"),
        ("X(12).jpg", "X.jpg.supplemental-metadata(12).json"),
        ("X(1).jpg", "X.jpg.supplemental-met(1).json"),
        ("X-edited.jpg", "X.jpg.json"),
        ("X-edited.jpg", "X.HEIC.supplemental-metadata.json"),
        ("X-edited(1).jpg", "X.jpg(1).json"),
        ("X-bearbeitet.jpg", "X.jpg.supplemental-metadata.json"),
        ("X-modifié.jpg", "X.jpg.suppl.json"),
        (f"{'n' * 45}.jpg", f"{'n' * 45}..json"),
        (f"{'n' * 44}.jpg", f"{'n' * 44}.j.json"),
        (f"{'n' * 47}.jpg", f"{'n' * 46}.json"),
        (f"{'é' * 47}(2).jpg", f"{'é' * 46}(2).json"),
        (f"{'n' * 47}-edited.jpg", f"{'n' * 46}.json"),
        ("caf\u0065\u0301.jpg", "caf\u00e9.jpg.xmp"),
    ],
)
def test_a_sidecar_is_known_by_its_name(tmp_path: Path, image: str, sidecar: str) -> None:
    for name in (image, sidecar):
        (tmp_path / name).write_bytes(b"x")
    found = beside(tmp_path)
    assert {os.fsdecode(name): list(json.loads(stamps)) for name, stamps in found.items()} == {image: [sidecar]}


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("X.jpg", "Y.jpg.xmp"),
        ("X.jpg", "X.png.xmp"),
        ("X.jpg", "X_01.xmp"),
        ("X.jpg", "X.jpg.metadata.json"),
        ("X.jpg", "X.jpg(1).json"),
        ("X.jpg", "X.jpg.supplemental-metadata(1).json"),
        ("X(1).jpg", "X.jpg.supplemental-metadata.json"),
        ("X-edited(1).jpg", "X.jpg.json"),
        ("X.jpg", "X.jp.json"),
        ("X.jpg", "metadata.json"),
        (f"{'n' * 47}(1).jpg", f"{'n' * 46}.json"),
        ("X.jpg", ".json"),
        ("X.jpg", ".xmp"),
    ],
)
def test_a_file_with_another_name_is_not_a_sidecar(tmp_path: Path, image: str, sidecar: str) -> None:
    for name in (image, sidecar):
        (tmp_path / name).write_bytes(b"x")
    assert not beside(tmp_path)


def test_a_cut_name_that_fits_several_images_belongs_to_none(tmp_path: Path) -> None:
    for name in (f"{'n' * 46}a.jpg", f"{'n' * 46}b.jpg", f"{'n' * 46}.json"):
        (tmp_path / name).write_bytes(b"x")
    assert not beside(tmp_path)


def test_names_that_differ_in_capitals_have_sidecars_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.JPG", "a.jpg.xmp", "a.JPG.xmp", "a.jpg.s.json", "a.JPG.s.json"):
        (tmp_path / name).write_bytes(b"x")
    found = beside(tmp_path)
    assert {name: list(json.loads(stamps)) for name, stamps in found.items()} == {
        b"a.jpg": ["a.jpg.xmp", "a.jpg.s.json"],
        b"a.JPG": ["a.JPG.xmp", "a.JPG.s.json"],
    }


def test_the_xmp_of_a_stem_belongs_to_the_raw_file_of_a_pair(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg", 1), draw(photos / "b.jpg", 2)
    (photos / "a.cr2").write_bytes(b"a raw file that cannot be read")
    for stem in "ab":
        (photos / f"{stem}.xmp").write_text(xmp(date="2001-02-03"))
    shelf.index(photos)
    assert taken(shelf)["a.jpg"] == (None, None)
    assert taken(shelf)["b.jpg"] == ("2001-02-03", "sidecar")
    rows = shelf.rows("SELECT taken_at FROM files WHERE path = ?", os.fsencode(photos / "a.cr2"))
    assert rows == [("2001-02-03",)]
    (photos / "a.jpg.xmp").write_text(xmp(date="2002-02-03"))
    shelf.index()
    assert taken(shelf)["a.jpg"] == ("2002-02-03", "sidecar")


def test_the_xmp_of_a_whole_name_comes_before_that_of_a_stem(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg")
    (photos / "a.xmp").write_text(xmp(date="2001-02-03", rating="4"))
    (photos / "a.jpg.xmp").write_text(xmp(date="2002-02-03"))
    shelf.index(photos)
    row = shown(shelf)["a.jpg"]
    assert (row.taken_at, row.rating) == ("2002-02-03", 4)


# Which fact is shown


def test_the_first_source_that_has_a_fact_is_shown(shelf: Shelf, photos: Path) -> None:
    name = "IMG-20040506-WA0001.jpg"
    draw(photos / name, exif=exif("2003:04:05 06:07:08"))
    full = xmp(date="2001-02-03T04:05:06", caption="corrected", rating="3", lat="10,0N", lon="20,0E", tag="barn")
    (photos / f"{name}.xmp").write_text(full)
    (photos / f"{name}.json").write_text(record(words="as Google has it"))
    shelf.index(photos)

    def now() -> tuple[object, ...]:
        row = shown(shelf)[name]
        return row.taken_at, row.taken_offset, row.taken_source, row.lat, row.caption, row.keywords, row.rating

    assert now() == ("2001-02-03T04:05:06", None, "sidecar", 10.0, "corrected", ("barn",), 3)
    (photos / f"{name}.xmp").write_text(xmp(tag="house"))
    assert shelf.index().facts == 1
    assert now() == ("2003-04-05T06:07:08", None, "exif", 48.85, "as Google has it", ("house",), None)
    draw(photos / name)
    shelf.index()
    assert now()[:3] == ("2021-05-03T10:20:30", 0, "takeout")
    (photos / f"{name}.json").unlink()
    (photos / f"{name}.xmp").unlink()
    shelf.index()
    assert now() == ("2004-05-06", None, "name", None, None, (), None)


def test_takeouts_description_comes_after_the_caption_of_the_bytes(shelf: Shelf, photos: Path) -> None:
    own = Image.Exif()
    own[0x010E] = "a title of the camera's owner"
    draw(photos / "a.jpg", exif=own)
    (photos / "a.jpg.json").write_text(record(words="as Google has it"))
    (photos / "a.jpg.xmp").write_text(xmp(rating="1"))
    shelf.index(photos)
    assert shown(shelf)["a.jpg"].caption == "a title of the camera's owner"
    (photos / "a.jpg.xmp").write_text(xmp(caption="corrected"))
    shelf.index()
    assert shown(shelf)["a.jpg"].caption == "corrected"


def test_copies_show_the_facts_of_the_first_path_that_is_present(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg"), draw(photos / "b.jpg")
    (photos / "b.jpg.xmp").write_text(xmp(date="2002-02-03"))
    shelf.index(photos)
    assert taken(shelf) == {"a.jpg": (None, None)}
    (photos / "a.jpg").unlink()
    shelf.index()
    assert taken(shelf) == {"b.jpg": ("2002-02-03", "sidecar")}


def test_a_moved_file_has_the_facts_of_its_new_path(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg")
    (photos / "a.jpg.xmp").write_text(xmp(date="2002-02-03"))
    shelf.index(photos)
    (photos / "a.jpg").rename(photos / "signal-2005-06-07-080910.jpg")
    report = shelf.index()
    assert (report.moved, report.encoded) == (1, 0)
    assert taken(shelf) == {"signal-2005-06-07-080910.jpg": ("2005-06-07T08:09:10", "name")}


# Changes between runs


@pytest.mark.parametrize("how", ["folder", "file", "all files"])
def test_a_changed_sidecar_is_read_without_the_image(shelf: Shelf, photos: Path, how: str) -> None:
    image, sidecar = draw(photos / "a.jpg"), photos / "a.xmp"
    first = shelf.index(image if how == "file" else photos, all_files=how == "all files")
    assert (first.indexed, first.facts) == (1, 0)
    for write, expected in (
        (lambda: sidecar.write_text(xmp(date="2001-02-03")), ("2001-02-03", "sidecar")),
        (lambda: sidecar.write_text(xmp(date="2001-02-03T04:05:06")), ("2001-02-03T04:05:06", "sidecar")),
        (lambda: sidecar.unlink(), (None, None)),
    ):
        write()
        preview = shelf.index(preview=True)
        assert (preview.facts, preview.indexed) == (1, 0)
        report = shelf.index()
        assert (report.facts, report.opened, report.unchanged, report.encoded) == (1, 0, 1, 0)
        assert taken(shelf) == {"a.jpg": expected}
        assert shelf.index().facts == 0


def test_a_sidecar_is_noticed_that_kept_its_size_and_time(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg")
    sidecar = photos / "a.xmp"
    for rating in (3, 4):
        sidecar.write_text(xmp(rating=str(rating)))
        age(sidecar)
        shelf.index(photos)
        assert shown(shelf)["a.jpg"].rating == rating


def test_a_file_that_is_back_gets_what_its_sidecar_says_now(shelf: Shelf, photos: Path) -> None:
    image = draw(photos / "a.jpg")
    shelf.index(photos)
    image.rename(photos.parent / "a.jpg")
    shelf.index()
    (photos.parent / "a.jpg").rename(image)
    (photos / "a.jpg.xmp").write_text(xmp(date="2001-02-03"))
    report = shelf.index()
    assert (report.restored, report.opened) == (1, 0)
    assert taken(shelf) == {"a.jpg": ("2001-02-03", "sidecar")}


def test_sidecars_are_counted_as_such(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg")
    for name in ("a.jpg.json", "a.xmp", "b.xmp"):
        (photos / name).write_text("{}")
    (photos / "other.json").write_text("{}")
    ignored = shelf.index(photos).ignored
    assert (ignored["sidecar"], ignored["other"]) == (3, 1)
    assert shelf.index(all_files=True).ignored == ignored


def test_an_interrupted_run_leaves_the_other_sidecars_to_the_next_one(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg")
    shelf.index(photos)
    (photos / "a.jpg.xmp").write_text(xmp(date="2001-02-03"))
    shelf.index(stop=lambda: True)
    assert taken(shelf) == {"a.jpg": (None, None)}
    assert shelf.index().facts == 1


def test_after_any_changes_facts_are_those_of_a_new_library(tmp_path: Path, photos: Path) -> None:
    shelf, rng = Shelf(tmp_path / "index"), random.Random(5)
    images = ["a.jpg", "a.png", "b(1).jpg", "b.jpg", "b-edited.jpg", "IMG-20210503-WA0001.jpg"]
    sidecars = ["a.xmp", "a.jpg.xmp", "b.jpg(1).json", "b.jpg.s.json", "IMG-20210503-WA0001.json", "b.jpg.json"]
    shelf.index(photos)

    def change() -> None:
        name, other = rng.choice(images + sidecars), rng.choice(images)
        path = photos / rng.choice(("", "folder")) / name
        path.parent.mkdir(exist_ok=True)
        if path.exists() and rng.random() < 0.4:
            path.unlink()
        elif name in images and (path.parent / other).exists() and rng.random() < 0.4:
            (path.parent / other).rename(path)
        elif name in images:
            draw(path, rng.randrange(4))
        elif rng.random() < 0.1:
            path.write_text("bad")
        else:
            day = f"{rng.randrange(2000, 2020)}-05-03"
            path.write_text(xmp(date=day) if name.endswith("xmp") else record(seconds=str(rng.randrange(10**9))))

    def facts(of: Shelf) -> list[tuple[Any, ...]]:
        return of.rows(
            "SELECT path, sidecars, taken_at, taken_offset, taken_source, lat, lon, place_source FROM files "
            "WHERE state = 'present' ORDER BY path"
        )

    for step in range(12):
        for _ in range(rng.randrange(1, 6)):
            change()
        shelf.index()
        new = Shelf(tmp_path / f"new {step}")
        new.index(photos)
        assert facts(shelf) == facts(new)


# Whole folders


def test_a_folder_of_takeout(shelf: Shelf, photos: Path) -> None:
    long = "a long name of a picture that Takeout cuts off somewhere"
    pairs = {  # each image with its JSON; an edited copy has that of its original
        "IMG_1.jpg": "IMG_1.jpg.supplemental-metadata.json",
        "IMG_1(1).jpg": "IMG_1.jpg.supplemental-metadata(1).json",
        "IMG_2.jpg": "IMG_2.jpg.json",
        "IMG_2(1).jpg": "IMG_2.jpg(1).json",
        "IMG_2-edited.jpg": "IMG_2.jpg.json",
        "IMG_20190804_143558_PORTRAIT.jpg": "IMG_20190804_143558_PORTRAIT.jpg.supplemental-.json",
        "B1A9C4E7-7D3F-4C7B-9A43-2E6B5D1F0A11.jpg": "B1A9C4E7-7D3F-4C7B-9A43-2E6B5D1F0A11.jpg.suppl.json",
        f"{long[:47]}.jpg": f"{long[:46]}.json",
        f"{long[:47]}(1).jpg": f"{long[:46]}(1).json",
        f"{long[:47]}-edited.jpg": f"{long[:46]}.json",
        "scan.jpg": "scan.jpg.s.json",
    }
    days = {name: day for day, name in enumerate(dict.fromkeys(pairs.values()), 1)}
    for number, (image, name) in enumerate(pairs.items()):
        draw(photos / image, number)
        (photos / name).write_text(record(seconds=str(1577836800 + days[name] * 86_400), words=name))
    for name in ("metadata.json", "shared_album_comments.json", "user-generated-memory-titles.json"):
        (photos / name).write_text('{"title": "Photos of 2019"}')
    report = shelf.index(photos)
    assert (report.indexed, report.notices) == (len(pairs), ())
    assert (report.ignored["sidecar"], report.ignored["other"]) == (len(days), 3)
    found = {image: (row.caption, row.taken_at, row.lat) for image, row in shown(shelf).items()}
    assert found == {image: (name, f"2020-01-{days[name] + 1:02}T00:00:00", 48.85) for image, name in pairs.items()}
    assert shelf.index().facts == 0


def test_a_folder_of_a_raw_developer(shelf: Shelf, photos: Path) -> None:
    for number, stem in enumerate(("a", "b", "c")):
        draw(photos / f"{stem}.jpg", number, exif=exif("2003:04:05 06:07:08"))
        (photos / f"{stem}.nef").write_bytes(f"raw {stem}".encode())
    (photos / "a.xmp").write_text(xmp(rating="5"))  # Lightroom: of the raw file
    (photos / "b.nef.xmp").write_text(xmp(rating="4"))  # darktable
    (photos / "b.jpg.xmp").write_text(xmp(rating="3"))
    (photos / "b_01.nef.xmp").write_text(xmp(rating="1"))  # another edit of the raw file
    (photos / "c.XMP").write_text(xmp(rating="2"))
    shelf.index(photos)
    rated = dict(shelf.rows("SELECT path, rating FROM files WHERE rating IS NOT NULL"))
    assert {os.path.basename(path): rating for path, rating in rated.items()} == {
        **{b"a.nef": 5, b"b.nef": 4, b"b.jpg": 3, b"c.nef": 2}
    }
    assert {row.taken_source for row in shown(shelf).values() if row.format} == {"exif"}


# Sidecars that cannot be used


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "damaged": ("a.jpg.xmp", lambda path: path.write_text("<x"), "damaged"),
    "not XMP": ("a.jpg.xmp", lambda path: path.write_bytes(os.urandom(1000)), "XMP"),
    "entities": ("a.xmp", lambda path: path.write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "DOCTYPE"),
    "external": ("a.xmp", lambda path: path.write_text('<!DOCTYPE a SYSTEM "/etc/passwd"><a/>'), "DOCTYPE"),
    "deep XMP": ("a.xmp", lambda path: path.write_text("<a>" * 100_000), "nested"),
    "large XMP": ("a.xmp", lambda path: path.write_text(xmp(date="2001-02-03") + " " * 8_000_000), "8 MB"),
    "JSON": ("a.jpg.json", lambda path: path.write_text("{"), "damaged"),
    "deep JSON": ("a.jpg.json", lambda path: path.write_text("[" * 100_000), "nested"),
    "large JSON": ("a.jpg.json", lambda path: path.write_text(record() + " " * 1_000_000), "1 MB"),
    "long number": ("a.jpg.json", lambda path: path.write_text("1" * 10_000), "damaged"),
    "empty": ("a.jpg.json", lambda path: path.touch(), "damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sidecar_costs_its_facts_and_is_reported(shelf: Shelf, photos: Path, kind: str) -> None:
    name, write, why = BAD[kind]
    draw(photos / "a.jpg")
    write(photos / name)
    report = shelf.index(photos)
    assert (report.indexed, report.failed) == (1, ())
    assert len(report.notices) == 1
    assert name in report.notices[0]
    assert why in report.notices[0]
    assert taken(shelf) == {"a.jpg": (None, None)}
    assert not shelf.index().notices


def test_what_is_not_a_file_is_not_a_sidecar(shelf: Shelf, photos: Path) -> None:
    for stem in ("a", "b", "c"):
        draw(photos / f"{stem}.jpg", ord(stem))
    os.mkfifo(photos / "a.xmp")
    (photos / "b.jpg.json").mkdir()
    (photos / "c.xmp").symlink_to(photos / "nothing")
    (photos / "c.jpg.xmp").symlink_to(photos / "c.jpg.xmp")
    report = shelf.index(photos, follow=True)
    assert (report.indexed, report.notices) == (3, ())
    assert shelf.index(photos / "a.jpg", photos / "b.jpg", photos / "c.jpg").unchanged == 3


def test_a_sidecar_behind_a_link_is_read_where_links_are_followed(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg")
    (photos.parent / "kept.xmp").write_text(xmp(date="2001-02-03"))
    (photos / "a.xmp").symlink_to(photos.parent / "kept.xmp")
    shelf.index(photos)
    assert taken(shelf) == {"a.jpg": (None, None)}
    assert shelf.index(photos, follow=True).facts == 1
    assert taken(shelf) == {"a.jpg": ("2001-02-03", "sidecar")}


def test_an_excluded_sidecar_is_not_read(shelf: Shelf, photos: Path) -> None:
    image = draw(photos / "a.jpg")
    (photos / "a.jpg.xmp").write_text(xmp(date="2001-02-03"))
    shelf.index(photos, exclude=["*.xmp"])
    assert taken(shelf) == {"a.jpg": (None, None)}
    assert shelf.index(image).facts == 0
    assert shelf.index(photos, exclude=[]).facts == 1
    assert shelf.index(image).facts == 0
    assert taken(shelf) == {"a.jpg": ("2001-02-03", "sidecar")}


def test_an_unreadable_sidecar_is_tried_again(shelf: Shelf, photos: Path) -> None:
    draw(photos / "a.jpg")
    sidecar = photos / "a.xmp"
    sidecar.write_text(xmp(date="2001-02-03"))
    sidecar.chmod(0)
    with without_privileges():
        first, second = shelf.index(photos), shelf.index()
    assert "permission denied" in first.notices[0]
    assert "permission denied" in second.notices[0]
    sidecar.chmod(0o600)
    assert not shelf.index().notices
    assert taken(shelf) == {"a.jpg": ("2001-02-03", "sidecar")}


def test_many_bad_sidecars_are_named_up_to_five(shelf: Shelf, photos: Path) -> None:
    for number in range(8):
        draw(photos / f"{number}.jpg", number)
        (photos / f"{number}.xmp").write_text("bad")
    notices = shelf.index(photos).notices
    assert len(notices) == 6
    assert notices[-1] == "3 more sidecars cannot be used"


def test_names_that_are_not_utf8_have_sidecars_too(shelf: Shelf, photos: Path) -> None:
    name = b"\xff\xfe.jpg"
    os.rename(draw(photos / "a.jpg"), os.fsencode(photos) + b"/" + name)
    with open(os.fsencode(photos) + b"/" + name + b".xmp", "w") as file:
        file.write(xmp(date="2001-02-03"))
    shelf.index(photos)
    assert taken(shelf) == {os.fsdecode(name): ("2001-02-03", "sidecar")}
    assert shelf.index().facts == 0


# Takeout's JSON


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (record(words=" a  red barn\n"), Facts("2021-05-03T10:20:30", 0, 48.85, 2.35, "a red barn")),
        (record(seconds=1620037230, place=(0, 0)), Facts("2021-05-03T10:20:30", 0)),
        (record(seconds="-86400", place=(91, 0)), Facts("1969-12-31T00:00:00", 0)),
        (record(seconds="0", words=None), Facts(None, None, 48.85, 2.35)),
        (record(seconds="9" * 12, place=(10**400, 0)), Facts()),
        (record(seconds="9" * 400, words=["list"]), Facts(None, None, 48.85, 2.35)),
        (record(seconds=True), Facts(None, None, 48.85, 2.35)),
        (record(seconds="١٢٣"), Facts(None, None, 48.85, 2.35)),
        (record(seconds={"a": 1}, place=(float("nan"), float("inf"))), Facts()),
        (record(words="\ud800 lone"), Facts("2021-05-03T10:20:30", 0, 48.85, 2.35, "lone")),
        (
            '{"photoTakenTime": [], "geoData": "", "geoDataExif": {"latitude": -1.5, "longitude": 3}}',
            Facts(None, None, -1.5, 3.0),
        ),
        ('{"geoData": {"latitude": "48", "longitude": null}}', Facts()),
        ('{"title": "x.jpg", "description": "of another program"}', None),
        ("[]", None),
        ("null", None),
        ("NaN", None),
    ],
)
def test_what_takeouts_json_tells(text: str, facts: Facts | None) -> None:
    assert takeout.read(text.encode()) == facts


@pytest.mark.parametrize("data", [b"", b"\xff\xff\x00", b"{", b'{"a":' * 50_000, b"1" * 5000, b"\x00" * 100])
def test_json_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="the JSON"):
        takeout.read(data)
