"""From which part of a file each fact comes: EXIF, XMP, IPTC, PNG texts, the satellites' clock, the time of writing."""

from __future__ import annotations

import io
import sqlite3
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import piexif
import pillow_jxl  # noqa: F401 - registers JPEG XL with Pillow
import pytest
from helpers import age
from PIL import Image, PngImagePlugin, TiffImagePlugin
from test_xmp import FULL, FULL_FACTS, packet

from clipsearch import Library
from clipsearch.image_facts import ImageFacts
from clipsearch.images.dates import parse_written
from clipsearch.images.open import open_image
from clipsearch.images.xmp import XmpError, read
from clipsearch.types import Preprocess

UTF8 = b"\x1c\x01\x5a\x00\x03\x1b%G"


def image() -> Image.Image:
    return Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3))


def saved(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image().save(stream, kind, **options)
    return stream.getvalue()


def facts(data: bytes) -> ImageFacts:
    """The facts of a file, whose pixels have to come out, too."""
    picture = open_image(data)
    assert picture.pixels(Preprocess(size=16)).shape == (3, 16, 16)
    return picture.facts


def exif(**directories: dict[int, Any]) -> bytes:
    names = {"main": "0th", "detail": "Exif", "gps": "GPS"}
    dumped: bytes = piexif.dump({names[name]: tags for name, tags in directories.items()})
    return dumped


def dataset(number: int, value: bytes, *, long: bool = False) -> bytes:
    size = struct.pack(">HL", 0x8004, len(value)) if long else struct.pack(">H", len(value))
    return bytes((0x1C, 2, number)) + size + value


def resources(iptc: bytes) -> bytes:
    """Photoshop's resources, with another one first."""
    other = b"8BIM" + struct.pack(">HBBL", 0x03ED, 0, 0, 16) + bytes(16)
    named = b"8BIM" + struct.pack(">HB", 0x0BB7, 4) + b"name\0" + struct.pack(">L", 3) + b"abc\0"
    return other + named + b"8BIM" + struct.pack(">HBBL", 0x0404, 0, 0, len(iptc)) + iptc


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def with_iptc(iptc: bytes) -> bytes:
    return with_segment(saved("JPEG"), 0xED, b"Photoshop 3.0\0" + resources(iptc))


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def with_late(*chunks: bytes) -> bytes:
    data = saved("PNG")
    return data[:-12] + b"".join(chunks) + data[-12:]


# XMP


def in_tiff() -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = FULL.encode()
    return saved("TIFF", tiffinfo=tags)


def in_png(*, late: bool, compressed: bool) -> bytes:
    text = zlib.compress(FULL.encode()) if compressed else FULL.encode()
    whole = chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes((compressed, 0)) + b"\0\0" + text)
    data = saved("PNG")
    return with_late(whole) if late else data[:33] + whole + data[33:]


def as_raw_profile() -> bytes:
    info = PngImagePlugin.PngInfo()
    digits = FULL.encode().hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    info.add_text("Raw profile type xmp", f"\nxmp\n    {len(FULL.encode())}\n{lines}\n", zip=True)
    return saved("PNG", pnginfo=info)


def with_box(data: bytes, kind: bytes, content: bytes, *, size: int | None = None) -> bytes:
    """A file made of boxes, with another one at the end, or with this size; 1: an extended one."""
    long = struct.pack(">Q", len(content) + 16) if size == 1 else b""
    return data + struct.pack(">L", len(content) + 8 if size is None else size) + kind + long + content


JP2, JXL = saved("JPEG2000"), saved("JXL", use_container=True)
UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")


@pytest.mark.parametrize(
    ("start", "kind", "size"),
    [
        *((JXL, b"xml ", size) for size in (2, 7, 8, 2**32 - 1)),
        *((JP2, b"uuid", size) for size in (8, 2**32 - 1)),  # Pillow refuses the others.
    ],
)
def test_boxes_of_any_size_cost_only_their_facts(start: bytes, kind: bytes, size: int) -> None:
    assert facts(with_box(start, kind, b"", size=size)).caption is None


@pytest.mark.parametrize(
    "data",
    [
        *(with_box(JP2, b"uuid", UUID + FULL.encode(), size=size) for size in (None, 0, 1)),
        *(with_box(JXL, b"xml ", FULL.encode(), size=size) for size in (None, 0, 1)),
        with_box(with_box(JP2, b"xml ", b"<gml/>"), b"uuid", UUID + FULL.encode()),
        with_box(with_box(JP2, b"uuid", UUID + FULL.encode()), b"free", b"not XMP"),
        saved("JPEG", xmp=FULL.encode()),
        saved("WEBP", xmp=FULL.encode()),
        saved("AVIF", xmp=FULL.encode()),
        in_tiff(),
        *(in_png(late=late, compressed=compressed) for late in (False, True) for compressed in (False, True)),
        as_raw_profile(),
    ],
)
def test_xmp_is_found_in_every_format(data: bytes) -> None:
    told = facts(data)
    assert (told.taken_at, told.taken_offset, told.taken_source) == (*FULL_FACTS[:2], "xmp")
    assert (told.lat, told.lon, told.place_source) == (*FULL_FACTS[2:4], "xmp")
    assert (told.caption, told.keywords, told.rating) == FULL_FACTS[4:]


@pytest.mark.parametrize(
    "bad", [b"<!DOCTYPE x>" + FULL.encode(), b"<a>" * 10_000, b"<a " + b"x" * 60_000, b"\0", b"\xff\xfe<", b"garbage"]
)
def test_xmp_that_is_refused_costs_only_its_facts(bad: bytes) -> None:
    with pytest.raises(XmpError):
        read(bad)
    told = facts(saved("JPEG", xmp=bad, exif=exif(main={piexif.ImageIFD.ImageDescription: b"Still here"})))
    assert told == ImageFacts("JPEG", 40, 30, caption="Still here", exif={"ImageDescription": "Still here"})


# IPTC


@pytest.mark.parametrize(
    ("iptc", "date"),
    [
        (dataset(55, b"20210503") + dataset(60, b"102030+0200"), ("2021-05-03T10:20:30", 120)),
        (dataset(55, b"20210503") + dataset(60, b"102030"), ("2021-05-03T10:20:30", None)),
        (dataset(55, b"20210503"), ("2021-05-03", None)),
        (dataset(55, b"20210500"), ("2021-05", None)),
        (dataset(55, b"20210000") + dataset(60, b"000000+0000"), ("2021", None)),
        (dataset(55, b"2021-05-03") + dataset(60, b"10:20:30+02:00"), ("2021-05-03T10:20:30", 120)),
        (dataset(55, b"00000000"), (None, None)),
        (dataset(60, b"102030"), (None, None)),
    ],
)
def test_dates_of_iptc(iptc: bytes, date: tuple[str | None, int | None]) -> None:
    told = facts(with_iptc(iptc))
    assert (told.taken_at, told.taken_offset) == date
    assert told.taken_source == ("iptc" if date[0] else None)


@pytest.mark.parametrize(("start", "encoding"), [(UTF8, "utf-8"), (b"", "utf-8"), (b"", "latin-1"), (b"", "cp1252")])
def test_words_of_iptc(start: bytes, encoding: str) -> None:
    words = [dataset(25, word.encode(encoding)) for word in ("Zoë", "fête", "Zoë")]
    told = facts(with_iptc(start + b"".join(words) + dataset(120, "Été à Nîmes".encode(encoding), long=True)))
    assert (told.caption, told.keywords) == ("Été à Nîmes", ("Zoë", "fête"))


@pytest.mark.parametrize(("tag", "kind"), [(33723, 7), (33723, 1), (33723, 4), (34377, 7), (34377, 1)])
def test_iptc_in_tiff(tag: int, kind: int) -> None:
    iptc = dataset(25, b"party") + dataset(120, b"Grandma dancing") + b"\0" * 4
    data = iptc[: len(iptc) // 4 * 4] if tag == 33723 else resources(iptc)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[tag] = 7
    tags[tag] = data
    size = len(data) // 4 if kind == 4 else len(data)
    entry = struct.pack("<HHL", tag, 7, len(data))
    told = facts(saved("TIFF", tiffinfo=tags).replace(entry, struct.pack("<HHL", tag, kind, size)))
    assert (told.caption, told.keywords) == ("Grandma dancing", ("party",))


@pytest.mark.parametrize(
    "iptc",
    [
        dataset(25, b"") * 5000,
        dataset(120, b"x")[:-1],
        b"\x1c\x02\x78\xff\xff",
        b"\x1c\x02\x78\x80\x08\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x1c",
        bytes(range(256)) * 20,
    ],
)
def test_damaged_iptc_costs_only_its_facts(iptc: bytes) -> None:
    assert facts(with_iptc(iptc)) == ImageFacts("JPEG", 40, 30)


# PNG


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2021:05:03 10:20:30", ("2021-05-03T10:20:30", None)),
        ("2021-05-03T10:20:30.5+02:00", ("2021-05-03T10:20:30.5", 120)),
        ("Mon, 03 May 2021 10:20:30 +0200", ("2021-05-03T10:20:30", 120)),
        ("Mon, 3 May 2021 10:20:30 GMT", ("2021-05-03T10:20:30", 0)),
        ("3 May 2021 10:20", ("2021-05-03T10:20:00", None)),
        ("03-May-2021", ("2021-05-03", None)),
        ("3 September 2021", ("2021-09-03", None)),
        ("Mon May  3 10:20:30 2021", ("2021-05-03T10:20:30", None)),
        ("Mon, 31 Feb 2021 10:20:30 GMT", None),
        ("3 Moy 2021", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_written_dates(text: str, date: tuple[str, int | None] | None) -> None:
    assert parse_written(text) == date


def test_png_texts_before_and_after_the_pixels() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Creation Time", "2021:05:03 10:20:30")
    info.add_text("Title", "Birthday")
    early = facts(saved("PNG", pnginfo=info))
    texts = [
        chunk(b"tEXt", b"Creation Time\x002021:05:03 10:20:30"),
        chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"Birthday")),
    ]
    late = facts(with_late(*texts))
    assert early == late
    assert (late.taken_at, late.taken_source, late.caption) == ("2021-05-03T10:20:30", "png", "Birthday")


def test_the_time_of_a_pngs_last_change_is_not_when_it_was_taken() -> None:
    assert facts(with_late(chunk(b"tIME", struct.pack(">H5B", 2021, 5, 3, 10, 20, 30)))) == ImageFacts("PNG", 40, 30)


def test_hostile_chunks_after_the_pixels_cost_only_their_facts() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8)))
    many = [chunk(b"tEXt", b"Author\0somebody")] * 20_000
    title = chunk(b"tEXt", b"Title\0Birthday")
    assert facts(with_late(bomb, title, *many, chunk(b"tEXt", b"Title\0"))).caption == "Birthday"
    bad = bytearray(title)
    bad[-1] ^= 1
    assert facts(with_late(bytes(bad))).caption is None


# Which comes first


def test_each_fact_comes_from_the_first_source_that_has_it() -> None:
    gps = {piexif.GPSIFD.GPSDateStamp: b"2019:01:01", piexif.GPSIFD.GPSTimeStamp: ((1, 1), (2, 1), (7, 2))}
    main = {piexif.ImageIFD.Make: b"ACME", piexif.ImageIFD.DateTime: b"2018:01:01 00:00:00"}
    iptc = b"Photoshop 3.0\0" + resources(dataset(55, b"20200101") + dataset(25, b"iptc") + dataset(120, b"iptc"))
    xmp = packet(
        'photoshop:DateCreated="2021-01-01" xmp:Rating="3" exif:GPSLatitude="1N" exif:GPSLongitude="2E"'
    ).encode()
    detail = {piexif.ExifIFD.DateTimeOriginal: b"2022:01:01 00:00:00"}

    def told(**options: Any) -> tuple[Any, ...]:
        found = facts(with_segment(saved("JPEG", **options), 0xED, iptc))
        return found.taken_at, found.taken_source, found.lat, found.caption, found.keywords, found.rating

    words = ("iptc", ("iptc",))
    everything = exif(main=main, gps=gps, detail=detail)
    assert told(exif=everything, xmp=xmp) == ("2022-01-01T00:00:00", "exif", 1.0, *words, 3)
    assert told(exif=exif(main=main, gps=gps), xmp=xmp) == ("2021-01-01", "xmp", 1.0, *words, 3)
    assert told(exif=exif(main=main, gps=gps)) == ("2020-01-01", "iptc", None, *words, None)
    bare = facts(saved("JPEG", exif=exif(main=main, gps=gps)))
    assert (bare.taken_at, bare.taken_offset, bare.taken_source) == ("2019-01-01T01:02:03.5", 0, "gps")
    bare = facts(saved("JPEG", exif=exif(main=main)))
    assert (bare.taken_at, bare.taken_offset, bare.taken_source) == ("2018-01-01T00:00:00", None, "modified")


def test_the_time_of_writing_is_not_when_it_was_taken_unless_a_camera_is_named() -> None:
    assert facts(saved("JPEG", exif=exif(main={piexif.ImageIFD.DateTime: b"2018:01:01 00:00:00"}))).taken_at is None


@pytest.mark.parametrize("second", ["1970:01:01 00:00:00", "1980:01:01 00:00:00", "2002:12:08 12:00:00"])
def test_what_a_cameras_clock_begins_with_is_not_a_date(second: str) -> None:
    named = {piexif.ImageIFD.Make: b"ACME", piexif.ImageIFD.DateTime: second.encode()}
    detail = {piexif.ExifIFD.DateTimeOriginal: second.encode(), piexif.ExifIFD.SubSecTimeOriginal: b"5"}
    copied, own = (
        packet(f'photoshop:DateCreated="{date}"').encode() for date in (second.replace(":", "-", 2), "2020-01-01")
    )
    assert facts(saved("JPEG", exif=exif(main=named, detail=detail))).taken_at is None
    assert facts(saved("JPEG", exif=exif(main=named, detail=detail), xmp=copied)).taken_at is None
    assert facts(saved("JPEG", exif=exif(main=named, detail=detail), xmp=own)).taken_source == "xmp"
    assert facts(saved("JPEG", exif=exif(detail=detail), xmp=copied)).taken_at is not None
    assert facts(saved("JPEG", exif=exif(detail=detail))).taken_source == "exif"
    later = {piexif.ExifIFD.DateTimeOriginal: (second[:-1] + "1").encode()}
    assert facts(saved("JPEG", exif=exif(main=named, detail=later))).taken_source == "exif"


@pytest.mark.parametrize(
    ("stamp", "time", "at"),
    [
        (b"2021:05:03", ((10, 1), (20, 1), (30, 1)), "2021-05-03T10:20:30"),
        (b"2021-05-03", ((10, 1), (20, 1), (59_999_999_9, 10_000_000)), "2021-05-03T10:21:00"),
        (b"2021:05:03", None, "2021-05-03"),
        (b"2021:05:03", ((10, 0), (20, 0), (30, 0)), "2021-05-03"),
        (b"2021:05:03", ((99, 1), (99, 1), (99, 1)), "2021-05-03"),
        (b"", ((10, 1), (20, 1), (30, 1)), None),
        (b"0000:00:00", ((10, 1), (20, 1), (30, 1)), None),
    ],
)
def test_dates_of_the_satellites_clock(stamp: bytes, time: Any, at: str | None) -> None:
    gps: dict[int, Any] = {piexif.GPSIFD.GPSDateStamp: stamp}
    if time:
        gps[piexif.GPSIFD.GPSTimeStamp] = time
    told = facts(saved("JPEG", exif=exif(gps=gps)))
    assert (told.taken_at, told.taken_offset) == ((at, 0) if at else (None, None))


@pytest.mark.parametrize(
    "text",
    [
        *("OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "KONICA MINOLTA DIGITAL CAMERA", "Digital Camera", "default"),
        *(
            "<Digimax S500 / Kenox S500>",
            "DCIM\\100MEDIA\\DJI_0001.JPG",
            "oznor",
            "Sony",
            "IMG_1234.JPG",
            "DSC01234",
            " ",
            "...",
        ),
    ],
)
def test_what_cameras_write_for_a_caption_is_not_one(text: str) -> None:
    written = exif(main={piexif.ImageIFD.ImageDescription: text.encode()})
    copied = packet(elements=f"<dc:description>{escape(text)}</dc:description><dc:title>Mine</dc:title>").encode()
    assert facts(saved("JPEG", exif=written)).caption is None
    assert facts(saved("JPEG", exif=written, xmp=copied)).caption == "Mine"


@pytest.mark.parametrize(
    "text",
    ["My new digital camera", "A default day", "Norway", "Pl. de la Concorde", "Img of Anna", "hdr sunset"],
)
def test_what_resembles_it_is_a_caption(text: str) -> None:
    told = facts(saved("JPEG", exif=exif(main={piexif.ImageIFD.ImageDescription: text.encode()})))
    assert told.caption == text


def test_words_that_windows_writes() -> None:
    main = {
        piexif.ImageIFD.XPTitle: "Birthday\0".encode("utf-16-le"),
        piexif.ImageIFD.XPKeywords: "family; Zoë;;party;family\0".encode("utf-16-le"),
        piexif.ImageIFD.RatingPercent: 99,
    }
    told = facts(saved("JPEG", exif=exif(main=main)))
    assert (told.caption, told.keywords, told.rating) == ("Birthday", ("family", "Zoë", "party"), 5)


def test_a_library_of_the_last_version_learns_the_words_and_encodes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(saved("JPEG", xmp=FULL.encode()))
    (folder / "b.png").write_bytes(with_late(chunk(b"tEXt", b"Title\0Birthday")))
    for each in folder.iterdir():
        age(each)

    def rows() -> list[tuple[Any, ...]]:
        with sqlite3.connect(tmp_path / "index/catalog.db") as conn:
            return conn.execute("SELECT * FROM contents ORDER BY id").fetchall()

    with Library.create(tmp_path / "index", model="builtin") as library:
        library.index([folder])
    new = rows()
    with sqlite3.connect(tmp_path / "index/catalog.db") as conn:
        conn.execute(
            "UPDATE contents SET facts_revision = 2, taken_source = NULL, place_source = NULL, caption = NULL, "
            "keywords = NULL, rating = NULL, lat = NULL, lon = NULL, taken_at = NULL, taken_offset = NULL"
        )
    with Library.open(tmp_path / "index") as library:
        assert len(library.query("a house").hits) == 2
        report = library.index()
        assert (report.encoded, report.corrected, report.reread) == (0, 0, 2)
        assert library.index().reread == 0
    assert rows() == new
