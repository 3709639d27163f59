"""Measures what `relevant` and `unknown` return on a user's labelled images; `fitting` chooses constants by it.

The images are taken as one library, and every label is a query: see `material`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog.catalog import Catalog
from clipsearch.catalog.lock import LOCK_NAME, writer_lock
from clipsearch.classify import unknown
from clipsearch.classify.labels import Label
from clipsearch.classify.options import UNKNOWN_MARGIN
from clipsearch.classify.templates import expand
from clipsearch.errors import ModelMismatchError, UsageError
from clipsearch.evaluate import fitting, metrics
from clipsearch.evaluate.comparison import open_catalog, opened
from clipsearch.evaluate.datasets import LabelledImages
from clipsearch.evaluate.encode import ALONE, VectorSource, Work, Workplace, usable
from clipsearch.evaluate.material import KIND, LETTERS, Material, gather
from clipsearch.evaluate.results import LabelRelevance, RelevanceScores
from clipsearch.files import PathLike, absolute
from clipsearch.search.background import PROMPTS
from clipsearch.search.evidence import CUTS
from clipsearch.search.fitted import Fitted, Rule, recall, store
from clipsearch.search.relevance import FEWEST


def measure_relevance(
    images: LabelledImages,
    *,
    models: Sequence[str] = (),
    templates: Sequence[str] = (),
    fit: bool = False,
    place: Workplace = ALONE,
    resamples: int = metrics.RESAMPLES,
) -> tuple[RelevanceScores, ...]:
    """What `relevant` and `unknown` return, for each of `models`, with the constants in use in the place's library.

    By default, the library's own encoder is measured. A label is asked for by its name, or in the first of `templates`;
    these are otherwise as for `Classifier.build`. `fit` also chooses constants; `store_fit` stores them.
    Raises UsageError for fewer than FEWEST images, for fewer than `fitting.FEWEST` labels with images where `fit` is
    set, StoppedError, and as `comparison.opened` and `Classifier.build` do.
    """
    filled = expand(templates, default="")
    words = sum(1 + len(label.synonyms) for label in images.labels) + unknown.COUNT
    items = len(images.paths) + words * len(filled) + len(images.labels) + PROMPTS + LETTERS
    found = []
    with contextlib.ExitStack() as stack:
        catalog = stack.enter_context(open_catalog(place.library)) if place.library is not None else None
        for source in stack.enter_context(opened(models, place, items=items)):
            in_use = recall(catalog, source.row.id) if catalog is not None and source.row is not None else None
            found.append(_scores(source, images, templates, in_use, resamples, fit=fit))
    return tuple(found)


def _scores(
    source: VectorSource,
    images: LabelledImages,
    templates: Sequence[str],
    in_use: Fitted | None,
    resamples: int,
    *,
    fit: bool,
) -> RelevanceScores:
    embedded = source.pictures([Work(path) for path in images.paths])
    there, vectors, missed = usable(embedded)
    rows, applies = _distinct([embedded[at].digest for at in there], [images.classes[at] for at in there], images)
    vectors = vectors[rows]
    if len(vectors) < FEWEST:
        raise UsageError(f"{len(vectors)} different pictures: relevance cannot be determined from fewer than {FEWEST}")
    material = gather(source, vectors, applies, images.labels, templates)
    source.let_go()
    own = Fitted(Rule(CUTS[KIND]), UNKNOWN_MARGIN, 0, 0)
    used = in_use or own
    return RelevanceScores(
        model=source.info,
        missed=missed,
        effort=source.effort,
        notices=source.notices,
        pictures=len(vectors),
        labels=tuple(_by_label(material, images.labels, used)),
        rule=used.rule,
        margin=used.margin,
        in_use=in_use,
        estimates=fitting.estimates(material, used, resamples=resamples),
        fit=fitting.fit(material, own, images=len(vectors)) if fit else None,
    )


def _distinct(
    digests: Sequence[bytes], classes: Sequence[int], images: LabelledImages
) -> tuple[list[int], NDArray[np.bool_]]:
    """The places of the different images, by their digests, and the labels that apply to each, shape (n, labels)."""
    first: dict[bytes, int] = {}
    for place, digest in enumerate(digests):
        first.setdefault(digest, place)
    row_of = {digest: row for row, digest in enumerate(first)}
    applies = np.zeros((len(first), len(images.labels)), bool)
    for digest, own in zip(digests, classes, strict=True):
        applies[row_of[digest], own] = True
    return list(first.values()), applies


def _by_label(material: Material, labels: Sequence[Label], used: Fitted) -> Iterator[LabelRelevance]:
    for label, asked, without in zip(labels, material.present, material.absent, strict=True):
        returned = asked.returned(used.rule)
        yield LabelRelevance(
            label.name,
            int(asked.right.sum()),
            int(returned.sum()),
            int((returned & asked.right).sum()),
            asked.strength,
            None if without is None else fitting.is_answered(without, used.rule),
        )


def store_fit(library: PathLike, scores: RelevanceScores) -> None:
    """Store the constants that `measure_relevance` chose, or forget stored ones where it kept the program's own.

    Raises UsageError for scores without a fit, ModelMismatchError where the library has no vectors of their model,
    LockedError.
    """
    if scores.fit is None:
        raise UsageError("these scores were measured without `fit=True`")
    with _writing(library) as catalog:
        rows = [row for row in catalog.encoders() if row.info.fingerprint == scores.model.fingerprint]
        if not rows:
            raise ModelMismatchError(
                f"the library in {catalog.folder} has no embeddings of {scores.model.spec}",
                advice=f'indexing with `model="{scores.model.spec}"` adds them',
            )
        store(catalog, rows[0].id, scores.fit.chosen)


def forget_fits(library: PathLike) -> int:
    """Go back to the program's own constants for every encoder of a library; how many had others.

    Raises NoLibraryError, LockedError.
    """
    with _writing(library) as catalog:
        rows = [row for row in catalog.encoders() if recall(catalog, row.id)]
        for row in catalog.encoders():
            store(catalog, row.id, None)
        return len(rows)


@contextlib.contextmanager
def _writing(library: PathLike) -> Iterator[Catalog]:
    folder = Path(os.fsdecode(absolute(library)))
    with open_catalog(folder):
        pass  # A folder without a library gets no lock either.
    with (
        writer_lock(folder / LOCK_NAME),
        contextlib.closing(Catalog.open(folder, writable=True)) as catalog,
        catalog.transaction(),
    ):
        yield catalog
