"""Every command answers what was recorded. After a change that is meant, `recorded/record.py` records anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recorded.commands import GROUPS
from recorded.record import Record, alike, differences, record, recorded

NAMES = ["build", *(group.__name__ for group in GROUPS)]
REFERENCE = Path(__file__).parents[1] / "docs" / "cli.md"
SHOWN = 20


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Record]]:
    return record(tmp_path_factory.mktemp("recorded"))


@pytest.mark.parametrize("name", NAMES)
def test_commands_answer_as_recorded(name: str, found: dict[str, list[Record]]) -> None:
    was, now = recorded()[name], found[name]
    assert [each["command"] for each in now] == [each["command"] for each in was], "record anew: other commands"
    differing = [
        f"{one['command']}: {line}" for one, two in zip(was, now, strict=True) for line in differences(one, two)
    ]
    assert not differing, "\n".join([f"{len(differing)} differences", *differing[:SHOWN]])


def test_every_command_with_json_is_recorded() -> None:
    commands = [each["command"] for records in recorded().values() for each in records if each["command"]]
    assert set(recorded()) == set(NAMES)
    sections = re.findall(r"^## clipsearch (.+?)$(.+?)(?=^## |\Z)", REFERENCE.read_text(), re.MULTILINE | re.DOTALL)
    with_json = [name for name, text in sections if "--json " in text]
    assert len(with_json) > 15
    for name in with_json:
        assert any(command.startswith(f"{name} ") and "--json" in command for command in commands), name


def test_a_difference_is_seen() -> None:
    was = {"hits": [{"id": 3, "score": 0.25, "relevance": None, "path": "a"}], "notices": 0}
    assert not list(differences(was, {"hits": [{**was["hits"][0], "score": 0.2500005}], "notices": 0}))
    for other in (
        {"hits": [], "notices": 0},
        {"hits": [{**was["hits"][0], "score": 0.25001}], "notices": 0},
        {"hits": [{**was["hits"][0], "score": None}], "notices": 0},
        {"hits": [{**was["hits"][0], "path": "b"}], "notices": 0},
        {"hits": [{**was["hits"][0], "new": 1}], "notices": 0},
        {"hits": was["hits"], "notices": 1},
        {"hits": was["hits"]},
    ):
        assert list(differences(was, other)), other
    assert alike("0.123456", "0.123457", "") and not alike("0.123456", "0.123459", "")
    assert not alike(1, True, "") and not alike("1.5", "a", "")
