"""A few examples a class: blending, leaving out, temperature; and the folder that they come in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import without_privileges
from numpy.typing import NDArray

from clipsearch.classify import few_shot
from clipsearch.classify.classifier import Classifier, softmax
from clipsearch.classify.folders import ClassFolders, class_folders
from clipsearch.classify.known import Everyday
from clipsearch.classify.labels import Label
from clipsearch.errors import UsageError
from clipsearch.evaluate import folder_per_class
from clipsearch.types import EncoderInfo, Preprocess

INFO = EncoderInfo("test", "print", 32, 30.0, None, Preprocess(8))

Rows = NDArray[np.float32]


def unit(rows: NDArray[np.floating]) -> Rows:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def world(
    labels: int, each: int, *, words: float = 1.0, noise: float = 1.0
) -> tuple[Classifier, Rows, NDArray[np.int64]]:
    """Images around a centre a class, and prompts that lie towards it (`words` 1) or anywhere (0), apart."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((labels, 32))
    apart = 3 * rng.standard_normal(32)
    classes = np.repeat(np.arange(labels), each)
    images = unit(centres[classes] + noise * rng.standard_normal((labels * each, 32)))
    text = unit(words * centres + (1 - words) * rng.standard_normal((labels, 32)) + apart)
    return Classifier(INFO, tuple(Label(str(i)) for i in range(labels)), text, ("{label}",)), images, classes


def test_a_blend_of_nothing_is_the_prompts_alone() -> None:
    plain, images, classes = world(3, 2)
    fitted = few_shot.fit(plain, images, classes, blend=0.0)
    assert fitted.fit is not None and not fitted.fit.scale_fitted and fitted.scale == INFO.logit_scale
    for ours, theirs in zip(fitted.predict(images, k=3), plain.predict(images, k=3), strict=True):
        assert [p.label for p in ours] == [p.label for p in theirs]
        assert [p.probability for p in ours] == pytest.approx([p.probability for p in theirs], abs=1e-5)


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_leaving_out_is_making_it_without(blend: float) -> None:
    """Every example is classified as by a classifier that was never given it; one class has a single example."""
    plain, images, classes = world(4, 3, words=0.5)
    images, classes = images[:10], classes[:10]
    fitted = few_shot.fit(plain, images, classes, blend=blend).fit
    assert fitted is not None
    own, right = [], []
    for i in range(len(images)):
        rest = np.arange(len(images)) != i
        without = few_shot.fit(plain, images[rest], classes[rest], blend=blend)
        scores = without.scores(images[i : i + 1])[0]
        own.append(scores[classes[i]])
        right.append(scores.argmax() == classes[i])
    assert fitted.right == pytest.approx(np.mean(right))
    assert fitted.floor == pytest.approx(np.quantile(own, 0.05), abs=1e-5)
    assert fitted.counts == (3, 3, 3, 1)


def test_the_blend_follows_what_is_right() -> None:
    says_nothing, images, classes = world(6, 6, words=0.0)
    fitted = few_shot.fit(says_nothing, images, classes).fit
    assert fitted is not None and fitted.blend_by == "leave-one-out" and fitted.blend >= 0.7 and fitted.right > 0.7
    knows, _, _ = world(6, 6)
    noise = unit(np.random.default_rng(1).standard_normal(images.shape))
    misled = few_shot.fit(knows, noise, classes).fit
    assert misled is not None and misled.blend <= 0.4


def test_one_example_a_class_has_the_default_blend() -> None:
    plain, images, classes = world(9, 1)
    fitted = few_shot.fit(plain, images, classes).fit
    assert fitted is not None and (fitted.blend, fitted.blend_by) == (few_shot.DEFAULT_BLEND, "default")


def test_a_class_without_an_example_can_still_win() -> None:
    plain, images, classes = world(5, 8, noise=0.5)
    taught = classes != 4
    fitted = few_shot.fit(plain, images[taught], classes[taught])
    best = fitted.scores(images[~taught]).argmax(axis=1)
    assert (best == 4).mean() > 0.7


def test_the_temperature_mends_a_scale_that_is_wrong() -> None:
    plain, images, classes = world(8, 40, words=0.6, noise=3.0)
    taught = np.arange(len(classes)) % 2 == 0
    for own in (3.0, 300.0):
        wrong = replace(plain, info=replace(INFO, logit_scale=own))
        made = few_shot.fit(wrong, images[taught], classes[taught])
        assert made.fit is not None and made.fit.scale_fitted
        assert made.fit.ece_after < made.fit.ece_before / 2
        scores = made.scores(images[~taught])
        hit = scores.argmax(axis=1) == classes[~taught]
        sure = softmax(made.logits(scores)).max(axis=1)
        assert abs(sure.mean() - hit.mean()) < 0.1  # on images that it has not seen


def test_examples_that_are_all_right_do_not_make_it_certain() -> None:
    plain, _, _ = world(4, 1)
    classes = np.repeat(np.arange(4), 3)
    images = unit(np.repeat(plain.prototypes, 3, axis=0))
    fitted = few_shot.fit(plain, images, classes).fit
    assert fitted is not None and fitted.right == 1 and fitted.scale < 20 * INFO.logit_scale


# Unknown images, copies and bursts


EVERYDAY = Everyday.of(unit(np.random.default_rng(7).standard_normal((256, 32))))


@pytest.mark.parametrize("labels", [1, 3])
def test_images_that_resemble_no_example_are_unknown(labels: int) -> None:
    """Also with a single class, whose score, centred on its own mean, is always 0."""
    plain, images, classes = world(labels, 24, words=0.0, noise=0.7)
    taught = np.arange(len(classes)) % 24 < 4
    known = few_shot.fit(plain, images[taught], classes[taught], everyday=EVERYDAY).known
    assert known is not None
    others = unit(np.random.default_rng(5).standard_normal((200, 32)))
    assert (known.nearness(images[~taught], EVERYDAY) >= known.floor).mean() > 0.9
    assert (known.nearness(others, EVERYDAY) < known.floor).mean() > 0.85


def test_a_burst_counts_as_one_example() -> None:
    """Classes that are noise: copies would confirm themselves."""
    plain, _, _ = world(4, 1, words=0.0)
    rng = np.random.default_rng(3)
    images, classes = unit(rng.standard_normal((24, 32))), np.arange(24) % 4
    once = few_shot.fit(plain, images, classes, blend=1.0, everyday=EVERYDAY)
    bursts = unit(np.tile(images, (3, 1)) + 0.01 * rng.standard_normal((72, 32)))
    thrice = few_shot.fit(plain, bursts, np.tile(classes, 3), blend=1.0, everyday=EVERYDAY)
    assert once.fit is not None and thrice.fit is not None and once.known is not None and thrice.known is not None
    assert thrice.fit.right == pytest.approx(once.fit.right, abs=0.1) and thrice.fit.right < 0.6
    assert thrice.known.counts == once.known.counts == (6, 6, 6, 6)
    assert thrice.known.floor == pytest.approx(once.known.floor, abs=0.05)


def test_a_class_of_one_burst_has_the_default_blend() -> None:
    plain, images, _ = world(2, 1)
    fitted = few_shot.fit(plain, np.repeat(images, 3, axis=0), np.repeat([0, 1], 3)).fit
    assert fitted is not None and fitted.blend_by == "default"


# The folder


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
    return folder


def example_folders(folder: Path, labels: Sequence[str | Label] = ()) -> ClassFolders:
    return class_folders(os.fsencode(folder), labels, in_each=True)


def test_folders_are_labels_and_their_pictures_examples(tmp_path: Path) -> None:
    folder = fill(tmp_path / "e", "red_car/a.jpg", "red_car/deep/b.PNG", "dog/c.jpg", "dog/notes.txt", ".git/d.jpg")
    found = example_folders(folder)
    assert [label.name for label in found.labels] == ["dog", "red car"]
    assert [Path(path.decode()).name for path in found.paths] == ["c.jpg", "a.jpg", "b.PNG"]
    assert found.places == (0, 1, 1)


def test_labels_have_folders_by_any_of_their_words(tmp_path: Path) -> None:
    folder = fill(tmp_path / "e", "kitten/a.jpg", "Red_Car/b.jpg", "a _ b/c.jpg")
    found = example_folders(folder, ["bird", Label("cat", ("kitten",)), "red car", "a / b"])
    assert found.places == (2, 3, 1) and len(found.labels) == 4


@pytest.mark.parametrize(
    ("names", "labels", "says"),
    [
        (["a.jpg"], [], "no folders in it"),
        (["cat/a.jpg", "dog/a.txt"], [], "dog: no pictures in it"),
        (["cat/a.jpg"], ["dog"], "cat is not one of the labels"),
        (
            ["cat/a.jpg", "kitten/b.jpg"],
            [Label("cat", ("kitten",))],
            "folders cat and kitten both have the label 'cat'",
        ),
        (["red_car/a.jpg", "red car/b.jpg"], [], "folders red car and red_car both have the label 'red car'"),
    ],
)
def test_folders_that_cannot_be_are_said(tmp_path: Path, names: list[str], labels: list[Label], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        example_folders(fill(tmp_path / "e", *names), labels)
    with pytest.raises(UsageError, match="no such file"):
        example_folders(tmp_path / "none")


def test_both_who_ask_read_a_folder_a_class_alike(tmp_path: Path) -> None:
    """Links are followed, a link to itself is no folder and no error, and folders go by any word of a label."""
    folder = fill(tmp_path / "e", "kitten/a.jpg", "a _ b/c.jpg")
    fill(tmp_path / "far", "d.jpg")
    (folder / "kitten" / "far").symlink_to(tmp_path / "far")
    (folder / "round").symlink_to(folder / "round")
    (folder / "cat (2)").mkdir()
    fill(folder / "cat (2)", "b.jpg")
    labels = [Label("cat", ("kitten",)), Label("cat (2)", spoken="cat"), Label("a / b")]
    taught, measured = example_folders(folder, labels), folder_per_class(folder, labels)
    assert taught.places == measured.classes == (2, 1, 0, 0)
    assert taught.paths == measured.paths and not measured.unreadable


def test_a_folder_whose_name_is_no_text_can_be_no_label(tmp_path: Path) -> None:
    os.mkdir(os.path.join(os.fsencode(tmp_path), b"caf\xe9"))
    for read in (example_folders, folder_per_class):
        with pytest.raises(UsageError, match=r"caf.* is not valid UTF-8"):
            read(tmp_path)


def test_folders_that_cannot_be_read_are_not_empty(tmp_path: Path) -> None:
    folder = fill(tmp_path / "e", "cat/a.jpg", "cat/shut/b.jpg", "dog/c.jpg")
    (folder / "cat" / "shut").chmod(0)
    with without_privileges():
        taught, measured = example_folders(folder), folder_per_class(folder)
        [problem] = taught.problems
        assert (problem.path, problem.reason) == (str(folder / "cat" / "shut"), "permission denied")
        assert measured.unreadable == measured.sample(1).unreadable == (problem,)
        (folder / "dog").chmod(0)
        assert len(class_folders(os.fsencode(folder)).paths) == 1
        with pytest.raises(UsageError, match=r"dog: permission denied"):
            example_folders(folder)
        (folder / "cat" / "a.jpg").unlink()
        with pytest.raises(UsageError, match=r"^[^:]*shut: permission denied"):
            folder_per_class(folder)
