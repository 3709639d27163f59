"""Names and quantities for people to read, in a form that cannot control the terminal or page that shows them."""

from __future__ import annotations

import os
import re
import unicodedata

from clipsearch.catalog.facts import is_utc

# Control characters (C0, DEL, C1), line separators, marks that change the direction of text, and the surrogates that
# stand for bytes that are not UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNITS = ("B", "kB", "MB", "GB", "TB")


def printable(text: str, *, keep: str = "") -> str:
    """`text` with everything that could control a terminal or page escaped (`\\n`), except the characters in `keep`."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


def cell_width(text: str) -> int:
    """Width of `text` in terminal cells."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) or c in "\u200d\ufe0f" else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """`text`, truncated to at most `width` cells."""
    if cell_width(text) <= width:
        return text
    while cell_width(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def size(count: int) -> str:
    """Bytes in decimal units, three digits: 812 B, 3.21 MB, 120 GB."""
    value = float(count)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def home_path(path: str) -> str:
    """An absolute path, printable, with `~` for the home folder."""
    home = os.path.join(os.path.expanduser("~"), "")
    if home != os.path.join(os.sep, "") and path.startswith(home):
        path = "~/" + path[len(home) :]
    return printable(path)


def model_name(spec: str) -> str:
    """A model's name on a plot or page: of a checkpoint's path only the file name."""
    return os.path.basename(spec) if spec.startswith(os.sep) else spec


def part_of(box: tuple[int, int, int, int]) -> str:
    """A part of an image in the form that a query accepts after a path: `#x,y,width,height`, in pixels."""
    left, top, right, bottom = box
    return f"#{left},{top},{right - left},{bottom - top}"


_SOURCES = {
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "png": "PNG text",
    "gps": "the GPS date",
    "modified": "the EXIF modification date",
    "sidecar": "the sidecar",
    "takeout": "Google Takeout",
    "name": "the file name",
    "image": "the image",
}
"""What the sources of `catalog.facts` are called."""


def from_source(source: str | None) -> str:
    """Where a fact was found, in brackets behind it; empty where that is unknown."""
    return f" (from {_SOURCES.get(source, source)})" if source else ""


def date_text(taken_at: str, offset: int | None, source: str | None) -> str:
    """A date with its zone, as far as that is known: "2021-05-03T14:02:11, UTC+2"."""
    zone = ""
    if "T" in taken_at:
        if is_utc(source, offset):
            zone = " UTC"
        elif offset is not None:
            hours, minutes = divmod(abs(offset), 60)
            zone = f", UTC{'-' if offset < 0 else '+'}{hours}" + f":{minutes:02}" * bool(minutes)
    return taken_at + zone


def day_text(taken_at: str | None, offset: int | None, source: str | None) -> str:
    """The day of a date; a dash where there is none. It is marked where it is that of UTC."""
    return (taken_at or "–")[:10] + (" UTC" if taken_at and is_utc(source, offset) else "")


def place_text(lat: float | None, lon: float | None) -> str:
    """Latitude and longitude in degrees; empty where they are unknown."""
    return "" if lat is None or lon is None else f"{lat:.5f}, {lon:.5f}"


def stars(rating: int) -> str:
    """A rating from −1 (rejected) to 5."""
    return "rejected" if rating < 0 else "★" * rating + "☆" * (5 - rating)
