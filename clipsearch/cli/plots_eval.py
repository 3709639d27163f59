"""`eval --plot`: which plots are drawn of what was measured, and into which files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.cli import output
from clipsearch.showing.wording import model_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.evaluating import ClassificationScores, RetrievalScores, SelfScores
    from clipsearch.plotting.evaluation import RecallCurve

PARTS = ("confusion", "reliability")
"""What a classification is drawn as; the files are named so: plot-confusion.svg."""


def check(file: str | None, parts: Sequence[str] = ("",)) -> None:
    """Refuse before anything is encoded what cannot be drawn. Raises UsageError, ClipsearchError."""
    if file is not None:
        from clipsearch import plotting

        plotting.check_name(file)
        for part in parts:
            plotting.check(_named(file, part))


def classifications(found: Sequence[ClassificationScores], file: str, *, dark: bool) -> None:
    """A confusion matrix and a reliability diagram for each model; those of a second one end in -2."""
    from clipsearch.plotting.evaluation import plot_confusion, plot_reliability

    written = []
    for number, one in enumerate(found, 1):
        confusion, reliability = (_named(file, part, number) for part in PARTS)
        plot_confusion(one.confusion, one.labels, confusion, dark=dark)
        bins = one.reliability
        ece = one.calibration_error.value
        plot_reliability(bins.confidence, bins.accuracy, bins.counts, ece, reliability, dark=dark)
        written += [confusion, reliability]
    output.note(f"the plots are in {', '.join(map(str, written))}")


def retrievals(found: Sequence[RetrievalScores], file: str, *, dark: bool) -> None:
    """The recall curves of every model, in both directions."""
    from clipsearch.plotting.evaluation import plot_recall

    curves = []
    for one in found:
        name = model_name(one.model.spec)
        curves.append(_curve(f"{name}, words to picture", one.text_to_image.curve))
        curves.append(_curve(f"{name}, picture to words", one.image_to_text.curve))
    plot_recall(curves, _named(file, ""), title="Captions and their pictures", dark=dark)
    output.note(f"the plot is in {file}")


def copies(found: Sequence[SelfScores], file: str, *, dark: bool) -> None:
    """The recall curves of every model and kind of copy."""
    from clipsearch.plotting.evaluation import plot_recall

    curves = [
        _curve(each.alteration if len(found) == 1 else f"{model_name(one.model.spec)}, {each.alteration}", each.curve)
        for one in found
        for each in one.alterations
    ]
    plot_recall(curves, _named(file, ""), title="Altered copies and their originals", dark=dark)
    output.note(f"the plot is in {file}")


def _curve(name: str, recall: NDArray[np.float64]) -> RecallCurve:
    import numpy as np

    from clipsearch.plotting.evaluation import RecallCurve

    return RecallCurve(name, np.arange(1, len(recall) + 1), recall)


def _named(file: str, part: str, number: int = 1) -> Path:
    path = Path(file).expanduser()
    ending = f"-{part}" if part else ""
    return path.with_name(f"{path.stem}{ending}{f'-{number}' if number > 1 else ''}{path.suffix}")
