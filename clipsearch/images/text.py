"""Texts that files have: made printable and short before they are stored, whoever wrote them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_CHARACTERS = 500
"""Characters of a text that is kept, such as a caption."""

MAX_KEYWORDS, MAX_KEYWORD_CHARACTERS = 200, 200

_MAKERS = "olympus|konica|minolta|pentax|kodak|casio|fujifilm|samsung|vivitar|polaroid|ricoh|nikon|canon|sony|panasonic"
_NO_CAPTION = re.compile(
    rf"""(?:(?:(?:{_MAKERS})\ ?)*(?:digital\ (?:still\ )?camera|dsc)? | <[^<>]*> | .{{0,3}}\bdcim\b.*
    | [\s!-/:-@\[-`{{-~]* | \{{.*\}} | imagej=.* | created\ with\ (?:the\ )?gimp.*
    | default | untitled | null | none | n/a | exif[_ ]?jpeg(?:[_ ]picture)? | jpeg | image | picture | photo
    | (?:oz|rpt|nor|cof|fil|dav|mde|edf|hdr|sdr|rhdr|btf|ptr|ptfbty|fbt|bst|pl|_cuhappy|_)+
    | (?:dscf?|dscn|img|pict|p|dji|gopr|mvc|cimg|sdc|sam|wp)[_-]?\d+(?:\.\w{{3,4}})?)""",
    re.IGNORECASE | re.VERBOSE,
)
"""What cameras and programs write for a caption themselves: "OLYMPUS DIGITAL CAMERA", "SONY DSC", the file's name."""

_DIRECTION_MARKS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, most: int = MAX_CHARACTERS) -> str:
    """At most `most` characters of a text, without control characters; each run of white space becomes one space."""
    spaced = " ".join(text[: 4 * most].split())
    if spaced.isprintable():  # Nearly always.
        return spaced[:most].rstrip()
    kept = (c for c in spaced if unicodedata.category(c) not in ("Cc", "Cs", "Cn") and c not in _DIRECTION_MARKS)
    return "".join(kept).strip()[:most].rstrip()


def caption(*texts: str) -> str | None:
    """The first text, made printable, that somebody may have written, and no camera."""
    return next((each for text in texts if not _NO_CAPTION.fullmatch(each := printable(text))), None)


def keywords(texts: Iterable[str]) -> tuple[str, ...]:
    """Keywords made printable; each once, in their order, and no more than MAX_KEYWORDS."""
    found: dict[str, None] = {}
    for text in texts:
        if word := printable(text, MAX_KEYWORD_CHARACTERS):
            found[word] = None
        if len(found) == MAX_KEYWORDS:
            break
    return tuple(found)


def rating(stars: str, *, percent: str = "") -> int | None:
    """Stars from 0 to 5, or -1 for a rejected image; `percent`: the same on Windows' scale, if there are no stars."""
    if (number := _number(stars)) is not None and -1 <= number <= 5:
        return round(number)
    if (number := _number(percent)) is not None and 0 <= number <= 100:
        return round(number / 25) + 1 if number >= 1 else 0
    return None


def _number(text: str) -> float | None:
    match = re.fullmatch(r"\s*([+-]?\d{1,9}(?:\.\d{0,9})?)\s*", text)
    return float(match[1]) if match else None
