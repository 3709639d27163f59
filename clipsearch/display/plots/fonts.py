"""Fonts that have the characters of names and labels, whatever their script; what no font has becomes a box."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable

from matplotlib import font_manager

from clipsearch.display.text import printable

__all__ = ["FIRST", "families_for", "readable"]

FIRST = "DejaVu Sans"
"""Comes with matplotlib."""

_BOX = "□"

_LAST_RESORT = "Last Resort"
"""A font that has every character, as a box that tells its script."""

_TRIED = 400
"""Fonts that are looked into for a character; a machine may have thousands."""


def families_for(texts: Iterable[str]) -> list[str]:
    """Families that have the characters of `texts` together, DejaVu Sans first, in the order of need."""
    families = [FIRST]
    missing = {ord(c) for text in texts for c in printable(text)} - _characters(font_manager.findfont(FIRST))
    if not missing:
        return families
    # Upright sans-serif faces of plain weight first.
    fonts = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: ("Sans" not in font.name, font.style != "normal", _weight(font.weight) != 400, font.name),
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
    """`text` without controls, and with a box for each character that no family has; joiners without a glyph go."""
    # A family by its name alone, not by a pattern: some names hold what patterns are made of.
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
        # Fonts of pictures, and broken ones.
        return frozenset()


def _weight(weight: int | str) -> int:
    return weight if isinstance(weight, int) else 400 if weight in ("normal", "regular", "book") else 700
