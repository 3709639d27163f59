"""Zero-shot classification: a picture's vector looked up among prompt embeddings, as in the CLIP paper (section 3.1).

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.errors import UsageError
from clipsearch.reports import Prediction
from clipsearch.types import EncoderInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    EmbedTexts = Callable[[Sequence[str]], NDArray[np.float32]]

PLACEHOLDER = "{label}"


@dataclass(frozen=True, slots=True)
class Label:
    """A class, with other words for it that share its prototype."""

    name: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Classifier:
    """Prototypes of labels: unit rows of shape (len(labels), dim), one a label."""

    info: EncoderInfo
    labels: tuple[Label, ...]
    prototypes: NDArray[np.float32]

    @classmethod
    def build(
        cls, info: EncoderInfo, labels: Sequence[Label], embed: EmbedTexts, *, templates: Sequence[str] = ()
    ) -> Classifier:
        """Embed every label and synonym in every template, average, and normalise again.

        `templates` hold "{label}"; without any, the encoder's own is used. Raises UsageError for no labels, a label
        given twice, or a template without the placeholder.
        """
        import numpy as np

        names = [label.name for label in labels]
        if not names:
            raise UsageError("no labels to choose from; give some: --labels cat dog")
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"the label {name!r} is given twice")
        templates = tuple(templates) or (info.template,)
        for template in templates:
            if PLACEHOLDER not in template:
                raise UsageError(f"the template {template!r} has no {PLACEHOLDER}; try 'a photo of a {PLACEHOLDER}'")
        prompts = [
            [t.replace(PLACEHOLDER, word) for word in (label.name, *label.synonyms) for t in templates]
            for label in labels
        ]
        vectors = embed([prompt for group in prompts for prompt in group])
        rows = []
        start = 0
        for group in prompts:
            mean = vectors[start : start + len(group)].astype(np.float64).mean(axis=0)
            rows.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
            start += len(group)
        return cls(info, tuple(labels), np.asarray(rows, np.float32))

    def predict(self, vectors: NDArray[np.float32], *, k: int) -> list[tuple[Prediction, ...]]:
        """The `k` nearest labels of each of `vectors`, unit rows of shape (n, dim), best first.

        Probabilities are the softmax over all labels of logit_scale · inner product, as CLIP was trained; a SigLIP's
        logit_bias is the same for every label and drops out.
        """
        import numpy as np

        from clipsearch.vectors import exact

        scores = exact.inner_products(vectors, self.prototypes)
        logits = self.info.logit_scale * scores.astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        best = exact.TopK(vectors, min(k, len(self.labels)))
        best.add(np.arange(len(self.labels), dtype=np.int64), self.prototypes)
        _, nearest = best.result()
        return [
            tuple(Prediction(self.labels[j].name, float(probabilities[i, j]), float(scores[i, j])) for j in nearest[i])
            for i in range(len(vectors))
        ]


def parse_labels(text: str) -> list[Label]:
    """Labels of a file or an argument's lines: `label: synonym, synonym` a line, `#` begins a comment.

    `\\:` and `\\#` stand for the characters themselves.
    """
    labels = []
    for line in text.splitlines():
        parts = _split(_split(line, "#")[0], ":")
        words = [part.strip() for part in _split(":".join(parts[1:]), ",")] if len(parts) > 1 else []
        name = parts[0].strip()
        if name:
            labels.append(Label(_unescape(name), tuple(_unescape(w) for w in words if w)))
    return labels


def _split(text: str, mark: str) -> list[str]:
    """`text` cut at each `mark` that no backslash stands before; escapes stay."""
    parts, start, i = [], 0, 0
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        if text[i] == mark:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    parts.append(text[start:])
    return parts


def _unescape(text: str) -> str:
    return text.replace("\\:", ":").replace("\\#", "#").replace("\\,", ",")
