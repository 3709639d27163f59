"""Converted towers: made once, checked, kept whole; a broken or foreign one is never used and never in the way."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clipsearch import files
from clipsearch.encoders import cache
from clipsearch.encoders.onnx import store, tower
from clipsearch.encoders.onnx.graph import Graph
from clipsearch.encoders.onnx.store import TowerId, find_tower, open_tower
from clipsearch.encoders.onnx.tower import Build, Check, Tower, TowerMismatchError
from clipsearch.errors import EncoderError

IDENTITY = TowerId("f" * 64, "image", "1")
WEIGHTS = np.random.default_rng(0).standard_normal((512, 64)).astype(np.float32)
PIXELS = np.random.default_rng(1).integers(0, 256, (3, 512), dtype=np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    yield tmp_path / "cache"


class Maker:
    """Makes a tower of one matrix, with the reference it is given, and counts how often it was asked."""

    def __init__(self, weights: np.ndarray = WEIGHTS) -> None:
        self.weights = weights
        self.asked = 0

    def __call__(self) -> Build:
        self.asked += 1

        def write(path: Path) -> None:
            graph = Graph()
            pixels = graph.node("Cast", graph.input("pixels", np.uint8, ("n", 512)), to=1)
            hidden = graph.node("MatMul", pixels, graph.weight(WEIGHTS))
            graph.save(path, graph.node("Relu", hidden), 64)

        return write, [Check({"pixels": PIXELS}, np.maximum(PIXELS @ self.weights, 0))]


def answers(tower: Tower) -> bool:
    return bool(np.allclose(tower(pixels=PIXELS), np.maximum(PIXELS @ WEIGHTS, 0), rtol=1e-4, atol=1e-2))


def test_a_tower_is_made_once() -> None:
    make = Maker()
    assert answers(open_tower(IDENTITY, make))
    assert answers(open_tower(IDENTITY, make, cold=True))
    assert make.asked == 1
    assert answers(open_tower(TowerId(IDENTITY.fingerprint, "image", "2"), make))
    assert make.asked == 2


def test_an_unfaithful_graph_is_refused_and_not_kept(folder: Path) -> None:
    wrong = WEIGHTS + np.random.default_rng(2).standard_normal(WEIGHTS.shape).astype(np.float32) * 0.01
    with pytest.raises(TowerMismatchError, match=r"cosine 0\.99"):
        open_tower(IDENTITY, Maker(wrong))
    assert find_tower(IDENTITY) is None
    assert not any(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["tower.data", "tower.onnx", "trials.npz", "files.json"])
def test_a_damaged_file_is_made_again(name: str) -> None:
    make = Maker()
    open_tower(IDENTITY, make)
    damaged = IDENTITY.folder / name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0x80  # no longer UTF-8, for the manifest
    damaged.write_bytes(content)
    assert answers(open_tower(IDENTITY, make))
    assert make.asked == 2
    assert find_tower(IDENTITY) == IDENTITY.folder


def test_a_copied_cache_is_hashed_once_and_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    open_tower(IDENTITY, make)
    for path in IDENTITY.folder.iterdir():
        os.utime(path, ns=(1, 1))
    hashed = []
    original = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: hashed.append(path.name) or original(path))
    open_tower(IDENTITY, make)
    assert sorted(hashed) == ["tower.data", "tower.onnx", "trials.npz"]
    open_tower(IDENTITY, make)
    assert (make.asked, len(hashed)) == (1, 3)


def test_another_machine_checks_the_graph_again_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    open_tower(IDENTITY, make)
    monkeypatch.setattr(store, "machine", lambda: "elsewhere")
    checked = []
    original = tower.check_tower
    monkeypatch.setattr(store, "check_tower", lambda *given: checked.append(original(*given)))
    assert all(answers(open_tower(IDENTITY, make)) for _ in range(2))
    assert (make.asked, len(checked)) == (1, 1)


def test_a_graph_that_fails_on_another_machine_is_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The checks kept with the tower are replaced by another tower's, with a manifest that agrees."""
    open_tower(IDENTITY, Maker())
    checks = IDENTITY.folder / "trials.npz"
    np.savez(checks, **{"0:pixels": PIXELS, "0:": np.ones((3, 64), np.float32)})
    manifest = json.loads((IDENTITY.folder / "files.json").read_text())
    manifest["files"]["trials.npz"] = [files.sha256(checks), *files.stamp(checks)]
    (IDENTITY.folder / "files.json").write_text(json.dumps(manifest))
    make = Maker()
    assert answers(open_tower(IDENTITY, make))
    assert make.asked == 0
    monkeypatch.setattr(store, "machine", lambda: "elsewhere")
    with caplog.at_level(logging.WARNING):
        assert answers(open_tower(IDENTITY, make))
    assert make.asked == 1
    assert "is made again" in caplog.text


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    folder: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    folder.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert answers(open_tower(IDENTITY, Maker()))
    assert "cannot be kept" in caplog.text
    assert cache.remembered_sha256(Path(__file__)) == files.sha256(Path(__file__))


def _open(_: int) -> bool:
    return answers(open_tower(IDENTITY, Maker()))


def test_processes_that_make_the_same_tower_at_once_do_not_disturb_each_other() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert all(pool.map(_open, range(3)))
    assert find_tower(IDENTITY) is not None
    assert not list(IDENTITY.folder.parent.glob(".making-*"))


def test_the_runtimes_refusals_are_ours() -> None:
    tower = open_tower(IDENTITY, Maker())
    with pytest.raises(EncoderError, match=r"ONNX Runtime cannot run the model: .*Got: 7 Expected: 512"):
        tower(pixels=np.zeros((1, 7), np.uint8))


def test_a_killed_conversion_leaves_nothing_that_is_used() -> None:
    script = (
        "import os; from clipsearch.encoders.onnx import tower, store;"
        "from tests.test_towers import *; make = Maker(); write, checks = make();"
        "store.make_tower(IDENTITY, lambda path: (write(path), os.kill(os.getpid(), 9)), checks)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, check=False)
    assert done.returncode == -9
    assert find_tower(IDENTITY) is None
    assert answers(open_tower(IDENTITY, Maker()))


def test_facts_are_worked_out_again_when_the_file_changes(tmp_path: Path) -> None:
    asked = []

    def fact(path: Path) -> str:
        asked.append(path)
        return path.read_text()

    path = tmp_path / "weights"
    path.write_text("one")
    assert [cache.remembered(path, "text-1", fact) for _ in range(2)] == ["one", "one"]
    path.write_text("other")
    assert cache.remembered(path, "text-1", fact) == "other"
    assert cache.remembered(path, "text-2", fact) == "other"
    assert len(asked) == 3
