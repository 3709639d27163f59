"""Measures zero-shot classification: top-1 and top-5 accuracy, and calibration; `classify` classifies.

As in the CLIP paper (arXiv:2103.00020, section 3.1) and open_clip's zero-shot evaluation: each label's prompts are
averaged into a prototype, and each image gets the label of the nearest one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.classify import calibration
from clipsearch.classify.classifier import Classifier
from clipsearch.classify.templates import expand
from clipsearch.evaluate import metrics
from clipsearch.evaluate.comparison import opened
from clipsearch.evaluate.datasets import LabelledImages
from clipsearch.evaluate.encode import ALONE, VectorSource, Work, Workplace, usable
from clipsearch.evaluate.results import ClassificationScores, Guess

GUESSES = 5


def classify(
    images: LabelledImages,
    *,
    models: Sequence[str] = (),
    templates: Sequence[str] = (),
    place: Workplace = ALONE,
    resamples: int = metrics.RESAMPLES,
) -> tuple[ClassificationScores, ...]:
    """Compare encoders on labelled images; one result for each of `models`, in their order.

    By default, the library's own encoder is measured, or the one that a new library would get. `templates` are as for
    `Classifier.build`. Intervals come from `resamples` draws of the images.
    Raises UsageError where no image can be read, StoppedError, and as `comparison.opened` and `Classifier.build` do.
    """
    prompts = sum(1 + len(label.synonyms) for label in images.labels) * len(expand(templates, default=""))
    found: list[ClassificationScores] = []
    with opened(models, place, items=len(images.paths) + prompts) as sources:
        for source in sources:
            found.append(_scores(source, images, templates, resamples, first=found[0] if found else None))
    return tuple(found)


def _scores(
    source: VectorSource,
    images: LabelledImages,
    templates: Sequence[str],
    resamples: int,
    *,
    first: ClassificationScores | None,
) -> ClassificationScores:
    classifier = Classifier.build(source.info, images.labels, source.texts, templates=templates)
    places, vectors, missed = usable(source.pictures([Work(path) for path in images.paths]))
    source.let_go()
    names = tuple(label.name for label in images.labels)
    number = {name: i for i, name in enumerate(names)}
    predictions = classifier.predict(vectors, k=GUESSES)
    guesses = tuple(
        Guess(
            os.fsdecode(images.paths[at]),
            names[images.classes[at]],
            tuple(one.label for one in row),
            row[0].probability,
        )
        for at, row in zip(places, predictions, strict=True)
    )
    truth = np.array([images.classes[at] for at in places], np.int64)
    ranked = np.array([[number[one.label] for one in row] for row in predictions], np.int64)
    confidence = np.array([guess.probability for guess in guesses], np.float64)
    right, among = metrics.top_k_hits(ranked, truth, 1), metrics.top_k_hits(ranked, truth, GUESSES)

    def figures(weights: metrics.Weights) -> NDArray[np.float64]:
        return np.array(
            [
                metrics.mean(right, weights),
                metrics.mean(among, weights),
                metrics.mean_per_class(right, truth, weights=weights),
                calibration.expected_calibration_error(confidence, right, weights=weights),
            ]
        )

    top1, top5, per_class, ece = metrics.bootstrap(figures, len(right), resamples=resamples)
    return ClassificationScores(
        model=source.info,
        labels=names,
        templates=classifier.templates,
        guesses=guesses,
        top1=top1,
        top5=top5,
        per_class=per_class,
        calibration_error=ece,
        difference=_difference(guesses, first.guesses, resamples) if first is not None else None,
        confusion=metrics.confusion_matrix(truth, ranked[:, 0], len(names)),
        reliability=calibration.reliability_bins(confidence, right),
        missed=missed,
        effort=source.effort,
        notices=(*source.notices, *_alone(len(names), len(guesses))),
    )


def _alone(labels: int, images: int) -> list[str]:
    """A notice where the figures could not be anything else."""
    if labels == 1:
        return ["there is only one label, which every picture gets: the figures say nothing"]
    return ["there is only one picture: the figures say nothing about others"] if images == 1 else []


def _difference(guesses: Sequence[Guess], first: Sequence[Guess], resamples: int) -> metrics.Estimate:
    """The difference in accuracy on the images that both encoders could use."""
    theirs = {(guess.path, guess.label): guess.right for guess in first}
    both = [(guess.right, theirs[guess.path, guess.label]) for guess in guesses if (guess.path, guess.label) in theirs]
    gains = np.array([float(own) - other for own, other in both])
    return metrics.bootstrap_mean(gains, resamples=resamples)
