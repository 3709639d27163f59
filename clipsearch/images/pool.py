"""The decoder processes that have no task: started ahead, taken for a task, and put back after it."""

from __future__ import annotations

import os
import sys
import threading
import weakref

from clipsearch.errors import ClipsearchError, reason
from clipsearch.images.limits import Limits
from clipsearch.images.process import Process

_STARTS = 10
"""So many processes in a row that do not even start are an error."""

_SHOW_WHY = "`python -m clipsearch.images.worker 20 0 0 1`"


class WorkerError(ClipsearchError):
    """Decoder processes cannot be started."""


class Pool:
    """Up to `count` processes that wait for tasks. Several threads may use it; after a fork, it is empty."""

    def __init__(self, limits: Limits, count: int) -> None:
        self.limits = limits
        self.count = count
        self._idle: list[Process] = []
        self._starting: list[Process] = []
        self._lock = threading.Lock()
        self._unready = 0
        pool = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: pool() and pool()._forget())  # type: ignore[union-attr]

    def take(self) -> Process | None:
        """A process that is ready."""
        self.greet()
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_alive():
                    return process
                process.end()
        return None

    def greet(self) -> None:
        """See which processes are ready by now."""
        if not self._starting:
            return
        with self._lock:
            for process in [each for each in self._starting if each.has_answer()]:
                self._starting.remove(process)
                try:
                    process.receive()
                except (EOFError, OSError, ValueError):
                    self.ended(process)
                else:
                    self._unready = 0
                    self._idle.append(process)

    def start(self, *, prepare: bool = False) -> None:
        """Start another process; `take` gives it away once it is ready."""
        process = self.new(prepare=prepare)
        with self._lock:
            self._starting.append(process)

    def new(self, *, again: bool = False, prepare: bool = False) -> Process:
        """A process that belongs to the caller (see Process)."""
        if not sys.executable:
            raise WorkerError("there is no Python interpreter to start decoders with", advice="use `workers=None`")
        try:
            return Process(self.limits, again=again, prepare=prepare)
        except OSError as exc:  # No memory, or too many processes or open files.
            raise WorkerError(f"a decoder process cannot be started: {reason(exc)}") from exc

    def starting(self) -> list[int]:
        """The descriptors of the processes that are not ready yet."""
        with self._lock:
            return [process.fileno() for process in self._starting]

    def warm_up(self, count: int) -> None:
        """Start processes, so that up to `count` are ready when there is work."""
        self.greet()
        for _ in range(min(count, self.count) - len(self._idle) - len(self._starting)):
            self.start(prepare=True)

    def put_back(self, process: Process) -> None:
        """Keep a process for the next task, unless there are enough."""
        with self._lock:
            if len(self._idle) < self.count and not process.again:
                self._idle.append(process)
                return
        process.end()

    def ended(self, process: Process, *, kill: bool = False) -> int:
        """How a process ended (`Process.end`). Raises WorkerError where no process even starts."""
        how = process.end(kill=kill)
        self._unready = 0 if process.ready else self._unready + 1
        if self._unready >= _STARTS:
            raise WorkerError(
                f"decoder processes do not start (exit code {how})", advice=f"to see why, run {_SHOW_WHY}"
            )
        return how

    def let_go(self) -> None:
        """Let the idle processes close their files."""
        with self._lock:
            for process in self._idle:
                process.let_go()

    def close(self) -> None:
        """End all processes that are idle or starting."""
        with self._lock:
            processes = [*self._idle, *self._starting]
            self._idle, self._starting = [], []
        for process in processes:
            process.end(kill=True)

    def _forget(self) -> None:
        """After a fork, the processes belong to the parent, and the lock may be held."""
        self._lock = threading.Lock()
        for process in (*self._idle, *self._starting):
            process.forget()
        self._idle, self._starting = [], []
