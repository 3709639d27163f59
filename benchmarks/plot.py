"""The plot: a bar for each row with a target, as far as the target was reached, in an SVG drawn by hand.

The scale is logarithmic, its line in the middle is the target. Colours follow the reader's light or dark mode; each
bar says its ratio in words too, so that colour alone carries nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.results import Row

WIDTH = 1000
NAMES = 420
"""Pixels left of the bars."""
FIGURES = 190
"""Pixels right of them."""
LINE = 26
TOP = 60
REACH = 10.0
"""The scale ends at a tenth of the target and at ten times it; longer bars are cut there."""

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.small { font-size: 12px; fill: #59636e; }
.back { fill: #ffffff; }
.met { fill: #1a7f5a; }
.missed { fill: #b35900; }
.axis { stroke: #8c959f; stroke-width: 1; }
.target { stroke: #1f2328; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9da7b1; }
  .back { fill: #0d1117; }
  .met { fill: #3fb68b; }
  .missed { fill: #e3883a; }
  .axis { stroke: #3d444d; }
  .target { stroke: #e6edf3; }
}
"""


def draw(rows: Sequence[Row]) -> str:
    """The SVG, as text. Rows without figures are left out."""
    shown = [row for row in rows if row.score is not None]
    bottom = TOP + LINE * len(shown)
    height = bottom + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="How far each target was reached">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}"/>',
        f'<text x="{_x(1.0):.1f}" y="22" text-anchor="middle">How far each target was reached</text>',
        *_scale(bottom),
    ]
    for place, row in enumerate(shown):
        parts += _bar(row, TOP + LINE * place)
    parts.append(_line("target", _x(1.0), TOP - 8, bottom))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _scale(bottom: int) -> list[str]:
    parts = []
    for value, name in ((0.1, "⅒"), (0.5, "½"), (1.0, "target"), (2.0, "2×"), (5.0, "5×"), (10.0, "10×")):
        if value != 1:
            parts.append(_line("axis", _x(value), TOP - 8, bottom))
        parts.append(f'<text class="small" x="{_x(value):.1f}" y="{TOP - 14}" text-anchor="middle">{name}</text>')
    left, right = _x(1.0) - 10, _x(1.0) + 10
    y = bottom + 20
    parts.append(f'<text class="small" x="{left:.1f}" y="{y}" text-anchor="end">missed</text>')
    parts.append(f'<text class="small" x="{right:.1f}" y="{y}">met</text>')
    return parts


def _bar(row: Row, top: int) -> list[str]:
    score = row.score
    assert score is not None
    ends = sorted((_x(1.0), _x(score)))
    wide = max(ends[1] - ends[0], 1.5)
    y = top + 16
    name = _short(row.label or row.what, 58)
    return [
        f"<g><title>{escape(row.what)}: {escape(row.ours)} against {escape(row.reference)}</title>",
        f'<text x="{NAMES - 12}" y="{y}" text-anchor="end">{escape(name)}</text>',
        f'<rect class="{"met" if row.met else "missed"}" x="{ends[0]:.1f}" y="{top + 3}" width="{wide:.1f}" '
        f'height="{LINE - 9}" rx="2"/>',
        f'<text class="small" x="{WIDTH - FIGURES + 14}" y="{y}">{escape(row.plot_text)} '
        f"({escape(str(row.target))})</text></g>",
    ]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip(" ,") + "…"


def _line(kind: str, x: float, top: int, bottom: int) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'


def _x(score: float) -> float:
    """The place of a score: the target in the middle, REACH times it at the right end."""
    span = WIDTH - NAMES - FIGURES
    bounded = min(max(score, 1 / REACH), REACH)
    return NAMES + span * (0.5 + 0.5 * math.log(bounded, REACH))
