"""Plots of recall@k, from plain arrays: the share of queries with a correct result among the first k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import ScaledTranslation

from clipsearch.display.plots.drawing import Style, drawing, save
from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TICKS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Values of k with a mark on the curve."""

ASIDE = 6.5
"""Horizontal distance in points between marks that would overlap: those whose recalls differ by at most NEAR."""

NEAR = 0.03


@dataclass(frozen=True, slots=True)
class RecallCurve:
    """recall@k of one system. k, recall, low and high: shape (m,), k ascending from 1; the others 0 … 1.

    name: such as the model's; kind: the kind of query, if there are several. low and high bound the 95 % confidence
    interval: NaN at a k without one, None if there are none at all.
    """

    name: str
    k: NDArray[np.integer]
    recall: NDArray[np.floating]
    low: NDArray[np.floating] | None = None
    high: NDArray[np.floating] | None = None
    kind: str = ""


def plot_recall(curves: Sequence[RecallCurve], file: str | Path, *, title: str = "Recall", dark: bool = False) -> None:
    """Recall against k on a logarithmic scale, one line per curve, with its intervals as bars.

    With several kinds, the kind determines colour and mark, and the name dashes and filled or hollow marks; otherwise
    the name determines all of them. Marks that would overlap are drawn side by side, so that equal lines can be told
    apart. Raises UsageError without a curve or if shapes disagree, and what `drawing.save` raises.
    """
    if not curves:
        raise UsageError("no recall curve to draw")
    for curve in curves:
        if not len(curve.k) or len(curve.k) != len(curve.recall):
            raise UsageError(f"the recall curve of {curve.name} has {len(curve.k)} k and {len(curve.recall)} values")
    texts = [title, *(text for curve in curves for text in (curve.name, curve.kind))]
    with drawing(texts, file=file, dark=dark) as style:
        figure = Figure(figsize=(6.4, 4.2))
        axes = figure.add_subplot()
        axes.set_xscale("log")
        names, kinds = (list(dict.fromkeys(each)) for each in zip(*((c.name, c.kind) for c in curves), strict=True))
        looks = [
            _look(kinds.index(c.kind), names.index(c.name), style)
            if len(kinds) > 1
            else _look(i, i // len(style.theme.series), style)
            for i, c in enumerate(curves)
        ]
        for curve, look in zip(curves, looks, strict=True):
            axes.plot(curve.k, curve.recall, **{**look, "marker": ""})
        _marks(axes, curves, looks)
        ks = sorted({int(k) for curve in curves for k in curve.k})
        ticks = [k for k in ks if k in TICKS] or ks
        axes.set_xticks(ticks, [f"{k:,}" for k in ticks])
        axes.minorticks_off()
        bars = "; bars: 95 % confidence intervals" if any(curve.low is not None for curve in curves) else ""
        axes.set(xlabel=f"k (number of results){bars}", ylabel="recall@k (share of queries)", ylim=(0, 1.03))
        axes.set_title(style.fit(title, 5.5, size=12, bold=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.grid(linewidth=0.6)
        axes.set_axisbelow(True)
        _legend(axes, looks, names, kinds, style)
        shown = ", ".join(" ".join(part for part in (c.name, c.kind) if part) for c in curves)
        save(figure, file, style, title=f"{title}: {shown}")


def _look(first: int, second: int, style: Style) -> dict[str, Any]:
    """Colour and mark depend on `first`, dashes and whether the mark is filled on `second`."""
    series = style.theme.series
    hollow = {"markerfacecolor": style.theme.ground, "markeredgewidth": 1.5}
    return {
        "color": series[first % len(series)],
        "marker": "osD^vP"[first % 6],
        "linestyle": ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))[second % 4],
        "linewidth": 1.8,
        "markersize": 6,
        **(hollow if second % 2 else {"markeredgecolor": style.theme.ground, "markeredgewidth": 0.7}),
    }


def _marked(curve: RecallCurve) -> dict[int, tuple[float, float, float]]:
    """recall, low and high at each k with a mark: those with an interval or, without any, TICKS."""
    low, high = (np.full(len(curve.k), np.nan) if each is None else each for each in (curve.low, curve.high))
    rows = list(zip(*(np.asarray(each).tolist() for each in (curve.k, curve.recall, low, high)), strict=True))
    held = [row for row in rows if np.isfinite(row).all()] or [row for row in rows if row[0] in TICKS]
    return {k: (recall, low, high) for k, recall, low, high in held}


def _marks(axes: Axes, curves: Sequence[RecallCurve], looks: Sequence[dict[str, Any]]) -> None:
    """Marks and intervals, side by side where they would overlap."""
    marked = [_marked(curve) for curve in curves]
    for k in sorted({k for each in marked for k in each}):
        recalls, order = zip(*sorted((each[k][0], i) for i, each in enumerate(marked) if k in each), strict=True)
        for run in np.split(order, np.flatnonzero(np.diff(recalls) > NEAR) + 1):
            for place, i in enumerate(sorted(run)):
                points = (place - (len(run) - 1) / 2) * ASIDE
                beside = axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
                recall, low, high = marked[i][k]
                if np.isfinite(low):
                    axes.vlines(k, low, high, color=looks[i]["color"], linewidth=1.3, transform=beside)
                axes.plot(k, recall, **{**looks[i], "linestyle": ""}, transform=beside, zorder=3, clip_on=False)


def _legend(
    axes: Axes, looks: Sequence[dict[str, Any]], names: Sequence[str], kinds: Sequence[str], style: Style
) -> None:
    """Kinds with their colours, then names with their dashes; only what differs is listed."""
    shown = list(zip(names, looks, strict=False))
    if len(kinds) > 1:
        shown = [(kind, _look(i, 0, style)) for i, kind in enumerate(kinds)]
        if len(names) > 1:
            plain = {"marker": "o", "color": style.theme.muted}
            shown += [(name, {**_look(0, i, style), **plain}) for i, name in enumerate(names)]
    entries = [Line2D([], [], **look, label=style.fit(text, 2.6, lines=3)) for text, look in shown]
    axes.legend(handles=entries, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=2.8)
