"""The measuring side of workers: start one, ask it for rounds, several of them in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from benchmarks.config import REPOSITORY

Round = Mapping[str, Any]
"""What a round cost and found: `wall_s`, `cpu_s`, and what the task adds."""


PAUSE = 0.2
"""Seconds between two workers' rounds: threads of a pool go on spinning for a while when their work is done."""


class WorkerFailed(Exception):
    """A worker ended before it answered; the message ends with what it said."""


class Worker:
    """A process that holds what a task needs, a model say, and runs a round of it whenever it is asked to."""

    def __init__(self, task: str, *, env: Mapping[str, str], **arguments: object) -> None:
        """`task` is "module:function" below benchmarks.tasks; see `worker`. Returns once it is ready."""
        self.task = task
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the process
        words = {name: os.fspath(v) if isinstance(v, os.PathLike) else v for name, v in arguments.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", task, json.dumps(words)],
            cwd=REPOSITORY,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self.about: Round = self._answer()

    def round(self) -> Round:
        """Run the task once more."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.communicate()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> Round:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 1500))
            said = self._said.read().decode(errors="replace")
            raise WorkerFailed(f"{self.task}: {' '.join(said.split())}")
        answer: Round = json.loads(line)
        return answer


def once(task: str, *, env: Mapping[str, str], **arguments: object) -> Round:
    """One round of a task in a process of its own."""
    with Worker(task, env=env, **arguments) as worker:
        return worker.round()


def rounds_in_turn(workers: Sequence[Worker], repeat: int) -> list[list[Round]]:
    """Rounds A B C A B C …; a list for each worker. The first round of each warms it up and is left out."""

    def paused(worker: Worker) -> Round:
        time.sleep(PAUSE)
        return worker.round()

    for worker in workers:
        worker.round()
    rounds = [[paused(worker) for worker in workers] for _ in range(repeat)]
    return [list(found) for found in zip(*rounds, strict=True)]
