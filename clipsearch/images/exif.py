"""EXIF: date, place, camera, orientation and other tags of a file. Broken tags are skipped, never raised."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, BinaryIO, TypeVar

from PIL import Image
from PIL.ExifTags import IFD, Base

from clipsearch.images.dates import Moment, offset, parse
from clipsearch.types import ImageFacts

MAX_CHARACTERS = 500

_DATES = (
    (Base.DateTimeOriginal, Base.OffsetTimeOriginal, Base.SubsecTimeOriginal),
    (Base.DateTimeDigitized, Base.OffsetTimeDigitized, Base.SubsecTimeDigitized),
)
"""Date, offset and fraction of the exposure, then of its digitising. Base.DateTime is when a program last wrote the
file. They belong in the Exif directory; some write them in the main one."""

_UNSET = ("1970-01-01T00:00:00", "1980-01-01T00:00:00", "2002-12-08T12:00:00")
"""What the clocks of cameras begin with."""

_KEPT = (
    *(Base.ImageDescription, Base.Software, Base.DateTime, Base.Artist, Base.Rating, Base.Copyright),
    *(Base.XPTitle, Base.XPComment, Base.XPKeywords, Base.XPSubject),
    *(Base.ExposureTime, Base.FNumber, Base.ExposureProgram, Base.ISOSpeedRatings, Base.ExposureBiasValue),
    *(Base.MeteringMode, Base.Flash, Base.FocalLength, Base.UserComment, Base.ExposureMode, Base.WhiteBalance),
    *(Base.FocalLengthIn35mmFilm, Base.CameraOwnerName, Base.BodySerialNumber, Base.LensMake, Base.LensModel),
)
"""Taken from the Exif directory, or else from the main one. Names: Exif 3.0, tables 4–16 (CIPA DC-008)."""

_UTF16 = (Base.XPTitle, Base.XPComment, Base.XPKeywords, Base.XPSubject)
_DIRECTION_MARKS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_T = TypeVar("_T")


def from_tiff(stream: BinaryIO) -> Image.Exif:
    """The tags in the first directory of a TIFF, or of a raw file based on it. Raises Pillow's errors for damage."""
    tags = Image.Exif()
    stream.seek(0)
    tags.load_from_fp(stream)
    return tags


def orientation(exif: Image.Exif | None) -> int:
    """How to turn the stored image upright: 1 … 8; 1 if there is no valid tag. The tag may be any kind of integer."""
    value = _get(exif or {}, Base.Orientation)
    if isinstance(value, bytes) and value[:1] <= b"\x08":
        value = value[0] if value else 1
    number = attempt(lambda: int(value[0] if isinstance(value, tuple) else value))
    return number if number is not None and 1 <= number <= 8 else 1


def orientation_in_revision_1(exif: Image.Exif | None) -> int:
    """`orientation` in revision 1 of the reader (`images.open`), which ignored a tag of type BYTE."""
    return 1 if isinstance(_get(exif or {}, Base.Orientation), bytes) else orientation(exif)


def image_facts(kind: str, width: int, height: int, exif: Image.Exif | None) -> ImageFacts:
    """The facts of an upright image of width × height pixels, from Pillow's EXIF mapping where there is one."""
    if not exif:
        return ImageFacts(kind, width, height)
    detail: Mapping[int, Any] = attempt(lambda: exif.get_ifd(IFD.Exif)) or {}
    gps: Mapping[int, Any] = attempt(lambda: exif.get_ifd(IFD.GPSInfo)) or {}
    lat, lon = attempt(lambda: _position(gps)) or (None, None)
    camera = _camera(_text(_get(exif, Base.Make)), _text(_get(exif, Base.Model)))
    taken = _taken(exif, detail)
    if taken is not None and camera is not None and taken.text in _UNSET:
        taken = None
    at, zone = taken or (None, None)
    return ImageFacts(
        kind,
        width,
        height,
        taken_at=at,
        taken_offset=zone,
        taken_source=at and "exif",
        camera=camera,
        lat=lat,
        lon=lon,
        place_source="exif" if lat is not None else None,
        exif=_tags(exif, detail),
    )


def attempt(read: Callable[[], _T]) -> _T | None:
    """`read()`, or None if it fails: parsers raise nearly anything on garbage, and no tag is worth losing an image."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception:
        return None


def _get(tags: Mapping[int, Any], tag: int) -> Any:  # noqa: ANN401 - whatever the file has
    return attempt(lambda: tags.get(tag))


def _text(value: object) -> str:
    """Printable text of at most 500 characters, or "". EXIF says ASCII; writers mean UTF-8 or Latin-1."""
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        value = " ".join(map(str, value))
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return ""
    value = value.split("\0")[0][: 4 * MAX_CHARACTERS]
    with contextlib.suppress(UnicodeError):
        value = value.encode("latin-1").decode()
    spaced = re.sub(r"\s+", " ", value)
    kept = (c for c in spaced if unicodedata.category(c) not in ("Cc", "Cs", "Cn") and c not in _DIRECTION_MARKS)
    return "".join(kept).strip()[:MAX_CHARACTERS].rstrip()


def _taken(main: Mapping[int, Any], detail: Mapping[int, Any]) -> Moment | None:
    for date_tag, offset_tag, fraction_tag in _DATES:
        for directory in (detail, main):
            text, zone, fraction = (_text(_get(directory, tag)) for tag in (date_tag, offset_tag, fraction_tag))
            moment = parse(text, fraction=fraction)
            if moment is not None:
                return Moment(moment.text, offset(zone) if moment.offset is None else moment.offset)
    return None


def _camera(make: str, model: str) -> str | None:
    """Make and model; the make once, also where the model repeats its first word: NIKON CORPORATION, NIKON D90."""
    if make and model and model.casefold().split()[0] != make.casefold().split()[0]:
        return f"{make} {model}"
    return model or make or None


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    lat = _degrees(gps.get(2), gps.get(1), "S", 90)
    lon = _degrees(gps.get(4), gps.get(3), "W", 180)
    # A receiver without a fix writes zeros, which name a point in the Gulf of Guinea.
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None
    return lat, lon


def _degrees(value: object, reference: object, negative: str, limit: int) -> float | None:
    """Degrees from degrees, minutes and seconds; a sign counts more than the reference; without either, positive."""
    parts = value if isinstance(value, tuple | list) else (value,)
    # Some write 0/0 for the seconds, or for minutes and seconds, where the part before has a fraction.
    numbers = [_number(part) for part in parts[:1]] + [_number(part) or 0.0 for part in parts[1:3]]
    if not numbers or numbers[0] is None:
        return None
    degrees = sum(abs(number or 0.0) / 60**place for place, number in enumerate(numbers))
    signed = any(number is not None and number < 0 for number in numbers)
    sign = -1 if signed or _text(reference)[:1].upper() == negative else 1
    return round(sign * degrees, 7) if degrees <= limit else None


def _number(value: object) -> float | None:
    """A finite number; None for rationals with a zero denominator, NaN and text."""
    if not isinstance(value, Real):
        return None
    number = attempt(lambda: float(value))
    return number if number is not None and math.isfinite(number) else None


def _tags(main: Mapping[int, Any], detail: Mapping[int, Any]) -> dict[str, str | int | float]:
    kept: dict[str, str | int | float] = {}
    for tag in _KEPT:
        for directory in (detail, main):
            plain = attempt(functools.partial(_plain, tag, _get(directory, tag)))
            if plain is not None:
                kept.setdefault(tag.name, plain)
    return kept


def _plain(tag: int, value: object) -> str | int | float | None:
    if tag in _UTF16:
        raw = bytes(value) if isinstance(value, tuple | list | bytes) else b""
        return _text(raw.decode("utf-16-le", "ignore")) or None
    if tag == Base.UserComment and isinstance(value, bytes):
        text = value[8:]
        # UNICODE has either byte order, whatever the file's is: Latin letters have their zeros first or last.
        unicode = "utf-16-be" if text[::2].count(0) > text[1::2].count(0) else "utf-16"
        encoding = {b"UNICODE\0": unicode, b"JIS\0\0\0\0\0": "iso2022_jp"}.get(value[:8], "latin-1")
        return _text(text.decode(encoding, "ignore")) or None
    if isinstance(value, str | bytes):
        return _text(value) or None
    if isinstance(value, tuple | list):
        value = value[0] if value else None
    number = _number(value)
    if number is None:
        return None
    return int(number) if isinstance(value, int) and abs(value) < 2**63 else number
