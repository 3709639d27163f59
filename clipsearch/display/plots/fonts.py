"""Finds fonts for the characters of names and labels in any script; a character without a font becomes a box."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable

from matplotlib import font_manager

from clipsearch.display.text import printable

FIRST = "DejaVu Sans"
"""Bundled with matplotlib."""

_BOX = "□"

_LAST_RESORT = "Last Resort"
"""A font that shows every character as a box."""

PLAIN = (400, "normal", "regular", "book")
"""Weights of plain text."""

_TRIED = 400
"""Maximum number of fonts that are searched; a machine may have thousands."""


def families_for(texts: Iterable[str]) -> list[str]:
    """Font families that together cover the characters of `texts`, DejaVu Sans first."""
    families = [FIRST]
    missing = {ord(c) for text in texts for c in printable(text)} - _characters(font_manager.findfont(FIRST))
    if not missing:
        return families
    # Upright sans-serif faces of plain weight first.
    fonts = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: ("Sans" not in font.name, font.style != "normal", font.weight not in PLAIN, font.name),
    )
    for font in fonts[:_TRIED]:
        if font.name.startswith(_LAST_RESORT):
            continue
        found = missing & _characters(font.fname)
        if found:
            families.append(font.name)
            missing -= found
        if not missing:
            break
    return families


def readable(text: str, families: Iterable[str]) -> str:
    """`text` without control characters; a character that no family has becomes a box, a joiner is dropped."""
    # As a list, since a string would be parsed as a pattern, and some names contain its special characters.
    known = [_characters(font_manager.findfont(font_manager.FontProperties(family=[each]))) for each in families]
    shown = []
    for c in printable(text):
        if any(ord(c) in characters for characters in known):
            shown.append(c)
        elif unicodedata.category(c) not in ("Mn", "Me", "Cf"):
            shown.append(_BOX)
    return "".join(shown)


@functools.cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):
        # Emoji and damaged fonts.
        return frozenset()
