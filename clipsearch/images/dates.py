"""Dates as files have them: what can be read of one is kept, and no more is made of it.

A date is text in the form of ISO 8601: "2021", "2021-05", "2021-05-03", "2021-05-03T14:02:11" or, with a fraction of a
second, "2021-05-03T14:02:11.25". So their order as text is their order in time.
"""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

_MOMENT = re.compile(
    r"""\s*([1-9]\d{3})(?!\d)
    (?:\s*[:./-]\s*(\d{1,2}))?(?:\s*[:./-]\s*(\d{1,2}))?
    (?:[T\s]\s*(\d{1,2})\s*[:.]\s*(\d{1,2})(?:\s*[:.]\s*(\d{1,2})(?:[.,](\d{1,9}))?)?)?
    \s*(Z|[+-]\d\d(?::?\d\d)?)?""",
    re.VERBOSE,
)
"""The parts of a date: year, month, day, hour, minute, second, fraction, offset. EXIF has colons in its days. The years
of three digits are no photographs': year 1 is what some libraries begin with."""

_COMPACT = re.compile(r"\s*(\d{4})(\d\d)(\d\d)(?:[T\s]?(\d\d)(\d\d)(\d\d)?)?(?!\d)")
"""A date, or a date and a time, without separators."""

_WRITTEN = re.compile(
    r"""\s*(?:[a-z]{3,9}\.?,?\s+)?
    (?:(?P<day>\d{1,2})[\s-]+(?P<month>[a-z]{3})[a-z]*\.?,?[\s-]+(?P<year>\d{4})
      (?:,?\s+(?P<time>\d{1,2}:\d\d(?::\d\d)?)\s*(?P<zone>[+-]\d{4}|gmt|utc?|z)?)?
    |(?P<month2>[a-z]{3})[a-z]*\s+(?P<day2>\d{1,2})\s+(?P<time2>\d{1,2}:\d\d:\d\d)\s+(?P<year2>\d{4}))""",
    re.IGNORECASE | re.VERBOSE,
)
"""Dates of RFC 822 and its successors, as the PNG specification recommends them, and those of C's `ctime`."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_WIDEST_OFFSET = 14 * 60
"""Minutes: the offset of Kiribati, the widest in use."""


class Moment(NamedTuple):
    """A date (see above), and its offset from UTC in minutes, if it is known."""

    text: str
    offset: int | None = None


def parse(text: str, *, fraction: str = "") -> Moment | None:
    """What can be read of a date. `fraction`: the digits of a fraction of a second, where a file has them elsewhere.

    Hour 24 and second 60 count on; a day whose time is missing or blank stays a day. None where there is no date.
    """
    if compact := _COMPACT.match(text):
        parts = [part for part in compact.groups() if part]
        text = "-".join(parts[:3]) + "T" * (len(parts) > 3) + ":".join(parts[3:]) + text[compact.end() :]
    match = _MOMENT.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, digits, zone = match.groups()
    try:
        if month is None or day is None or not int(month) or not int(day):
            return _incomplete(int(year), int(month or 0))
        date = datetime.datetime(int(year), int(month), int(day))
        if hour is None:
            return Moment(date.date().isoformat())
        if int(hour) > 24 or int(minute) > 59 or int(second or 0) > 60:
            return Moment(date.date().isoformat())
        date += datetime.timedelta(hours=int(hour), minutes=int(minute), seconds=int(second or 0))
    except (ValueError, OverflowError):
        return None
    digits = (digits or _digits(fraction)).rstrip("0")[:6]
    return Moment(date.isoformat(timespec="seconds") + f".{digits}" * bool(digits), offset(zone or ""))


def parse_written(text: str) -> Moment | None:
    """`parse`, or what can be read of "Mon, 03 May 2021 14:02:11 +0200" or "Mon May  3 14:02:11 2021"."""
    match = _WRITTEN.match(text)
    if match is None:
        return parse(text)
    year, month, day, time = (match[name] or match[f"{name}2"] for name in ("year", "month", "day", "time"))
    if month.lower() not in _MONTHS:
        return None
    zone = match["zone"] or ""
    at = f" {time} {zone if zone[:1] in ('+', '-') else 'Z' * bool(zone)}" if time else ""
    return parse(f"{year}-{_MONTHS.index(month.lower()) + 1}-{day}{at}")


def offset(text: str) -> int | None:
    """Minutes from UTC of "+02:00", "-0530", "+02" or "Z"; None for anything else."""
    if text.strip() == "Z":
        return 0
    match = re.fullmatch(r"\s*([+-])(\d\d)(?::?([0-5]\d))?\s*", text)
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    return (-minutes if match[1] == "-" else minutes) if minutes <= _WIDEST_OFFSET else None


def _incomplete(year: int, month: int) -> Moment | None:
    if month > 12:
        return None
    return Moment(f"{year:04}-{month:02}" if month else f"{year:04}")


def _digits(text: str) -> str:
    match = re.match(r"\s*(\d{1,9})", text)
    return match[1] if match else ""
