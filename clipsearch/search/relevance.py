"""The relevance of a hit: how far its score is above the baseline of this library and this query.

The z-score of a score s of the unit query q is

    z = (s − m) / √(σ · σ₀)

where m and σ are the mean and deviation of this query's scores over (a sample of) the library, without the best tenth,
which would hide the matches. σ₀ is the median of σ over the baseline's queries: 256 everyday prompts for a text, images
of the library for an image, pairs of both for a combined query. With σ alone a random string would stand out, whose
scores hardly differ; with σ₀ alone a subject that many images resemble. Any offset or factor that an encoder gives to
all scores cancels.

The best of n images by chance grows with n. So z is compared with the z-scores of the best hits of the baseline's
queries, of which the lowest tenth is taken, since an everyday prompt may well have its image in the library:

    relevance = 1 / (1 + exp(−(z − baseline's best − LIFT) / WIDTH))

Its meaning: if half of the queries have an answer in the library, about this share of the best hits with such a z are
right. LIFT and WIDTH were fitted on one half of the labelled data of `benchmarks/relevance.py`, over libraries of 10
to 20,000 images and two encoders; the other half is what is reported. Its limit: a subject of half of the library's
images never stands out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from clipsearch.catalog import snapshots
from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import Catalog, EncoderRow
from clipsearch.encoders import prompts
from clipsearch.search import background
from clipsearch.search.background import MIN_IMAGES, PROMPTS

Kind = Literal["text", "picture", "mixed"]
"""What a query vector is made of: one text, one image, or several terms that were centred and added."""

KINDS: tuple[Kind, ...] = get_args(Kind)

RELEVANT = 0.5
"""A hit with more than this is relevant, for `relevant=True`."""

LIFT: Mapping[Kind, float] = {"text": 2.1, "picture": 1.0, "mixed": 1.45}
"""How far the z-score of a right hit is above the baseline's best, at least (`benchmarks/relevance.py`)."""

WIDTH = 0.45
"""How far the z-score must rise for the odds to grow e-fold (`benchmarks/relevance.py`)."""

BEST_QUANTILE = 0.1
"""The quantile of the baseline's best hits that stands for what chance reaches."""

LEFT_OUT = 0.1
"""Share of a query's best scores that are left out of its mean and deviation."""

KEPT_NUMBERS = 500_000
"""Numbers of the sample that are kept, in 1 MB: 976 images of 512 dimensions."""

FEWEST = 10
"""Below this many images there is no baseline."""

QUARTERS = 4
ENOUGH_TO_QUARTER = 400
"""The growth with n is measured between a sample and its quarters where these have 100 images each."""

_NAME = "yardstick 2"
"""The key in the cache; the number goes up with any change of what is learnt."""


@dataclass(frozen=True, slots=True)
class Level:
    """Of the baseline's queries of a kind: `spread`, their median σ; `best`, low quantile of their best z-scores."""

    spread: float
    best: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Images of a library: unit rows of shape (n, dim), float32, n ≥ 2."""

    vectors: NDArray[np.float32]

    def tail(self, queries: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of the scores of each of `queries` (m, dim), the best tenth left out; shapes (m,)."""
        scores = (queries @ self.vectors.T).astype(np.float64)
        kept = max(2, round(len(self.vectors) * (1 - LEFT_OUT)))
        rest = np.partition(scores, kept - 1, axis=1)[:, :kept]
        return rest.mean(axis=1), rest.std(axis=1)

    def z_scores(self, queries: NDArray[np.float32], scores: NDArray[np.float32], spread: float) -> NDArray[np.float64]:
        """The z-scores of `scores` (m, n) of `queries` (m, dim), as in the module's docstring."""
        spread = max(spread, 1e-3)  # Below this is rounding to float16.
        mean, own = self.tail(queries)
        own = np.maximum(own, spread / 4)  # Anything would stand out from copies of one image.
        result: NDArray[np.float64] = (scores - mean[:, None]) / np.sqrt(own * spread)[:, None]
        return result


@dataclass(frozen=True, slots=True)
class Baseline:
    """The baseline of an encoder in a library that had `count` vectors, by kind of query."""

    count: int
    sample: Sample
    usual: Mapping[Kind, Level]

    def to_bytes(self) -> bytes:
        """A line of JSON, then the sample as little-endian float16: a score moves by less than 0.001."""
        usual = {kind: {"spread": one.spread, "best": one.best} for kind, one in self.usual.items()}
        head = json.dumps({"count": self.count, "usual": usual})
        return b"%s\n%s" % (head.encode(), self.sample.vectors.astype("<f2").tobytes())

    @classmethod
    def from_bytes(cls, data: bytes, dim: int) -> Baseline:
        """Raises ValueError where `data` is something else, or of another dim."""
        head, _, body = data.partition(b"\n")
        try:
            known = json.loads(head)
            usual: dict[Kind, Level] = {
                kind: Level(known["usual"][kind]["spread"], known["usual"][kind]["best"]) for kind in KINDS
            }
            count = int(known["count"])
        except (KeyError, TypeError) as exc:
            raise ValueError("not a baseline") from exc
        vectors = np.frombuffer(body, "<f2").reshape(-1, dim).astype(np.float32)
        if len(vectors) < 2:
            raise ValueError("not a baseline")
        return cls(count, Sample(vectors), usual)


def relevance(
    baseline: Baseline, query: NDArray[np.float32], scores: NDArray[np.float32], *, kind: Kind = "text"
) -> NDArray[np.float32]:
    """The relevance of each hit of one query, 0 … 1; see the module's docstring.

    `query`: unit vector of shape (dim,); `scores`: inner products of hits with it, shape (n,).
    """
    usual = baseline.usual[kind]
    above = baseline.sample.z_scores(query[None], np.asarray(scores)[None], usual.spread)[0] - usual.best - LIFT[kind]
    result: NDArray[np.float32] = (1 / (1 + np.exp(np.clip(-above / WIDTH, -80, 80)))).astype(np.float32)
    return result


def recall(catalog: Catalog, row: EncoderRow, cache: QueryCache) -> Baseline | None:
    """The baseline in the cache; None where there is none, or the library has grown by a fifth since."""
    known = cache.fact(row.info.fingerprint, _NAME)
    if known is None or abs(snapshots.count_about(catalog, row) - known[0]) * background.GROWTH > known[0]:
        return None
    try:
        return Baseline.from_bytes(known[1], row.info.dim)
    except ValueError:
        return None


def learn(catalog: Catalog, row: EncoderRow, cache: QueryCache, embed: background.EmbedTexts) -> Baseline | None:
    """The baseline of an encoder in a library: from the cache, or measured on up to 10,000 images and kept there.

    `embed` gives unit rows (n, dim) for texts; it is called for the everyday prompts where the cache has no
    baseline. None where the library has fewer than FEWEST images.
    """
    known = recall(catalog, row, cache)
    if known is not None:
        return known
    count = catalog.embeddings.count(row.id)
    vectors, owners = background.sample(catalog, row, count)
    if len(set(owners.tolist())) < FEWEST:
        return None
    centred = row.info.is_clip and catalog.embeddings.count_images(row.id) >= MIN_IMAGES
    baseline = measure(vectors, embed(prompts.everyday(PROMPTS)), owners=owners, count=count, centred=centred)
    cache.put_fact(row.info.fingerprint, _NAME, snapshots.count_about(catalog, row), baseline.to_bytes())
    return baseline


def measure(
    images: NDArray[np.floating],
    texts: NDArray[np.float32],
    *,
    count: int,
    owners: NDArray[np.int64] | None = None,
    centred: bool = True,
) -> Baseline:
    """The baseline of a library of `count` vectors, from a sample of its images and from everyday texts.

    `images`: unit rows (n, dim), n ≥ 2; `texts`: unit rows (m, dim). `owners`, shape (n,), says which rows are views
    of one image, the whole one first; without it, each row is an image. `centred`: whether combined queries centre
    their terms, as they do from MIN_IMAGES on.
    """
    images = images.astype(np.float32)
    if owners is None:
        owners = np.arange(len(images))
    _, wholes, owners = np.unique(owners, return_index=True, return_inverse=True)
    mean = images.mean(axis=0)
    step = -(-len(images) // max(FEWEST, KEPT_NUMBERS // images.shape[1]))
    kept = Sample(images[::step].astype(np.float16).astype(np.float32))  # As it will come from the cache.
    chosen = np.sort(wholes)[np.unique(np.linspace(0, len(wholes) - 1, len(texts)).astype(int))]
    beside = np.linspace(0, len(texts) - 1, len(chosen)).astype(int)
    words, shown = texts[beside], images[chosen]
    if centred and count >= MIN_IMAGES:
        words, shown = _unit(words - texts.mean(axis=0)), _unit(shown - mean)
    usual: dict[Kind, Level] = {
        "text": _baseline(kept, texts, images, owners, count=count),
        "picture": _baseline(kept, images[chosen], images, owners, itself=chosen, count=count),
        "mixed": _baseline(kept, _unit(words + shown), images, owners, itself=chosen, count=count),
    }
    return Baseline(count, kept, usual)


def _baseline(
    sample: Sample,
    queries: NDArray[np.float32],
    images: NDArray[np.float32],
    owners: NDArray[np.int64],
    *,
    count: int,
    itself: NDArray[np.int64] | None = None,
) -> Level:
    """The baseline of queries (m, dim) of a kind; `itself`: the row of `images` that each one is made of.

    `owners` numbers the images that the rows are views of, from 0.
    """
    spread = float(np.median(sample.tail(queries)[1]))
    scores = queries @ images.T
    if itself is not None:
        scores[owners[itself][:, None] == owners[None, :]] = -np.inf

    def best(some: slice | NDArray[np.bool_]) -> float:
        top = scores[:, some].max(axis=1, keepdims=True)
        return float(np.quantile(sample.z_scores(queries, top, spread), BEST_QUANTILE))

    whole = best(slice(None))
    if count <= len(images) or len(images) < ENOUGH_TO_QUARTER:
        return Level(spread, whole)
    # The best of more images than were sampled is better: for each e-fold by as much as from the sample's quarters to
    # the whole. From 10,000 to 100,000 made-up images (`benchmarks/labelled.py`) that was right to .03.
    quarters = [best(owners % QUARTERS == start) for start in range(QUARTERS)]
    growth = max(0.0, whole - sum(quarters) / QUARTERS) / math.log(QUARTERS)
    return Level(spread, whole + growth * math.log(count / len(images)))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result
