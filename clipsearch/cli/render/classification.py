"""Results of `classify` as CSV, rows and text."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from clipsearch.classify.options import UNKNOWN
from clipsearch.classify.results import Classification, ClassifyResult, Prediction
from clipsearch.cli import output
from clipsearch.cli.render.shared import csv_text
from clipsearch.cli.render.tables import counted, short_path, table
from clipsearch.display.text import cell_width, cut

if TYPE_CHECKING:
    from clipsearch.classify.classifier import Classifier, Fit

FEW_ROWS = 5
"""Up to this many images are shown with bars for their labels; more are shown as a table."""

OTHERS = 2
"""Labels beside the best one in the table."""

COUNTED = 12
"""Labels whose images are counted below the table."""

BAR = 20
"""Cells of the bar for a probability of 1."""

NARROWEST = 12
"""Cells that a label has at least, on any terminal."""


def rows(result: ClassifyResult) -> Iterator[tuple[str, str, str, str]]:
    """One row per image and prediction, best first: path, label, probability, score; one for an unknown image."""
    for item in result.results:
        if item.unknown:
            yield item.path, UNKNOWN, "", ""
            continue
        for p in item.predictions:
            yield item.path, p.label, f"{p.probability:.6f}", f"{p.score:.6f}"


def csv(result: ClassifyResult) -> str:
    return csv_text([("path", "label", "probability", "score"), *rows(result)])


def text(result: ClassifyResult) -> str:
    """For a terminal: a few images with bars, many as a table; then the nearest images of each label."""
    shown = [item for item in result.results if item.reason is None]
    few = len(shown) <= FEW_ROWS
    lines = "".join(_bars(item) for item in shown) if few else _table(result, shown)
    for label, hits in result.nearest.items():
        near = ", ".join(f"{short_path(hit.path)} {hit.score:.2f}" for hit in hits)
        lines += f"nearest to {output.printable(label)}: {near}\n"
    return lines


def _bars(item: Classification) -> str:
    mark = "  (offline)" if item.offline else ""
    lines = [output.styled(short_path(item.path) + mark, output.BOLD, sys.stdout)]
    if item.unknown:
        lines.append(f"  {UNKNOWN}: no label stands out; the nearest:")
    elif not item.predictions:
        lines.append("  none of the labels")
    # A label has its percentage before it and the bar after it.
    room = max(NARROWEST, shutil.get_terminal_size().columns - len("  100.0 %  ") - len("  ") - BAR)
    labels = [cut(output.printable(p.label), room) for p in item.predictions]
    width = max(map(cell_width, labels), default=0)
    for prediction, label in zip(item.predictions, labels, strict=True):
        bar = "█" * round(BAR * prediction.probability)
        blanks = " " * (width - cell_width(label))
        lines.append(f"  {100 * prediction.probability:5.1f} %  {label}{blanks}  {bar}".rstrip())
        if prediction.prompt is not None:
            prompt = f"           by “{output.printable(prediction.prompt)}”"
            lines.append(output.styled(prompt, output.DIM, sys.stdout))
    return "".join(f"{line}\n" for line in lines)


def _table(result: ClassifyResult, shown: list[Classification]) -> str:
    filled = []
    for item in shown:
        best = None if item.unknown or not item.predictions else item.predictions[0]
        others = item.predictions[1 if best else 0 :][:OTHERS]
        label = output.printable(best.label) if best else UNKNOWN if item.unknown else "–"
        sure = f"{100 * best.probability:.0f} %" if best else ""
        beside = ", ".join(_short(p) for p in others)
        prompt = output.printable(best.prompt) if best and best.prompt else ""
        path = short_path(item.path) + ("  (offline)" if item.offline else "")
        filled.append([label, sure, beside, prompt, path])
    kept = [i for i in range(5) if i in (0, 1, 4) or any(row[i] for row in filled)]
    heads = ("label", "sure", "others", "prompt", "path")
    return table([heads[i] for i in kept], [[row[i] for i in kept] for row in filled], right="sure")


def _short(prediction: Prediction) -> str:
    return f"{output.printable(prediction.label)} {100 * prediction.probability:.0f} %"


def summary(result: ClassifyResult) -> str:
    """The number of images per label, the most frequent ones first."""
    found: Counter[str] = Counter()
    for item in result.results:
        if item.reason is not None:
            continue
        if item.unknown:
            found[UNKNOWN] += 1
        elif not item.predictions:
            found["no label"] += 1
        for p in item.predictions if result.threshold is not None else item.predictions[:1]:
            found[p.label] += not item.unknown
    most = [f"{count:,} {output.printable(label)}" for label, count in found.most_common(COUNTED) if count]
    more = sum(count > 0 for count in found.values()) - len(most)
    return ", ".join(most) + (f" and {counted(more, 'label')} more" if more > 0 else "")


def fit_text(classifier: Classifier, fit: Fit) -> str:
    """How a classifier was fitted to its examples, in one line."""
    classes = sum(count > 0 for count in fit.counts)
    how = {
        "leave-one-out": "chosen by leave-one-out",
        "given": "as given",
        "default": "the default, as no class has two examples",
    }[fit.blend_by]
    scale = (
        f"temperature fitted (scale {classifier.info.logit_scale:.3g} → {fit.scale:.3g}), calibration error "
        f"{fit.ece_before:.3f} → {fit.ece_after:.3f}"
        if fit.scale_fitted
        else f"too few examples to fit a temperature, calibration error {fit.ece_before:.3f}"
    )
    return (
        f"{counted(sum(fit.counts), 'example')} of {counted(classes, 'class', 'classes')}: blend {fit.blend:g} "
        f"({how}), leave-one-out accuracy {100 * fit.right:.0f} %, {scale}"
    )
