"""Labels, prompts and probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch.classify import Classifier, Label, parse_labels
from clipsearch.errors import UsageError
from clipsearch.types import EncoderInfo, Preprocess

INFO = EncoderInfo("test", "print", 4, 20.0, None, Preprocess(8))

WORDS = {"cat": (1, 0, 0, 0), "kitten": (0.6, 0.8, 0, 0), "dog": (0, 0, 1, 0)}


def embed(texts: list[str]) -> np.ndarray:
    """Unit vectors by the known word in each text; one in a sketch leans towards the last axis."""
    rows = []
    for text in texts:
        row = np.array(next(WORDS[word] for word in WORDS if word in text), float)
        row[3] += 0.5 * ("sketch" in text)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows, np.float32)


def test_a_prototype_is_the_normalised_mean_over_synonyms_and_templates() -> None:
    labels = [Label("cat", ("kitten",)), Label("dog")]
    built = Classifier.build(INFO, labels, embed, templates=["a photo of a {label}", "a sketch of a {label}"])
    texts = [f"a {kind} of a {word}" for word in ("cat", "kitten") for kind in ("photo", "sketch")]
    mean = embed(texts).astype(float).mean(axis=0)
    assert built.prototypes[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert np.linalg.norm(built.prototypes, axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_probabilities_are_the_softmax_with_the_encoders_own_scale() -> None:
    built = Classifier.build(INFO, [Label("cat"), Label("dog"), Label("kitten")], embed)
    vector = np.array([[0.8, 0.6, 0, 0]], np.float32)
    [predictions] = built.predict(vector, k=3)
    scores = np.array([0.8, 0.0, 0.96])
    expected = np.exp(20 * scores) / np.exp(20 * scores).sum()
    assert [p.label for p in predictions] == ["kitten", "cat", "dog"]
    assert [p.probability for p in predictions] == pytest.approx(expected[[2, 0, 1]], rel=1e-5)
    # k cuts what is shown, never what is summed over.
    assert built.predict(vector, k=1)[0][0].probability == pytest.approx(expected[2], rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "templates", "says"),
    [([], [], "no labels"), (["cat", "cat"], [], "twice"), (["cat"], ["a photo"], "{label}")],
)
def test_what_cannot_be_classified_is_said(labels: list[str], templates: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Classifier.build(INFO, [Label(name) for name in labels], embed, templates=templates)


def test_label_files_take_synonyms_comments_and_escapes() -> None:
    text = "# animals\ncat: kitten, tom cat\n\ndog # a comment\nratio 4\\:3\n\\#1 fan: winner\n  red car  \n"
    assert parse_labels(text) == [
        Label("cat", ("kitten", "tom cat")),
        Label("dog"),
        Label("ratio 4:3"),
        Label("#1 fan", ("winner",)),
        Label("red car"),
    ]
