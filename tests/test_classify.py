"""Labels, prompts, prototypes and probabilities."""

from __future__ import annotations

import importlib.util
import runpy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers import TinyEncoder
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipsearch.catalog.cache import QueryCache
from clipsearch.catalog.catalog import EncoderRow
from clipsearch.classify import explain, unknown
from clipsearch.classify.classifier import BLOCK, Classifier, best_columns
from clipsearch.classify.labels import Label, checked, format_labels, imagenet, parse_labels
from clipsearch.classify.options import UNKNOWN_MARGIN, ClassifyOptions
from clipsearch.classify.prototypes import CACHED, Step, prototypes
from clipsearch.classify.results import Prediction
from clipsearch.classify.templates import call_lambdas, expand, fill, prompts_of, published
from clipsearch.classify.unknown import Distractors
from clipsearch.cli.labels import read_labels
from clipsearch.errors import UsageError
from clipsearch.export.options import as_options
from clipsearch.search.embed import Embedder
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
    built = Classifier.build(INFO, labels, embed, templates=["a photo of a {label}", "a sketch of a {}"])
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
    [([], [], "no labels"), (["cat", "cat"], [], "twice"), ([" "], [], "empty"), (["cat"], ["a photo"], "{}")],
)
def test_what_cannot_be_classified_is_said(labels: list[str], templates: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Classifier.build(INFO, [Label(name) for name in labels], embed, templates=templates)


def test_the_best_columns_are_those_of_a_stable_sort() -> None:
    scores = np.random.default_rng(0).integers(0, 5, (40, 90)).astype(np.float32)  # many are equal
    whole = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 5, 11, 12, 90, 200):
        assert (best_columns(scores, k) == whole[:, :k]).all(), k


def test_what_is_above_a_threshold_is_what_is_left_of_all() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 6, (50, 30)).astype(np.float32)  # many are equal
    built = Classifier(INFO, tuple(Label(str(i)) for i in range(30)), np.zeros((30, 4), np.float32))
    sure = unknown.sigmoid(scores.astype(np.float64) - 4)
    for k in (1, 3, 30, None):
        for threshold in (0.0, 0.5, 0.8, 1.0):
            every = built.named(scores, sure, best_columns(scores, k or 30))
            expected = [tuple(p for p in some if p.probability >= threshold) for some in every]
            assert built.above(scores, sure, threshold, k=k) == expected


def test_few_labels_make_no_large_parts() -> None:
    """Vectors and cosines with the distractor labels take memory as scores do."""
    info = EncoderInfo("test", "print", 512, 20.0, None, Preprocess(8))
    two = Classifier(info, (Label("cat"), Label("dog")), np.zeros((2, 512), np.float32))
    step = BLOCK // unknown.COUNT
    assert [len(part) for part in two.parts(np.zeros((step + 1, 512), np.float32))] == [step, 1]


@pytest.mark.parametrize("margin", [float("nan"), float("inf"), -float("inf")])
def test_a_margin_is_a_number(margin: float) -> None:
    two = Classifier(INFO, (Label("cat"), Label("dog")), np.zeros((2, 4), np.float32))
    with pytest.raises(UsageError, match=f"`margin={margin:g}`"):
        ClassifyOptions(unknown=True, margin=margin).check(two)


# Labels


def test_label_files_take_synonyms_comments_and_escapes() -> None:
    text = "# animals\ncat: kitten, tom cat\n\ndog # a comment\nratio 4\\:3\n\\#1 fan: winner\n  red car  \n"
    assert parse_labels(text) == [
        Label("cat", ("kitten", "tom cat")),
        Label("dog"),
        Label("ratio 4:3"),
        Label("#1 fan", ("winner",)),
        Label("red car"),
    ]


WORD = st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" :#,=\\"), min_size=1).filter(
    lambda word: word == word.strip() and word
)


@given(st.lists(st.tuples(WORD, st.lists(WORD, max_size=3), st.none() | WORD), min_size=1, max_size=4))
def test_a_label_file_holds_whatever_labels_are(labels: list[tuple[str, list[str], str | None]]) -> None:
    wanted = [Label(name, tuple(words), spoken) for name, words, spoken in labels]
    assert parse_labels(format_labels(wanted)) == wanted


def test_a_label_file_says_what_prompts_say_in_place_of_the_name() -> None:
    assert parse_labels("missile (2): =missile, rocket\nx: \\=y") == [
        Label("missile (2)", ("rocket",), "missile"),
        Label("x", ("=y",)),
    ]
    assert tuple(parse_labels(format_labels(imagenet()))) == imagenet()


def test_a_saved_label_stays_on_its_line() -> None:
    for label in (Label("a\nb"), Label("a\nb", spoken="a")):
        with pytest.raises(UsageError, match="line break"):
            format_labels([label])


def test_what_is_no_text_is_no_label_and_no_template() -> None:
    for label in (Label("caf\udce9"), Label("x", ("caf\udce9",)), Label("x", spoken="\ud800")):
        with pytest.raises(UsageError, match="not valid UTF-8"):
            checked([label])
    with pytest.raises(UsageError, match="not valid UTF-8"):
        expand(["caf\udce9 {}"], default="{label}")


def test_synonyms_on_the_command_line_stand_behind_a_colon_and_a_blank() -> None:
    given = [
        "red: crimson, scarlet",
        "cat,dog",
        "ratio 4:3",
        "4:3: wide, broad",
        r"Alien\: Covenant",
        "C#: a \\, b",
        "a:",
    ]
    assert read_labels(given) == [
        Label("red", ("crimson", "scarlet")),
        Label("cat"),
        Label("dog"),
        Label("ratio 4:3"),
        Label("4:3", ("wide", "broad")),
        Label("Alien: Covenant"),
        Label("C#", ("a , b",)),
        Label("a:"),
    ]
    for wrong in ("cat,dog: puppy", ": puppy"):
        with pytest.raises(UsageError) as raised:
            read_labels([wrong])
        assert as_options(str(raised.value)).startswith(f"--labels {wrong}: ")


# Templates


def open_clips_own(name: str) -> object:
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None and spec.origin is not None
    return runpy.run_path(str(Path(spec.origin).parent / "zero_shot_metadata.py"))[name]


def test_published_templates_are_open_clips() -> None:
    for name, variable, count in (
        ("simple", "SIMPLE_IMAGENET_TEMPLATES", 7),
        ("openai", "OPENAI_IMAGENET_TEMPLATES", 80),
    ):
        theirs = [make("tabby cat") for make in open_clips_own(variable)]  # type: ignore[attr-defined]
        assert [fill(template, "tabby cat") for template in published(name)] == theirs and len(theirs) == count


def test_imagenets_names_are_open_clips() -> None:
    names = open_clips_own("IMAGENET_CLASSNAMES")
    labels = imagenet()
    assert tuple(prompts_of(label, ["{label}"])[0] for label in labels) == names
    assert len({label.name for label in labels}) == 1000
    assert labels[744] == Label("missile (2)", spoken="missile")


def test_templates_are_taken_in_either_form_and_by_name() -> None:
    given = expand(["a {}.", "the {label}", "simple"], default="{label}")
    assert given[:2] == ("a {label}.", "the {label}") and len(given) == 9
    assert expand([], default="it is {label}") == ("it is {label}",)
    assert fill("a {label} in a {label}", "{} or {label}") == "a {} or {label} in a {} or {label}"


def test_a_source_that_has_another_form_gives_no_templates(tmp_path: Path) -> None:
    def templates(source: str) -> list[str]:
        (tmp_path / "source.py").write_text(source)
        return call_lambdas(tmp_path / "source.py", "T")

    assert templates("T = (lambda c: f'a {c}.', lambda c: f'{c}')") == ["a {label}.", "{label}"]
    assert templates("T = (lambda c: f'a {c}.', 'a {}')") == []
    assert templates("T = (lambda c: 'nothing',)") == []
    assert templates("") == []
    assert call_lambdas(tmp_path / "none.py", "T") == []


# Prototypes and what is kept of them


class Reader(TinyEncoder):
    """Gives each text a direction of its own, counts them, and cuts what is longer than 40 characters."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.read += len(texts)
        rows = np.array([np.random.default_rng(list(text[:40].encode())).standard_normal(48) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def overflow(self, text: str) -> str:
        return text[40:]


LABELS = [Label(f"thing {i}", ("it",) if i % 3 else ()) for i in range(60)]
SEVERAL = ["a {label}", "the {label}", "my {label}", "{label}"]


def test_many_prompts_give_what_few_give_and_are_read_once(tmp_path: Path) -> None:
    reader = Reader()
    cache = QueryCache(tmp_path)
    embedder = Embedder(EncoderRow(1, reader.info), lambda: reader, cache)
    steps: list[Step] = []
    count = sum(len(prompts_of(label, SEVERAL)) for label in LABELS)
    assert count > CACHED
    rows = prototypes(embedder, LABELS, SEVERAL, progress=steps.append)
    alone = Classifier.build(reader.info, LABELS, reader.encode_texts, templates=SEVERAL)
    assert (rows == alone.prototypes).all()
    assert steps[-1] == Step("prompts", count, count)
    assert not cache.texts(
        reader.info.fingerprint, ["a thing 0"], dim=reader.info.dim
    )  # Nothing of a query's is pushed out.
    reader.read = 0
    again = prototypes(embedder, LABELS[::-1], SEVERAL)
    assert (again == rows[::-1]).all() and reader.read == 0
    changed = [Label("thing 0", ("it",)), *LABELS[1:]]
    prototypes(embedder, changed, SEVERAL)
    assert reader.read == len(prompts_of(changed[0], SEVERAL))
    prototypes(embedder, LABELS, SEVERAL[::-1])  # Others: a key is what it is made from, in its order.
    assert reader.read > 4 * len(LABELS)
    cache.close()


def test_few_prompts_are_texts_that_queries_share(tmp_path: Path) -> None:
    reader = Reader()
    cache = QueryCache(tmp_path)
    embedder = Embedder(EncoderRow(1, reader.info), lambda: reader, cache)
    prototypes(embedder, LABELS[:5], ["a {label}"])
    assert set(cache.texts(reader.info.fingerprint, ["a thing 0", "a it"], dim=reader.info.dim)) == {
        "a thing 0",
        "a it",
    }
    cache.close()


def test_prompts_that_are_cut_are_named_each_time(tmp_path: Path) -> None:
    reader = Reader()
    cache = QueryCache(tmp_path)
    long = ["a very very long sentence about one single {label}", *SEVERAL]
    for _ in range(2):
        embedder = Embedder(EncoderRow(1, reader.info), lambda: reader, cache)
        prototypes(embedder, LABELS, long)
        notices = embedder.notices
        assert "too long" in notices[0] and "more prompts are too long" in notices[-1] and len(notices) == 4
    cache.close()


def test_explaining_many_labels_pushes_no_query_out_of_the_cache(tmp_path: Path) -> None:
    reader = Reader()
    cache = QueryCache(tmp_path)
    embedder = Embedder(EncoderRow(1, reader.info), lambda: reader, cache)
    built = Classifier(reader.info, tuple(LABELS), np.zeros((len(LABELS), 48), np.float32), tuple(SEVERAL))
    vector = reader.encode_texts(["my it"])
    for some, kept in ((LABELS, False), (LABELS[:2], True)):
        predictions = [tuple(Prediction(label.name, 1.0, 1.0) for label in some)]
        [told] = explain.with_prompts(predictions, vector, built, embedder, every=True)
        assert told[1].prompt == "my it"
        assert bool(cache.texts(reader.info.fingerprint, ["my it", "a thing 0"], dim=reader.info.dim)) is kept
    cache.close()


# Beside unrelated labels


def test_what_is_usual_leaves_out_the_best_tenth() -> None:
    prototypes = np.eye(20, dtype=np.float32)
    vector = np.zeros((1, 20), np.float32)
    vector[0, :2] = 1  # the best tenth of twenty
    assert Distractors(prototypes).usual(vector, 50.0)[0] == pytest.approx(0)
    vector[0, 2] = 0.1
    assert Distractors(prototypes).usual(vector, 50.0)[0] == pytest.approx(np.log((np.exp(5) + 17) / 18), rel=1e-5)


def test_yes_is_its_formula() -> None:
    logits, usual = np.array([[5.0, 1.0, 0.0]]), np.array([1.0])
    assert unknown.yes(logits, usual)[0] == pytest.approx(1 / (1 + np.exp(-(np.array([5, 1, 0]) - 1 - unknown.BAR))))


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


RNG = np.random.default_rng(0)
KINDS = RNG.standard_normal((20, 64))
"""What twenty kinds of things have in common."""


def things(kinds: NDArray[np.integer], share: float = 1.0) -> NDArray[np.float64]:
    """A thing of each of `kinds`, as rows that are not unit vectors."""
    return KINDS[kinds] + share * RNG.standard_normal((len(kinds), 64))


NAMES = things(np.repeat(np.arange(20), 15))
BESIDE = Distractors(unit_rows(NAMES))
"""Fifteen names for each kind."""


def margins(images: NDArray[np.float64], label: NDArray[np.float64], beside: Distractors = BESIDE) -> list[float]:
    best = np.zeros(len(images), np.int64)
    return beside.margins(unit_rows(images), unit_rows(label[None]), best, 20.0).tolist()


def test_a_narrower_term_does_not_compete_with_its_general_word() -> None:
    """Images show one of the names; the label is the word for their kind, or for another one."""
    shown = NAMES[:15] + 0.5 * RNG.standard_normal((15, 64))
    assert min(margins(shown, KINDS[0])) >= UNKNOWN_MARGIN > max(margins(shown, KINDS[1]))


def test_a_general_word_needs_less_than_a_specific_one() -> None:
    """Six kinds have something in common, as animals do; their word lies farther from each of them than their own."""
    common = np.where(np.arange(20)[:, None] < 6, RNG.standard_normal(64), 0)
    names, kinds = NAMES + np.repeat(common, 15, axis=0), np.repeat(np.arange(20), 10)
    found = np.array(margins(things(kinds, 0.7) + common[kinds], common[0], Distractors(unit_rows(names))))
    assert (found[kinds < 6] >= UNKNOWN_MARGIN).mean() > 0.9
    assert (found[kinds >= 6] < UNKNOWN_MARGIN).mean() > 0.65


@pytest.mark.parametrize("count", [1, 2, 12, 100])
def test_images_of_other_things_are_unknown_with_any_number_of_labels(count: int) -> None:
    """The best of many labels is nearer to any image than that of one."""
    labels, images = unit_rows(RNG.standard_normal((count, 64))), unit_rows(things(np.arange(200) % 20, 0.7))
    best = (images @ labels.T).argmax(axis=1)
    assert (BESIDE.margins(images, labels, best, 20.0) < UNKNOWN_MARGIN).mean() > 0.75


def test_neither_scale_nor_offset_of_the_cosines_matters() -> None:
    """Texts and images of CLIP lie in two regions apart."""
    shown, labels, best = unit_rows(things(np.arange(20), 0.7)), unit_rows(KINDS), np.arange(20)

    def shifted(rows: NDArray[np.floating], *offset: float) -> NDArray[np.float32]:
        return unit_rows(np.concatenate([rows, np.tile(offset, (len(rows), 1))], axis=1))

    plain = BESIDE.margins(shown, labels, best, 20.0)
    beside = Distractors(shifted(BESIDE.prototypes, 2, 0))
    moved = beside.margins(shifted(shown, 0, 2), shifted(labels, 2, 0), best, 99.0)
    assert moved == pytest.approx(plain, abs=0.1)


def test_a_model_that_cannot_tell_words_apart_is_judged_by_log_odds() -> None:
    """Its words span few directions; deviations among them mean nothing."""
    same = unit_rows(RNG.standard_normal((32, 3)) @ RNG.standard_normal((3, 64)))
    labels, image = same[:3], unit_rows(RNG.standard_normal((1, 64)))
    beside = Distractors(same)
    [margin] = beside.margins(image, labels, np.zeros(1, np.int64), 15.0)
    expected = 15 * float(image[0] @ labels[0]) - beside.usual(image, 15.0)[0] - np.log(3)
    assert margin == pytest.approx(expected, abs=1e-4)


def test_a_siglip_says_yes_by_its_own_scale_and_bias() -> None:
    info = EncoderInfo("siglip", "print", 4, 100.0, -12.0, Preprocess(8))
    built = Classifier.build(info, [Label("cat"), Label("dog")], embed)
    vectors = np.array([[0.2, 0, 0.1, 0]], np.float32)
    sure = built.yes(vectors, built.scores(vectors), None)
    assert sure[0] == pytest.approx(1 / (1 + np.exp(-(100 * np.array([0.2, 0.1]) - 12))), rel=1e-4)
    # And its softmax is that without the bias.
    [best, other] = built.predict(vectors, k=2)[0]
    assert best.probability / other.probability == pytest.approx(np.exp(10), rel=1e-3)
