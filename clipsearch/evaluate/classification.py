"""Measures zero-shot classification: top-1 and top-5 accuracy, and calibration; `classify` classifies.

As in the CLIP paper (arXiv:2103.00020, section 3.1) and open_clip's zero-shot evaluation: each label's prompts are
averaged into a prototype, and each picture gets the label of the nearest one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.classify import calibration
from clipsearch.classify.classifier import Classifier
from clipsearch.classify.templates import expand
from clipsearch.evaluate import metrics
from clipsearch.evaluate.comparison import opened
from clipsearch.evaluate.datasets import LabelledPictures
from clipsearch.evaluate.encode import ALONE, Source, Work, Workplace, usable
from clipsearch.evaluate.results import ClassificationScores, Guess, Missed

GUESSES = 5


@dataclass(frozen=True, slots=True)
class _Classified:
    """One encoder's predictions for the pictures that it could use, with their places in the data set."""

    source: Source
    classifier: Classifier
    places: list[int]
    truth: NDArray[np.int64]
    ranked: NDArray[np.int64]
    """Labels, best first, shape (n, w)."""
    confidence: NDArray[np.float64]
    missed: tuple[Missed, ...]

    @property
    def right(self) -> NDArray[np.bool_]:
        return metrics.top_k_hits(self.ranked, self.truth, 1)


def classify(
    pictures: LabelledPictures,
    *,
    models: Sequence[str] = (),
    templates: Sequence[str] = (),
    place: Workplace = ALONE,
    resamples: int = metrics.RESAMPLES,
) -> tuple[ClassificationScores, ...]:
    """Compare encoders on labelled pictures; one result for each of `models`, in their order.

    By default, the library's own encoder is measured, or the one that a new library would get. `templates` are as for
    `Classifier.build`. Intervals come from `resamples` draws of the pictures.
    Raises UsageError where no picture can be read, StoppedError, and as `comparison.opened` and `Classifier.build` do.
    """
    prompts = sum(1 + len(label.synonyms) for label in pictures.labels) * len(expand(templates, default=""))
    with opened(models, place, items=len(pictures.paths) + prompts) as sources:
        found = [_classified(source, pictures, templates) for source in sources]
    return tuple(_scores(one, found[0], pictures, resamples) for one in found)


def _classified(source: Source, pictures: LabelledPictures, templates: Sequence[str]) -> _Classified:
    classifier = Classifier.build(source.info, pictures.labels, source.texts, templates=templates)
    places, vectors, missed = usable(source.pictures([Work(path) for path in pictures.paths]))
    source.let_go()
    number = {label.name: i for i, label in enumerate(pictures.labels)}
    predictions = classifier.predict(vectors, k=GUESSES)
    return _Classified(
        source,
        classifier,
        places,
        np.array([pictures.classes[i] for i in places], np.int64),
        np.array([[number[p.label] for p in row] for row in predictions], np.int64),
        np.array([row[0].probability for row in predictions], np.float64),
        missed,
    )


def _scores(one: _Classified, first: _Classified, pictures: LabelledPictures, resamples: int) -> ClassificationScores:
    names = tuple(label.name for label in pictures.labels)
    right, among = one.right, metrics.top_k_hits(one.ranked, one.truth, GUESSES)

    def figures(weights: metrics.Weights) -> NDArray[np.float64]:
        return np.array(
            [
                metrics.mean(right, weights),
                metrics.mean(among, weights),
                metrics.mean_per_class(right, one.truth, weights=weights),
                calibration.expected_calibration_error(one.confidence, right, weights=weights),
            ]
        )

    top1, top5, per_class, ece = metrics.bootstrap(figures, len(right), resamples=resamples)
    guesses = tuple(
        Guess(os.fsdecode(pictures.paths[p]), names[t], tuple(names[i] for i in ranked), float(confidence))
        for p, t, ranked, confidence in zip(one.places, one.truth, one.ranked, one.confidence, strict=True)
    )
    return ClassificationScores(
        model=one.source.info,
        labels=names,
        templates=one.classifier.templates,
        guesses=guesses,
        top1=top1,
        top5=top5,
        per_class=per_class,
        calibration_error=ece,
        difference=None if one is first else _difference(one, first, resamples),
        confusion=metrics.confusion_matrix(one.truth, one.ranked[:, 0], len(names)),
        reliability=calibration.reliability_bins(one.confidence, right),
        missed=one.missed,
        effort=one.source.effort,
        notices=(*one.source.notices, *_alone(len(names), len(guesses))),
    )


def _alone(labels: int, pictures: int) -> list[str]:
    """A notice where the figures could not be anything else."""
    if labels == 1:
        return ["there is only one label, which every picture gets: the figures say nothing"]
    return ["there is only one picture: the figures say nothing about others"] if pictures == 1 else []


def _difference(one: _Classified, first: _Classified, resamples: int) -> metrics.Estimate:
    """The difference in accuracy on the pictures that both encoders could use."""
    theirs = dict(zip(first.places, first.right.tolist(), strict=True))
    gains = np.array(
        [
            float(right) - theirs[place]
            for place, right in zip(one.places, one.right.tolist(), strict=True)
            if place in theirs
        ]
    )
    return metrics.bootstrap_mean(gains, resamples=resamples)
