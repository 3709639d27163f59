"""How sure a hit is: where its score stands against what is usual in this library and for this query.

For a unit query q and n pictures with mean μ and covariance C, both of the library without the hit itself, a score s
stands out by

    standing = (s − q·μ) / √(σ · σ₀),   σ² = qᵀCq

in which σ is the spread of this query's own scores and σ₀ the median spread of the background's: 256 everyday prompts
for a text, pictures of the library for a picture, pairs of both for a combined query. The own spread alone would let a
string of letters stand out, whose scores are all alike; the background's alone would punish a query that many pictures
answer a little. Both units cancel whatever an encoder adds to all of its scores or multiplies them by.

What the best of n pictures reaches by chance grows with n. So the standing is held against that of the background's own
best hits, of which the lowest tenth is taken: an everyday prompt may well have its picture in the library.

    relevance = 1 / (1 + exp(−(standing − usual best − MARGIN) / WIDTH))

Its meaning: where half of the queries have an answer in the library, about this share of the best hits that stand so
high are right. MARGIN and WIDTH were fitted on one half of the labelled data of `benchmarks/relevance.py`, over
libraries of 10 to 20,000 pictures and two encoders; the other half is what is reported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from clipsearch import background, prompts
from clipsearch.background import MIN_PICTURES, PROMPTS
from clipsearch.cache import QueryCache
from clipsearch.catalog import Catalog, EncoderRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["text", "picture", "mixed"]
"""What a query vector is made of: one text, one picture, or several terms that were centred and added."""

KINDS: tuple[Kind, ...] = get_args(Kind)

RELEVANT = 0.5
"""A hit with more than this is one that `--relevant` lets through."""

MARGIN: Mapping[Kind, float] = {"text": 1.65, "picture": 1.1, "mixed": 1.4}
"""How far above the usual best hit a right one stands, at the least (`benchmarks/relevance.py`)."""

WIDTH = 0.35
"""How far the standing must rise for the odds to grow e-fold (`benchmarks/relevance.py`)."""

USUAL = 0.1
"""The quantile of the background's best hits that is taken for what chance reaches."""

FEWEST = 10
"""Below this many pictures nothing is usual, and there is no yardstick."""

QUARTERS = 4
ENOUGH_TO_QUARTER = 400
"""The growth with n is measured between a sample and its quarters where these have 100 pictures each."""

_NAME = "yardstick 1"
"""Under which the cache keeps it; the number goes up with any change of what is learnt."""


@dataclass(frozen=True, slots=True)
class Usual:
    """spread: median σ of background queries of a kind; best: low quantile of the standing of their best hits."""

    spread: float
    best: float


@dataclass(frozen=True, slots=True)
class Scatter:
    """How `sampled` pictures of a library lie: mean of shape (dim,), covariance of shape (dim, dim), float32."""

    sampled: int
    mean: NDArray[np.float32]
    covariance: NDArray[np.float32]

    def variance(self, queries: NDArray[np.floating]) -> NDArray[np.float64]:
        """Variance of the scores of each of `queries` (m, dim), shape (m,)."""
        import numpy as np

        found = ((queries @ self.covariance) * queries).sum(axis=1)
        result: NDArray[np.float64] = np.maximum(found, 0).astype(np.float64)
        return result

    def standing(
        self, queries: NDArray[np.floating], scores: NDArray[np.floating], spread: float
    ) -> NDArray[np.float64]:
        """How far `scores` (m, n) of `queries` (m, dim) stand out; each hit is taken out of what it is held against."""
        import numpy as np

        n = self.sampled
        scores = scores.astype(np.float64)
        mean = (queries @ self.mean).astype(np.float64)[:, None]
        square = self.variance(queries)[:, None] + mean**2
        # The few pictures of a small library would else include the match, which hides itself.
        others = (n * mean - scores) / (n - 1)
        variance = (n * square - scores**2) / (n - 1) - others**2
        spread = max(spread, 1e-6)
        own = np.sqrt(np.maximum(variance, (spread / 4) ** 2))  # Anything would stand out from copies of one picture.
        result: NDArray[np.float64] = (scores - others) / np.sqrt(own * spread)
        return result


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What is usual for an encoder in a library that held `count` vectors, by kind of query."""

    count: int
    scatter: Scatter
    usual: Mapping[Kind, Usual]

    def to_bytes(self) -> bytes:
        """A line of JSON, then mean and covariance as little-endian float32."""
        usual = {kind: asdict(numbers) for kind, numbers in self.usual.items()}
        head = json.dumps({"count": self.count, "sampled": self.scatter.sampled, "usual": usual})
        return b"%s\n%s%s" % (
            head.encode(),
            self.scatter.mean.astype("<f4").tobytes(),
            self.scatter.covariance.astype("<f4").tobytes(),
        )

    @classmethod
    def from_bytes(cls, data: bytes, dim: int) -> Yardstick:
        """Raises ValueError where `data` is none, or of another dim."""
        import numpy as np

        head, _, body = data.partition(b"\n")
        try:
            known = json.loads(head)
            usual: dict[Kind, Usual] = {kind: Usual(**known["usual"][kind]) for kind in KINDS}
            count, sampled = int(known["count"]), int(known["sampled"])
        except (KeyError, TypeError) as exc:
            raise ValueError("not a yardstick") from exc
        numbers = np.frombuffer(body, "<f4").reshape(dim + 1, dim)
        return cls(count, Scatter(sampled, numbers[0], numbers[1:]), usual)


def relevance(
    yardstick: Yardstick, query: NDArray[np.float32], scores: NDArray[np.float32], *, kind: Kind = "text"
) -> NDArray[np.float32]:
    """The relevance of each hit of one query, 0 … 1; see the module's text for what it means.

    `query`: unit vector of shape (dim,); `scores`: inner products of hits with it, shape (n,).
    """
    import numpy as np

    usual = yardstick.usual[kind]
    above = (
        yardstick.scatter.standing(query[None], np.asarray(scores)[None], usual.spread)[0] - usual.best - MARGIN[kind]
    )
    result: NDArray[np.float32] = (1 / (1 + np.exp(np.clip(-above / WIDTH, -80, 80)))).astype(np.float32)
    return result


def recall(catalog: Catalog, row: EncoderRow, cache: QueryCache) -> Yardstick | None:
    """The yardstick that the cache holds; None where there is none, or the library has grown by a fifth since."""
    known = cache.fact(row.info.fingerprint, _NAME)
    if known is None or abs(catalog.count_vectors(row.id) - known[0]) * background.GROWTH > known[0]:
        return None
    try:
        return Yardstick.from_bytes(known[1], row.info.dim)
    except ValueError:
        return None


def learn(catalog: Catalog, row: EncoderRow, cache: QueryCache, embed: background.EmbedTexts) -> Yardstick | None:
    """The yardstick of an encoder in a library: from the cache, else taken from up to 10,000 pictures and kept there.

    `embed` gives unit rows (n, dim) for texts; it is called for the everyday prompts where the cache does not hold
    the yardstick. None where the library has fewer than FEWEST pictures.
    """
    known = recall(catalog, row, cache)
    if known is not None:
        return known
    count = catalog.count_vectors(row.id)
    pictures = background.sample(catalog, row, count)
    if len(pictures) < FEWEST:
        return None
    yardstick = measure(pictures, embed(prompts.everyday(PROMPTS)), count=count, centred=row.info.is_clip)
    cache.put_fact(row.info.fingerprint, _NAME, count, yardstick.to_bytes())
    return yardstick


def measure(
    pictures: NDArray[np.floating], texts: NDArray[np.float32], *, count: int, centred: bool = True
) -> Yardstick:
    """The yardstick of a library of `count` vectors, from a sample of its pictures and from everyday texts.

    `pictures`: unit rows (n, dim), n ≥ 2; `texts`: unit rows (m, dim). `centred` says whether combined queries centre
    their terms, which they do from MIN_PICTURES on.
    """
    import numpy as np

    pictures = pictures.astype(np.float32)
    mean = pictures.mean(axis=0)
    off = pictures - mean
    scatter = Scatter(len(pictures), mean, off.T @ off / np.float32(len(pictures)))
    chosen = np.unique(np.linspace(0, len(pictures) - 1, len(texts)).astype(int))
    beside = np.linspace(0, len(texts) - 1, len(chosen)).astype(int)
    words, shown = texts[beside], pictures[chosen]
    if centred and count >= MIN_PICTURES:
        words, shown = _unit(words - texts.mean(axis=0)), _unit(shown - mean)
    usual: dict[Kind, Usual] = {
        "text": _usual(scatter, texts, pictures, count=count),
        "picture": _usual(scatter, pictures[chosen], pictures, itself=chosen, count=count),
        "mixed": _usual(scatter, _unit(words + shown), pictures, itself=chosen, count=count),
    }
    return Yardstick(count, scatter, usual)


def _usual(
    scatter: Scatter,
    queries: NDArray[np.float32],
    pictures: NDArray[np.float32],
    *,
    count: int,
    itself: NDArray[np.int64] | None = None,
) -> Usual:
    """What is usual for queries (m, dim) of a kind; `itself` says which picture each one is made of."""
    import numpy as np

    spread = float(np.median(np.sqrt(scatter.variance(queries))))
    scores = queries @ pictures.T
    if itself is not None:
        scores[np.arange(len(queries)), itself] = -np.inf

    def best(some: slice) -> float:
        top = scores[:, some].max(axis=1, keepdims=True)
        return float(np.quantile(scatter.standing(queries, top, spread), USUAL))

    whole = best(slice(None))
    if count <= len(pictures) or len(pictures) < ENOUGH_TO_QUARTER:
        return Usual(spread, whole)
    # The best of more pictures than were sampled is better, for each e-fold by as much as from the sample's quarters to
    # the whole. From 10,000 to 100,000 made-up pictures (`benchmarks/labelled.py`) that was right to .03.
    quarters = [best(slice(start, None, QUARTERS)) for start in range(QUARTERS)]
    growth = max(0.0, whole - sum(quarters) / QUARTERS) / math.log(QUARTERS)
    return Usual(spread, whole + growth * math.log(count / len(pictures)))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    result: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result
