"""Classifies images, with a library or without one: the parts of this package in their order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import EncoderRow
from clipsearch.catalog.filters import Filter
from clipsearch.classify import explain
from clipsearch.classify import unknown as distractors
from clipsearch.classify.classifier import Classifier, best_columns, softmax
from clipsearch.classify.examples import taught
from clipsearch.classify.folders import class_folders
from clipsearch.classify.known import Everyday
from clipsearch.classify.labels import Label, checked
from clipsearch.classify.library_images import Gathered, Item, chosen, named, whole_library
from clipsearch.classify.options import UNKNOWN_MARGIN, ClassifyOptions
from clipsearch.classify.prototypes import Report, prototypes, quiet
from clipsearch.classify.results import Classification, ClassifyResult, Prediction
from clipsearch.classify.templates import expand
from clipsearch.classify.unknown import Distractors
from clipsearch.encoders.base import EncoderOptions
from clipsearch.encoders.cache import cache_dir
from clipsearch.encoders.load import load_alone
from clipsearch.errors import UsageError
from clipsearch.files import PathLike, absolute
from clipsearch.search import fitted
from clipsearch.search.embed import Embedder, indistinct
from clipsearch.search.terms import Image, Indexed
from clipsearch.types import Notice

if TYPE_CHECKING:
    from clipsearch.search.neighbours import Searcher


def make_classifier(
    embedder: Embedder,
    labels: Sequence[str | Label],
    *,
    templates: Sequence[str] = (),
    examples: PathLike | None = None,
    blend: float | None = None,
    progress: Report = quiet,
) -> Classifier:
    """A classifier from labels, or from a folder of examples, or both; see `few_shot` for `blend`.

    Raises UsageError for labels, templates and folders that cannot be used, EncoderError.
    """
    before = len(embedder.notices)
    filled = expand(templates, default=embedder.row.info.template)
    classes = class_folders(absolute(examples), labels, in_each=True) if examples is not None else None
    chosen = checked(labels) if labels or classes is None else classes.labels
    if blend is not None and not 0 <= blend <= 1:
        raise UsageError(f"`blend={blend:g}`: from 0 (the prompts alone) to 1 (the examples alone)")
    rows = prototypes(embedder, chosen, filled, progress=progress)
    notices = tuple(dict.fromkeys(embedder.notices[before:]))
    if classes is None:
        # Two of ImageNet's names are those of two classes: that is no failure of the encoder.
        kept = sorted({label.words: at for at, label in enumerate(chosen)}.values())
        notices += indistinct(embedder.row.info, [chosen[at].name for at in kept], rows[kept])
    plain = Classifier(embedder.row.info, chosen, rows, filled, notices=notices)
    return plain if classes is None else taught(plain, classes, embedder, blend=blend, progress=progress)


def classify_images(
    embedder: Embedder,
    images: Iterable[PathLike | Image | Indexed] | None,
    classifier: Classifier,
    options: ClassifyOptions,
    *,
    where: Filter | None = None,
    searcher: Searcher | None = None,
    progress: Report = quiet,
) -> ClassifyResult:
    """Labels for images and the images in folders; for all of the library, or what `where` leaves, for None.

    Images are paths; or images of the library by their ids, and the bytes of others.

    An image that cannot be read gets a result with the reason instead of predictions. `searcher` finds the images of
    the library that are nearest to a label. Raises UsageError for paths that do not exist, and for options that
    contradict each other.
    """
    options.check(classifier)
    catalog, notices = embedder.catalog, list(classifier.notices)
    if len(classifier.labels) == 1 and not (options.multi or options.unknown):
        better = "`unknown=True`" if classifier.fit else "`unknown=True` or `multi=True`"
        text = f"there is only one label, so every image gets it with 100 %; {better} shows if it fits"
        notices.append(Notice("labels", text))
    gathered = _gathered(embedder, images, where, progress)
    beside, rows, templates = None, classifier.prototypes, classifier.distractor_templates
    if options.unknown and (classifier.fit is None or classifier.known is not None):
        beside = Distractors(prototypes(embedder, distractors.labels(), templates, progress=progress))
        if templates != classifier.templates and classifier.known is None:
            rows = prototypes(embedder, classifier.labels, templates, progress=progress)
    elif options.multi and classifier.info.logit_bias is None:
        few = distractors.labels(distractors.FEW)
        beside = Distractors(prototypes(embedder, few, classifier.templates, progress=progress))
    margin = _margin(classifier, embedder, options)
    predictions, margins, unknown = _judged(classifier, gathered.vectors, options, margin, beside, rows)
    notices += _about_unknown(classifier, unknown, margin)
    nearest = {}
    if options.explain:
        predictions = explain.with_prompts(predictions, gathered.vectors, classifier, embedder, every=options.multi)
        if catalog is not None and searcher is not None:
            shown = {p.label for some in predictions for p in (some if options.multi else some[:1])}
            nearest = explain.nearest(shown, classifier, embedder.row, catalog, searcher)
            notices += searcher.take_notices()
    return ClassifyResult(
        embedder.row.info,
        tuple(_classification(item, predictions, margins, unknown) for item in gathered.items),
        tuple(dict.fromkeys((*embedder.notices, *notices, *gathered.notices))),
        tuple(label.name for label in classifier.labels),
        options.threshold if options.multi else None,
        nearest,
    )


def _gathered(
    embedder: Embedder, images: Iterable[PathLike | Image | Indexed] | None, where: Filter | None, progress: Report
) -> Gathered:
    """What is to be classified. Raises UsageError as `classify_images`."""
    if images is None:
        if embedder.catalog is None:
            raise UsageError("no image to classify, and no library here")
        with embedder.catalog.reading():
            return whole_library(embedder.catalog, embedder.row, where=where)
    given = list(images)
    terms = [image for image in given if isinstance(image, Image | Indexed)]
    paths = [absolute(image) for image in given if not isinstance(image, Image | Indexed)]
    if terms and paths:
        raise UsageError("paths and other images are classified separately")
    return chosen(terms, embedder) if terms else named(paths, embedder, progress=progress)


def _margin(classifier: Classifier, embedder: Embedder, options: ClassifyOptions) -> float:
    """The margin that was asked for, or the one that was fitted in the library, for labels without examples."""
    chosen = options.margin
    if chosen is None and options.unknown and classifier.fit is None:
        chosen = fitted.margin(embedder.catalog, embedder.row.id)
    return UNKNOWN_MARGIN if chosen is None else chosen


def _judged(
    classifier: Classifier,
    vectors: NDArray[np.float32],
    options: ClassifyOptions,
    margin: float,
    beside: Distractors | None,
    rows: NDArray[np.float32],
) -> tuple[list[tuple[Prediction, ...]], list[float], list[bool]]:
    """What every vector (n, dim) is, and, where that was asked, how far it stands out and whether it is unknown.

    `rows`: the prototypes of the labels (labels, dim) in the templates of `beside`.
    """
    predictions: list[tuple[Prediction, ...]] = []
    margins: list[float] = []
    unknown: list[bool] = []
    everyday = Everyday.of(beside.prototypes) if beside is not None and classifier.known is not None else None
    for part in classifier.parts(vectors):
        scores = classifier.scores(part)
        if options.multi:
            sure = classifier.yes(part, scores, beside)
            predictions += classifier.above(scores, sure, options.threshold, k=options.k)
            continue
        logits = classifier.logits(scores)
        columns = best_columns(scores, options.k or len(classifier.labels))
        predictions += classifier.named(scores, softmax(logits), columns)
        if options.unknown and beside is not None and everyday is None:
            found = beside.margins(part, rows, columns[:, 0], classifier.scale)
            margins += found.tolist()
            unknown += (found < margin).tolist()
        elif options.unknown and beside is not None and everyday is not None:
            unknown += _unlike_examples(classifier, part, columns[:, 0], beside, everyday, margin).tolist()
        elif options.unknown and classifier.fit is not None:
            unknown += (scores.max(axis=1) < classifier.fit.floor).tolist()
    return predictions, margins, unknown


def _unlike_examples(
    classifier: Classifier,
    vectors: NDArray[np.float32],
    best: NDArray[np.int64],
    beside: Distractors,
    everyday: Everyday,
    margin: float,
) -> NDArray[np.bool_]:
    """Which of `vectors` (n, dim) resemble no example, shape (n,); those whose label `best` has none go by its prompts.

    `everyday`: of the prototypes of `beside`. `margin`: what it exceeds UNKNOWN_MARGIN by is added to the floor.
    """
    known = classifier.known
    if known is None:
        raise ValueError("made without examples")
    nearness = known.nearness(vectors, everyday)
    unlike: NDArray[np.bool_] = nearness < known.floor + margin - UNKNOWN_MARGIN
    alone = np.array(known.counts)[best] == 0
    if alone.any():
        found = beside.margins(vectors[alone], known.prototypes, best[alone], classifier.info.logit_scale)
        unlike[alone] = found < margin
    return unlike


def _about_unknown(classifier: Classifier, unknown: Sequence[bool], margin: float) -> list[Notice]:
    """A notice of what changes it, where more than a third of the images came out unknown."""
    count = sum(unknown)
    if 3 * count <= len(unknown):
        return []
    images = "image is" if len(unknown) == 1 else "images are"
    change = f"a lower `margin` than {margin:g} keeps more of them"
    if classifier.fit is not None and classifier.known is None:  # Saved by version 0.1.0: no margin applies.
        change = "a classifier made again from `examples` has a `margin` to change that"
    return [Notice("advice", f"{count:,} of {len(unknown):,} {images} unknown; {change}")]


def _classification(
    item: Item, predictions: Sequence[tuple[Prediction, ...]], margins: Sequence[float], unknown: Sequence[bool]
) -> Classification:
    at = item.row
    return Classification(
        os.fsdecode(item.path),
        predictions[at] if at is not None else (),
        item.reason,
        tuple(os.fsdecode(path) for path in item.paths) if item.content_id is not None else (),
        item.content_id,
        item.away,
        unknown[at] if unknown and at is not None else False,
        margins[at] if margins and at is not None else None,
    )


def classify_alone(
    images: Iterable[PathLike],
    labels: Sequence[str | Label] = (),
    *,
    options: ClassifyOptions = ClassifyOptions(),  # noqa: B008
    examples: PathLike | None = None,
    blend: float | None = None,
    load: EncoderOptions | None = None,
    progress: Report = quiet,
) -> tuple[ClassifyResult, Classifier]:
    """Classify without a library, with the encoder that a new one would get; see `classify_images`.

    `load` says how the encoder is loaded. Prototypes are kept in the cache directory. Raises as `Library.create` does.
    """
    encoder, notices = load_alone(options.model, load)
    with contextlib.closing(QueryCache(cache_dir())) as cache:
        embedder = Embedder(EncoderRow(0, encoder.info), lambda: encoder, cache, notices=notices)
        classifier = make_classifier(
            embedder, labels, templates=options.templates, examples=examples, blend=blend, progress=progress
        )
        return classify_images(embedder, images, classifier, options, progress=progress), classifier
