"""Commands of a moment: a query in words, the same again, and help. Whole processes."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import Run, Task, in_turn, ratio, run, wall
from benchmarks.results import Row, Target, seconds
from benchmarks.rows.indexing import MODEL, NO_RCLIP, costs

AGAIN = "a photo of a dog that is asked for again"


@functools.cache
def _library(bench: Bench) -> Path:
    """The small photographs, indexed with the model that rclip uses; AGAIN was asked before."""
    library, model = bench.work / "libraries" / "photographs", bench.model(MODEL)
    bench.small_library(model)
    run(bench.index(bench.pictures("small"), library, model))
    run(_again(bench, library))
    return library


def _again(bench: Bench, library: Path) -> Task:
    return bench.task("query", AGAIN, "-k", "10", "--index", library, "--json")


def _python(bench: Bench, code: str) -> Task:
    return Task(lambda: [sys.executable, "-c", code], bench.env, bench.work)


@functools.cache
def _measured(bench: Bench) -> dict[str, list[Run]]:
    library, folder = _library(bench), bench.pictures("small")
    tasks = {
        "query": bench.query(library),
        "again": _again(bench, library),
        "numpy": _python(bench, "import numpy"),
    }
    if bench.rclip:
        bench.rclip.fill("photographs", folder)
        tasks["rclip"] = bench.rclip.task("photographs", folder, lambda: ["-n", bench.new_text()])
    found = in_turn(list(tasks.values()), bench.sizes.many, patience=bench.config.patience)
    return dict(zip(tasks, found, strict=True))


def query(bench: Bench) -> list[Row]:
    """New words each time, a new process each time."""
    found, what = _measured(bench), f"cold text query on {bench.sizes.small} photographs"
    facts = {name: costs(runs) for name, runs in found.items()}
    against_rclip = Row("query", f"{what}, against rclip", Target("≥", 3), missing=NO_RCLIP)
    if "rclip" in found:
        against_rclip = Row(
            "query",
            f"{what}, against rclip",
            Target("≥", 3),
            seconds(wall(found["query"])),
            seconds(wall(found["rclip"])),
            ratio(found["rclip"], found["query"]),
            label="cold query: against rclip",
            facts=facts,
        )
    return [
        against_rclip,
        Row(
            "query",
            f"{what}, against python -c 'import numpy'",
            Target("≤", 3),
            seconds(wall(found["query"])),
            seconds(wall(found["numpy"])),
            ratio(found["query"], found["numpy"]),
            label="cold query: against import numpy",
        ),
    ]


def query_again(bench: Bench) -> list[Row]:
    """Words whose embedding the library remembers."""
    found = _measured(bench)
    return [
        Row(
            "query-again",
            "the same query again, against python -c 'import numpy'",
            Target("≤", 2.2),
            seconds(wall(found["again"])),
            seconds(wall(found["numpy"])),
            ratio(found["again"], found["numpy"]),
            label="same query again: against import numpy",
            facts={"ours": costs(found["again"]), "numpy": costs(found["numpy"])},
        )
    ]


def help_text(bench: Bench) -> list[Row]:
    """What is there before anything is done."""
    tasks = {"ours": bench.task("--help"), "python": _python(bench, "pass")}
    if bench.rclip:
        tasks["rclip"] = bench.rclip.task("photographs", bench.work, lambda: ["--help"])
    runs = in_turn(list(tasks.values()), bench.sizes.many, patience=bench.config.patience)
    found = dict(zip(tasks, runs, strict=True))
    rows = [
        Row(
            "help",
            "--help against python -c pass",
            Target("≤", 6),
            seconds(wall(found["ours"])),
            seconds(wall(found["python"])),
            ratio(found["ours"], found["python"]),
            label="--help: against bare Python",
            facts={name: costs(one) for name, one in found.items()},
        )
    ]
    if "rclip" not in found:
        return [*rows, Row("help", "--help against rclip's", Target("≥", 3), missing=NO_RCLIP)]
    times = seconds(wall(found["ours"])), seconds(wall(found["rclip"]))
    value, what = ratio(found["rclip"], found["ours"]), "--help against rclip's"
    return [*rows, Row("help", what, Target("≥", 3), *times, value, label="--help: against rclip's")]
