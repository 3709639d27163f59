"""Light and dark colours of the plots, and the style sheet by which an SVG switches between them.

Series are the eight colours of Okabe and Ito ("Color Universal Design", 2008), made darker on white and lighter on
black, so that each has a contrast of at least 3:1 with the background (WCAG 2.2, 1.4.11).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """All colours of a theme differ, since in an SVG a colour identifies its role."""

    ground: str
    panel: str
    text: str
    muted: str
    line: str
    accent: str
    series: tuple[str, ...]


LIGHT = Theme(
    ground="#fefefe",
    panel="#eef0f2",
    text="#1b1e21",
    muted="#5a6169",
    line="#c9ced3",
    accent="#0a6fb0",
    series=("#0072b2", "#d1550a", "#00805e", "#a8478a", "#8a6b00", "#0f7f9c"),
)
DARK = Theme(
    ground="#131618",
    panel="#22282c",
    text="#e9ecee",
    muted="#a4adb5",
    line="#454d53",
    accent="#5fb3ea",
    series=("#56b4e8", "#f08a4b", "#2fbf93", "#e08cc3", "#e0bd3a", "#5cc8dd"),
)


def adaptive() -> str:
    """A style sheet that turns an SVG drawn in LIGHT into DARK if the viewer's mode is dark.

    It matches colours as matplotlib writes them into style attributes; a viewer without CSS support shows LIGHT.
    """
    rules = []
    for light, dark in zip(_colours(LIGHT), _colours(DARK), strict=True):
        for part in ("fill", "stroke"):
            rules.append(f'[style*="{part}: {light}"] {{ {part}: {dark} !important }}')
    return "@media (prefers-color-scheme: dark) {\n" + "\n".join(rules) + "\n}"


def _colours(theme: Theme) -> list[str]:
    *named, series = astuple(theme)
    return [*named, *series]
