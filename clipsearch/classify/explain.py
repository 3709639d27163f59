"""`explain`: the prompt that matches an image best, and the images of a library nearest to a label."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.classify.classifier import Classifier
from clipsearch.classify.prototypes import CACHED
from clipsearch.classify.results import Prediction
from clipsearch.classify.templates import prompts_of
from clipsearch.search.hits import make_many_hits
from clipsearch.types import Hit

if TYPE_CHECKING:
    from clipsearch.search.embed import Embedder
    from clipsearch.search.neighbours import Searcher

NEAREST = 3
"""Images of the library that are shown for each label."""


def with_prompts(
    predictions: Sequence[tuple[Prediction, ...]],
    vectors: NDArray[np.float32],
    classifier: Classifier,
    embedder: Embedder,
    *,
    every: bool,
) -> list[tuple[Prediction, ...]]:
    """Predictions of `vectors` (n, dim) with the prompt of the label that is nearest to the image.

    For the best label only, or with `every` for all: each label's prompts must be embedded.
    """
    wanted: dict[str, list[tuple[int, int]]] = {}
    for i, some in enumerate(predictions):
        for j, prediction in enumerate(some if every else some[:1]):
            wanted.setdefault(prediction.label, []).append((i, j))
    explained = [list(some) for some in predictions]
    by_name = {label.name: label for label in classifier.labels}
    prompts_by_name = {name: prompts_of(by_name[name], classifier.templates) for name in wanted}
    keep = sum(map(len, prompts_by_name.values())) <= CACHED  # More would displace the texts of queries in the cache.
    for name, places in wanted.items():
        prompts = prompts_by_name[name]
        scores = vectors[[i for i, _ in places]] @ embedder.texts(prompts, keep=keep).T
        for (i, j), best in zip(places, scores.argmax(axis=1), strict=True):
            explained[i][j] = replace(explained[i][j], prompt=prompts[best])
    return [tuple(some) for some in explained]


def nearest(
    names: Collection[str], classifier: Classifier, row: EncoderRow, catalog: Catalog, searcher: Searcher
) -> dict[str, tuple[Hit, ...]]:
    """The images of the library that lie nearest to the prototypes of the labels `names`, best first."""
    places = [i for i, label in enumerate(classifier.labels) if label.name in names]
    if not places:
        return {}
    prototypes = np.ascontiguousarray(classifier.prototypes[places])
    found = make_many_hits(catalog, searcher.nearest_many(row, prototypes, NEAREST))
    return {classifier.labels[i].name: hits for i, hits in zip(places, found, strict=True)}
