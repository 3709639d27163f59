"""EXIF: date, place, camera, orientation and other tags of a file. Broken tags are skipped, never raised."""

from __future__ import annotations

import contextlib
import datetime
import functools
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

from clipsearch.types import ImageFacts

if TYPE_CHECKING:
    from PIL import Image

MAX_TAGS = 32
MAX_CHARACTERS = 500

_ORIENTATION, _EXIF_IFD, _GPS_IFD = 0x0112, 0x8769, 0x8825
_MAKE, _MODEL = 0x010F, 0x0110
_DATES = ((0x9003, 0x9011), (0x9004, 0x9012))
"""Date and offset of the exposure, then of its digitising. DateTime (0x0132) is when a program last wrote the file."""

# From the main directory, then the Exif one. Numbers and names: Exif 3.0, tables 4–16 (CIPA DC-008).
_KEPT = {
    0x010E: "ImageDescription",
    0x0131: "Software",
    0x0132: "DateTime",
    0x013B: "Artist",
    0x4746: "Rating",
    0x8298: "Copyright",
    0x9C9B: "XPTitle",
    0x9C9C: "XPComment",
    0x9C9E: "XPKeywords",
    0x9C9F: "XPSubject",
    0x829A: "ExposureTime",
    0x829D: "FNumber",
    0x8822: "ExposureProgram",
    0x8827: "ISOSpeedRatings",
    0x9204: "ExposureBiasValue",
    0x9207: "MeteringMode",
    0x9209: "Flash",
    0x920A: "FocalLength",
    0x9286: "UserComment",
    0xA402: "ExposureMode",
    0xA403: "WhiteBalance",
    0xA405: "FocalLengthIn35mmFilm",
    0xA430: "CameraOwnerName",
    0xA431: "BodySerialNumber",
    0xA433: "LensMake",
    0xA434: "LensModel",
}
_UTF16 = {0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F}
_USER_COMMENT = 0x9286
_DATE = re.compile(r"\s*(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_OFFSET = re.compile(r"\s*([+-])(\d\d):?(\d\d)\s*$")
_DIRECTION_MARKS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_T = TypeVar("_T")


def orientation(exif: Image.Exif | None) -> int:
    """How the stored picture must be turned: 1 … 8, 1 where nothing valid says so."""
    return (exif and attempt(lambda: _orientation(exif))) or 1


def image_facts(kind: str, width: int, height: int, exif: Image.Exif | None) -> ImageFacts:
    """The facts of an upright picture of width × height pixels, from Pillow's EXIF mapping where there is one."""
    if not exif:
        return ImageFacts(kind, width, height)
    main: Mapping[int, Any] = exif
    detail: Mapping[int, Any] = attempt(lambda: exif.get_ifd(_EXIF_IFD)) or {}
    gps: Mapping[int, Any] = attempt(lambda: exif.get_ifd(_GPS_IFD)) or {}
    taken_at, taken_offset = _taken(detail)
    lat, lon = attempt(lambda: _position(gps)) or (None, None)
    camera = _camera(_text(_get(main, _MAKE)), _text(_get(main, _MODEL)))
    return ImageFacts(kind, width, height, taken_at, taken_offset, camera, lat, lon, _tags(main, detail))


def attempt(read: Callable[[], _T]) -> _T | None:
    """`read()`, or None if it fails: parsers raise nearly anything on garbage, and no tag is worth losing a picture."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception:
        return None


def _get(tags: Mapping[int, Any], tag: int) -> object:
    return attempt(lambda: tags.get(tag))


def _orientation(main: Mapping[int, Any]) -> int:
    value = main.get(_ORIENTATION, 1)
    if isinstance(value, tuple):
        value = value[0]
    return int(value) if int(value) in range(1, 9) else 1


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


def _taken(detail: Mapping[int, Any]) -> tuple[str | None, int | None]:
    for date_tag, offset_tag in _DATES:
        match = _DATE.match(_text(_get(detail, date_tag)))
        if match is None:
            continue
        try:
            moment = datetime.datetime(*(int(part or 0) for part in match.groups()))  # type: ignore[arg-type]
        except ValueError:
            continue
        return moment.isoformat(timespec="seconds"), _offset(_text(_get(detail, offset_tag)))
    return None, None


def _offset(text: str) -> int | None:
    if text.strip() == "Z":
        return 0
    match = _OFFSET.match(text)
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    if minutes > 14 * 60 or int(match[3]) > 59:  # the widest offset in use is +14:00
        return None
    return -minutes if match[1] == "-" else minutes


def _camera(make: str, model: str) -> str | None:
    """Make and model; the make once, also where the model repeats its first word: NIKON CORPORATION, NIKON D90."""
    if make and model and model.casefold().split()[0] != make.casefold().split()[0]:
        return f"{make} {model}"
    return model or make or None


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    lat = _degrees(gps.get(2), gps.get(1), "N", "S", 90)
    lon = _degrees(gps.get(4), gps.get(3), "E", "W", 180)
    # A receiver without a fix writes zeros, which name a point in the Gulf of Guinea.
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None
    return lat, lon


def _degrees(value: object, reference: object, positive: str, negative: str, limit: int) -> float | None:
    sign = {positive: 1, negative: -1}.get(_text(reference)[:1].upper())
    parts = value if isinstance(value, tuple | list) else (value,)
    numbers = [_number(part) for part in parts[:3]]
    if numbers and sign and None in numbers[1:]:
        # Some write 0/0 for the seconds, or for minutes and seconds, where the part before has a fraction.
        numbers = numbers[:1] + [number or 0.0 for number in numbers[1:]]
    if sign is None or not numbers or any(number is None or number < 0 for number in numbers):
        return None
    degrees = sum((number or 0.0) / 60**place for place, number in enumerate(numbers))
    return round(sign * degrees, 7) if degrees <= limit else None


def _number(value: object) -> float | None:
    """A finite number; None for rationals with a zero denominator, NaN and text."""
    if not isinstance(value, Real):
        return None
    number = attempt(lambda: float(value))
    return number if number is not None and math.isfinite(number) else None


def _tags(main: Mapping[int, Any], detail: Mapping[int, Any]) -> dict[str, str | int | float]:
    kept: dict[str, str | int | float] = {}
    for tag, name in _KEPT.items():
        for directory in (detail, main):
            value = _get(directory, tag)
            plain = attempt(functools.partial(_plain, tag, value)) if value is not None else None
            if plain is not None and len(kept) < MAX_TAGS:
                kept.setdefault(name, plain)
    return kept


def _plain(tag: int, value: object) -> str | int | float | None:
    if tag in _UTF16:
        raw = bytes(value) if isinstance(value, tuple | list | bytes) else b""
        return _text(raw.decode("utf-16-le", "ignore")) or None
    if tag == _USER_COMMENT and isinstance(value, bytes):
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
