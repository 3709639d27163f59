"""Chooses the constants of `relevant` and `unknown` on labelled images, and measures the choice on other labels.

Of the constants on a small grid around the program's own, those with the highest mean F1 are chosen that answer at most
ABSENT of the labels whose images were left out, and at most LETTERS of random letters; and the margin with the highest
sum of kept and detected. Of equal ones, the nearest to the program's own.

Figures on the labels that constants were chosen on are too good. So each label is also measured with constants that
were chosen without it (leave-one-out cross-validation). The choice counts only where these do better than
the program's own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.evaluate import metrics
from clipsearch.evaluate.material import Asked, Judged, Material
from clipsearch.evaluate.results import RelevanceFigures, RelevanceFit
from clipsearch.search.evidence import Cuts
from clipsearch.search.fitted import Fitted, Rule

GRID: Mapping[str, Sequence[float]] = {
    "separation": (0, -0.4, 0.4),
    "height": (0, -0.5, 0.5, 1.0),
    "share": (0, -0.1, 0.1),
}
"""What is added to fields of Cuts."""

LIFTS = (0, 0.5, -0.5, 1.0, -1.0, -1.5)
"""Values of `Rule.lift`."""

MARGINS = tuple(step / 2 for step in range(-4, 17))
"""Values of `Fitted.margin`."""

ABSENT, LETTERS = 0.15, 0.02
"""Shares of absent labels and of random letters that are answered, at most."""

FEWEST, FEWEST_IMAGES = 5, 50
"""Labels with images, and images of them: from fewer, a choice would follow chance."""


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """What each of C candidates gives: of labels with images and of left-out labels (nan: not measured), shapes
    (C, labels); of random letters, the share that is answered, shape (C,)."""

    f1: NDArray[np.float64]
    absent: NDArray[np.float64]
    letters: NDArray[np.float64]

    def choose(self, *, without: int | None = None) -> int:
        """The first of the best candidates on all labels but one."""
        kept = np.arange(self.f1.shape[1]) != without
        excess = np.maximum(_mean(self.absent[:, kept]) - ABSENT, 0) + np.maximum(self.letters - LETTERS, 0)
        return _first_best(-excess, _mean(self.f1[:, kept]))


@dataclass(frozen=True, slots=True)
class _Margins:
    """How many images of each label are kept and detected by each of C margins, shapes (C, labels), and of how many."""

    kept: NDArray[np.int64]
    detected: NDArray[np.int64]
    right: NDArray[np.int64]
    left_out: NDArray[np.int64]

    @classmethod
    def of(cls, material: Material, margins: Sequence[float]) -> _Margins:
        count = len(material.present)

        def counted(judged: Judged, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
            return np.bincount(judged.labels[chosen], minlength=count)

        right, out = material.right, material.left_out
        return cls(
            np.array([counted(right, right.margins >= margin) for margin in margins]),
            np.array([counted(out, out.margins < margin) for margin in margins]),
            np.bincount(right.labels, minlength=count),
            np.bincount(out.labels, minlength=count),
        )

    def choose(self, *, without: int | None = None) -> int:
        """The first of the best margins on all labels but one."""
        some = np.arange(len(self.right)) != without
        kept = self.kept[:, some].sum(axis=1) / max(1, self.right[some].sum())
        detected = self.detected[:, some].sum(axis=1) / max(1, self.left_out[some].sum())
        return _first_best(np.zeros(len(kept)), kept + detected)


def candidates(own: Cuts) -> list[Rule]:
    """The grid around `own`, in the order of their distance: the fewest and smallest changes first."""
    ranges = [*GRID.values(), LIFTS]
    widths = [max(map(abs, steps)) for steps in ranges]
    found = sorted(
        itertools.product(*ranges),
        key=lambda steps: sum(abs(step) / width for step, width in zip(steps, widths, strict=True)),
    )

    def changed(steps: Sequence[float]) -> Cuts:
        values = {name: round(getattr(own, name) + by, 3) for name, by in zip(GRID, steps, strict=True)}
        return replace(own, **values)

    return [Rule(changed(steps), lift) for *steps, lift in found]


def is_answered(asked: Asked, rule: Rule) -> bool:
    """Whether any image is relevant."""
    return bool(asked.returned(rule).any())


def estimates(material: Material, used: Fitted, *, resamples: int = metrics.RESAMPLES) -> dict[str, metrics.Estimate]:
    """The figures of RelevanceFigures with intervals."""
    returned = [_returned(material.present[i], used.rule) for i in material.shown]
    values: dict[str, Sequence[float] | NDArray[np.bool_]] = {
        "f1": [f1 for f1, _, _ in returned],
        "recall": [recall for _, recall, _ in returned],
        "precision": [precision for _, _, precision in returned if not math.isnan(precision)],
        "absent": [is_answered(each, used.rule) for each in material.absent if each is not None],
        "letters": [is_answered(each, used.rule) for each in material.letters],
        "kept": material.right.margins >= used.margin,
        "detected": material.left_out.margins < used.margin,
    }
    return {
        name: metrics.bootstrap_mean(np.array(each, float), resamples=resamples if len(each) else 0)
        for name, each in values.items()
    }


def fit(material: Material, own: Fitted, *, images: int) -> RelevanceFit:
    """Choose constants, `own` being the program's. Raises UsageError for too few images or labels with images."""
    shown = material.shown
    if len(shown) < FEWEST or images < FEWEST_IMAGES:
        needed, given = f"{FEWEST_IMAGES} pictures of {FEWEST} labels", f"{images} of {len(shown)}"
        raise UsageError(f"fitting needs at least {needed}, and there are {given}")
    grid = candidates(own.rule.cuts)
    outcomes = _outcomes(material, grid)
    best = outcomes.choose()
    apart = {label: outcomes.choose(without=label) for label in range(len(material.present))}
    margins = [own.margin, *sorted(set(MARGINS) - {own.margin}, key=lambda margin: abs(margin - own.margin))]
    judged = _Margins.of(material, margins)
    best_margin = judged.choose()
    apart_margins = {label: judged.choose(without=label) for label in range(len(material.present))}

    def figures(cut: Mapping[int, int], margin: Mapping[int, int]) -> RelevanceFigures:
        return _figures(material, grid, outcomes, judged, cut, margin)

    labels = range(len(material.present))
    first, same = dict.fromkeys(labels, 0), dict.fromkeys(labels, best)
    own_figures, others = figures(first, first), figures(apart, apart_margins)
    rule = grid[best] if _is_better(others, own_figures) else own.rule
    margin = margins[best_margin] if _is_surer(others, own_figures) else own.margin
    changed = (rule, margin) != (own.rule, own.margin)
    return RelevanceFit(
        Fitted(rule, margin, len(shown), images) if changed else None,
        own_figures,
        figures(same, dict.fromkeys(labels, best_margin)),
        others,
    )


def _returned(asked: Asked, rule: Rule) -> tuple[float, float, float]:
    """F1, recall and precision of the images that are returned for a label; nan: none are."""
    returned = asked.returned(rule)
    both, count, all_right = int((returned & asked.right).sum()), int(returned.sum()), int(asked.right.sum())
    return 2 * both / (count + all_right), both / all_right, both / count if count else math.nan


def _outcomes(material: Material, grid: Sequence[Rule]) -> _Outcomes:
    f1, absent = (np.full((len(grid), len(material.present)), np.nan) for _ in range(2))
    for row, rule in enumerate(grid):
        for label in material.shown:
            f1[row, label] = _returned(material.present[label], rule)[0]
        for label, asked in enumerate(material.absent):
            if asked is not None:
                absent[row, label] = is_answered(asked, rule)
    letters = [np.mean([is_answered(asked, rule) for asked in material.letters]) for rule in grid]
    return _Outcomes(f1, absent, np.array(letters))


def _figures(
    material: Material,
    grid: Sequence[Rule],
    outcomes: _Outcomes,
    judged: _Margins,
    cut: Mapping[int, int],
    margin: Mapping[int, int],
) -> RelevanceFigures:
    """The figures where each label has its own candidate and margin."""
    labels = np.arange(len(material.present))
    cuts, margins = (np.array([chosen[label] for label in range(len(labels))]) for chosen in (cut, margin))
    returned = [_returned(material.present[i], grid[cut[int(i)]]) for i in material.shown]
    return RelevanceFigures(
        f1=float(np.mean([f1 for f1, _, _ in returned])),
        recall=float(np.mean([recall for _, recall, _ in returned])),
        precision=float(_mean(np.array([[precision for _, _, precision in returned]]))[0]),
        absent=float(_mean(outcomes.absent[cuts, labels][None])[0]),
        letters=float(outcomes.letters[cuts].mean()),
        kept=float(judged.kept[margins, labels].sum() / max(1, judged.right.sum())),
        detected=float(judged.detected[margins, labels].sum() / max(1, judged.left_out.sum())),
    )


def _is_better(new: RelevanceFigures, old: RelevanceFigures) -> bool:
    """Whether fewer wrong queries are answered beyond the limits, or as many, and F1 is higher."""

    def excess(figures: RelevanceFigures) -> float:
        absent = 0.0 if math.isnan(figures.absent) else figures.absent
        return max(0.0, absent - ABSENT) + max(0.0, figures.letters - LETTERS)

    return (-excess(new), new.f1) > (-excess(old), old.f1)


def _is_surer(new: RelevanceFigures, old: RelevanceFigures) -> bool:
    return new.kept + new.detected > old.kept + old.detected


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each row's numbers, 0 where it has none: shape (n,) from (n, m)."""
    known = ~np.isnan(values)
    mean: NDArray[np.float64] = np.where(known, values, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return mean


def _first_best(first: NDArray[np.float64], then: NDArray[np.float64]) -> int:
    """The first place with the highest `then` among those with the highest `first`, up to differences of 1e-9."""
    able = first >= first.max() - 1e-9
    return int(np.flatnonzero(able & (then >= then[able].max() - 1e-9))[0])
