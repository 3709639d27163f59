"""Classifies pictures, with a library or without one: the parts of this package in their order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.catalog.filters import Filter
from clipsearch.classify import explain, few_shot
from clipsearch.classify import unknown as distractors
from clipsearch.classify.classifier import Classifier, best_columns, softmax
from clipsearch.classify.folders import example_folders
from clipsearch.classify.labels import Label, checked
from clipsearch.classify.library_images import Gathered, Item, named, whole_library
from clipsearch.classify.options import ClassifyOptions
from clipsearch.classify.prototypes import Report, TextSide, quiet
from clipsearch.classify.results import Classification, ClassifyResult, Prediction
from clipsearch.classify.templates import expand
from clipsearch.classify.unknown import Neutral
from clipsearch.encoders.base import Encoder, EncoderOptions
from clipsearch.encoders.load import load_alone
from clipsearch.errors import UsageError
from clipsearch.files import PathLike, absolute

if TYPE_CHECKING:
    from clipsearch.search.neighbours import Searcher


@dataclass(frozen=True, slots=True)
class Desk:
    """What classification works with: an encoder, and a library where there is one."""

    row: EncoderRow
    load: Callable[[], Encoder]
    cache: QueryCache
    catalog: Catalog | None = None
    searcher: Searcher | None = None
    report: Report = quiet

    @property
    def texts(self) -> TextSide:
        return TextSide(self.row, self.load, self.cache)

    def named(self, paths: Iterable[PathLike]) -> Gathered:
        """Pictures and folders by their paths. Raises UsageError for what is nowhere."""
        return named([absolute(path) for path in paths], self.catalog, self.row, self.load, report=self.report)


def make_classifier(
    desk: Desk,
    labels: Sequence[str | Label],
    *,
    templates: Sequence[str] = (),
    folder: PathLike | None = None,
    blend: float | None = None,
) -> Classifier:
    """A classifier from labels, or from a folder of examples, or both; see `examples` for `blend`.

    Raises UsageError for labels, templates and folders that cannot be, EncoderError.
    """
    filled = expand(templates, default=desk.row.info.template)
    classes = example_folders(Path(os.fsdecode(absolute(folder))), labels) if folder is not None else None
    chosen = checked(labels) if labels or classes is None else classes.labels
    if blend is not None and not 0 <= blend <= 1:
        raise UsageError(f"--blend {blend:g}: from 0, the prompts alone, to 1, the examples alone")
    notices: list[str] = []
    rows = desk.texts.prototypes(chosen, filled, notices, report=desk.report)
    plain = Classifier(desk.row.info, chosen, rows, filled, notices=tuple(dict.fromkeys(notices)))
    if classes is None:
        return plain
    gathered = desk.named(classes.paths)
    kept = [
        (item.row, place) for item, place in zip(gathered.items, classes.places, strict=True) if item.row is not None
    ]
    problems = [f"{problem.path}: {problem.reason}" for problem in classes.problems]
    problems += [f"{os.fsdecode(item.path)} is no example: {item.reason}" for item in gathered.items if item.reason]
    if not kept:
        raise UsageError(f"--examples {os.fspath(folder or '')!s}: none of its pictures can be read; {problems[0]}")
    rows_of, places = (np.array(numbers, np.int64) for numbers in zip(*kept, strict=True))
    fitted = few_shot.fit(plain, gathered.vectors[rows_of], places, blend=blend)
    return replace(fitted, notices=(*plain.notices, *gathered.notices, *problems))


def classify_pictures(
    desk: Desk,
    pictures: Iterable[PathLike] | None,
    classifier: Classifier,
    options: ClassifyOptions,
    *,
    where: Filter | None = None,
) -> ClassifyResult:
    """Labels for pictures and the pictures in folders; for all of the library, or what `where` leaves, for None.

    A picture that cannot be read gets a result with the reason instead of predictions. Raises UsageError for paths that
    are nowhere, and for options that contradict each other.
    """
    options.check(classifier)
    notices: list[str] = list(classifier.notices)
    if len(classifier.labels) == 1 and not (options.multi or options.unknown):
        better = "--unknown says" if classifier.fit else "--unknown or --multi says"
        notices.append(f"there is one label only, so it has 100 % of every picture; {better} whether it fits")
    if pictures is not None:
        gathered = desk.named(pictures)
    elif desk.catalog is None:
        raise UsageError("no picture to classify, and no library here; pictures come before --labels")
    else:
        with desk.catalog.reading():
            gathered = whole_library(desk.catalog, desk.row, where=where)
    beside = None
    if (options.unknown and classifier.fit is None) or (options.multi and classifier.info.logit_bias is None):
        rows = desk.texts.prototypes(distractors.labels(), classifier.templates, notices, report=desk.report)
        beside = Neutral(rows)
    judged = _judged(classifier, gathered.vectors, options, beside)
    predictions = judged.predictions
    nearest = {}
    if options.explain:
        predictions = explain.with_prompts(
            predictions, gathered.vectors, classifier, desk.texts, notices, every=options.multi
        )
        if desk.catalog is not None and desk.searcher is not None:
            shown = {p.label for some in predictions for p in (some if options.multi else some[:1])}
            nearest = explain.nearest(shown, classifier, desk.row, desk.catalog, desk.searcher)
            notices += desk.searcher.take_notices()
    results = tuple(_classification(item, predictions, judged) for item in gathered.items)
    return ClassifyResult(
        desk.row.info,
        results,
        tuple(dict.fromkeys((*notices, *gathered.notices))),
        tuple(label.name for label in classifier.labels),
        options.threshold if options.multi else None,
        nearest,
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """Predictions of n vectors; how far each stands out and whether it is known, where that was asked."""

    predictions: list[tuple[Prediction, ...]]
    margins: list[float] | None = None
    unknown: list[bool] | None = None


def _judged(
    classifier: Classifier, vectors: NDArray[np.float32], options: ClassifyOptions, beside: Neutral | None
) -> _Judged:
    """What every vector (n, dim) is, a run of them at a time."""
    predictions: list[tuple[Prediction, ...]] = []
    margins: list[float] = []
    unknown: list[bool] = []
    for part in classifier.parts(vectors):
        scores = classifier.scores(part)
        if options.multi:
            sure = classifier.yes(part, scores, beside)
            predictions += classifier.above(scores, sure, options.threshold, k=options.k)
            continue
        logits = classifier.logits(scores)
        columns = best_columns(scores, options.k or len(classifier.labels))
        predictions += classifier.named(scores, softmax(logits), columns)
        if options.unknown and beside is not None:
            found = distractors.margins(logits, beside.usual(part, classifier.scale))
            margins += found.tolist()
            unknown += (found < options.margin).tolist()
        elif options.unknown and classifier.fit is not None:
            unknown += (scores.max(axis=1) < classifier.fit.floor).tolist()
    return _Judged(predictions, margins or None, unknown or None)


def _classification(item: Item, predictions: Sequence[tuple[Prediction, ...]], judged: _Judged) -> Classification:
    at = item.row
    return Classification(
        os.fsdecode(item.path),
        predictions[at] if at is not None else (),
        item.reason,
        tuple(os.fsdecode(path) for path in item.paths) if item.content_id is not None else (),
        item.content_id,
        item.away,
        judged.unknown[at] if judged.unknown is not None and at is not None else False,
        judged.margins[at] if judged.margins is not None and at is not None else None,
    )


def classify_alone(
    pictures: Iterable[PathLike],
    labels: Sequence[str | Label] = (),
    *,
    model: str | None = None,
    templates: Sequence[str] = (),
    examples: PathLike | None = None,
    blend: float | None = None,
    choice: ClassifyOptions = ClassifyOptions(),  # noqa: B008
    options: EncoderOptions | None = None,
    report: Report = quiet,
) -> tuple[ClassifyResult, Classifier]:
    """Classify without a library, with the encoder that a new one would get; see `classify_pictures`.

    Prototypes are kept in the cache directory. Raises as `Library.create` does.
    """
    from clipsearch.encoders.cache import cache_dir

    encoder, notices = load_alone(model, options)
    cache = QueryCache(cache_dir())
    desk = Desk(EncoderRow(0, encoder.info), lambda: encoder, cache, report=report)
    try:
        classifier = make_classifier(desk, labels, templates=templates, folder=examples, blend=blend)
        result = classify_pictures(desk, pictures, classifier, choice)
    finally:
        cache.close()
    return replace(result, notices=(*notices, *result.notices)), classifier
