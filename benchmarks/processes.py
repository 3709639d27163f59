"""Run a command as a user would and say what it cost: time, CPU, memory, bytes written. Linux only."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
DISTURBED = 0.1
"""A share of the machine's CPU that others used, above which a round is worth running again."""
SHORT = 0.2
"""Seconds below which that share means nothing: the kernel counts in ticks of 10 ms."""


class CommandFailed(Exception):
    """A command that should have worked did not; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a command cost, its children included.

    peak_mib: largest resident set, mapped files included. anon_mib: largest sum of private memory (RssAnon) among
    samples. written: bytes it caused to be written to the storage layer. others: share of the machine's CPU that other
    processes used meanwhile, 0 … 1. The two before are None unless it was watched.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float
    others: float
    anon_mib: float | None = None
    written: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A command for `in_turn`. `command` is asked ahead of every run, after `before`."""

    command: Callable[[], Sequence[str | os.PathLike[str]]]
    env: Mapping[str, str]
    cwd: Path
    before: Callable[[], object] = lambda: None
    watch: bool = False
    allowed: tuple[int, ...] = (0,)
    """Exit codes that count as done."""


def run(task: Task, *, timeout: float = 1800) -> Run:
    """Run it once. Raises CommandFailed where its exit code is none of the allowed ones."""
    task.before()
    command = [os.fspath(word) for word in task.command()]
    with tempfile.TemporaryFile() as output:
        busy = _busy_seconds()
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=task.cwd,
            env=dict(task.env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        watcher = _Watcher(process.pid) if task.watch else None
        _wait(process, timeout)
        wall = time.perf_counter() - begun
        anon = watcher.stop() if watcher else None
        # A process that has ended keeps its account until it is waited for.
        written = _written(process.pid) if task.watch else None
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        busy = _busy_seconds() - busy
        if process.returncode not in task.allowed:
            output.seek(max(0, output.seek(0, os.SEEK_END) - 1000))
            said = " ".join(output.read().decode(errors="replace").split())
            raise CommandFailed(f"{' '.join(command)}: exit code {process.returncode}: {said}")
    cpu = usage.ru_utime + usage.ru_stime
    others = max(0.0, busy - cpu) / (wall * (os.cpu_count() or 1))
    return Run(wall, cpu, usage.ru_maxrss / 1024, others, anon, written)


def in_turn(tasks: Sequence[Task], repeat: int, *, patience: int = 0) -> list[list[Run]]:
    """Run the tasks A B C A B C …, so that a machine whose speed drifts is the same for all; a list of runs for each.

    A round in which others used the machine is run again, `patience` times in all.
    """
    rounds: list[list[Run]] = []
    while len(rounds) < repeat:
        found = [run(task) for task in tasks]
        if patience and any(r.others > DISTURBED and r.wall_s > SHORT for r in found):
            patience -= 1
            continue
        rounds.append(found)
    return [list(runs) for runs in zip(*rounds, strict=True)]


def ratio(above: Sequence[Run], below: Sequence[Run], value: Callable[[Run], float] = lambda run: run.wall_s) -> float:
    """Median over the rounds of `value` of the one over that of the other."""
    return statistics.median(value(a) / value(b) for a, b in zip(above, below, strict=True))


def wall(runs: Sequence[Run]) -> float:
    """Median time in seconds."""
    return statistics.median(run.wall_s for run in runs)


def cpu(runs: Sequence[Run]) -> float:
    """Median CPU seconds, user and system."""
    return statistics.median(run.cpu_s for run in runs)


def _wait(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Wait for the end of a process, which leaves its account to be read; it ends with us, or after `timeout`."""
    alarm = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
    alarm.start()
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        alarm.cancel()


class _Watcher:
    """Samples the private memory of a process and those below it, in a thread of its own."""

    def __init__(self, pid: int, *, pause: float = 0.005) -> None:
        self._pid, self._pause, self._peak = pid, pause, 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The largest sum so far, in MiB."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._done.wait(self._pause):
            self._peak = max(self._peak, sum(_anon_mib(pid) for pid in _family(self._pid)))


def _family(pid: int) -> list[int]:
    found, new = [], [pid]
    while new:
        found.append(parent := new.pop())
        try:
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children") as file:
                    new += [int(child) for child in file.read().split()]
        except OSError:
            continue
    return found


def _anon_mib(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def _written(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/io") as file:
            counts = dict(line.split(": ") for line in file)
        return int(counts["write_bytes"])
    except (OSError, KeyError, ValueError):
        return None


def _busy_seconds() -> float:
    """CPU seconds that everybody used since the machine started, all cores together."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")
