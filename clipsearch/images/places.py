"""Positions: degrees in range, and texts that name a coordinate."""

from __future__ import annotations

import re

_COORDINATE = re.compile(r"\s*([NSEW])?\s*([+-]?)((?:[\d./]+[\s,;:°'\"′″ºo]*){1,3})([NSEW])?\s*", re.IGNORECASE)
_NUMBER = re.compile(r"(\d{1,20}(?:\.\d{0,20})?)(?:/(\d{1,20}))?")


def position(lat: float | None, lon: float | None) -> tuple[float, float] | None:
    """Latitude and longitude, rounded; None unless both are known and on the globe.

    A receiver without a fix writes zeros, which name a point in the Gulf of Guinea.
    """
    if lat is None or lon is None or not (abs(lat) <= 90 and abs(lon) <= 180) or (lat == 0 and lon == 0):
        return None
    return round(lat, 7), round(lon, 7)


def coordinate(text: str, *, reference: str = "") -> float | None:
    """Degrees of "48,51.5N", "48,51,30N" (XMP), "48.8583" or "-48.8583"; `reference`: the letter, where it is apart.

    A sign counts more than a letter; without either, the coordinate is north or east.
    """
    match = _COORDINATE.fullmatch(text[:100])
    if match is None:
        return None
    before, sign, digits, after = match.groups()
    numbers = [float(whole) / float(part or 1) for whole, part in _NUMBER.findall(digits) if float(part or 1)]
    if not numbers or len(numbers) > 3 or any(number >= 60 for number in numbers[1:]):
        return None
    degrees = sum(number / 60.0**place for place, number in enumerate(numbers))
    letter = (after or before or reference[:1]).upper()
    return -degrees if sign == "-" or letter in ("S", "W") else degrees
