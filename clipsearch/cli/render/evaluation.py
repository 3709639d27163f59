"""Results of `eval` as JSON and as tables; `plots` draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clipsearch.cli import output
from clipsearch.cli.render.tables import counted, duration, table
from clipsearch.display.text import model_name, size
from clipsearch.evaluate.metrics import Estimate
from clipsearch.export.json import SCHEMA_VERSION, clean, fields, path_keys, problems_json

if TYPE_CHECKING:
    from clipsearch.evaluate import ClassificationScores, Direction, EngineScores, RetrievalScores, SelfScores
    from clipsearch.evaluate.results import Scored
    from clipsearch.types import EncoderInfo

MISTAKES = 3
"""Most confused pairs of labels listed below the table, for each model."""

DIRECTIONS = ("text → image", "image → text")

INTERVALS = "brackets: 95 % bootstrap confidence intervals over pictures"
QUERY_INTERVALS = "brackets: 95 % bootstrap confidence intervals over queries"


# As JSON


def classification_json(found: Sequence[ClassificationScores]) -> dict[str, Any]:
    """One object: the figures of each model, with every prediction and the data of the plots."""
    return {
        "schema_version": SCHEMA_VERSION,
        "labels": [clean(label) for label in found[0].labels],
        "results": [
            {
                **common(one),
                "pictures": len(one.guesses),
                "templates": [clean(template) for template in one.templates],
                "top1": estimate(one.top1),
                "top5": estimate(one.top5),
                "mean_per_class": estimate(one.per_class),
                "expected_calibration_error": estimate(one.calibration_error),
                "top1_difference": estimate(one.difference),
                "reliability": _reliability(one),
                "confusion": [
                    {
                        "label": clean(one.labels[row]),
                        "predicted": clean(one.labels[column]),
                        "count": int(one.confusion[row, column]),
                    }
                    for row, column in zip(*(part.tolist() for part in one.confusion.nonzero()), strict=True)
                ],
                "predictions": [
                    {
                        **path_keys(guess.path),
                        "label": clean(guess.label),
                        "guesses": [clean(label) for label in guess.guesses],
                        "probability": guess.probability,
                    }
                    for guess in one.guesses
                ],
            }
            for one in found
        ],
    }


def _reliability(one: ClassificationScores) -> list[dict[str, Any]]:
    bins = one.reliability
    columns = (bins.edges[:-1], bins.edges[1:], bins.counts, bins.confidence, bins.accuracy)
    return [
        {"from": a, "to": b, "count": n, "confidence": number(c), "accuracy": number(r)}
        for a, b, n, c, r in zip(*(column.tolist() for column in columns), strict=True)
    ]


def retrieval_json(found: Sequence[RetrievalScores]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "results": [
            {
                **common(one),
                "text_to_image": _direction(one.text_to_image),
                "image_to_text": _direction(one.image_to_text),
                "recall_at_1_difference": estimate(one.difference),
                **fields(one, "equal_pictures equal_captions"),
            }
            for one in found
        ],
    }


def _direction(one: Direction) -> dict[str, Any]:
    return {
        "queries": one.queries,
        "gallery": one.gallery,
        "recall": {str(k): estimate(value) for k, value in one.recall.items()},
        "mean_average_precision": estimate(one.mean_average_precision),
        "median_rank": estimate(one.median_rank),
        "recall_curve": one.curve.tolist(),
    }


def self_json(found: Sequence[SelfScores]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "results": [
            {
                **common(one),
                "pictures": one.pictures,
                "alterations": [
                    {
                        **fields(each, "alteration what copies"),
                        "recall": {str(k): estimate(value) for k, value in each.recall.items()},
                        "cosine": each.cosine,
                        "recall_curve": each.curve.tolist(),
                    }
                    for each in one.alterations
                ],
                "lost": [
                    {
                        **path_keys(each.path),
                        **fields(each, "alteration rank"),
                        **path_keys(each.nearest, name="nearest"),
                    }
                    for each in one.lost
                ],
            }
            for one in found
        ],
    }


def engines_json(found: Sequence[EngineScores]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "results": [
            {
                **_model(one.model),
                **fields(one, "engine origin vectors k"),
                "recall": {kind: estimate(value) for kind, value in one.recall.items()},
                "p50_ms": one.p50,
                "p95_ms": one.p95,
                "bytes": one.bytes,
                "build_seconds": one.build_s,
                **one.details,
            }
            for one in found
        ],
    }


def common(one: Scored) -> dict[str, Any]:
    return {
        **_model(one.model),
        **fields(one.effort, "encoded taken seconds"),
        "missed": problems_json(one.missed),
        "notices": [clean(text) for text in one.notices],
    }


def _model(info: EncoderInfo) -> dict[str, Any]:
    return {"model": clean(info.spec), "is_clip": info.is_clip}


def estimate(value: Estimate | None) -> dict[str, float | None] | None:
    if value is None:
        return None
    return {"value": number(value.value), "low": number(value.low), "high": number(value.high)}


def number(value: float) -> float | None:
    return None if math.isnan(value) else value


# As tables


def classification_text(found: Sequence[ClassificationScores]) -> str:
    """The table, what it measures, and the most confused labels."""
    several = len(found) > 1
    head = ["model", "top-1 %", "top-5 %", "per-class %", "ECE %"]
    head += [*(["top-1 vs first"] if several else []), *COST]
    rows = [
        [
            name(one.model),
            *(percent(value) for value in (one.top1, one.top5, one.per_class, one.calibration_error)),
            *([_change(one.difference)] if several else []),
            *cost(one),
        ]
        for one in found
    ]
    first = found[0]
    about = f"{counted(len(first.guesses), 'picture')}, {counted(len(first.labels), 'label')}; {INTERVALS}"
    lines = [line for one in found for line in _mistakes(one, named=several)]
    return f"{table(head, rows, right=' '.join(COST))}{about}\n" + "".join(f"{line}\n" for line in lines)


def _mistakes(one: ClassificationScores, *, named: bool) -> list[str]:
    wrong = one.confusion.copy()
    wrong[range(len(wrong)), range(len(wrong))] = 0
    order = (-wrong.ravel()).argsort(kind="stable")[:MISTAKES]
    pairs = [(*divmod(int(place), len(wrong)), int(wrong.ravel()[place])) for place in order]
    shown = [f"{output.printable(one.labels[a])} → {output.printable(one.labels[b])} ({n})" for a, b, n in pairs if n]
    return [f"{f'{name(one.model)}, ' if named else ''}most confused: {', '.join(shown)}"] if shown else []


def retrieval_text(found: Sequence[RetrievalScores]) -> str:
    """Two rows per model: from captions to images, and from images to captions."""
    several = len(found) > 1
    at = list(found[0].text_to_image.recall)
    head = ["model", "direction", *(f"R@{k} %" for k in at), "mAP %", "median rank"]
    head += [*(["R@1 vs first"] if several else []), *COST]
    rows = []
    for one in found:
        for direction, way in zip(DIRECTIONS, (one.text_to_image, one.image_to_text), strict=True):
            first = way is one.text_to_image
            rows.append(
                [
                    name(one.model) if first else "",
                    direction,
                    *(percent(value) for value in way.recall.values()),
                    percent(way.mean_average_precision),
                    f"{way.median_rank.value:g} [{way.median_rank.low:g}–{way.median_rank.high:g}]",
                    *([_change(one.difference) if first else ""] if several else []),
                    *(cost(one) if first else ("", "")),
                ]
            )
    ways = found[0].image_to_text
    about = f"{counted(ways.queries, 'picture')}, {counted(ways.gallery, 'caption')}; {INTERVALS}"
    same = (found[0].equal_pictures, "picture"), (found[0].equal_captions, "caption")
    duplicates = " and ".join(counted(count, what) for count, what in same if count)
    more = f"duplicates, not counted again: {duplicates}\n" if duplicates else ""
    return f"{table(head, rows, right=' '.join(COST))}{about}\n{more}"


def self_text(found: Sequence[SelfScores]) -> str:
    """One row per model and alteration."""
    at = list(found[0].alterations[0].recall)
    head = ["model", "copies", *(f"R@{k} %" for k in at), "cosine", *COST]
    rows = [
        [
            name(one.model) if number == 0 else "",
            each.alteration,
            *(percent(value) for value in each.recall.values()),
            f"{each.cosine:.3f}",
            *(cost(one) if number == 0 else ("", "")),
        ]
        for one in found
        for number, each in enumerate(one.alterations)
    ]
    about = f"altered copies of {counted(found[0].pictures, 'picture')}, looked up among these; {INTERVALS}"
    how = "; ".join(f"{each.alteration}: {each.what}" for each in found[0].alterations)
    return f"{table(head, rows, right=' '.join(('cosine', *COST)))}{about}\n{how}\n"


def engines_text(found: Sequence[EngineScores]) -> str:
    """One row per model and engine."""
    kinds = list(found[0].recall)
    k = found[0].k
    head = ["model", "engine", *(f"{kind}: R@{k} %" for kind in kinds), "p50", "p95", "file", "built in"]
    rows = [
        [
            name(one.model),
            one.engine + (f" ({one.details['nprobe']} of {one.details['nlist']} lists)" if one.details else ""),
            *(percent(one.recall[kind]) for kind in kinds),
            f"{one.p50:.2f}",
            f"{one.p95:.2f}",
            size(one.bytes),
            "in use" if one.build_s is None else duration(one.build_s),
        ]
        for one in found
    ]
    about = f"{counted(found[0].vectors, 'vector')}; p50, p95: ms per query, run one at a time; {QUERY_INTERVALS}"
    return f"{table(head, rows, right='p50 p95 file')}{about}\n"


COST = ("encoded", "time")


def cost(one: Scored) -> tuple[str, str]:
    return f"{one.effort.encoded:,}", duration(one.effort.seconds)


def name(info: EncoderInfo) -> str:
    return output.printable(model_name(info.spec))


def percent(value: Estimate) -> str:
    if math.isnan(value.value):
        return "–"
    return f"{100 * value.value:.1f} [{100 * value.low:.1f}–{100 * value.high:.1f}]"


def _change(value: Estimate | None) -> str:
    if value is None or math.isnan(value.value):
        return "–"
    return f"{100 * value.value:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"
