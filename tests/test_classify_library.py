"""`clipsearch classify` over a library: nothing indexed is opened; sets and classifiers under names; folders."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, Ran
from helpers import age, without_privileges
from test_imports import NEVER

from clipsearch import Library
from clipsearch.catalog import pending
from clipsearch.catalog.catalog import Catalog
from clipsearch.classify.options import ClassifyOptions
from clipsearch.cli.run import main
from clipsearch.errors import UsageError
from clipsearch.search.terms import Indexed

Run = Callable[..., Ran]

WATCH = """
import json, os, sys
from clipsearch.__main__ import main
opened = []
sys.addaudithook(lambda name, args: opened.append(os.fsdecode(args[0])) if name == "open" and
                 isinstance(args[0], (str, bytes)) else None)
sys.argv = ["clipsearch", *json.loads(sys.argv[1])]
code = main()
sys.stderr.write(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules}), opened]))
"""


@pytest.fixture
def own(indexed: Path, tmp_path: Path) -> Path:
    """A folder with `photos/` and `index/` of one's own; the photographs are moved into it, not encoded again."""
    shutil.copytree(indexed / "photos", tmp_path / "photos")
    shutil.copytree(indexed / "index", tmp_path / "index")
    for photo in (tmp_path / "photos").iterdir():
        age(photo)
    with Library.open(tmp_path / "index") as library:
        library.reroot(indexed / "photos", tmp_path / "photos")
        assert library.index().encoded == 0
    return tmp_path


@pytest.fixture
def here(own: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs command lines in this process: starting Python would be most of the time."""
    for name in ("CLIPSEARCH_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "HOME"):
        monkeypatch.setenv(name, cli.env[name])

    def run(*arguments: str | Path, cwd: Path = own) -> Ran:
        monkeypatch.chdir(cwd)
        capfdbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Ran(code, out, err.decode())

    return run


def best(ran_json: dict[str, Any]) -> dict[str, str]:
    return {Path(one["path"]).name: one["predictions"][0]["label"] for one in ran_json["results"]}


LABELS = ("--labels", "cat", "cup of coffee", "rocket", "woman in a space suit")
RIGHT = {"chelsea.png": "cat", "coffee-again.png": "cup of coffee", "rocket.jpg": "rocket"}


def test_without_pictures_it_is_the_whole_library(here: Run, own: Path) -> None:
    ran = here("classify", *LABELS, "--json")
    assert ran.code == 0, ran.err
    found = best(ran.json)
    assert {name: found[name] for name in RIGHT} == RIGHT and len(found) == 4
    [twice] = [one for one in ran.json["results"] if "paths" in one]
    assert {Path(path).name for path in twice["paths"]} == {"coffee.png", "coffee-again.png"}
    named = here("classify", "photos", *LABELS, "--json").json["results"]
    assert len(named) == 5  # Every file is told that was asked for.
    scores = {one["id"]: one["predictions"] for one in named}
    assert all(scores[one["id"]] == one["predictions"] for one in ran.json["results"])
    narrow = here("classify", *LABELS, "--in", "rocket.*", "--json")
    assert best(narrow.json) == {"rocket.jpg": "rocket"}


@pytest.mark.parametrize("images", [[], ["photos"], ["photos/rocket.jpg"]])
def test_what_is_indexed_is_neither_opened_nor_encoded(cli: Cli, own: Path, images: list[str]) -> None:
    arguments = ["classify", *images, *LABELS, "--unknown", "--csv"]
    assert cli(*arguments, cwd=own).code == 0  # The prompts are known now.
    command = [sys.executable, "-c", WATCH, json.dumps(arguments)]
    done = subprocess.run(command, cwd=own, env=cli.env, capture_output=True, text=True, timeout=120)
    code, modules, opened = json.loads(done.stderr.splitlines()[-1])
    assert code == 0 and len(done.stdout.splitlines()) > 1
    assert set(modules) & (NEVER | {"onnxruntime", "tokenizers", "PIL", "faiss"}) == set()
    assert opened and not [path for path in opened if "photos" in path or path.endswith((".onnx", ".npy"))]


def test_a_changed_and_a_new_picture_are_looked_at(here: Run, own: Path) -> None:
    shutil.copy(own / "photos" / "rocket.jpg", own / "photos" / "chelsea.png")
    shutil.copy(own / "photos" / "astronaut.png", own / "new.png")
    ran = here("classify", "photos/chelsea.png", "new.png", *LABELS, "--json")
    assert best(ran.json)["chelsea.png"] == "rocket"
    first = here("classify", "photos/astronaut.png", *LABELS, "--json").json["results"][0]["predictions"]
    assert ran.json["results"][1]["predictions"] == first


def test_pictures_that_are_away_have_their_stored_vectors(here: Run, own: Path) -> None:
    before = here("classify", "photos", *LABELS, "--json").json["results"]
    (own / "photos").rename(own / "unplugged")
    expected = {one["path"]: one["predictions"] for one in before}
    for given, count in ((["photos"], 5), (["photos/rocket.jpg"], 1), ([], 4)):
        ran = here("classify", *given, *LABELS, "--json")
        assert ran.code == 0 and len(ran.json["results"]) == count, ran.err
        assert all(one["predictions"] == expected[one["path"]] for one in ran.json["results"])
    assert "unreachable now" in here("classify", "photos/rocket.jpg", *LABELS).err
    here("index")
    offline = here("classify", "photos/rocket.jpg", *LABELS, "--json").json["results"][0]
    assert offline["offline"] is True and offline["predictions"][0]["label"] == "rocket"
    assert here("classify", "elsewhere.jpg", *LABELS).code == 2


def test_an_image_whose_files_are_gone_is_classified_by_its_id(own: Path) -> None:
    coffee = own / "photos" / "coffee.png"
    with Library.open(own / "index") as library:
        [hit] = library.query(coffee, k=1)
        expected = library.classify([Indexed(hit.id)], ["coffee", "a cat"])
        for path in hit.paths:
            os.unlink(path)
        library.index()
        [image] = library.classify([Indexed(hit.id)], ["coffee", "a cat"])
    assert image.path == f"id:{hit.id}" and image.predictions == expected[0].predictions


def test_pictures_without_a_vector_are_said(own: Path) -> None:
    catalog = Catalog.open(own / "index", writable=True)
    catalog.conn.execute("DELETE FROM embeddings WHERE content_id = 1")
    catalog.close()
    with Library.open(own / "index") as library:
        result = library.classify(None, ["cat", "dog"])
        assert len(result.results) == 3 and "1 image has no embedding" in result.notices[0]


def test_pictures_that_lack_tiles_only_have_their_labels(own: Path) -> None:
    catalog = Catalog.open(own / "index", writable=True)
    catalog.set_meta("tiles", "all")
    row = catalog.active()
    assert row is not None and pending.count(catalog, row.id) == 4
    catalog.close()
    with Library.open(own / "index") as library:
        result = library.classify(None, ["cat", "dog"])
        assert len(result.results) == 4 and result.notices == ()


def test_folders_that_cannot_be_read_are_not_empty(here: Run, taught: Path) -> None:
    shut = taught / "photos" / "shut"
    shutil.copytree(taught / "examples" / "other", shut)
    shut.chmod(0)
    with without_privileges():
        some = here("classify", "photos", *LABELS, "--json")
        alone = here("classify", shut, *LABELS)
    assert some.code == 3 and f"error: {shut}: permission denied\n" in some.err
    assert [one.get("reason") for one in some.json["results"]] == [None] * 5 + ["permission denied"]
    assert (alone.code, alone.out) == (2, b"") and f"error: {shut}: permission denied\n" in alone.err


def test_folders_that_cannot_be_read_are_said_of_examples_and_measures(here: Run, taught: Path) -> None:
    shut = taught / "examples" / "other" / "shut"
    shut.mkdir()
    shut.chmod(0)
    with without_privileges():
        learnt = here("classify", "photos/rocket.jpg", "--examples", "examples")
        measured = here("eval", "classify", "examples", "--json")
        again = here("eval", "self", "examples", "--sample", "2", "--json")
        alone = here("eval", "self", shut)
    assert learnt.code == 0 and f"note: {shut}: permission denied\n" in learnt.err
    assert measured.code == again.code == 3
    assert f"error: {shut}: permission denied\n" in measured.err and f"error: {shut}: permission" in again.err
    assert (alone.code, alone.err) == (2, f"error: {shut}: permission denied\n")


def test_no_pictures_and_no_library_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    ran = cli("classify", *LABELS, "--model", "builtin", cwd=tmp_path)
    assert ran.code == 2 and "pictures come before --labels" in ran.err
    for option in (["--use", "pets"], ["--save", "pets", *LABELS], ["--in", "x", *LABELS]):
        assert "needs a library" in cli("classify", *option, cwd=tmp_path).err


# What comes out


def test_unknown_is_said_and_what_would_have_been_chosen(here: Run, own: Path) -> None:
    ran = here("classify", "--labels", "rocket", "oak tree", "--unknown", "--json")
    found = {Path(one["path"]).name: one for one in ran.json["results"]}
    assert "unknown" not in found["rocket.jpg"] and found["rocket.jpg"]["margin"] > 2
    assert found["chelsea.png"]["unknown"] is True and len(found["chelsea.png"]["predictions"]) == 2
    rows = list(csv.DictReader(io.StringIO(here("classify", "photos/chelsea.png", "--labels", "rocket", "oak tree",
                                               "--unknown", "--csv").text)))  # fmt: skip
    assert [(row["label"], row["probability"]) for row in rows] == [("unknown", "")]
    all_known = here("classify", "--labels", "rocket", "oak tree", "--unknown", "--margin", "-99", "--json")
    assert not any("unknown" in one for one in all_known.json["results"])


def test_multi_gives_every_label_that_fits_and_none_where_none_does(here: Run, own: Path) -> None:
    labels = ("--labels", "cat", "animal", "rocket", "oak tree")
    ran = here("classify", *labels, "--multi", "--json")
    found = {Path(one["path"]).name: [p["label"] for p in one["predictions"]] for one in ran.json["results"]}
    assert found["chelsea.png"][0] == "cat" and "rocket" not in found["chelsea.png"]
    assert found["rocket.jpg"] == ["rocket"] and found["coffee-again.png"] == []
    assert ran.json["threshold"] == 0.5
    every = here("classify", *labels, "--multi", "--threshold", "0", "--csv").lines
    assert len(every) == 1 + 4 * 4
    lines = here("classify", *labels, "--multi")
    assert len(lines.lines) == sum(map(len, found.values())) and "have none of the labels" in lines.err


def test_explain_names_prompts_and_near_pictures(here: Run, own: Path) -> None:
    (own / "drinks.txt").write_text("drink: oak tree, cup of coffee\ncat\n")
    (own / "templates.txt").write_text("# two\na photo of a {}\n\n{label}\n")
    options = ("--labels", "@drinks.txt", "--template", "@templates.txt", "--explain")
    ran = here("classify", "photos/coffee.png", *options, "--json")
    [first, other] = ran.json["results"][0]["predictions"]
    assert "cup of coffee" in first["prompt"] and "prompt" not in other
    assert Path(ran.json["nearest"]["drink"][0]["path"]).name in ("coffee.png", "coffee-again.png")
    assert set(ran.json["nearest"]) == {"drink"}


def test_jsonl_is_a_line_a_picture(here: Run, own: Path) -> None:
    ran = here("classify", *LABELS, "--jsonl", "-k", "1")
    lines = [json.loads(line) for line in ran.lines]
    assert {Path(one["path"]).name: one["predictions"][0]["label"] for one in lines}["rocket.jpg"] == "rocket"


def test_a_table_for_many_and_bars_for_few(own: Path) -> None:
    from clipsearch.cli.render import classification

    with Library.open(own / "index") as library:
        few = library.classify(None, ["cat", "rocket"], options=ClassifyOptions(unknown=True))
        many = library.classify([own / "photos"] * 2, ["cat", "rocket"], options=ClassifyOptions(unknown=True))
    assert "█" in classification.text(few)
    head, *rows = classification.text(many).splitlines()
    assert head.split() == ["label", "sure", "others", "path"] and len(rows) == 10
    assert sum(row.startswith("unknown") for row in rows) == 6
    assert set(classification.summary(many).split(", ")) == {"6 unknown", "2 cat", "2 rocket"}


def test_bars_fit_into_the_terminal(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipsearch.cli.render import classification
    from clipsearch.display.text import cell_width

    labels = ["an orange cat that looks into a camera and waits for what will come", "猫" * 40, "rocket"]
    with Library.open(own / "index") as library:
        result = library.classify([own / "photos" / "chelsea.png"], labels)
    for columns in (50, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        [_, *bars] = classification.text(result).splitlines()
        assert len(bars) == 3 and max(map(cell_width, bars)) <= columns and "…" in bars[0]
    monkeypatch.setenv("COLUMNS", "300")
    assert labels[0] in classification.text(result) and "…" not in classification.text(result)


def test_one_label_says_nothing_and_that_is_said(here: Run, own: Path) -> None:
    said = "there is only one label"
    assert said in here("classify", "--labels", "cat").err
    for other in (["--multi"], ["--unknown"], ["dog"]):
        assert said not in here("classify", "--labels", "cat", *other).err


def test_synonyms_can_be_typed(here: Run, own: Path) -> None:
    ran = here("classify", "--labels", "drink: oak tree, cup of coffee", "cat", "--json")
    assert best(ran.json)["coffee-again.png"] == "drink"


def test_pictures_are_sorted_into_folders(here: Run, own: Path) -> None:
    labels = ("--labels", "cat", "a/c", "rocket", "oak tree")
    ran = here("classify", *labels, "--unknown", "--copy-to", "sorted")
    assert ran.code == 0, ran.err
    tree = {path.relative_to(own / "sorted").as_posix() for path in (own / "sorted").rglob("*.*")}
    assert {"cat/chelsea.png", "rocket/rocket.jpg", "unknown/coffee-again.png"} <= tree and len(tree) == 4
    again = here("classify", *labels, "--unknown", "--copy-to", "sorted")
    assert "0 copied" in again.err and "4 already there" in again.err
    assert here("classify", "photos", *labels, "--multi", "--link-to", "linked").code == 0
    assert os.readlink(own / "linked" / "cat" / "chelsea.png") == str(own / "photos" / "chelsea.png")
    assert sorted(path.name for path in (own / "linked").iterdir()) == ["cat", "rocket"]
    (own / "file").write_text("")
    assert here("classify", *labels, "--copy-to", "file").code == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--multi", "--unknown"], "--multi"),
        (["--threshold", "0.3"], "--threshold is for --multi"),
        (["--multi", "--threshold", "3"], "from 0 to 1"),
        (["--margin", "1"], "--margin is for --unknown"),
        (["--blend", "1"], "--blend is for --examples"),
        (["--replace"], "--replace is for --save"),
        (["photos", "--in", "photos"], "--in narrows"),
        (["--json", "--jsonl"], "exclude one another"),
        (["--examples", "photos"], "no folders in it"),
        (["--template", "@none.txt"], "--template @none.txt: no such file"),
        (["--labels", "unknown", "--unknown"], "a label is itself called unknown"),
        (["--unknown", "--margin", "nan"], "--margin nan"),
        (["--dark"], "--dark is for --plot"),
        (["--copy-to", ""], "the path is empty"),
        (["--link-to", ""], "the path is empty"),
        (["--save", "x", "--json"], "--save without IMAGES classifies nothing: leave out --json, or name"),
        (["--save", "x", "--plot", "a.png", "--unknown"], "leave out --unknown, --plot, or name"),
        (["caf\udce9"], r"the label caf\xe9 is not valid UTF-8"),
    ],
)
def test_options_that_contradict_each_other(here: Run, given: list[str], said: str) -> None:
    at = 1 if given[0] == "photos" else 0
    ran = here("classify", *given[:at], "--labels", "cat", "dog", *given[at:])
    assert (ran.code, ran.out) == (2, b"") and said in ran.err and len(ran.err.splitlines()) == 1


# Label sets


def test_label_sets_are_kept_listed_shown_and_deleted(here: Run, own: Path) -> None:
    (own / "more.txt").write_text("woman: lady in a space suit\n")
    ran = here("labels", "save", "pets", "cat", "rocket,cup of coffee", "@more.txt")
    assert ran.code == 0 and str(own / "index" / "labels" / "pets.txt") in ran.err
    file, catalog = own / "index" / "labels" / "pets.txt", own / "index" / "catalog.db"
    assert file.stat().st_mode == catalog.stat().st_mode  # for whoever shares the library
    shown = here("labels", "show", "pets").text
    assert shown == "cat\nrocket\ncup of coffee\nwoman: lady in a space suit\n"
    assert here("labels", "list").lines == here("labels").lines == ["pets"]
    assert here("labels", "list", "--json").json["sets"] == [{"name": "pets", "labels": 4}]
    assert best(here("classify", "--labels", "@pets", "--json").json)["chelsea.png"] == "cat"
    taken = here("labels", "save", "pets", "dog")
    assert taken.code == 2 and "already" in taken.err and here("labels", "show", "pets").text == shown
    assert here("labels", "save", "pets", "dog", "--replace").code == 0
    assert here("labels", "show", "pets").text == "dog\n"
    assert here("labels", "delete", "pets").code == 0 and not here("labels", "list").out
    gone = here("labels", "delete", "pets")
    assert gone.code == 2 and gone.err.endswith("this library has no label set pets; existing ones: none\n")


def test_a_bad_set_hides_no_other(here: Run, own: Path) -> None:
    here("labels", "save", "pets", "cat", "rocket")
    folder = own / "index" / "labels"
    (folder / "latin.txt").write_bytes(b"caf\xe9\n")
    (folder / "empty.txt").write_text("# nothing\n")
    (folder / "twice.txt").write_text("cat\ncat\n")
    (folder / "dir.txt").mkdir()
    ran = here("labels", "--json")
    assert ran.code == 0 and ran.json["sets"] == [{"name": "pets", "labels": 2}]
    for said in ("latin.txt: not valid UTF-8", "the label set empty has no label", "set twice: the label 'cat'"):
        assert said in ran.err
    assert here("labels").lines == ["empty", "latin", "pets", "twice"]
    assert here("labels", "show", "latin").err.endswith("latin.txt: not valid UTF-8\n")
    shown = here("labels", "show", "dir")
    assert shown.code == 2 and shown.err.endswith("dir.txt: is a directory\n")
    missing = here("labels", "show", "none")
    assert missing.code == 2 and "existing ones: empty, latin, pets, twice" in missing.err
    empty = here("classify", "--labels", "@empty")
    assert empty.code == 2 and "the label set empty has no labels" in empty.err


def test_what_prompts_say_for_a_label_is_saved(here: Run, own: Path) -> None:
    here("labels", "save", "two", "missile", "missile (2): =missile")
    assert here("labels", "show", "two").text == "missile\nmissile (2): =missile\n"
    alike = here("classify", "--labels", "@two", "--json").json["results"][0]["predictions"]
    assert [one["probability"] for one in alike] == [0.5, 0.5]


def test_a_set_that_is_a_file_too_is_refused(here: Run, own: Path) -> None:
    here("labels", "save", "pets", "cat", "rocket")
    (own / "pets").write_text("oak tree\n")
    ran = here("classify", "--labels", "@pets")
    assert ran.code == 2 and "both a saved label set and a file" in ran.err and "@./pets" in ran.err
    assert set(best(here("classify", "--labels", "@./pets", "--json").json).values()) == {"oak tree"}
    (own / "imagenet").write_text("oak tree\n")
    assert here("classify", "--labels", "@imagenet").code == 2
    missing = here("classify", "--labels", "@birds")
    assert missing.code == 2 and "existing ones: pets, imagenet" in missing.err


def test_imagenet_is_built_in(here: Run, own: Path) -> None:
    ran = here("classify", "photos/chelsea.png", "--labels", "@imagenet", "--json")
    assert (
        best(ran.json)["chelsea.png"] in ("Egyptian Mau", "tabby cat", "tiger cat")
        and len(ran.json["results"][0]["predictions"]) == 5
    )
    assert len(here("labels", "show", "imagenet").lines) == 1000
    assert here("labels", "save", "imagenet", "cat").code == 2


@pytest.mark.parametrize("name", ["../pets", "a/b", "", ".hidden", "a b", "x" * 101])
def test_names_that_cannot_be_files(here: Run, own: Path, name: str) -> None:
    ran = here("labels", "save", name, "cat")
    assert ran.code == 2 and "for a label set" in ran.err
    assert not (own / "index" / "labels").exists()


def test_a_set_needs_a_library(here: Run, tmp_path: Path) -> None:
    ran = here("labels", "save", "pets", "cat", "--index", tmp_path / "none")
    assert ran.code == 2 and "no library in" in ran.err and not (tmp_path / "none").exists()


# Classifiers


@pytest.fixture
def taught(own: Path) -> Path:
    """`own`, and `examples/` with two classes whose names say nothing."""
    for name, images in {
        "first_kind": ["chelsea.png", "astronaut.png"],
        "other": ["rocket.jpg", "coffee.png"],
    }.items():
        (own / "examples" / name).mkdir(parents=True)
        for image in images:
            shutil.copy2(own / "photos" / image, own / "examples" / name)
    return own


def test_examples_teach_and_are_kept(here: Run, taught: Path) -> None:
    kept = here("classify", "--examples", "examples", "--blend", "1", "--save", "kinds")
    assert kept.code == 0 and kept.out == b"" and "4 examples of 2 classes: blend 1 (as given)" in kept.err
    used = here("classify", "--use", "kinds", "--json").json
    assert best(used) == {"astronaut.png": "first kind", "chelsea.png": "first kind", "coffee-again.png": "other",
                          "rocket.jpg": "other"}  # fmt: skip
    assert used["fit"]["counts"] == {"first kind": 2, "other": 2}
    again = here("classify", "--examples", "examples", "--blend", "1", "--json").json
    assert again["results"] == used["results"]
    shown = here("classifiers", "show", "kinds").text
    assert "builtin" in shown and "first kind (2 examples)" in shown and "blend" in shown
    assert here("classifiers", "show", "kinds", "--json").json["fit"]["blend"] == 1
    assert here("classifiers", "list").lines == here("classifiers").lines == ["kinds"]
    assert here("classify", "--examples", "examples", "--save", "kinds").code == 2
    assert here("classify", "--use", "kinds", "--multi").code == 2
    assert here("classify", "--use", "kinds", "--labels", "cat").code == 2
    assert here("classify", "--use", "kinds", "--unknown").code == 0
    assert here("classifiers", "delete", "kinds").code == 0
    gone = here("classify", "--use", "kinds")
    assert gone.code == 2 and "no classifier kinds" in gone.err


def test_a_single_taught_class_has_unknown_images_and_the_notice_names_the_option(here: Run, taught: Path) -> None:
    shutil.rmtree(taught / "examples" / "other")
    shutil.copy2(taught / "photos" / "chelsea.png", taught / "examples" / "first_kind" / "again.png")
    here("classify", "--examples", "examples", "--save", "one")
    ran = here("classify", "--examples", "examples", "--unknown", "--json")
    assert "one of the examples is an exact copy of another of its class, and does not count" in ran.err
    assert ran.json["fit"]["counts"] == {"first kind": 2}
    found = {Path(one["path"]).name: one.get("unknown", False) for one in ran.json["results"]}
    assert found == {"astronaut.png": False, "chelsea.png": False, "coffee-again.png": True, "rocket.jpg": True}
    assert "2 of 4 images are unknown; a lower --margin than 2 keeps more of them" in ran.err
    assert here("classify", "--use", "one", "--unknown", "--json").json["results"] == ran.json["results"]
    lower = here("classify", "--use", "one", "--unknown", "--margin", "-2", "--json")
    assert not any("unknown" in one for one in lower.json["results"]) and "--margin" not in lower.err


def test_a_saved_classifier_of_version_0_1_0_still_tells_unknown_images(here: Run, taught: Path) -> None:
    here("classify", "--examples", "examples", "--save", "kinds")
    file = taught / "index" / "classifiers" / "kinds.json"
    value = json.loads(file.read_text())
    del value["known"]
    file.write_text(json.dumps(value))
    ask = ("--use", "kinds", "--unknown", "--margin", "-99", "--json")
    [unknown] = [one for one in here("classify", *ask).json["results"] if "unknown" in one]
    ran = here("classify", unknown["path"], *ask)
    assert "1 of 1 image is unknown; a classifier made again from --examples has a --margin" in ran.err


def test_a_classifier_of_labels_alone_can_be_kept_too(here: Run, own: Path) -> None:
    plain = here("classify", *LABELS, "--template", "simple", "--json").json
    ran = here("classify", "photos/rocket.jpg", *LABELS, "--template", "simple", "--save", "four", "--json")
    assert best(ran.json) == {"rocket.jpg": "rocket"}
    assert here("classify", "--use", "four", "--json").json["results"] == plain["results"]


def test_examples_without_a_library(here: Run, taught: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    bad = taught / "examples" / "other" / "bad.jpg"
    bad.write_text("no picture")
    ran = here("classify", taught / "photos" / "rocket.jpg", "--examples", taught / "examples", "--model", "builtin",
              "-k", "1", cwd=elsewhere)  # fmt: skip
    assert ran.lines[0].split("\t")[1] == "other" and "bad.jpg cannot be used as an example: not a picture" in ran.err


def test_a_classifier_belongs_to_its_encoder(here: Run, taught: Path) -> None:
    here("classify", "--examples", "examples", "--save", "kinds")
    file = taught / "index" / "classifiers" / "kinds.json"
    value = json.loads(file.read_text())
    file.write_text(json.dumps(value | {"fingerprint": "another", "model": "ViT-B/32"}))
    ran = here("classify", "--use", "kinds")
    assert ran.code == 4 and len(ran.err.splitlines()) == 1 and "made with ViT-B/32" in ran.err
    file.write_text(json.dumps(value | {"fingerprint": "another"}))
    ran = here("classify", "--use", "kinds")
    assert ran.code == 4 and "made with another version of builtin; make it again" in ran.err
    fit = value["fit"]
    damaged = [
        {"prototypes": value["prototypes"][:-8]},
        {"dim": float(value["dim"])},
        {"model": 3},
        {"labels": [{"name": 3, "synonyms": [], "spoken": None}] * 2},
        *({"fit": bad} for bad in ({}, [], fit | {"more": 1}, fit | {"counts": 2}, fit | {"counts": [1]})),
        *({"fit": fit | bad} for bad in ({"scale": "x"}, {"scale": float("nan")}, {"blend_by": "x"}, {"counts": "xy"})),
    ]
    for broken in ("{}", "no json", "[" * 100_000, *(json.dumps(value | bad) for bad in damaged)):
        file.write_text(broken)
        ran = here("classify", "--use", "kinds")
        assert ran.code == 2 and "not a classifier, or damaged" in ran.err
    file.write_text(json.dumps(value | {"version": 99}))
    assert "newer clipsearch" in here("classify", "--use", "kinds").err


def test_a_bad_classifier_hides_no_other(here: Run, taught: Path) -> None:
    here("classify", "--examples", "examples", "--save", "kinds")
    folder = taught / "index" / "classifiers"
    (folder / "bad.json").write_text("{}")
    (folder / "latin.json").write_bytes(b"\xe9")
    (folder / "dir.json").mkdir()
    ran = here("classifiers")
    assert (ran.code, ran.lines) == (0, ["kinds"]) and ran.err.count("\n") == 2
    assert "bad.json: not a classifier, or damaged" in ran.err and "latin.json: not valid UTF-8" in ran.err
    assert [one["name"] for one in here("classifiers", "--json").json["classifiers"]] == ["kinds"]
    assert "existing ones: bad, kinds, latin" in here("classifiers", "show", "none").err


def test_python_makes_and_uses_classifiers(taught: Path) -> None:
    with Library.open(taught / "index") as library:
        made = library.make_classifier(examples=taught / "examples", blend=1.0)
        result = library.classify([taught / "photos" / "rocket.jpg"], classifier=made, options=ClassifyOptions(k=1))
        assert result.results[0].predictions[0].label == "other" and result.labels == ("first kind", "other")
        with pytest.raises(UsageError, match="from 0"):
            library.make_classifier(examples=taught / "examples", blend=2.0)
