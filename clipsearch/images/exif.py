"""EXIF: date, place, camera, orientation and other tags of a file. Broken tags are skipped, never raised."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, BinaryIO, NamedTuple, TypeVar

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from clipsearch.image_facts import Facts
from clipsearch.images import text
from clipsearch.images.dates import Moment, offset, parse
from clipsearch.images.places import position

_DATES = (
    (Base.DateTimeOriginal, Base.OffsetTimeOriginal, Base.SubsecTimeOriginal),
    (Base.DateTimeDigitized, Base.OffsetTimeDigitized, Base.SubsecTimeDigitized),
)
"""Date, offset and fraction of the exposure, then of its digitising. They belong in the Exif directory; some write them
in the main one."""

_MODIFIED = ((Base.DateTime, Base.OffsetTime, Base.SubsecTime),)
"""When a camera, or a program, last wrote the file."""

UNSET = ("1970-01-01T00:00:00", "1980-01-01T00:00:00", "2002-12-08T12:00:00")
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
_CAPTIONS = (Base.ImageDescription, Base.XPTitle, Base.XPSubject, Base.XPComment)

_T = TypeVar("_T")


class Found(NamedTuple):
    """What the EXIF of a file says. `taken_gps`: by the satellites' clock, in UTC; `modified`: by DateTime, and only
    where a camera is named, as otherwise any program may have written the file."""

    facts: Facts = Facts()
    camera: str | None = None
    taken_gps: Moment | None = None
    modified: Moment | None = None
    tags: Mapping[str, str | int | float] = {}


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


def read(exif: Image.Exif | None) -> Found:
    """The facts in Pillow's EXIF mapping, where there is one."""
    if not exif:
        return Found()
    detail: Mapping[int, Any] = attempt(lambda: exif.get_ifd(IFD.Exif)) or {}
    gps: Mapping[int, Any] = attempt(lambda: exif.get_ifd(IFD.GPSInfo)) or {}
    camera = _camera(_text(_get(exif, Base.Make)), _text(_get(exif, Base.Model)))
    taken = _taken(_DATES, detail, exif, camera)
    lat, lon = attempt(lambda: _position(gps)) or (None, None)
    tags = _tags(exif, detail)
    facts = Facts(
        taken_at=taken and taken.text,
        taken_offset=taken and taken.offset,
        lat=lat,
        lon=lon,
        caption=next((each for tag in _CAPTIONS if (each := text.caption(str(tags.get(tag.name, ""))))), None),
        keywords=text.keywords(re.split("[;\0]", _utf16(_get(exif, Base.XPKeywords)))),
        rating=text.rating(str(tags.get("Rating")), percent=str(_plain(0, _get(exif, Base.RatingPercent)))),
    )
    modified = None if camera is None else _taken(_MODIFIED, exif, detail, camera)
    return Found(facts, camera, attempt(lambda: _taken_gps(gps)), modified, tags)


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
    value = value.split("\0")[0][: 4 * text.MAX_CHARACTERS]
    with contextlib.suppress(UnicodeError):
        value = value.encode("latin-1").decode()
    return text.printable(value)


def _taken(
    tags: tuple[tuple[int, int, int], ...], first: Mapping[int, Any], second: Mapping[int, Any], camera: str | None
) -> Moment | None:
    """The first date of `tags`, each looked up in both directories; not the one that a camera's clock begins with."""
    for date_tag, offset_tag, fraction_tag in tags:
        for directory in (first, second):
            zone, fraction = (_text(_get(first, tag)) or _text(_get(second, tag)) for tag in (offset_tag, fraction_tag))
            moment = parse(_text(_get(directory, date_tag)), fraction=fraction)
            if moment is not None and not (camera and moment.text[:19] in UNSET):
                return Moment(moment.text, offset(zone) if moment.offset is None else moment.offset)
    return None


def _taken_gps(gps: Mapping[int, Any]) -> Moment | None:
    day = parse(_text(_get(gps, GPS.GPSDateStamp)))
    if day is None:
        return None
    numbers = [_number(part) for part in _get(gps, GPS.GPSTimeStamp) or ()]
    if len(numbers) != 3 or None in numbers:
        return Moment(day.text, 0)
    hour, minute, second = (number or 0.0 for number in numbers)
    time = parse(f"{day.text[:10]}T{hour:.0f}:{minute:.0f}:{second:09.6f}")
    return Moment((time or day).text, 0)


def _camera(make: str, model: str) -> str | None:
    """Make and model; the make once, also where the model repeats its first word: NIKON CORPORATION, NIKON D90."""
    if make and model and model.casefold().split()[0] != make.casefold().split()[0]:
        return f"{make} {model}"
    return model or make or None


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    return position(_degrees(gps.get(2), gps.get(1), "S"), _degrees(gps.get(4), gps.get(3), "W"))


def _degrees(value: object, reference: object, negative: str) -> float | None:
    """Degrees from degrees, minutes and seconds; a sign counts more than the reference; without either, positive."""
    parts = value if isinstance(value, tuple | list) else (value,)
    # Some write 0/0 for the seconds, or for minutes and seconds, where the part before has a fraction.
    numbers = [_number(part) for part in parts[:1]] + [_number(part) or 0.0 for part in parts[1:3]]
    if not numbers or numbers[0] is None:
        return None
    degrees = sum(abs(number or 0.0) / 60.0**place for place, number in enumerate(numbers))
    signed = any(number is not None and number < 0 for number in numbers)
    sign = -1 if signed or _text(reference)[:1].upper() == negative else 1
    return sign * degrees


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


def _utf16(value: object) -> str:
    """The text of Windows' tags."""
    raw = attempt(lambda: bytes(value)) if isinstance(value, tuple | list | bytes) else None
    return (raw or b"")[:100_000].decode("utf-16-le", "ignore").rstrip("\0")


def _plain(tag: int, value: object) -> str | int | float | None:
    if tag in _UTF16:
        return _text(_utf16(value)) or None
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
