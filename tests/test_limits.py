"""Values at the edge of what a file system, an option or an environment can hold: none of them ends in a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Cli
from helpers import draw


def _at(path: Path, time: int) -> int:
    """Set a file's modification time in nanoseconds, as near as the file system can; the time that it now has."""
    os.utime(path, ns=(time, time))
    return path.stat().st_mtime_ns


@pytest.mark.parametrize(
    "time", [2**63, 2**63 + 5, 2**64, 2**70, 2**63 - 1, -1, -2, 0, -(2**63), -(2**63) - 1, -(2**70)]
)
def test_any_modification_time_is_indexed_once(time: int, cli: Cli, tmp_path: Path) -> None:
    odd = _at(draw(tmp_path / "photos" / "odd.png", 1), time)
    draw(tmp_path / "photos" / "plain.png", 2)
    first = cli("index", "photos", "--model", "builtin", "--json", cwd=tmp_path)
    assert first.code == 0, first.err
    assert (first.json["indexed"], first.json["failed"]) == (2, [])
    reported = [text for text in first.json["notices"] if "modification time" in text]
    assert len(reported) == (abs(odd) >= 2**63 - 1)
    assert all("odd.png" in text for text in reported)
    again = cli("index", "--json", cwd=tmp_path)
    assert (again.code, again.json["unchanged"], again.json["opened"], again.json["notices"]) == (0, 2, 0, [])
    assert cli("show", "photos/odd.png", "--json", cwd=tmp_path).code == 0
    assert cli("classify", "photos/odd.png", "--labels", "cat", "dog", cwd=tmp_path).code == 0
    assert cli("query", "photos/odd.png", cwd=tmp_path).code == 0


def test_many_odd_times_take_few_lines(cli: Cli, tmp_path: Path) -> None:
    for number in range(8):
        _at(draw(tmp_path / "photos" / f"{number}.png", number), 2**63)
    ran = cli("index", "photos", "--model", "builtin", cwd=tmp_path)
    lines = [line for line in ran.err.splitlines() if "modification time" in line]
    assert ran.code == 0
    assert len(lines) == 6
    assert "0.png" in lines[0]
    assert "3 more files" in lines[-1]


def test_a_changed_file_of_an_odd_time_is_read_again(cli: Cli, tmp_path: Path) -> None:
    photo = draw(tmp_path / "photos" / "a.png", 1)
    _at(photo, 2**63)
    assert cli("index", "photos", "--model", "builtin", cwd=tmp_path).code == 0
    draw(photo, 2, side=40)
    _at(photo, 2**63)
    assert cli("index", "--json", cwd=tmp_path).json["indexed"] == 1
