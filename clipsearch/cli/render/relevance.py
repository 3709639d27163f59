"""Results of `eval relevance` as JSON and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clipsearch.cli import output
from clipsearch.cli.render.evaluation import COST, common, cost, estimate, name, number, percent
from clipsearch.cli.render.tables import counted, table
from clipsearch.export.json import SCHEMA_VERSION, clean, fields

if TYPE_CHECKING:
    from clipsearch.evaluate import RelevanceFigures, RelevanceFit, RelevanceScores
    from clipsearch.search.fitted import Fitted, Rule

SHOWN = 20
"""Labels listed in a table, those with the lowest F1 first; JSON has all."""

FIGURES = ("f1", "recall", "precision", "absent", "letters", "kept", "detected")
HEADS = ("F1 %", "recall %", "precision %", "absent %", "letters %", "kept %", "detected %")

LEGEND = """\
F1, recall, precision: what --relevant returns for a label, averaged over labels; brackets: 95 % bootstrap intervals
absent: labels with hits although their pictures were left out; letters: queries of random letters with hits
--unknown: kept: right labels that it keeps; detected: pictures that it marks once their label is left out
"""


def relevance_json(found: Sequence[RelevanceScores]) -> dict[str, Any]:
    """One object: the figures of each model, of each label, and of fitted constants."""
    return {
        "schema_version": SCHEMA_VERSION,
        "results": [
            {
                **common(one),
                "pictures": one.pictures,
                **{each: estimate(one.estimates[each]) for each in FIGURES},
                "labels": [
                    {
                        "label": clean(label.label),
                        **fields(label, "images returned right"),
                        **{each: number(getattr(label, each)) for each in ("recall", "precision", "f1")},
                        **fields(label, "strength absent"),
                    }
                    for label in one.labels
                ],
                "constants": _constants(one.rule, one.margin),
                "fitted_before": one.in_use is not None,
                "fit": _fit_json(one.fit) if one.fit else None,
            }
            for one in found
        ],
    }


def _fit_json(fit: RelevanceFit) -> dict[str, Any]:
    def figures(one: RelevanceFigures) -> dict[str, float | None]:
        return {each: number(getattr(one, each)) for each in FIGURES}

    chosen = _constants(fit.chosen.rule, fit.chosen.margin) if fit.chosen else None
    return {
        "constants": chosen,
        "program": figures(fit.own),
        "same_labels": figures(fit.same),
        "other_labels": figures(fit.others),
    }


def relevance_text(found: Sequence[RelevanceScores]) -> str:
    """The averages of all models; for each model, its labels, and what fitting changed."""
    rows = [[name(one.model), *(percent(one.estimates[each]) for each in FIGURES), *cost(one)] for one in found]
    text = table(["model", *HEADS, *COST], rows, right=" ".join(COST))
    text += f"{counted(found[0].pictures, 'picture')}, {counted(len(found[0].labels), 'label')}\n{LEGEND}"
    for one in found:
        titled = f"{name(one.model)}:\n" if len(found) > 1 else ""
        text += f"\n{titled}{_labels(one)}"
        if one.in_use and not one.fit:
            text += "measured with the constants fitted for this library\n"
        if one.fit:
            text += f"\n{_fit(one, one.fit)}"
    return text


def _labels(one: RelevanceScores) -> str:
    shown = sorted(one.labels, key=lambda label: label.f1 if label.images else 2.0)[:SHOWN]
    rows = [
        [
            output.printable(label.label),
            *(f"{count:,}" for count in (label.images, label.returned, label.right)),
            *(_share(value) for value in (label.recall, label.precision, label.f1)),
            f"{label.strength:.2f}",
            {None: "–", True: "hits", False: "none"}[label.absent],
        ]
        for label in shown
    ]
    head = ["label", "pictures", "returned", "right", "recall %", "precision %", "F1 %", "strength", "if absent"]
    text = table(head, rows, right=(1, 2, 3, 4, 5, 6, 7))
    hidden = len(one.labels) - len(shown)
    return text + (f"and {counted(hidden, 'more label')}; --json lists them all\n" if hidden else "")


def _fit(one: RelevanceScores, fit: RelevanceFit) -> str:
    rows = [
        [title, *(_share(getattr(figures, each)) for each in FIGURES)]
        for title, figures in (
            ("built-in constants", fit.own),
            ("fitted: labels they were chosen on", fit.same),
            ("fitted: other labels", fit.others),
        )
    ]
    text = table(["constants", *HEADS], rows, right=range(1, 1 + len(HEADS)))
    if fit.chosen is None:
        return text + "built-in constants kept: no others do better on labels that they were not chosen on\n"
    return text + f"stored for this library: {', '.join(_changes(fit.chosen, one))}\n"


def _changes(chosen: Fitted, one: RelevanceScores) -> list[str]:
    """The constants that differ from those in use, "best 0.6 → 0.5"; the chosen ones where none does."""
    before, now = _constants(one.rule, one.margin), _constants(chosen.rule, chosen.margin)
    changed = [f"{key} {before[key]:g} → {now[key]:g}" for key in now if now[key] != before[key]]
    return changed or ["unchanged"]


def _constants(rule: Rule, margin: float) -> dict[str, float]:
    return {**asdict(rule.cuts), "lift": rule.lift, "margin": margin}


def _share(value: float) -> str:
    return "–" if number(value) is None else f"{100 * value:.1f}"
