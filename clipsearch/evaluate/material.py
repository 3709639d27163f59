"""What `relevant` and `unknown` go by, for labelled images that are taken as one library, and for any constants.

It is computed by what decides in a library: `search.relevance` with the same baseline, and `classify.unknown` with the
same distractor labels.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.classify import unknown
from clipsearch.classify.classifier import Classifier, best_columns
from clipsearch.classify.labels import Label
from clipsearch.classify.templates import expand, fill
from clipsearch.encoders import prompts
from clipsearch.evaluate.encode import VectorSource
from clipsearch.search.background import PROMPTS, SAMPLE
from clipsearch.search.evidence import BEST, Evidence, Scores, evidence, scored
from clipsearch.search.fitted import Rule
from clipsearch.search.relevance import FEWEST, Baseline, Kind, measure, relevance

LETTERS = 100
"""Queries of random letters."""

KIND: Kind = "text"


@dataclass(frozen=True, slots=True)
class Asked:
    """One query: what decides which images are relevant, the scores of all, and which show it, shape (n,).

    strength: relevance of the best hit.
    """

    evidence: Evidence
    scores: Scores
    right: NDArray[np.bool_]
    strength: float

    def returned(self, rule: Rule) -> NDArray[np.bool_]:
        """Which images are relevant, shape (n,)."""
        return rule.cut(self.evidence).passes(self.scores)


@dataclass(frozen=True, slots=True)
class Judged:
    """The margins of images, and the label that each is counted for: shapes (n,)."""

    margins: NDArray[np.float64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Material:
    """What the figures are made of, for any constants.

    present: each label, asked of all images; absent: of the images of the other labels, None where these are too few.
    right: images whose best label is right, with all labels; left_out: images without their label among the labels.
    """

    present: tuple[Asked, ...]
    absent: tuple[Asked | None, ...]
    letters: tuple[Asked, ...]
    right: Judged
    left_out: Judged

    @property
    def shown(self) -> NDArray[np.int64]:
        """The labels that have images."""
        return np.array([i for i, asked in enumerate(self.present) if asked.right.any()], np.int64)


def gather(
    source: VectorSource,
    vectors: NDArray[np.float32],
    applies: NDArray[np.bool_],
    labels: Sequence[Label],
    templates: Sequence[str],
) -> Material:
    """Ask an encoder for each label, over unit rows (n, dim); `applies` (n, labels) tells which image is of which."""
    asked = [fill(expand(templates, default="{}")[0], label.words[0]) for label in labels]
    queries, letters = source.texts(asked), source.texts(random_letters())
    everyday = source.texts(prompts.everyday(PROMPTS))
    classifier = Classifier.build(source.info, labels, source.texts, templates=templates)
    own = classifier.distractor_templates
    beside = unknown.Distractors(
        Classifier.build(source.info, unknown.labels(), source.texts, templates=own).prototypes
    )
    rows = classifier.prototypes
    if own != classifier.templates:
        rows = Classifier.build(source.info, labels, source.texts, templates=own).prototypes
    whole = _baseline(vectors, everyday)
    present = [_asked(whole, query, vectors, applies[:, i]) for i, query in enumerate(queries)]
    absent: list[Asked | None] = []
    for i, query in enumerate(queries):
        source.stop_if_asked()
        others = ~applies[:, i]
        if others.all():
            absent.append(present[i])
        elif others.sum() < FEWEST:
            absent.append(None)
        else:
            rest = vectors[others]
            absent.append(_asked(_baseline(rest, everyday, whole), query, rest, applies[others, i]))
    return Material(
        tuple(present),
        tuple(absent),
        tuple(_asked(whole, query, vectors, np.zeros(len(vectors), bool)) for query in letters),
        _right(classifier, rows, beside, vectors, applies),
        _left_out(classifier, rows, beside, vectors, applies),
    )


def random_letters() -> list[str]:
    """LETTERS queries of one or two words of random letters, always the same."""
    rng = random.Random("letters")

    def word() -> str:
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 9)))

    return [" ".join(word() for _ in range(1 + i % 2)) for i in range(LETTERS)]


def _baseline(vectors: NDArray[np.float32], texts: NDArray[np.float32], whole: Baseline | None = None) -> Baseline:
    """As `search.baselines.learn` measures it in a library of these images; `whole`: one by the same texts."""
    step = -(-len(vectors) // SAMPLE)
    everyday = whole.everyday if whole else None
    return measure(vectors[::step], texts, count=len(vectors), kinds=(KIND,), everyday=everyday)


def _asked(
    baseline: Baseline, query: NDArray[np.float32], vectors: NDArray[np.float32], right: NDArray[np.bool_]
) -> Asked:
    """As `search.selection.select` has it."""
    scores = scored(baseline, query, vectors, kind=KIND)
    nearest = np.argsort(-scores.raw, kind="stable")[:BEST]
    best = Scores(scores.raw[nearest], scores.standard[nearest])
    strength = relevance(baseline, query, best.raw[:1].astype(np.float32), kind=KIND)
    return Asked(evidence(baseline, query, best, kind=KIND), scores, right, float(strength[0]))


def _right(
    classifier: Classifier,
    rows: NDArray[np.float32],
    beside: unknown.Distractors,
    vectors: NDArray[np.float32],
    applies: NDArray[np.bool_],
) -> Judged:
    """The images whose best label is right."""
    margins, labels = _margins(classifier, rows, beside, vectors)
    right = applies[np.arange(len(vectors)), labels]
    return Judged(margins[right], labels[right])


def _left_out(
    classifier: Classifier,
    rows: NDArray[np.float32],
    beside: unknown.Distractors,
    vectors: NDArray[np.float32],
    applies: NDArray[np.bool_],
) -> Judged:
    """The images of each label, judged by the other labels; those that another one applies to are left out."""
    margins, labels = [np.empty(0)], [np.empty(0, np.int64)]
    single = applies.sum(axis=1) == 1
    for i in range(len(classifier.labels) if len(classifier.labels) > 1 else 0):
        own = single & applies[:, i]
        if own.any():
            others = np.arange(len(classifier.labels)) != i
            without = replace(
                classifier,
                labels=tuple(label for label, kept in zip(classifier.labels, others, strict=True) if kept),
                prototypes=classifier.prototypes[others],
            )
            margins.append(_margins(without, rows[others], beside, vectors[own])[0])
            labels.append(np.full(int(own.sum()), i))
    return Judged(np.concatenate(margins), np.concatenate(labels))


def _margins(
    classifier: Classifier, rows: NDArray[np.float32], beside: unknown.Distractors, vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The margin of each image, and its best label, as `classify.run` has them.

    `rows`: the prototypes of the labels in the templates of `beside`.
    """
    margins, labels = [], []
    for part in classifier.parts(vectors):
        best = best_columns(classifier.scores(part), 1)[:, 0]
        margins.append(beside.margins(part, rows, best, classifier.scale))
        labels.append(best)
    return np.concatenate(margins), np.concatenate(labels)
