"""`python -m benchmarks`: measure, and write the figures, the table and the plot."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, report
from benchmarks.bench import Bench
from benchmarks.config import PEERS_VARIABLE, REPOSITORY, Config, default_work
from benchmarks.processes import CommandFailed
from benchmarks.report import Report
from benchmarks.results import Row
from benchmarks.rows import ROWS
from benchmarks.workers import WorkerFailed


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for. Exit code 1 where a row could not be measured although nothing is missing for it."""
    given = _parser().parse_args(words)
    peers = given.peers or (Path(named) if (named := os.environ.get(PEERS_VARIABLE)) else None)
    config = Config(
        work=given.work.expanduser().absolute(),
        photos=given.photos,
        peers=peers.expanduser().absolute() if peers else None,
        quick=given.quick,
        full=given.full,
        keep=given.keep,
        patience=0 if given.quick else given.patience,
    )
    begun = time.monotonic()
    bench = Bench(config, say)
    folder = given.out or bench.work / "results"
    about = machine.facts(bench)
    say("measuring the machine")
    about |= machine.measure(bench)
    rows: list[Row] = []

    def so_far() -> Report:
        now = datetime.now(UTC).date().isoformat()
        return Report(now, time.monotonic() - begun, config.quick, about, rows)

    failed = 0
    for name in given.only or ROWS:
        say(f"{name} …")
        found, failure = attempt(bench, name)
        rows += found
        failed += failure
        report.write(so_far(), folder)
        for row in found:
            say(f"  {row.what}: {row.missing or f'{row.ours} / {row.reference} = {row.ratio_text}'}")
    if given.docs:
        report.write_docs(so_far(), REPOSITORY / "docs")
    sys.stdout.write(so_far().to_markdown())
    say(f"written to {folder}; pictures, weights and libraries stay in {bench.work}")
    return 1 if failed else 0


def attempt(bench: Bench, name: str) -> tuple[list[Row], bool]:
    """The rows of that name; what fails is said in a row of its own, and the others go on."""
    measure: Callable[[Bench], list[Row]] = ROWS[name]
    try:
        return measure(bench), False
    except (CommandFailed, WorkerFailed, OSError, subprocess.SubprocessError) as exc:
        return [Row(name, name, None, missing=f"failed: {' '.join(str(exc).split())[-600:]}")], True


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="NAME", help=f"of: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="everything tiny: tries the code, measures nothing")
    parser.add_argument("--full", action="store_true", help="with 1,000,000 vectors, which take minutes to make")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="real photographs instead of drawn textures")
    parser.add_argument(
        "--peers", type=Path, metavar="DIR", help=f"other tools; else ${PEERS_VARIABLE}; see docs/benchmarks.md"
    )
    parser.add_argument("--work", type=Path, default=default_work(), metavar="DIR", help="where all is made and kept")
    parser.add_argument("--keep", action="store_true", help="use the large libraries that an earlier run has filled")
    parser.add_argument("--patience", type=int, default=2, metavar="N", help="disturbed rounds to run again, a row")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the figures, the table and the plot")
    parser.add_argument("--docs", action="store_true", help="renew the results in docs/benchmarks.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
