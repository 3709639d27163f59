"""Hands tasks to decoder processes, while whoever takes the results works on the earlier ones."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from clipsearch.errors import ImageError
from clipsearch.images.pool import Pool, WorkerError
from clipsearch.images.process import WALL_FACTOR, Process
from clipsearch.images.requests import (
    READING,
    Answer,
    Request,
    Result,
    Steps,
    Task,
    next_request,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SLOW_S = 10
"""A task that takes more seconds is reported to whoever runs it."""

_OWN_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGPROF)
"""Signals by which a decoder ends its own process."""

_POLL_S = 0.5


class NotHereError(Exception):
    """A task has a request that is for a decoder process."""


class WorkerLostError(OSError):
    """A decoder process was ended from outside, or took too long; its file can be tried again."""


@dataclass(eq=False)
class _Job(Generic[Result]):
    """A task on its way. waiting: a request for which there is no room yet; faults: exit codes of its processes."""

    task: Task[Result]
    steps: Steps[Result]
    process: Process | None = None
    waiting: Request | None = None
    views: int = 0
    holds: int = 0
    is_reported: bool = False
    faults: list[int] = field(default_factory=list)
    done: bool = False
    result: Any = None
    error: BaseException | None = None


@dataclass
class _Slow(Generic[Result]):
    task: Task[Result]


class Schedule(Generic[Result]):
    """One run through tasks (see Workers.run). `memory`: bytes that their images may hold together.

    The caller's thread takes tasks from their iterator and yields results; another one does the rest. They share
    `_next`, `_taken` and `_done`, and `_changes`, which tells the other one of news in the first two.
    """

    def __init__(self, pool: Pool, memory: int, tasks: Iterable[Task[Result]], *, ahead: int, views: int) -> None:
        self._pool, self._memory, self._tasks = pool, memory, iter(tasks)
        self._ahead, self._max_views = ahead, views
        self._next: deque[Task[Result]] = deque()
        self._taken: deque[int] = deque()  # the views of each job that the caller has used
        self._done: queue.SimpleQueue[_Job[Result] | _Slow[Result] | BaseException | None] = queue.SimpleQueue()
        self._changes = 0
        self._is_waiting = self._is_last = self._is_closed = False
        self._awake, self._wake = os.pipe()
        self._untaken = self._views = self._holds = 0
        self._order: deque[_Job[Result]] = deque()
        self._begun: dict[_Job[Result], None] = {}
        self._again: deque[_Job[Result]] = deque()

    # The caller's thread

    def results(self, stop: Callable[[], bool], slow: Callable[[Task[Result]], None]) -> Generator[Result, None, None]:
        """See Workers.run. Work begins at once, and not with the first `next`."""
        results = self._results(stop, slow)
        next(results)
        return results

    def _results(self, stop: Callable[[], bool], slow: Callable[[Task[Result]], None]) -> Generator[Any, None, None]:
        thread = threading.Thread(target=self._work, name="clipsearch decoders", daemon=True)
        try:
            self._feed(self._ahead + self._pool.count)
            thread.start()
            yield None
            while True:
                try:
                    item = self._done.get(timeout=_POLL_S)
                except queue.Empty:
                    if stop():
                        return
                    continue
                if isinstance(item, _Slow):
                    slow(item.task)
                    continue
                if item is None:
                    return
                job = _succeeded(item)
                yield job.result
                self._taken.append(job.views)
                self._feed(1)
        finally:
            self._is_closed = True
            os.write(self._wake, b".")
            if thread.ident is not None and not sys.is_finalizing():  # Then, it has stopped for good.
                thread.join()
            self._end()

    def only_result(self) -> Result:
        """The result of the only task, without another thread."""
        try:
            self._feed(1)
            self._is_last = True
            self._work()
            while isinstance(item := self._done.get(), _Slow):
                pass
            result: Result = _succeeded(item).result
            return result
        finally:
            self._end()

    def _feed(self, count: int) -> None:
        for _ in range(count):
            task = next(self._tasks, None)
            if task is None:
                self._is_last = True
                break
            self._next.append(task)
        self._changes += 1
        if self._is_waiting:
            os.write(self._wake, b".")

    def _end(self) -> None:
        for job in self._begun:
            if job.process is not None:
                job.process.end(kill=True)
        self._pool.let_go()
        os.close(self._awake)
        os.close(self._wake)

    # The other thread

    def _work(self) -> None:
        try:
            while not self._is_closed:
                changes = self._changes
                while self._taken:
                    self._views -= self._taken.popleft()
                    self._untaken -= 1
                has_read = self._fill()
                while self._order and self._order[0].done:
                    self._done.put(self._order.popleft())
                if self._is_last and not self._next and not self._order:
                    break
                self._step(changes, wait=not has_read)
            self._done.put(None)
        except BaseException as exc:
            self._done.put(exc)

    def _fill(self) -> bool:
        """Give a task to each process that there may be, and send what had to wait for room; True if it read a file."""
        for job in list(self._begun):
            if job.waiting is not None and self._has_room(job, job.waiting):
                self._send(job, job.waiting)
        while len(self._begun) < self._pool.count and (self._again or self._may_begin()):
            is_faulty = bool(self._again and self._again[0].faults)
            process = self._pool.new(again=True) if is_faulty else self._pool.take()
            if process is None:
                wanted = min(len(self._again) + len(self._next), self._pool.count - len(self._begun))
                self._start(wanted - len(self._pool.starting()))
                break
            job = self._again.popleft() if self._again else self._new_job()
            job.process = process
            self._begun[job] = None
            self._go_on(job, None)
        if self._begun or self._again or not self._may_begin():
            return False
        self._read_here(self._new_job())
        return True

    def _start(self, count: int) -> None:
        try:
            for _ in range(count):
                self._pool.start()
        except WorkerError:
            if not self._begun and not self._pool.starting():
                raise  # Otherwise, there are fewer.

    def _may_begin(self) -> bool:
        return bool(self._next) and self._untaken < self._ahead

    def _new_job(self) -> _Job[Result]:
        task = self._next.popleft()
        job = _Job(task, task())
        self._order.append(job)
        self._untaken += 1
        return job

    def _read_here(self, job: _Job[Result]) -> None:
        """Work through a task here, as long as it only reads: for known files, no process need have started."""
        try:
            job.result, job.done = do_here(job.steps, only=READING), True
        except NotHereError:
            job.steps = job.task()
            self._again.append(job)
        except Exception as exc:
            job.error, job.done = exc, True

    def _step(self, changes: int, *, wait: bool) -> None:
        """Wait for answers, and go on with their tasks."""
        asked = {job.process.fileno(): job for job in self._begun if job.process and job.process.deadline}
        poll = select.poll()
        for number in (self._awake, *asked, *self._pool.starting()):
            poll.register(number, select.POLLIN)
        self._is_waiting = len(asked) < self._pool.count
        ready = poll.poll(1000 * _POLL_S if wait and changes == self._changes else 0)
        self._is_waiting = False
        self._pool.greet()
        for number, _ in ready:
            if number == self._awake:
                os.read(self._awake, 4096)
            elif (job := asked.get(number)) is not None and job.process is not None:
                self._receive(job, job.process)
        now = time.monotonic()
        for job in list(self._begun):
            process = job.process
            if process is not None and process.deadline is not None and now > process.deadline:
                job.process = None
                self._pool.ended(process, kill=True)
                late = f"decoding it took more than {process.limits.seconds * WALL_FACTOR:g} seconds"
                self._go_on(job, WorkerLostError(late))
            elif process is not None and process.deadline and not job.is_reported and now > process.asked + SLOW_S:
                job.is_reported = True
                self._done.put(_Slow(job.task))

    def _receive(self, job: _Job[Result], process: Process) -> None:
        try:
            answer = process.receive()
        except (EOFError, OSError):
            self._ended(job, process)
        except ValueError:
            self._ended(job, process, is_confused=True)
        else:
            if answer is not None:
                self._go_on(job, answer)

    def _go_on(self, job: _Job[Result], answer: Answer | BaseException | None) -> None:
        """Let the task take an answer, and send its next request if there is room for it."""
        try:
            request = next_request(job.steps, answer)
        except StopIteration as end:
            job.result = end.value
        except Exception as exc:
            job.error = exc
        else:
            if self._has_room(job, request):
                self._send(job, request)
            else:
                job.waiting = request
            return
        job.done = True
        del self._begun[job]
        self._holds -= job.holds
        if job.process is not None:
            self._pool.put_back(job.process)
            job.process = None

    def _has_room(self, job: _Job[Result], request: Request) -> bool:
        if job is self._order[0] and self._untaken == len(self._order):
            return True  # The caller waits for it.
        views, holds = self._extra(job, request)
        return (not views or self._views + views <= self._max_views) and (
            not holds or self._holds + holds <= self._memory
        )

    def _send(self, job: _Job[Result], request: Request) -> None:
        job.waiting = None
        self._reserve(job, *self._extra(job, request))
        if job.process is None:
            job.process = self._pool.new(again=bool(job.faults))
        try:
            job.process.send(request)
        except OSError:
            self._ended(job, job.process)

    def _extra(self, job: _Job[Result], request: Request) -> tuple[int, int]:
        """The views and the bytes that a request takes beyond those of the job's earlier ones."""
        return max(0, request.views - job.views), max(0, request.holds - job.holds)

    def _reserve(self, job: _Job[Result], views: int, holds: int) -> None:
        job.views += views
        job.holds += holds
        self._views += views
        self._holds += holds

    def _ended(self, job: _Job[Result], process: Process, *, is_confused: bool = False) -> None:
        """The process has ended: start the task again, or throw the reason into it."""
        job.process = None
        how = self._pool.ended(process, kill=is_confused)
        own_fault = is_confused or how >= 0 or -how in _OWN_FAULTS
        if not process.ready or (own_fault and not job.faults):
            if process.ready:
                job.faults.append(how)
            job.steps.close()
            job.steps = job.task()
            self._reserve(job, -job.views, -job.holds)
            del self._begun[job]
            self._again.append(job)
        elif own_fault:
            self._go_on(job, self._fault(job, how))
        else:
            self._go_on(job, WorkerLostError(f"its decoder process was ended from outside (signal {-how})"))

    def _fault(self, job: _Job[Result], code: int) -> ImageError:
        """Why a task fails whose processes ended with this code, twice."""
        limits = self._pool.limits
        if code == -signal.SIGPROF:
            return limits.too_slow()
        if 0 < limits.memory < job.holds:
            return limits.too_large()
        end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ImageError(f"the decoder fails on it ({end})")


def _succeeded(item: _Job[Result] | BaseException | None) -> _Job[Result]:
    """Raises what the job, or all the run, failed with."""
    if isinstance(item, BaseException):
        raise item
    assert item is not None
    if item.error is not None:
        raise item.error
    return item


def do_here(steps: Steps[Result], *, only: Collection[str] = ()) -> Result:
    """Work through a task in this process. Raises NotHereError at a request that is not `only` allowed, if some are."""
    from clipsearch.images.worker import Session

    with contextlib.closing(Session()) as session:
        answer: Answer | BaseException | None = None
        while True:
            try:
                request = next_request(steps, answer)
            except StopIteration as end:
                result: Result = end.value
                return result
            if only and (request.fields["do"] not in only or "image" in request.fields):
                steps.close()
                raise NotHereError
            try:
                fields, pixels = session.do(request.fields, request.data)
                answer = Answer(fields, _array(fields["shape"], b"".join(pixels)) if pixels else None)
            except (ImageError, OSError, MemoryError) as exc:
                answer = exc


def _array(shape: tuple[int, ...], data: bytes) -> NDArray[np.uint8]:
    import numpy as np

    return np.ndarray(shape, np.uint8, data)
