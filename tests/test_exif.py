"""What files say of themselves, in EXIF written by another library (piexif) and broken by hand."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import piexif
import pytest
from PIL import Image

from clipsearch.image_facts import ImageFacts
from clipsearch.images.open import open_image
from clipsearch.types import Preprocess

ORIGINAL, DIGITIZED = piexif.ExifIFD.DateTimeOriginal, piexif.ExifIFD.DateTimeDigitized
OFFSET, OFFSET_DIGITIZED = piexif.ExifIFD.OffsetTimeOriginal, piexif.ExifIFD.OffsetTimeDigitized


def image() -> Image.Image:
    return Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3))


def facts(*, kind: str = "JPEG", **directories: dict[int, Any]) -> ImageFacts:
    """The facts of an image with these EXIF directories; its pixels have to come out too."""
    names = {"main": "0th", "detail": "Exif", "gps": "GPS"}
    data = piexif.dump({names[name]: tags for name, tags in directories.items()})
    stream = io.BytesIO()
    image().save(stream, kind, exif=data)
    picture = open_image(stream.getvalue())
    assert picture.pixels(Preprocess(size=16)).shape == (3, 16, 16)
    return picture.facts


def taken(date: bytes | None, offset: bytes | None = None, **more: Any) -> tuple[str | None, int | None]:
    detail: dict[int, Any] = {}
    if date is not None:
        detail[ORIGINAL] = date
    if offset is not None:
        detail[OFFSET] = offset
    told = facts(detail=detail | more.get("detail", {}))
    return told.taken_at, told.taken_offset


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_cameras_file_tells_when_where_and_with_what(kind: str) -> None:
    told = facts(
        kind=kind,
        main={
            piexif.ImageIFD.Make: b"FUJIFILM",
            piexif.ImageIFD.Model: b"X100V",
            piexif.ImageIFD.Software: b"Digital Camera X100V Ver2.00",
            piexif.ImageIFD.Artist: b"Zoe Angstrom",
            piexif.ImageIFD.ImageDescription: b"Harbour at dusk",
        },
        detail={
            ORIGINAL: b"2021:05:03 14:02:11",
            OFFSET: b"+02:00",
            piexif.ExifIFD.ISOSpeedRatings: 640,
            piexif.ExifIFD.ExposureTime: (1, 250),
            piexif.ExifIFD.FNumber: (28, 10),
            piexif.ExifIFD.FocalLength: (23, 1),
            piexif.ExifIFD.LensModel: b"23mmF2",
        },
        gps={
            piexif.GPSIFD.GPSLatitudeRef: b"S",
            piexif.GPSIFD.GPSLatitude: ((33, 1), (51, 1), (3599, 100)),
            piexif.GPSIFD.GPSLongitudeRef: b"E",
            piexif.GPSIFD.GPSLongitude: ((151, 1), (12, 1), (4000, 100)),
        },
    )
    assert (told.format, told.width, told.height) == (kind, 40, 30)
    assert (told.taken_at, told.taken_offset) == ("2021-05-03T14:02:11", 120)
    assert told.camera == "FUJIFILM X100V"
    assert told.lat == pytest.approx(-(33 + 51 / 60 + 35.99 / 3600), abs=1e-6)
    assert told.lon == pytest.approx(151 + 12 / 60 + 40 / 3600, abs=1e-6)
    expected = {
        "ISOSpeedRatings": 640, "ExposureTime": 0.004, "FNumber": 2.8, "FocalLength": 23.0, "LensModel": "23mmF2",
        "Software": "Digital Camera X100V Ver2.00", "Artist": "Zoe Angstrom", "ImageDescription": "Harbour at dusk",
    }  # fmt: skip
    assert {name: told.exif[name] for name in expected} == pytest.approx(expected)


def test_a_picture_without_exif_has_only_a_format_and_a_size() -> None:
    stream = io.BytesIO()
    image().save(stream, "PNG")
    assert open_image(stream.getvalue()).facts == ImageFacts(format="PNG", width=40, height=30)


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (b"2021:05:03 14:02:11", "2021-05-03T14:02:11"),
        (b"2021-05-03T14:02:11", "2021-05-03T14:02:11"),
        (b"2021:05:03 14:02", "2021-05-03T14:02:00"),
        (b"0000:00:00 00:00:00", None),
        (b"    :  :     :  :  ", None),
        (b"2021:02:30 10:00:00", None),
        (b"2021:05:03 24:00:00", "2021-05-04T00:00:00"),
        (b"2021:05:03", "2021-05-03"),
        (b"yesterday", None),
        (b"", None),
        (b"\xff\xfe\x00\x00", None),
        (None, None),
    ],
)
def test_dates_are_read_or_left_out(date: bytes | None, expected: str | None) -> None:
    assert taken(date)[0] == expected


@pytest.mark.parametrize(
    ("offset", "minutes"),
    [
        (b"+02:00", 120), (b"-03:30", -210), (b"+05:45", 345), (b"+0900", 540), (b"Z", 0), (b"+00:00", 0),
        (b"+14:00", 840), (b"+15:00", None), (b"+02:75", None), (b"   :  ", None), (b"CEST", None), (b"", None),
        (None, None),
    ],
)  # fmt: skip
def test_time_zones_are_minutes_east_of_utc(offset: bytes | None, minutes: int | None) -> None:
    assert taken(b"2021:05:03 14:02:11", offset) == ("2021-05-03T14:02:11", minutes)


def test_a_broken_exposure_date_leaves_that_of_digitising_with_its_own_zone() -> None:
    digitised = {DIGITIZED: b"1998:07:04 09:00:00", OFFSET_DIGITIZED: b"-05:00"}
    assert taken(b"0000:00:00 00:00:00", b"+02:00", detail=digitised) == ("1998-07-04T09:00:00", -300)


def test_the_date_of_the_last_edit_is_no_date_of_the_exposure() -> None:
    told = facts(main={piexif.ImageIFD.DateTime: b"2024:01:01 00:00:00"})
    assert told.taken_at is None and told.exif["DateTime"] == "2024:01:01 00:00:00"


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        (b"Canon", b"Canon EOS 5D Mark III", "Canon EOS 5D Mark III"),
        (b"NIKON CORPORATION", b"NIKON D90", "NIKON D90"),
        (b"Apple", b"iPhone 12", "Apple iPhone 12"),
        (b"samsung\0\0", b"SM-G991B\0", "samsung SM-G991B"),
        (b"  ", b"DSC-RX100", "DSC-RX100"),
        (b"Leica", b"", "Leica"),
        (b"Ca\x1b[31mnon", b"EOS\r\nR5", "Ca[31mnon EOS R5"),
        (b"", b"", None),
    ],
)
def test_the_camera_names_its_make_once_and_prints_cleanly(make: bytes, model: bytes, camera: str | None) -> None:
    assert facts(main={piexif.ImageIFD.Make: make, piexif.ImageIFD.Model: model}).camera == camera


def position(lat: Any, lat_ref: Any, lon: Any, lon_ref: Any) -> tuple[float | None, float | None]:
    tags = {1: lat_ref, 2: lat, 3: lon_ref, 4: lon}
    told = facts(gps={tag: value for tag, value in tags.items() if value is not None})
    return told.lat, told.lon


WHOLE = ((48, 1), (0, 1), (0, 1))


@pytest.mark.parametrize(
    ("lat", "lat_ref", "lon", "lon_ref", "expected"),
    [
        (WHOLE, b"N", ((2, 1), (30, 1), (0, 1)), b"W", (48.0, -2.5)),
        (((485, 10), (0, 0), (0, 0)), b"N", WHOLE, b"E", (48.5, 48.0)),
        (((48, 1), (3059, 100), (0, 0)), b"n", WHOLE, b"e", (48 + 30.59 / 60, 48.0)),
        (((91, 1), (0, 1), (0, 1)), b"N", WHOLE, b"E", (None, None)),
        (WHOLE, b"N", ((181, 1), (0, 1), (0, 1)), b"E", (None, None)),
        (((0, 0), (0, 0), (0, 0)), b"N", WHOLE, b"E", (None, None)),
        (((0, 1), (0, 1), (0, 1)), b"N", ((0, 1), (0, 1), (0, 1)), b"E", (None, None)),
        (((0, 1), (0, 1), (0, 1)), b"N", WHOLE, b"E", (0.0, 48.0)),
        (WHOLE, None, WHOLE, b"E", (None, None)),
        (WHOLE, b"X", WHOLE, b"E", (None, None)),
        (None, b"N", WHOLE, b"E", (None, None)),
        (WHOLE, b"N", None, None, (None, None)),
    ],
)
def test_positions_are_degrees_or_nothing(
    lat: Any, lat_ref: Any, lon: Any, lon_ref: Any, expected: tuple[float | None, float | None]
) -> None:
    found = position(lat, lat_ref, lon, lon_ref)
    assert found == (pytest.approx(expected[0]), pytest.approx(expected[1])) if expected[0] is not None else expected


def test_texts_are_bounded_and_free_of_control_characters() -> None:
    told = facts(
        main={
            piexif.ImageIFD.ImageDescription: b"A\x07B\x1b]0;title\x07 " + b"x" * 5000,
            piexif.ImageIFD.Copyright: "© 2021 \u202eevil".encode(),
            piexif.ImageIFD.XPTitle: tuple("Été 🏖".encode("utf-16-le")),
            piexif.ImageIFD.Artist: "Jos\xe9".encode("latin-1"),
        },
        detail={piexif.ExifIFD.UserComment: b"UNICODE\0" + "naïve".encode("utf-16-le")},
    )
    assert str(told.exif["ImageDescription"]).startswith("AB]0;title x")
    assert told.exif["Copyright"] == "© 2021 evil"
    assert told.exif["XPTitle"] == "Été 🏖"
    assert told.exif["Artist"] == "José"
    assert told.exif["UserComment"] == "naïve"
    assert len(told.exif) <= 32
    assert all(len(value) <= 500 and value.isprintable() for value in told.exif.values() if isinstance(value, str))


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be", "utf-16"])
def test_comments_are_read_in_either_byte_order(order: str) -> None:
    told = facts(detail={piexif.ExifIFD.UserComment: b"UNICODE\0" + "naïve".encode(order)})
    assert told.exif["UserComment"] == "naïve"


def test_numbers_that_are_none_are_left_out() -> None:
    told = facts(
        detail={
            piexif.ExifIFD.ExposureTime: (1, 0),
            piexif.ExifIFD.FNumber: (0, 0),
            piexif.ExifIFD.FocalLength: (50, 1),
            piexif.ExifIFD.ISOSpeedRatings: (100, 200),
        }
    )
    assert "ExposureTime" not in told.exif and "FNumber" not in told.exif
    assert told.exif["FocalLength"] == 50 and told.exif["ISOSpeedRatings"] == 100
    assert all(math.isfinite(value) for value in told.exif.values() if isinstance(value, float))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_out_of_range_turns_nothing(orientation: int) -> None:
    told = facts(main={piexif.ImageIFD.Orientation: orientation})
    assert (told.width, told.height) == (40, 30)


def test_every_damaged_byte_of_exif_leaves_the_picture_readable() -> None:
    data = piexif.dump(
        {
            "0th": {piexif.ImageIFD.Make: b"Maker", piexif.ImageIFD.Model: b"Model", piexif.ImageIFD.Orientation: 1},
            "Exif": {ORIGINAL: b"2021:05:03 14:02:11", piexif.ExifIFD.FNumber: (28, 10)},
            "GPS": {1: b"N", 2: WHOLE, 3: b"E", 4: WHOLE},
        }
    )
    rng = np.random.default_rng(3)
    for at in range(6, len(data)):
        damaged = bytearray(data)
        damaged[at] = int(rng.integers(0, 256))
        stream = io.BytesIO()
        image().save(stream, "JPEG", exif=bytes(damaged))
        picture = open_image(stream.getvalue())
        assert sorted((picture.facts.width, picture.facts.height)) == [30, 40]
        assert picture.pixels(Preprocess(size=16)).shape == (3, 16, 16)
