"""Reads the filter options (`--in`, `--taken`, `--near` …) into a `catalog.filters.Filter`, which applies them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from clipsearch.catalog.filters import Filter, Near, escaped, has_glob
from clipsearch.errors import UsageError
from clipsearch.files import absolute, below, ways
from clipsearch.types import HitState, whole_number

FORMAT_NAMES = {"JPG": "JPEG", "TIF": "TIFF", "HEIC": "HEIF", "JP2": "JPEG2000", "DNG": "RAW"}
"""Suffixes that people use as names of a format."""


def read_filter(
    *,
    within: Sequence[str] | None = None,
    taken: str | None = None,
    camera: str | None = None,
    near: str | None = None,
    formats: Sequence[str] | None = None,
    min_size: str | None = None,
    landscape: bool = False,
    portrait: bool = False,
    indexed_since: str | None = None,
    state: HitState | None = None,
    tags: Sequence[str] | None = None,
    rating: str | None = None,
    caption: str | None = None,
    name: str | None = None,
    as_text: bool = False,
) -> Filter | None:
    """The filter that the options ask for, None without any. `as_text` is for `parse_within`. Raises UsageError."""
    if landscape and portrait:
        raise UsageError("`landscape` and `portrait` exclude each other")
    chosen = Filter(
        within=parse_within(within or (), as_text=as_text),
        as_text=as_text and bool(within),
        taken=None if taken is None else parse_taken(taken),
        camera=camera,
        near=None if near is None else parse_near(near),
        formats=tuple(parse_format(name) for name in formats or ()),
        min_size=None if min_size is None else parse_size(min_size),
        landscape=landscape,
        portrait=portrait,
        indexed_since=None if indexed_since is None else parse_since(indexed_since),
        state=state,
        tags=tuple(_given("`tag`", tag) for tag in tags or ()),
        rating=None if rating is None else parse_rating(rating),
        caption=None if caption is None else _given("`caption`", caption),
        name=None if name is None else _given("`name`", name),
    )
    return chosen or None


def parse_within(places: Sequence[str], *, as_text: bool = False) -> tuple[bytes, ...]:
    """Folders and globs, relative to the current folder; a glob without a slash matches at any depth.

    With `as_text`, nothing is looked up in the file system: places must be absolute, `~` and links mean nothing.
    Raises UsageError.
    """
    names = _names_in_text if as_text else _names
    return tuple(dict.fromkeys(name for place in places for name in names(place)))


def _names_in_text(place: str) -> Iterator[bytes]:
    rest = place.removeprefix("*/")
    whole = absolute("/" + rest)
    if place.startswith("/"):
        if not has_glob(whole) or b"[" in whole:
            yield escaped(whole)
        if has_glob(whole):
            yield whole
    elif rest != place or (has_glob(whole) and "/" not in place):
        yield b"*" + whole
    else:
        raise UsageError(f"`in` {place}: must be an absolute path, or a glob such as *.jpg or */2019/*")


def _names(place: str) -> Iterator[bytes]:
    """A place as `Filter.within` has it; twice where a shell shows another name of the current folder."""
    folders, name = ways(place), os.fsencode(place)
    if not has_glob(name) or b"[" in name or os.path.lexists(folders[0]):  # A folder may have such a name.
        yield from map(escaped, folders)
    if not has_glob(name):
        return
    if b"/" not in name:
        yield b"*/" + name
        return
    folder = re.split(rb"[*?\[]", name)[0].rpartition(b"/")
    plain = folder[0] + folder[1]
    for way in ways(plain or b"."):
        yield below(escaped(way)) + os.path.normpath(name[len(plain) :])


def _given(option: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"{option}: the text to look for is empty")
    return text


def parse_taken(text: str) -> tuple[str, str]:
    """ISO moments [from, to) of `2021`, `2021-05`, `2021-05-03`, `2021-05-03T14`, `2021-05-03 14:02`, or of a range
    `A..B` that includes both; A or B may be missing.

    Raises UsageError.
    """
    first, dots, last = text.partition("..")
    if not dots:
        last = first
    if not first and not last:
        raise UsageError(f"`taken` {text}: give a date, such as 2021, 2021-05 or 2021-05-03..2021-06")
    low = _checked(first, text) if first else ""
    # "2021-05-03T…" < "2021-05-03~" for every time of that day, and likewise for months and years.
    high = (_checked(last, text) if last else "") + "~"
    if low >= high:
        raise UsageError(f"`taken` {text}: ends before it begins")
    return low, high


def _checked(date: str, text: str) -> str:
    date = re.sub(r"(?<=\d) (?=\d)", "T", date.strip())
    try:
        if not re.fullmatch(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d)?)?)?)?)?", date, re.ASCII):
            raise ValueError(date)
        datetime.fromisoformat(date + "2000-01-01T00:00:00"[len(date) :])
    except ValueError as exc:
        raise UsageError(
            f"`taken` {text}: {date!r} is not a date; write 2021, 2021-05, 2021-05-03 or 2021-05-03T14:02"
        ) from exc
    return date


def parse_rating(text: str) -> tuple[int, int]:
    """Stars, the fewest and the most: `4`, `4..5`, `4..`, `..2`. Raises UsageError."""
    first, dots, last = (part.strip() for part in text.partition(".."))
    stars = [part for part in (first, last) if part]
    if not stars or not all(re.fullmatch(r"-1|[0-5]", part) for part in stars):
        raise UsageError(f"`rating` {text}: give stars from 0 to 5 (-1: rejected), such as 4, 4..5 or 4..")
    low = int(first or -1)
    high = int(last or 5) if dots else low
    if low > high:
        raise UsageError(f"`rating` {text}: ends before it begins")
    return low, high


def parse_near(text: str) -> Near:
    """`LAT,LON,KM` in degrees and kilometres. Raises UsageError."""
    try:
        lat, lon, km = (float(part) for part in text.split(","))
    except ValueError as exc:
        raise UsageError(f"`near` {text}: give latitude, longitude and kilometres: 48.86,2.35,10") from exc
    return Near(lat, lon, km)


def parse_format(text: str) -> str:
    """The catalog's name for a format, whatever its case, or for a suffix. Raises UsageError."""
    from clipsearch.images.sniff import FORMATS

    name = text.upper().lstrip(".")
    name = FORMAT_NAMES.get(name, name)
    if name not in FORMATS:
        raise UsageError(f"`format` {text}: must be one of {', '.join(sorted(FORMATS)).lower()}")
    return name


def parse_size(text: str) -> tuple[int, int]:
    """`WxH` in pixels of the upright image. Raises UsageError."""
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text.strip())
    if match is None:
        raise UsageError(f"`min_size` {text}: give width and height in pixels: 1920x1080")
    return whole_number(match[1]), whole_number(match[2])


def parse_since(text: str) -> str:
    """An ISO date or moment; UTC unless it names a time zone. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"`indexed_since` {text}: give a date, such as 2026-01-31") from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # In UTC, it is not in the years 1 to 9999 any more: it counts as their first or last moment.
        moment = datetime.min if moment.year == 1 else datetime.max
    return moment.replace(tzinfo=UTC).isoformat(timespec="seconds")
