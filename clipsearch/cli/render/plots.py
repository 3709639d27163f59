"""The plots of `eval --plot`: which ones are drawn, and their file names; `display.plots` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.cli import output
from clipsearch.cli.render.evaluation import DIRECTIONS
from clipsearch.display.text import model_name
from clipsearch.files import expanded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.display.plots.recall import RecallCurve
    from clipsearch.evaluate import ClassificationScores, RetrievalScores, SelfScores
    from clipsearch.evaluate.metrics import Estimate
    from clipsearch.types import EncoderInfo

PARTS = ("confusion", "reliability")
"""The plots of a classification, as their files are named: plot-confusion.svg."""


def check(file: str | None, parts: Sequence[str] = ("",)) -> None:
    """Refuse a plot that cannot be written, before anything is encoded. Raises UsageError, ClipsearchError."""
    if file is not None:
        from clipsearch.display.plots.file import check, check_name

        check_name(file)
        for part in parts:
            check(_named(file, part))


def classifications(found: Sequence[ClassificationScores], file: str, *, dark: bool) -> None:
    """A confusion matrix and a reliability diagram per model; the files of a second model end in -2."""
    from clipsearch.display.plots.evaluation import plot_confusion, plot_reliability

    written = []
    for number, one in enumerate(found, 1):
        confusion, reliability = (_named(file, part, number) for part in PARTS)
        plot_confusion(one.confusion, one.labels, confusion, dark=dark)
        bins = one.reliability
        ece = one.calibration_error.value
        plot_reliability(bins.confidence, bins.accuracy, bins.counts, ece, reliability, dark=dark)
        written += [confusion, reliability]
    output.note(f"wrote the plots to {', '.join(map(str, written))}")


def retrievals(found: Sequence[RetrievalScores], file: str, *, dark: bool) -> None:
    """The recall curves of every model in both directions."""
    curves = [
        _curve(one.model, name, way.recall, way.curve)
        for one in found
        for name, way in zip(DIRECTIONS, (one.text_to_image, one.image_to_text), strict=True)
    ]
    _recall(curves, file, title="Captions and their pictures", dark=dark)


def copies(found: Sequence[SelfScores], file: str, *, dark: bool) -> None:
    """The recall curves of every model and kind of copy."""
    curves = [_curve(one.model, each.alteration, each.recall, each.curve) for one in found for each in one.alterations]
    _recall(curves, file, title="Altered copies and their originals", dark=dark)


def _recall(curves: Sequence[RecallCurve], file: str, *, title: str, dark: bool) -> None:
    from clipsearch.display.plots.recall import plot_recall

    plot_recall(curves, _named(file, ""), title=title, dark=dark)
    output.note(f"wrote the plot to {file}")


def _curve(model: EncoderInfo, kind: str, at: Mapping[int, Estimate], recall: NDArray[np.float64]) -> RecallCurve:
    """A recall curve with its measured intervals."""
    import numpy as np

    from clipsearch.display.plots.recall import RecallCurve

    low, high = np.full(len(recall), np.nan), np.full(len(recall), np.nan)
    for k, estimate in at.items():
        if k <= len(recall):
            low[k - 1], high[k - 1] = estimate.low, estimate.high
    return RecallCurve(model_name(model.spec), np.arange(1, len(recall) + 1), recall, low, high, kind)


def _named(file: str, part: str, number: int = 1) -> Path:
    path = expanded(file)
    ending = f"-{part}" if part else ""
    return path.with_name(f"{path.stem}{ending}{f'-{number}' if number > 1 else ''}{path.suffix}")
