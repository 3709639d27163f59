"""`clipsearch eval`, as it is run: tables, JSON, exit codes, and what a second run need not do."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from PIL import Image
from tinyclip.scenes import caption, draw, scenes

from clipsearch.cli.render.evaluation import classification_json
from clipsearch.evaluate import classify, folder_per_class, retrieve
from clipsearch.evaluate.captions import read_captions

TINY = Path(__file__).parent / "tinyclip" / "tiny_clip.pt"
TEMPLATE = "a red circle on a {label} background"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `classes/`, one for each background, the same images in `images/`, and their captions.csv."""
    base = tmp_path_factory.mktemp("drawn")
    (base / "pictures").mkdir()
    lines = ["path,caption\n"]
    for number, scene in enumerate(scenes(40, seed=6)):
        name = f"{number:02}.png"
        draw(scene, side=96).save(base / "pictures" / name)
        lines.append(f"{name},{caption(scene)}\n")
        folder = base / "classes" / scene.background
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(base / "pictures" / name, folder)
    (base / "captions.csv").write_text("".join(lines))
    return base


def test_classification_is_measured_for_several_models_side_by_side(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    models = ["--model", TINY, "--model", "builtin"]
    command = ["eval", "classify", drawn / "classes", *models, "--template", TEMPLATE, "--sample", "30"]
    ran = cli(*command, "--json", cwd=tmp_path)
    assert ran.code == 0 and ran.err == ""
    tiny, builtin = ran.json["results"]
    assert (tiny["model"], builtin["model"]) == (str(TINY), "builtin")
    assert tiny["pictures"] == 30 and tiny["top1"]["value"] > 0.9 > builtin["top1"]["value"]
    assert tiny["top1_difference"] is None
    change = builtin["top1_difference"]
    assert change["value"] == pytest.approx(builtin["top1"]["value"] - tiny["top1"]["value"])
    assert change["low"] <= change["value"] <= change["high"] < 0
    for one in (tiny, builtin):
        right = [guess["label"] == guess["guesses"][0] for guess in one["predictions"]]
        assert one["top1"]["value"] == pytest.approx(np.mean(right))
        assert (
            sum(cell["count"] for cell in one["confusion"]) == 30 == sum(each["count"] for each in one["reliability"])
        )
        same = sum(cell["count"] for cell in one["confusion"] if cell["label"] == cell["predicted"])
        assert same == sum(right)
    again = cli(*command, cwd=tmp_path)
    head, first, second, about = again.lines[:4]
    assert " ".join(head.split()) == "model top-1 % top-5 % per-class % ECE % top-1 vs first encoded time"
    assert first.startswith(f"tiny_clip.pt  {100 * tiny['top1']['value']:.1f} [") and second.startswith("builtin ")
    assert [line.split()[-3] for line in (first, second)] == ["0", "0"], "a second run encodes nothing"
    assert about.startswith("30 pictures, 10 labels; ")


def test_labels_from_a_file_replace_the_folders_names(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("".join(f"{c.name}: {c.name}ish\n" for c in (drawn / "classes").iterdir()))
    command = ["eval", "classify", drawn / "classes", "--model", TINY, "--labels", "@labels.txt", "--json"]
    ran = cli(*command, cwd=tmp_path)
    assert ran.code == 0 and len(ran.json["labels"]) == 10
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    ran = cli(*command, cwd=tmp_path)
    assert ran.code == 2 and "not one of the labels" in ran.err


def test_retrieval_is_measured_in_both_directions(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    command = ["eval", "retrieval", drawn / "captions.csv", "--model", TINY]
    missing = cli(*command, cwd=tmp_path)
    assert missing.code == 2 and "none of its 40 pictures exists" in missing.err and "--images" in missing.err
    ran = cli(*command, "--images", drawn / "pictures", "--json", cwd=tmp_path)
    assert ran.code == 0 and ran.err == ""
    [one] = ran.json["results"]
    for way in ("text_to_image", "image_to_text"):
        assert one[way]["queries"] == one[way]["gallery"] == 40
        values = [one[way]["recall"][k]["value"] for k in ("1", "5", "10")]
        assert values == sorted(values) and values[0] > 0.8
        assert one[way]["recall_curve"][9] == values[2] and one[way]["median_rank"]["value"] == 1
        assert values[0] <= one[way]["mean_average_precision"]["value"] <= 1
    table = cli(*command, "--images", drawn / "pictures", cwd=tmp_path).lines
    assert "text → image" in table[1] and "image → text" in table[2] and table[3].startswith("40 pictures, 40 captions")


def test_from_python_it_is_the_same(cli: Cli, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", cli.env["CLIPSEARCH_CACHE"])
    [scores] = classify(folder_per_class(drawn / "classes"), models=[str(TINY)], templates=[TEMPLATE])
    assert scores.confusion.shape == (10, 10) and scores.confusion.sum() == len(scores.guesses) == 40
    assert scores.top1.low <= scores.top1.value <= scores.top1.high
    assert scores.top1.value == sum(guess.right for guess in scores.guesses) / 40
    [found] = retrieve(read_captions(drawn / "captions.csv", images=drawn / "pictures"), models=[str(TINY)], at=(1, 3))
    assert list(found.text_to_image.recall) == [1, 3] and len(found.text_to_image.curve) == 40


def test_the_python_of_the_page_runs(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for name, target in (("photos", "classes"), ("pictures", "pictures"), ("captions.csv", "captions.csv")):
        (tmp_path / name).symlink_to(drawn / target)
    assert cli("index", "pictures", "--model", TINY, cwd=tmp_path).code == 0
    for model in ("ViT-B/32", "RN50"):  # which cannot be fetched here
        code = code.replace(model, str(TINY))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=cli.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Estimate(value=") == 2


def test_copies_of_a_librarys_pictures_find_their_originals(cli: Cli, indexed: Path) -> None:
    ran = cli("eval", "self", "--json", cwd=indexed)
    assert ran.code == 0, ran.err
    [one] = ran.json["results"]
    assert one["model"] == "builtin" and one["pictures"] == 4, "the same picture twice is one"
    assert [each["alteration"] for each in one["alterations"]] == ["cropped", "flipped", "recompressed", "darkened"]
    assert all(each["recall"]["1"]["value"] == 1 and 0.5 < each["cosine"] < 1 for each in one["alterations"])
    assert one["encoded"] + one["taken"] == 5 * 4 - 0 and one["taken"] >= 4
    named = cli("eval", "self", "photos/coffee.png", "photos/chelsea.png", "--model", TINY, cwd=indexed)
    assert named.code == 0 and "copies of 2 pictures" in named.text and "cropped: the upper left 70" in named.text


def test_engines_are_measured_against_exact_search(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    assert cli("index", drawn / "pictures", "--model", TINY, cwd=tmp_path).code == 0
    files = sorted(path.name for path in (tmp_path / "index").iterdir())
    ran = cli("eval", "index", "--sample", "20", "-k", "5", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    exact, ivf = ran.json["results"]
    assert (exact["engine"], exact["origin"], ivf["engine"], ivf["origin"]) == ("exact", "library", "ivf", "made")
    for one in (exact, ivf):
        assert one["vectors"] == 40 and one["k"] == 5 and 0 < one["p50_ms"] <= one["p95_ms"] and one["bytes"] > 0
        assert set(one["recall"]) == {"pictures", "texts"}
    assert exact["recall"]["pictures"]["value"] == exact["recall"]["texts"]["value"] == 1
    assert ivf["recall"]["pictures"]["value"] > 0.9 and ivf["nprobe"] <= ivf["nlist"] and ivf["build_seconds"] > 0
    assert sorted(path.name for path in (tmp_path / "index").iterdir() if path.name != "cache.db") == [
        name for name in files if name != "cache.db"
    ]
    assert len(cli("eval", "index", "--engine", "exact", cwd=tmp_path).lines) == 3
    other = cli("eval", "index", "--model", "builtin", cwd=tmp_path)
    assert other.code == 4 and "has no embeddings of builtin" in other.err


def test_plots_are_drawn_of_each_model(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    models = ["--model", TINY, "--model", "builtin"]
    classified = cli("eval", "classify", drawn / "classes", *models, "--plot", "found.svg", cwd=tmp_path)
    names = ["found-confusion.svg", "found-reliability.svg", "found-confusion-2.svg", "found-reliability-2.svg"]
    assert classified.code == 0 and ", ".join(names) in classified.err
    for name in names:
        assert b"clipsearch plot" in (tmp_path / name).read_bytes()
    assert cli("eval", "retrieval", drawn / "captions.csv", *base(drawn), "--plot", "r.png", cwd=tmp_path).code == 0
    assert cli("eval", "self", drawn / "pictures", "--model", TINY, "--plot", "s.png", "--dark", cwd=tmp_path).code == 0
    for name in ("r.png", "s.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300
    refused = cli("eval", "self", drawn / "pictures", "--plot", "s.jpg", cwd=tmp_path)
    assert refused.code == 2 and "must end in .png or .svg" in refused.err


def base(drawn: Path) -> list[str | Path]:
    return ["--images", drawn / "pictures", "--model", TINY]


def test_pictures_that_fail_are_named_and_the_others_measured(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn / "classes", tmp_path / "classes")
    (tmp_path / "classes" / "red" / "broken.jpg").write_text("no picture")
    ran = cli("eval", "classify", "classes", "--model", TINY, "--json", cwd=tmp_path)
    assert ran.code == 3 and f"{tmp_path / 'classes' / 'red' / 'broken.jpg'}: not a picture" in ran.err
    [one] = ran.json["results"]
    assert one["pictures"] == 40 and len(one["missed"]) == 1


def test_names_that_are_no_text_can_be_written_as_json(
    cli: Cli, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", cli.env["CLIPSEARCH_CACHE"])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(drawn / "pictures" / "00.png", tmp_path / name)
    [found] = classify(folder_per_class(tmp_path), models=[str(TINY)])
    bad, readable = "caf\udce9", "caf\ufffd"
    guess = replace(found.guesses[0], label=bad, guesses=(bad, "b"))
    value = classification_json([replace(found, labels=(bad, "b"), guesses=(guess,), notices=(bad,), templates=(bad,))])
    json.dumps(value, ensure_ascii=False).encode()
    [one] = value["results"]
    assert value["labels"] == [readable, "b"] and one["notices"] == one["templates"] == [readable]
    assert one["predictions"][0]["label"] == readable and one["predictions"][0]["guesses"] == [readable, "b"]
    assert {cell["label"] for cell in one["confusion"]} == {readable, "b"}


def test_that_figures_of_one_thing_say_nothing_is_said(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    command = ["--images", drawn / "pictures", "--model", TINY]
    (tmp_path / "one.csv").write_text("00.png,a circle\n00.png,a square\n")
    ran = cli("eval", "retrieval", "one.csv", *command, cwd=tmp_path)
    assert ran.code == 0
    assert ran.err == "note: there is only one picture, which each caption finds: the figures say nothing\n"
    for number, label in enumerate(("a", "a", "b")):
        (tmp_path / "classes" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(drawn / "pictures" / f"0{number}.png", tmp_path / "classes" / label)
        said = cli("eval", "classify", "classes", "--model", TINY, cwd=tmp_path).err
        assert said == (
            "" if label == "b" else "note: there is only one label, which every picture gets: the figures say nothing\n"
        )
    for path in (tmp_path / "classes" / "a").iterdir():
        path.unlink()
    said = cli("eval", "classify", "classes", "--model", TINY, cwd=tmp_path).err
    assert said == "note: there is only one picture: the figures say nothing about others\n"


def test_a_library_that_is_passed_over_is_named_once(cli: Cli, drawn: Path, copied: Path) -> None:
    below = copied / "below"
    below.mkdir()
    os.chown(copied / "index", 12345, -1)
    for command in (
        ["classify", drawn / "classes", "--model", TINY, "--sample", "2"],
        ["retrieval", drawn / "captions.csv", *base(drawn), "--sample", "2"],
        ["self", drawn / "pictures" / "00.png", drawn / "pictures" / "01.png", "--model", TINY],
    ):
        ran = cli("eval", *command, cwd=below)
        assert ran.code == 0 and ran.err.count("skipped") == 1, command


@pytest.mark.parametrize("command", [["self"], ["index"], ["self", "--model", TINY]])
def test_a_damaged_library_is_exit_code_5(cli: Cli, copied: Path, command: list[str]) -> None:
    catalog = copied / "index" / "catalog.db"
    with open(catalog, "r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * (catalog.stat().st_size - 4096))
    ran = cli("eval", *command, cwd=copied)
    assert ran.code == 5 and "doctor" in ran.err and ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["classify", "gone"], "gone: no such file"),
        (["classify", "."], "no folders in it"),
        (["retrieval", "gone.csv"], "gone.csv: no such file"),
        (["self", "gone.jpg"], "gone.jpg: no such file"),
        (["self"], "no library here"),
        (["index"], "no library here"),
        (["index", "--engine", "fast"], "must be one of exact, ivf"),
        (["classify", ".", "--sample", "0"], "--sample"),
        (["nothing"], "nothing"),
        ([], "missing command"),
    ],
)
def test_what_cannot_be_measured_is_one_line(cli: Cli, tmp_path: Path, command: list[str], says: str) -> None:
    ran = cli("eval", *command, cwd=tmp_path)
    assert ran.code == 2 and ran.out == b"" and says in ran.err
    assert ran.err.startswith("error: ") and ran.err.count("\n") == 1


def test_ctrl_c_keeps_what_was_embedded(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number, scene in enumerate(scenes(40, seed=9)):
        draw(scene, side=64).save(tmp_path / "pictures" / f"{number:03}.png")
    cache = Path(cli.env["CLIPSEARCH_CACHE"])
    before = kept(cache)
    command = ["eval", "self", "pictures", "--model", "builtin"]
    controlling, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))  # No bar fits where it has no width.
    process = cli.start(*command, cwd=tmp_path, stderr=terminal)
    os.close(terminal)
    deadline = time.monotonic() + 120
    while kept(cache) < before + 33 and time.monotonic() < deadline:  # By the third batch, the bar has been drawn.
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    shown = b""
    while part := read_terminal(controlling):
        shown += part
    os.close(controlling)
    assert process.returncode == 130 and out == b"", shown
    assert b"stopped early; what was embedded is kept" in shown and b"images/s" in shown
    done = kept(cache) - before
    assert 33 <= done < 200
    again = cli(*command, "--json", cwd=tmp_path)
    [one] = again.json["results"]
    assert again.code == 0 and one["taken"] == done and one["encoded"] == 200 - done


def kept(cache: Path) -> int:
    if not (cache / "evaluated.db").exists():
        return 0
    conn = sqlite3.connect(cache / "evaluated.db")
    try:
        return int(conn.execute("SELECT count(*) FROM vectors").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        conn.close()


def read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says EIO once the other end is closed.
        return b""
