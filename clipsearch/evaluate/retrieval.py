"""Measures text–image retrieval: from captions to images and back, as on Flickr30k and COCO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.evaluate import metrics
from clipsearch.evaluate.comparison import opened
from clipsearch.evaluate.datasets import Captioned
from clipsearch.evaluate.encode import ALONE, Work, Workplace, usable
from clipsearch.evaluate.results import CURVE, Direction, RetrievalScores

AT = (1, 5, 10)

_BLOCK = 1 << 24
"""Scores held at once: 128 MB as float64."""


@dataclass(frozen=True, slots=True)
class _Folded:
    """Different captions, and the different images that each belongs to: `images`, ascending, shape (n,) each.

    rows: the position of the first copy of each different image.
    """

    captions: tuple[str, ...]
    images: tuple[NDArray[np.int64], ...]
    rows: tuple[int, ...]

    @classmethod
    def of(cls, captioned: Captioned, digests: Sequence[bytes]) -> _Folded:
        """Equal files (by `digests`, one per image) are one image, and equal texts one caption of all their images."""
        first: dict[bytes, int] = {}
        for row, digest in enumerate(digests):
            first.setdefault(digest, row)
        number = {digest: i for i, digest in enumerate(first)}
        owners: dict[str, set[int]] = {}
        for caption, row in zip(captioned.captions, captioned.pictures, strict=True):
            owners.setdefault(caption, set()).add(number[digests[row]])
        images = tuple(np.array(sorted(own), np.int64) for own in owners.values())
        return cls(tuple(owners), images, tuple(first.values()))

    def captions_of(self) -> list[NDArray[np.int64]]:
        """The captions of each image, in their order."""
        found: list[list[int]] = [[] for _ in self.rows]
        for caption, images in enumerate(self.images):
            for image in images.tolist():
                found[image].append(caption)
        return [np.array(own, np.int64) for own in found]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One kind of query: the ranks of each one's relevant items, and the image that it belongs to."""

    ranks: list[NDArray[np.int64]]
    groups: NDArray[np.int64]
    gallery: int

    @property
    def first(self) -> NDArray[np.int64]:
        return np.array([own[0] for own in self.ranks], np.int64)


def retrieve(
    captioned: Captioned,
    *,
    models: Sequence[str] = (),
    at: Sequence[int] = AT,
    place: Workplace = ALONE,
    resamples: int = metrics.RESAMPLES,
) -> tuple[RetrievalScores, ...]:
    """Compare encoders on images with captions; one result for each of `models`, in their order.

    A caption is a query with one relevant item, an image has one per caption; `at` are the K of R@K. Images with the
    same bytes count as one, and captions with the same text as one that has several relevant images. Ties count
    against an encoder (`metrics.relevant_ranks`). Unreadable images are left out with their captions. Intervals come
    from `resamples` draws of images, each with its captions, over a fixed gallery. Raises UsageError where no image
    can be read, StoppedError, and as `comparison.opened` does.
    """
    items = len(captioned.paths) + len(set(captioned.captions))
    found: list[RetrievalScores] = []
    first: tuple[Captioned, _Ranked] | None = None
    with opened(models, place, items=items) as sources:
        for source in sources:
            embedded = source.pictures([Work(path) for path in captioned.paths])
            there, vectors, missed = usable(embedded)
            kept = captioned.only(there)
            folded = _Folded.of(kept, [embedded[at].digest for at in there])
            texts = source.texts(folded.captions)
            source.let_go()
            by_text, by_image = _ranked(texts, vectors[list(folded.rows)], folded)
            alone = "there is only one picture, which each caption finds: the figures say nothing"
            scores = RetrievalScores(
                model=source.info,
                text_to_image=_direction(by_text, at, resamples),
                image_to_text=_direction(by_image, at, resamples),
                difference=_difference(by_text, first[1], resamples) if first and first[0] == kept else None,
                missed=missed,
                effort=source.effort,
                notices=(*source.notices, *([alone] if len(folded.rows) == 1 else [])),
                equal_pictures=len(there) - len(folded.rows),
                equal_captions=len(kept.captions) - len(folded.captions),
            )
            first = first or (kept, by_text)
            found.append(scores)
    return tuple(found)


def _ranked(texts: NDArray[np.float32], images: NDArray[np.float32], folded: _Folded) -> tuple[_Ranked, _Ranked]:
    """Texts that look for their images, and images that look for their texts.

    For intervals, a text is drawn with the first of its images.
    """
    owner = np.array([own[0] for own in folded.images], np.int64)
    return (
        _Ranked(_ranks(texts, images, folded.images), owner, len(images)),
        _Ranked(_ranks(images, texts, folded.captions_of()), np.arange(len(images)), len(texts)),
    )


def _ranks(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], relevant: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    ranks: list[NDArray[np.int64]] = []
    for start, scores in scores_of(queries, gallery):
        ranks += metrics.relevant_ranks(scores, relevant[start : start + len(scores)])
    return ranks


def scores_of(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Inner products, some queries at a time: summed in float64 and rounded, so that equal vectors tie."""
    wide = gallery.astype(np.float64).T
    step = max(1, _BLOCK // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        yield start, (queries[start : start + step].astype(np.float64) @ wide).astype(np.float32)


def _difference(texts: _Ranked, others: _Ranked, resamples: int) -> metrics.Estimate:
    """Text → image R@1 minus the other encoder's, on the same images and captions."""
    gains = (texts.first <= 1).astype(np.float64) - (others.first <= 1)
    return metrics.bootstrap_mean(gains, groups=texts.groups, resamples=resamples)


def _direction(ranked: _Ranked, at: Sequence[int], resamples: int) -> Direction:
    first, precisions = ranked.first, metrics.average_precisions(ranked.ranks)

    def figures(weights: metrics.Weights) -> NDArray[np.float64]:
        recalls = [metrics.recall_at_k(first, k, weights=weights) for k in at]
        return np.array([*recalls, metrics.mean(precisions, weights), metrics.median_rank(first, weights=weights)])

    *recalls, mean_ap, median = metrics.bootstrap(figures, len(first), groups=ranked.groups, resamples=resamples)
    return Direction(
        queries=len(first),
        gallery=ranked.gallery,
        recall=dict(zip(at, recalls, strict=True)),
        mean_average_precision=mean_ap,
        median_rank=median,
        curve=recall_curve(first, ranked.gallery),
    )


def recall_curve(first: NDArray[np.int64], gallery: int) -> NDArray[np.float64]:
    """R@K for K = 1 … the size of the gallery, at most CURVE."""
    length = min(CURVE, gallery)
    counts = np.bincount(np.minimum(first, length + 1), minlength=length + 2)
    curve: NDArray[np.float64] = np.cumsum(counts[1 : length + 1]) / max(1, len(first))
    return curve
