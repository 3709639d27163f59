"""The benchmarks' machinery: a quick run leaves figures, table and plot that agree. No time is asserted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.config import PEERS_VARIABLE, REPOSITORY
from benchmarks.processes import CommandFailed, Task, in_turn, run
from benchmarks.report import BEGIN, END, Report, write_docs
from benchmarks.results import Row, Target
from benchmarks.rows import ROWS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a quick run of two rows leaves: one that can be measured anywhere, one that needs another tool."""
    work, out = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("out")
    env = {key: value for key, value in os.environ.items() if key != PEERS_VARIABLE}
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "help", "unchanged"]
    done = subprocess.run(
        [*command, "--work", work, "--out", out], cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (out / "benchmarks.md").read_text()
    return out


def test_figures_say_what_was_compared_and_whether_it_sufficed(quick: Path) -> None:
    found = json.loads((quick / "benchmarks.json").read_text())
    assert found["quick"] is True
    assert found["machine"]["gemm_gflops"].keys() == {"torch", "numpy", "onnxruntime"}
    assert all(value > 0 for value in found["machine"]["gemm_gflops"].values())
    assert found["machine"]["start_s"]["numpy"] > found["machine"]["start_s"]["pass"] > 0
    assert [row["name"] for row in found["rows"]] == ["help", "help", "unchanged"]
    measured, no_rclip, unchanged = found["rows"]
    assert measured["target"] == "≤ 6×"
    assert measured["ratio"] > 0 and measured["met"] is (measured["ratio"] <= 6)
    assert len(measured["facts"]["ours"]) == len(measured["facts"]["python"]) > 0
    assert measured["facts"]["ours"][0]["cpu_s"] > 0 and measured["facts"]["ours"][0]["peak_mib"] > 1
    for row in (no_rclip, unchanged):
        assert row["missing"] == "not installed: rclip" and row["ratio"] is None and row["met"] is None


def test_the_table_has_a_line_for_each_row(quick: Path) -> None:
    rows = json.loads((quick / "benchmarks.json").read_text())["rows"]
    text = (quick / "benchmarks.md").read_text()
    assert "the figures mean nothing" in text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(lines) == len(rows)
    for cells, row in zip(lines, rows, strict=True):
        assert len(cells) == 6 and cells[0].startswith(f"| {row['what']}") and cells[4] == row["target"]
        assert cells[3] == (f"{row['ratio']:.2f}×" if row["ratio"] else "–")
        assert cells[1] == (row["missing"] or row["ours"])


def test_the_plot_has_a_bar_for_each_row_with_figures(quick: Path) -> None:
    rows = [row for row in json.loads((quick / "benchmarks.json").read_text())["rows"] if row["ratio"]]
    root = ET.parse(quick / "benchmarks.svg").getroot()
    bars = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}rect") is not None]
    assert len(bars) == len(rows)
    for bar, row in zip(bars, rows, strict=True):
        title, rect = bar.find(f"{SVG}title"), bar.find(f"{SVG}rect")
        assert title is not None and title.text is not None and title.text.startswith(row["what"])
        assert rect is not None and rect.get("class") == ("met" if row["met"] else "missed")
        assert float(rect.get("width", "0")) > 0
    style = root.find(f"{SVG}style")
    assert style is not None and "prefers-color-scheme: dark" in (style.text or "")


def test_a_name_that_is_no_row_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "nothing"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and "nothing" in done.stderr and all(name in done.stderr for name in ROWS)


@pytest.mark.parametrize(
    ("target", "ratio", "met"),
    [
        (Target("≥", 1.15), 1.15, True),
        (Target("≥", 1.15), 1.14, False),
        (Target("≤", 3), 3.0, True),
        (Target("≤", 3), 3.01, False),
        (Target("≥", 4), None, None),
        (None, 2.0, None),
    ],
)
def test_a_target_is_met_from_either_side(target: Target | None, ratio: float | None, met: bool | None) -> None:
    assert Row("name", "what", target, ratio=ratio).met is met


def test_commands_run_in_turn_and_are_accounted_for(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def writes(name: str, megabytes: int) -> Task:
        code = (
            f"import os; open({str(log)!r}, 'a').write({name!r}); file = open('big', 'wb'); "
            f"file.write(bytes({megabytes} * 10**6)); file.flush(); os.fsync(file.fileno()); "
            "block = bytearray(50_000_000); block[::4096] = b'x' * len(block[::4096])"
        )
        return Task(lambda: [sys.executable, "-c", code], os.environ, tmp_path, watch=True)

    little, much = in_turn([writes("a", 1), writes("b", 9)], 2)
    assert log.read_text() == "abab"
    assert len(little) == len(much) == 2
    for one in (*little, *much):
        assert one.peak_mib > 50 and one.wall_s > 0 and one.cpu_s > 0
        assert one.anon_mib is not None and one.anon_mib <= one.peak_mib
    if _counts_writes(tmp_path):
        assert all(9e6 <= (one.written or 0) < 12e6 for one in much)
        assert all(1e6 <= (one.written or 0) < 4e6 for one in little)


def _counts_writes(folder: Path) -> bool:
    """Whether the kernel counts what is written to this folder: a file system in memory has no storage."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
    return kind not in ("tmpfs", "ramfs", "overlayfs") and Path("/proc/self/io").exists()


def test_a_command_that_fails_stops_the_row_with_what_it_said(tmp_path: Path) -> None:
    task = Task(lambda: [sys.executable, "-c", "raise SystemExit('no such folder')"], os.environ, tmp_path)
    with pytest.raises(CommandFailed, match=r"exit code 1.*no such folder"):
        run(task)


def test_docs_keep_what_stands_around_the_results(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Benchmarks\n\nBefore.\n\n{BEGIN}\nold results\n{END}\n\nAfter.\n")
    machine = {
        "processor": "a processor",
        "cores": 2,
        "instructions": "AVX2",
        "memory_gib": 8,
        "system": "Linux",
        "python": "3.11",
        "weights": "random",
        "pictures": "drawn",
    }
    rows = [Row("name", "what was compared", Target("≥", 2), "1 s", "3 s", 3.0)]
    for _ in range(2):
        write_docs(Report("2026-01-01", 60, False, machine, rows), tmp_path)
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nBefore.\n\n") and text.endswith("\n\nAfter.\n")
    assert "old results" not in text and text.count("| what was compared | 1 s | 3 s | 3.00× | ≥ 2× | yes |") == 1
    assert (tmp_path / "benchmarks.svg").exists() and json.loads((tmp_path / "benchmarks.json").read_text())["rows"]


def test_the_server_is_measured_with_a_line_for_each_comparison() -> None:
    command = [sys.executable, "-m", "benchmarks.serving", "--vectors", "500", "--seconds", "1", "--rounds", "1"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(re.search(r": (met|MISSED|not measured)( \(.*\))?$", line) for line in lines)
    searches = ("known texts", "new texts", "the server's time", "query --server", "requests/s", "CPU time")
    for words in (*searches, "warm thumbnails, 6 connections", "240 thumbnails, against after 24"):
        assert any(words in line for line in lines), words
