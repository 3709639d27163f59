"""Libraries that released versions have made still open and answer alike, and nothing is encoded or converted for it.

`released/make.py` says what each holds. Here they are copied to another place, as to another machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from released.make import TEXTS, Answers, Ask, answers, hits, labels, library, unpacked

from clipsearch import Library
from clipsearch.search.query import QueryOptions

RELEASES = sorted(path.parent for path in (Path(__file__).parent / "released").glob("*/expected.json"))

SCORE = 1e-5
MAGNIFIED = {"probability": 1e-3}
"""Probabilities follow from scores by way of a logit scale, tens of times as large."""
MEASURED_ANEW = ("relevance",)
"""Not compared: the baseline of 0.1.0 does not tell which images it was measured on, and its constants were others."""
ROUNDED = 0.02
"""Scores in 8 bits differ between processors as far as rounding goes."""


@dataclass(frozen=True)
class Released:
    """A copy of a release's library in `folder`, and what the release said of it."""

    folder: Path
    ask: Ask
    moved: int
    expected: Answers

    @property
    def towers(self) -> dict[str, tuple[int, int, str]]:
        """Inode, time and hash of every file of the converted towers, but for the lists of where they were tried."""
        root = self.folder / "cache" / "towers"
        return {
            os.fspath(path.relative_to(root)): (
                path.stat().st_ino,
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in root.rglob("*")
            if path.is_file() and path.name != "files.json"
        }


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Released:
    expected = json.loads((request.param / "expected.json").read_bytes())
    folder = tmp_path.resolve() / "elsewhere"
    ask, moved = unpacked(request.param, folder, photos=Path(expected["work"]) / "photos")
    return Released(folder, ask, moved, expected)


def test_there_are_some() -> None:
    assert "0.1.0" in [path.name for path in RELEASES]


def test_it_answers_as_it_did(released: Released) -> None:
    assert released.moved == released.expected["moved"]
    found = answers(released.ask, released.folder)
    for part in ("library", "queries", "labels", "classifiers", "sets"):
        differing = list(differences(released.expected[part], found[part], part))
        assert not differing, "\n".join(differing)
    for question, was in released.expected["8 bits"].items():
        now = {hit["id"]: hit for hit in found["8 bits"][question]}
        assert now.keys() == {hit["id"] for hit in was}
        for hit in was:
            assert now[hit["id"]]["name"] == hit["name"]
            assert now[hit["id"]]["score"] == pytest.approx(hit["score"], abs=ROUNDED)
    assert all(each["level"] != "problem" for each in released.ask("doctor", "--json").json["findings"])


def test_an_index_run_encodes_and_converts_nothing(released: Released) -> None:
    towers = released.towers
    report = released.ask("index", "--json").json
    assert (report["encoded"], report["indexed"], report["missing"]) == (0, 0, 0)
    assert report["unchanged"] == released.expected["moved"] and report["notices"] == []
    kept = released.expected["library"]["encoders"]["kept"]["spec"]
    for question in ("a purple ring", "foreign.png"):
        for model in ((), ("--model", kept)):
            assert released.ask("query", question, *model, "--no-cache", "-k", "1", "--json").json["hits"]
    assert released.towers == towers
    assert not list(differences(released.expected["library"], library(released.ask, released.folder), "library"))
    now = hits(released.ask("query", TEXTS[0], "--json", "-k", "6"), released.folder)
    assert not list(differences(released.expected["queries"][TEXTS[0]], now, TEXTS[0]))


def test_what_queries_have_learnt_needs_no_model(released: Released) -> None:
    shutil.rmtree(released.folder / "cache")
    for text in TEXTS:
        now = hits(released.ask("query", text, "--json", "-k", "6"), released.folder)
        assert not list(differences(released.expected["queries"][text], now, text))
    now = labels(released.ask("classify", "--labels", "@colours", "--json"), released.folder)
    assert not list(differences(released.expected["labels"]["@colours"], now, "@colours"))
    assert not (released.folder / "cache" / "towers").exists()


def test_relevance_is_measured_anew(released: Released) -> None:
    ask = ("query", TEXTS[0], "-k", "6", "--json")
    assert all(hit["relevance"] is None for hit in released.ask(*ask).json["hits"])
    assert released.ask(*ask, "--relevant").json["relevant_total"] is not None
    assert all(0 <= hit["relevance"] <= 1 for hit in released.ask(*ask).json["hits"])


def test_python_opens_it(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", os.fspath(released.folder / "cache"))
    with Library.open(released.folder / "index") as opened:
        found = opened.query(TEXTS[0], k=6, options=QueryOptions(use_cache=False))
        fingerprint = found.model.fingerprint
    assert fingerprint == released.expected["library"]["encoders"]["answering"]["fingerprint"]
    assert [hit.id for hit in found.hits] == [hit["id"] for hit in released.expected["queries"][TEXTS[0]]]


def differences(was: Any, now: Any, at: str, key: str = "") -> Iterator[str]:
    """Where two values differ, by more than figures do between processors; new keys are no difference."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in was.keys() - set(MEASURED_ANEW):
            yield from differences(was[name], now.get(name), f"{at}: {name}", name)
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for number, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from differences(one, other, f"{at}[{number}]", key)
    elif isinstance(was, float) and isinstance(now, float):
        if abs(was - now) > MAGNIFIED.get(key, SCORE) * max(1, abs(was)):
            yield f"{at}: {now}, not {was}"
    elif was != now:
        yield f"{at}: {now!r}, not {was!r}"
