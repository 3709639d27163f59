"""`clipsearch eval relevance`: its figures are those of queries and classifications, and what it fits is used."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from tinyclip.scenes import draw, scenes

from clipsearch.catalog.catalog import Catalog
from clipsearch.classify.options import UNKNOWN_MARGIN
from clipsearch.errors import UsageError
from clipsearch.evaluate import fitting, folder_per_class, measure_relevance, store_fit
from clipsearch.evaluate.relevance import forget_fits
from clipsearch.search import fitted
from clipsearch.search.evidence import CUTS, Cuts
from clipsearch.search.fitted import Fitted, Rule

TINY = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
TEMPLATE = "a red circle on a {label} background"

GENEROUS = Rule(replace(CUTS["text"], height=-9.0, deviations=-9.0), -9.0)
"""By this rule, much is relevant."""

NOTHING = Rule(Cuts(height=99.0), 99.0)
"""By this rule, nothing is relevant."""


@pytest.fixture(scope="module")
def labelled(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `classes/`, drawings by their background, and `index/`, their library. Do not change it."""
    base = tmp_path_factory.mktemp("labelled")
    for number, scene in enumerate(scenes(60, seed=6)):
        folder = base / "classes" / scene.background
        folder.mkdir(parents=True, exist_ok=True)
        draw(scene, side=96).save(folder / f"{number:02}.png")
    ran = cli("index", "classes", "--model", TINY, cwd=base)
    assert ran.code == 0, ran.err
    return base


@pytest.fixture
def own(labelled: Path, tmp_path: Path) -> Path:
    """`labelled`, to change."""
    shutil.copytree(labelled / "index", tmp_path / "index")
    (tmp_path / "classes").symlink_to(labelled / "classes")
    return tmp_path


def measured(cli: Cli, folder: Path, *more: str) -> dict[str, Any]:
    ran = cli("eval", "relevance", "classes", "--template", TEMPLATE, "--json", *more, cwd=folder)
    assert ran.code == 0 and ran.err == "", ran.err
    [one] = ran.json["results"]
    return dict(one)


def queried(cli: Cli, folder: Path, label: str) -> list[str]:
    """The folders of the images that a query for a label returns as relevant."""
    text = TEMPLATE.replace("{label}", label)
    ran = cli("query", text, "--relevant", "-k", "500", "--json", cwd=folder)
    return [Path(hit["path"]).parent.name for hit in ran.json["hits"]]


def classified(cli: Cli, folder: Path, where: str, labels: list[str], *more: str) -> list[Any]:
    options = [each for label in labels for each in ("--labels", label)]
    ran = cli("classify", where, *options, "--template", TEMPLATE, "--unknown", "--json", *more, cwd=folder)
    return list(ran.json["results"])


def keep(folder: Path, constants: Fitted) -> None:
    with contextlib.closing(Catalog.open(folder / "index", writable=True)) as catalog, catalog.transaction():
        fitted.store(catalog, 1, constants)


@pytest.mark.parametrize("rule", [Rule(CUTS["text"]), GENEROUS])
def test_the_figures_are_those_of_queries(cli: Cli, own: Path, rule: Rule) -> None:
    keep(own, Fitted(rule, UNKNOWN_MARGIN, 10, 60))
    one = measured(cli, own)
    assert one["pictures"] == 60 and one["fit"] is None and one["constants"]["lift"] == rule.lift
    for label in one["labels"]:
        hits = queried(cli, own, label["label"])
        assert (label["returned"], label["right"]) == (len(hits), hits.count(label["label"])), label
        assert label["images"] == len(list((own / "classes" / label["label"]).iterdir()))
    assert (sum(each["returned"] for each in one["labels"]) > 30) is (rule.lift < 0)
    f1 = [2 * each["right"] / (each["images"] + each["returned"]) for each in one["labels"]]
    assert one["f1"]["value"] == pytest.approx(np.mean(f1))
    assert measured(cli, own)["encoded"] == 0, "a second run encodes nothing"


def test_the_figures_are_those_of_classifications(cli: Cli, labelled: Path) -> None:
    one = measured(cli, labelled)
    labels = [each["label"] for each in one["labels"]]
    found = classified(cli, labelled, "classes", labels)
    right = [each for each in found if each["predictions"][0]["label"] == Path(each["path"]).parent.name]
    assert one["kept"]["value"] == pytest.approx(np.mean([not each.get("unknown", False) for each in right]))
    detected: list[bool] = []
    for label in labels:
        others = [other for other in labels if other != label]
        detected += [each.get("unknown", False) for each in classified(cli, labelled, f"classes/{label}", others)]
    assert len(detected) == 60 and one["detected"]["value"] == pytest.approx(np.mean(detected))


def test_a_label_whose_images_are_left_out_is_asked_for_in_a_library_without_them(
    cli: Cli, labelled: Path, tmp_path: Path
) -> None:
    one = measured(cli, labelled)
    for label in sorted(one["labels"], key=lambda label: not label["absent"])[:3]:
        name = label["label"]
        rest = tmp_path / name
        shutil.copytree(labelled / "classes", rest / "classes", ignore=shutil.ignore_patterns(name))
        assert cli("index", "classes", "--model", TINY, cwd=rest).code == 0
        assert label["absent"] is bool(queried(cli, rest, name)), name


def test_a_picture_that_is_there_twice_counts_once(cli: Cli, tmp_path: Path, labelled: Path) -> None:
    shutil.copytree(labelled / "classes", tmp_path / "classes")
    first = next((tmp_path / "classes").iterdir())
    shutil.copy(next(first.iterdir()), first / "again.png")
    twice, once = measured(cli, tmp_path, "--model", str(TINY)), measured(cli, labelled)
    assert twice["labels"] == once["labels"] and twice["pictures"] == 60


def test_fitted_constants_are_used_until_they_are_reset(cli: Cli, own: Path) -> None:
    before = measured(cli, own)
    labels = [each["label"] for each in before["labels"]]
    some = labels[0]
    unknown = [each.get("unknown", False) for each in classified(cli, own, "classes", labels)]
    keep(own, Fitted(GENEROUS, UNKNOWN_MARGIN, 10, 60))
    assert queried(cli, own, some)
    keep(own, Fitted(NOTHING, 99.0, 10, 60))
    assert queried(cli, own, some) == []
    assert all(each.get("unknown", False) for each in classified(cli, own, "classes", labels))
    asked = classified(cli, own, "classes", labels, "--margin", str(UNKNOWN_MARGIN))
    assert [each.get("unknown", False) for each in asked] == unknown
    used = measured(cli, own)
    assert used["fitted_before"] and used["constants"]["margin"] == used["constants"]["height"] == 99
    assert used["f1"]["value"] == used["kept"]["value"] == 0 and used["detected"]["value"] == 1
    assert "fitted to 60 images with 10 labels" in cli("doctor", cwd=own).out.decode()
    reset = cli("eval", "relevance", "--reset", cwd=own)
    assert (reset.code, reset.err) == (0, "note: the built-in constants are in use again\n")
    assert measured(cli, own)["labels"] == before["labels"]
    assert "no constants were fitted" in cli("eval", "relevance", "--reset", cwd=own).err


def test_what_fitting_chooses_is_stored_and_keeps_to_the_limits(cli: Cli, own: Path) -> None:
    keep(own, Fitted(NOTHING, 99.0, 10, 60))
    fit = measured(cli, own, "--fit")["fit"]
    assert fit["other_labels"]["f1"] <= fit["same_labels"]["f1"]
    assert fit["same_labels"]["absent"] <= 0.15 and fit["same_labels"]["letters"] <= 0.02
    assert fit["same_labels"]["f1"] >= fit["program"]["f1"]
    after = measured(cli, own)
    assert after["fitted_before"] is (fit["constants"] is not None)
    built_in = {**{name: getattr(CUTS["text"], name) for name in Cuts.__slots__}, "lift": 0, "margin": UNKNOWN_MARGIN}
    assert after["constants"] == (fit["constants"] or built_in)
    table = cli("eval", "relevance", "classes", "--template", TEMPLATE, "--fit", cwd=own).lines
    assert [line.split("  ")[0] for line in table[-5:-1]] == [
        *("constants", "built-in constants", "fitted: labels they were chosen on", "fitted: other labels")
    ]


def test_fitted_constants_go_with_the_encoder(own: Path) -> None:
    keep(own, Fitted(Rule(Cuts()), 1.0, 10, 60))
    with contextlib.closing(Catalog.open(own / "index", writable=True)) as catalog, catalog.transaction():
        assert fitted.recall(catalog, 1) == Fitted(Rule(Cuts()), 1.0, 10, 60)
        catalog.set_meta("fitted:1", '{"cuts": {"older": 1.0}, "margin": 1.0, "labels": 1, "images": 2}')
        assert fitted.recall(catalog, 1) is None
        fitted.store(catalog, 1, Fitted(Rule(Cuts()), 1.0, 10, 60))
        catalog.drop_encoder(1)
        assert fitted.recall(catalog, 1) is None


def test_the_best_constants_within_the_limits_are_chosen_and_must_hold_on_other_labels() -> None:
    nan = np.nan
    f1 = np.array([[0.5, 0.5, 0.5], [0.9, 0.9, 0.9], [0.6, 0.6, 0.6], [0.6, 0.6, 0.6]])
    absent = np.array([[0, 0, nan], [1, 0, nan], [0, 0, nan], [0, 0, nan]])
    letters = np.array([0.0, 0.0, 0.02, 0.0])
    outcomes = fitting._Outcomes(f1, absent, letters)
    assert outcomes.choose() == 2, "1 answers absent things, and 2 comes before 3"
    assert outcomes.choose(without=0) == 1, "without its label, nothing speaks against 1"
    assert fitting._Outcomes(f1, absent, np.array([0.1, 0.1, 0.1, 0.05])).choose() == 3, "the least beyond the limits"
    grid = fitting.candidates(CUTS["text"])
    assert grid[0] == Rule(CUTS["text"]) and len(set(grid)) == len(grid)


def test_from_python_a_fit_is_stored_only_on_request(own: Path) -> None:
    images = folder_per_class(own / "classes")
    [scores] = measure_relevance(images, models=[str(TINY)], templates=[TEMPLATE])
    assert scores.fit is None and sum(label.images for label in scores.labels) == 60
    with pytest.raises(UsageError, match="without `fit=True`"):
        store_fit(own / "index", scores)
    assert forget_fits(own / "index") == 0


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([], "missing argument DIR"),
        (["few"], "9 different pictures: relevance cannot be determined from fewer than 10"),
        (["two", "--fit"], "fitting needs at least 50 pictures of 5 labels, and there are"),
        (["classes", "--fit", "--model", "a", "--model", "b"], "--fit takes a single --model"),
        (["classes", "--fit", "--model", "builtin"], "has no embeddings of builtin"),
        (["classes", "--reset"], "--reset measures nothing"),
    ],
)
def test_what_cannot_be_measured_is_one_line(cli: Cli, own: Path, command: list[str], says: str) -> None:
    images = sorted((own / "classes").glob("*/*.png"))
    for number, image in enumerate(images[:12]):
        for folder in ("few", "two")[number > 8 :]:
            (own / folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, own / folder / "ab"[number % 2])
    ran = cli("eval", "relevance", *command, cwd=own)
    assert ran.code in (2, 4) and ran.out == b"" and says in ran.err, ran.err
    assert ran.err.startswith("error: ")


def test_fitting_needs_a_library(cli: Cli, labelled: Path, tmp_path: Path) -> None:
    os.symlink(labelled / "classes", tmp_path / "classes")
    ran = cli("eval", "relevance", "classes", "--fit", cwd=tmp_path)
    assert ran.code == 2 and "no library here" in ran.err
