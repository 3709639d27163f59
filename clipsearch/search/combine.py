"""Several terms in one query: their vectors balanced and added, required together, or counted against an image.

CLIP's text and image embeddings lie in two cones apart from each other (Liang et al. 2022, "Mind the Gap",
arXiv:2203.02053), so in a plain sum an image would dominate the text. Each term is therefore first centred: the mean
text or image embedding is subtracted. Then it is made a unit vector again, and weighted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipsearch.errors import UsageError
from clipsearch.search.terms import Term, Text
from clipsearch.types import ScoreKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.search.background import Background

PENALTY_MARGIN = 0.5
"""An image may be this many deviations closer to a negative term than the library's mean before it is penalised.

Over 500 drawings, colours asked for and backgrounds excluded: 0 and 0.5 leave no excluded one among the first 20, 1.0
two in 300; asked-for colours stay in .99, .99 and .97 of them."""


def score_kind(terms: Sequence[Term], negative: Sequence[Term], *, match_all: bool) -> ScoreKind:
    """What the score of a hit means; see types.ScoreKind."""
    if negative:
        return "penalised"
    if match_all and len(terms) > 1:
        return "least"
    return "cosine" if len(terms) == 1 else "combined"


def balanced_sum(
    terms: Sequence[Term], vectors: Sequence[NDArray[np.float32]], background: Background | None
) -> NDArray[np.float32]:
    """The unit vector (dim,) of several terms, from their unit vectors (dim,); one alone stays unchanged.

    Terms are centred only where `background` is given: where its means say more about the encoder than about the
    library. Raises UsageError where the terms cancel each other out.
    """
    import numpy as np

    if len(terms) == 1:
        return vectors[0]
    total = np.zeros(len(vectors[0]), np.float64)
    for term, vector in zip(terms, vectors, strict=True):
        centred = vector.astype(np.float64)
        if background is not None:
            centred -= background.text_mean if isinstance(term, Text) else background.mean
            centred /= max(float(np.linalg.norm(centred)), 1e-12)
        total += term.weight * centred
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise UsageError("the terms cancel each other out; change their weights")
    return (total / length).astype(np.float32)


def penalised(z_scores: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """Scores (n,) of images: the least z-score of the positive terms, less the penalties of the negative ones.

    `z_scores`: shape (m, n), the negative terms last, one for each of `weights`.
    """
    import numpy as np

    positive = len(z_scores) - len(weights)
    total: NDArray[np.float32] = z_scores[:positive].min(axis=0)
    for weight, row in zip(weights, z_scores[positive:], strict=True):
        total = total - np.float32(weight) * np.maximum(row - np.float32(PENALTY_MARGIN), 0)
    return total
