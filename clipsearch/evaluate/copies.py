"""Measures whether altered copies find their originals, which needs neither labels nor captions."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.evaluate import metrics
from clipsearch.evaluate.alterations import ALTERATIONS, Alteration
from clipsearch.evaluate.comparison import open_catalog, opened
from clipsearch.evaluate.encode import ALONE, VectorSource, Work, Workplace, usable
from clipsearch.evaluate.results import AlterationRecall, Lost, SelfScores
from clipsearch.evaluate.retrieval import recall_curve, scores_of
from clipsearch.files import PathLike

AT = (1, 5)


def library_images(folder: PathLike) -> tuple[bytes, ...]:
    """One path per image of a library that can be read now, ascending. Raises NoLibraryError, DamagedError."""
    with open_catalog(folder) as catalog:
        return tuple(catalog.files.one_per_image())


def find_again(
    images: Sequence[bytes],
    *,
    models: Sequence[str] = (),
    at: Sequence[int] = AT,
    alterations: Sequence[Alteration] = ALTERATIONS,
    place: Workplace = ALONE,
    resamples: int = metrics.RESAMPLES,
) -> tuple[SelfScores, ...]:
    """Compare encoders by how well altered copies of `images` return their originals; a result for each of `models`.

    The gallery is the images themselves, without exact copies. An image that is as near to a copy as its original
    counts against the encoder. Raises UsageError where no image can be read, StoppedError, and as `comparison.opened`
    does.
    """
    with opened(models, place, items=len(images) * (1 + len(alterations))) as sources:
        return tuple(_found_again(source, images, alterations, at, resamples) for source in sources)


def _found_again(
    source: VectorSource, images: Sequence[bytes], alterations: Sequence[Alteration], at: Sequence[int], resamples: int
) -> SelfScores:
    originals = source.pictures([Work(path) for path in images])
    there, _, missed = usable(originals)
    distinct = list({originals[i].digest: originals[i] for i in reversed(there)}.values())[::-1]
    source.spare((len(images) - len(distinct)) * len(alterations))
    gallery = np.stack([one.vector for one in distinct if one.vector is not None])
    copies = source.pictures([Work(one.work.path, each) for each in alterations for one in distinct])
    source.let_go()
    recalls: list[AlterationRecall] = []
    lost: list[Lost] = []
    for number, alteration in enumerate(alterations):
        own = copies[number * len(distinct) : (number + 1) * len(distinct)]
        truth, vectors, failed = usable(own)
        missed += failed
        first, cosines, others = _look(vectors, gallery, np.array(truth, np.int64))
        recalls.append(
            AlterationRecall(
                alteration=alteration.name,
                what=alteration.what,
                copies=len(first),
                recall=_recall(first, at, resamples),
                cosine=float(cosines.mean()),
                curve=recall_curve(first, len(gallery)),
            )
        )
        for place, rank, nearest in zip(truth, first.tolist(), others.tolist(), strict=True):
            if rank > 1:
                path, other = (os.fsdecode(distinct[i].work.path) for i in (place, nearest))
                lost.append(Lost(path, alteration.name, rank, other))
    alone = "there is only one picture, which each copy of it finds: the figures say nothing"
    return SelfScores(
        model=source.info,
        pictures=len(gallery),
        alterations=tuple(recalls),
        lost=tuple(lost),
        missed=missed,
        effort=source.effort,
        notices=(*source.notices, *([alone] if len(gallery) == 1 else [])),
    )


def _look(
    vectors: NDArray[np.float32], gallery: NDArray[np.float32], truth: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """For each copy the rank of its original, their cosine, and the nearest other image: three of shape (n,)."""
    first: list[int] = []
    cosine: list[NDArray[np.float32]] = []
    nearest: list[NDArray[np.int64]] = []
    for start, scores in scores_of(vectors, gallery):
        own = truth[start : start + len(scores)]
        rows = np.arange(len(scores))
        first += [int(ranks[0]) for ranks in metrics.relevant_ranks(scores, list(own[:, None]))]
        cosine.append(scores[rows, own])
        scores[rows, own] = -np.inf
        nearest.append(scores.argmax(axis=1))
    return np.array(first, np.int64), np.concatenate(cosine).astype(np.float64), np.concatenate(nearest)


def _recall(first: NDArray[np.int64], at: Sequence[int], resamples: int) -> dict[int, metrics.Estimate]:
    def figures(weights: metrics.Weights) -> NDArray[np.float64]:
        return np.array([metrics.recall_at_k(first, k, weights=weights) for k in at])

    return dict(zip(at, metrics.bootstrap(figures, len(first), resamples=resamples), strict=True))
