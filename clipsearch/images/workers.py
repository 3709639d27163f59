"""The decoder processes: whatever a file does to a decoder, it does to a process that can be replaced.

A task is a generator: it yields requests about one file and receives the answers (`images.decode` has the usual ones).
`Workers.run` works through tasks in as many processes as there are cores, and gives their results in order.

    def shown(path):
        image = yield from decode.opened(path)
        return (yield from image.upright(max_side=256))

    with Workers() as workers:
        for pixels in workers.run([functools.partial(shown, path) for path in paths]):
            ...

Where a process ends, its task begins anew in another one. If it ends again by a signal that only a decoder's own fault
sends, the task gets an ImageError; if something outside ended it, an OSError.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import itertools
import json
import math
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

from clipsearch.errors import ClipsearchError, ImageError, TruncatedImageError, UnsupportedImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Result = TypeVar("Result")


class Request(NamedTuple):
    """One request. `data`: bytes to send along. views, holds: what it will take of the budgets until it is taken."""

    fields: dict[str, Any]
    data: bytes | None = None
    views: int = 0
    holds: int = 0


class Answer(NamedTuple):
    fields: dict[str, Any]
    pixels: NDArray[np.uint8] | None


Steps = Generator[Request, Answer, Result]
Task = Callable[[], Steps[Result]]

_OWN_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGPROF)
"""Signals by which a decoder ends its own process."""

_ERRORS: dict[str, type[ClipsearchError]] = {
    "TruncatedImageError": TruncatedImageError,
    "UnsupportedImageError": UnsupportedImageError,
}

WALL_FACTOR = 10
"""A request may take as many times the limit of its CPU time before its process is ended."""

SLOW_S = 10
"""A task that takes more seconds is reported to whoever runs it."""

_PIPE_BYTES = 2**20
"""What a pipe holds, where the system lets it grow: so a process hands over an image without waiting."""


SECONDS = 20.0
MEMORY_BYTES = 2 * 2**30
LEAST_MEMORY_BYTES = 256 * 2**20
"""With less, not even the decoders themselves can be loaded."""


@dataclass(frozen=True, slots=True)
class Limits:
    """count: of processes; 0 means one per core, None decodes in this process. seconds: of CPU time for one request.
    memory: bytes for one process; 0 means no limit.
    """

    count: int | None = 0
    seconds: float = SECONDS
    memory: int = MEMORY_BYTES

    def settle(self, recorded: str, decoder: str) -> bool:
        """Whether a failure is final that was `recorded` for a decoder, with the limit that was exceeded, if any."""
        version, _, exceeded = recorded.partition(_EXCEEDED)
        number, _, unit = exceeded.partition(" ")
        now = {"": 0.0, "s": self.seconds, "MiB": self.memory / 2**20 or math.inf}[unit]
        return version == decoder and now <= float(number or 0)


class LimitError(ImageError):
    """Decoding an image exceeds a limit: `limit` is what `Limits.settle` expects behind the decoder's version."""

    def __init__(self, reason: str, *, path: str = "", advice: str = "", limit: str = "") -> None:
        super().__init__(reason, path=path, advice=advice)
        self.limit = limit


class WorkerLostError(OSError):
    """A decoder process has ended for reasons of its own, or took too long; its file can be tried again."""


_EXCEEDED = ", exceeded "

_STARTS = 3
"""So many processes in a row that do not even start are an error."""

_SHOW_WHY = "`python -m clipsearch.images.worker 20 0 0 1`"

_POLL_MS = 500

_READING = ("open", "read", "about")
"""Requests that do not reach any decoder."""


class WorkerError(ClipsearchError):
    """Decoder processes cannot be started."""


@dataclass(eq=False)
class _Job(Generic[Result]):
    """A task on its way. waiting: a request for which there is no room yet; faults: how its processes ended."""

    task: Task[Result]
    steps: Steps[Result]
    process: _Process | None = None
    waiting: Request | None = None
    views: int = 0
    holds: int = 0
    began: float = field(default_factory=time.monotonic)
    told: bool = False
    faults: list[int] = field(default_factory=list)
    done: bool = False
    result: Any = None
    error: BaseException | None = None


class _Process:
    """One decoder process. `deadline`: when its request must be answered; None while it has none.

    again: it is for one file, on which another process has ended. It may take twice the memory: so that a decoder that
    aborts for lack of memory can be told from one that crashes. prepare: it loads the decoders before it is asked to.
    """

    def __init__(self, limits: Limits, *, again: bool = False, prepare: bool = False) -> None:
        import subprocess  # A query for words does not pay for it.

        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path),
            "PYTHONSAFEPATH": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.limits, self.again = limits, again
        sizes = limits.memory * 2 if again else limits.memory, limits.memory * 2
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "clipsearch.images.worker", *map(str, (limits.seconds, *sizes, int(prepare)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
        )
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._requests: IO[bytes] = self._popen.stdin
        self._answers: IO[bytes] = self._popen.stdout
        _widen(self._answers.fileno())
        self.ready = False
        self.deadline: float | None = None

    def fileno(self) -> int:
        return self._answers.fileno()

    def send(self, request: Request) -> None:
        """Raises OSError where the process has ended."""
        size = 0 if request.data is None else len(request.data)
        self._requests.write(json.dumps({**request.fields, "bytes": size}).encode() + b"\n")
        if request.data is not None:
            self._requests.write(request.data)
        self._requests.flush()
        self.deadline = time.monotonic() + WALL_FACTOR * self.limits.seconds

    def receive(self) -> Answer | None:
        """The next answer, for which this waits; None for the sign that the process has started.

        Raises EOFError where it has ended.
        """
        length = bytearray(4)  # No more is read than one message has, or `poll` would not report the next one.
        self._read(length)
        text = bytearray(int.from_bytes(length, "big"))
        self._read(text)
        fields = json.loads(text)
        if not self.ready:
            self.ready = True
            return None
        pixels = None
        if "shape" in fields:
            import numpy as np

            pixels = np.empty(fields["shape"], np.uint8)
            self._read(pixels.data.cast("B"))
        self.deadline = None
        return Answer(fields, pixels)

    def let_go(self) -> None:
        """Let it close its file, and give back its pixels; there is no answer."""
        with contextlib.suppress(OSError):
            self._requests.write(b'{"do": "close"}\n')
            self._requests.flush()

    def has_answer(self) -> bool:
        """Whether `receive` would not wait, or only for the rest of an answer."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return bool(poll.poll(0))

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def _read(self, into: bytearray | memoryview) -> None:
        left = memoryview(into)
        while left:
            count = os.readv(self._answers.fileno(), [left])
            if not count:
                raise EOFError
            left = left[count:]

    def end(self, *, kill: bool = False) -> int:
        """Wait for the end of the process; its exit code, or the negative number of the signal that ended it."""
        if kill:
            self._popen.kill()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        return self._popen.wait()


class Workers:
    """A pool of decoder processes, which start when there is work for them; several threads may use it.

    `memory`: bytes that the images of one run may hold together; by default a quarter of the machine's. Close it, or
    use it as a context. Processes also end when their parent does.
    """

    def __init__(self, limits: Limits | None = None, *, memory: int = 0) -> None:
        self.limits = limits or Limits()
        self.count = self.limits.count or os.cpu_count() or 1
        self.memory = memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        self._owner = os.getpid()
        self._idle: list[_Process] = []
        self._starting: list[_Process] = []
        self._lock = threading.Lock()
        self._unready = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes that are not at work."""
        self.greet()
        with self._lock:
            processes = [*self._idle, *self._starting]
            self._idle, self._starting = [], []
        for process in processes:
            process.end(kill=True)

    def warm_up(self, count: int = 1) -> None:
        """Start processes, so that up to `count` are ready when there is work."""
        if self.limits.count is not None:
            self.greet()
            for _ in range(min(count, self.count) - len(self._idle) - len(self._starting)):
                self.start(prepare=True)

    def do(self, task: Task[Result]) -> Result:
        """Work through one task."""
        (result,) = self.run([task])
        return result

    def run(
        self,
        tasks: Iterable[Task[Result]],
        *,
        ahead: int = 0,
        views: int = 0,
        stop: Callable[[], bool] = lambda: False,
        slow: Callable[[Task[Result]], None] = lambda task: None,
    ) -> Generator[Result, None, None]:
        """The results in the order of `tasks`; what a task raises is raised at its turn.

        Up to `ahead` tasks (0: twice the number of processes) are begun and not yet taken from here, and at most
        `views` views of them are decoded; the first task always gets its own. Close the iterator to stop early. `stop`
        may end it while this waits for a process. `slow` is told a task that takes more than SLOW_S seconds.
        """
        if self.limits.count is None:
            yield from (_here(task()) for task in tasks)
            return
        run: _Run[Result] = _Run(self, iter(tasks), ahead or 2 * self.count, views, slow)
        try:
            while (job := run.next(stop)) is not None:
                if job.error is not None:
                    raise job.error
                yield job.result
        finally:
            run.abandon()
            with self._lock:
                for process in self._idle:
                    process.let_go()

    # For a run

    def take(self) -> _Process | None:
        """A process that is ready and without a task."""
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
        if self._owner != os.getpid():  # After a fork, they belong to the parent.
            self._owner, self._idle, self._starting = os.getpid(), [], []
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

    def new(self, *, again: bool = False, prepare: bool = False) -> _Process:
        if not sys.executable:
            raise WorkerError("there is no Python interpreter to start decoders with", advice="use `workers=None`")
        return _Process(self.limits, again=again, prepare=prepare)

    def starting(self) -> list[_Process]:
        """The processes that are not ready yet."""
        with self._lock:
            return list(self._starting)

    def put_back(self, process: _Process) -> None:
        with self._lock:
            if len(self._idle) < self.count and not process.again:
                self._idle.append(process)
                return
        process.end()

    def ended(self, process: _Process, *, kill: bool = False) -> int:
        """How the process ended (`_Process.end`). Raises WorkerError where no process even starts."""
        how = process.end(kill=kill)
        self._unready = 0 if process.ready else self._unready + 1
        if self._unready >= _STARTS:
            raise WorkerError(
                f"decoder processes do not start (exit code {how})", advice=f"to see why, run {_SHOW_WHY}"
            )
        return how


@functools.cache
def shared(limits: Limits = Limits()) -> Workers:
    """The pool of this process for these limits."""
    workers = Workers(limits)
    atexit.register(workers.close)
    return workers


class _Run(Generic[Result]):
    """The state of one `Workers.run`."""

    def __init__(
        self,
        workers: Workers,
        tasks: Iterator[Task[Result]],
        ahead: int,
        views: int,
        slow: Callable[[Task[Result]], None],
    ) -> None:
        self._workers = workers
        self._tasks = tasks
        self._next: deque[Task[Result]] = deque()
        self._ahead = ahead
        self._limit = views
        self._slow = slow
        self._views = self._holds = 0
        self._order: deque[_Job[Result]] = deque()
        self._begun: dict[_Job[Result], None] = {}
        self._again: deque[_Job[Result]] = deque()

    def next(self, stop: Callable[[], bool]) -> _Job[Result] | None:
        """The next job in order, done; None after the last one, and if `stop` says so while none is."""
        while True:
            self._fill()
            if not self._order and not self._next:
                return None
            if self._order and self._order[0].done:
                job = self._order.popleft()
                self._views -= job.views
                return job
            if not self._step() and stop():
                return None

    def abandon(self) -> None:
        """End the processes that are at work."""
        for job in self._begun:
            if job.process is not None:
                job.process.end(kill=True)

    def _fill(self) -> None:
        """Give a task to each process that there may be, and send what had to wait for room."""
        for job in list(self._begun):
            if job.waiting is not None and self._has_room(job, job.waiting):
                self._send(job, job.waiting)
        count = self._workers.count
        self._next.extend(itertools.islice(self._tasks, count - len(self._next)))
        while len(self._begun) < count and (self._again or (self._next and len(self._order) < self._ahead)):
            is_faulty = bool(self._again and self._again[0].faults)
            process = self._workers.new(again=True) if is_faulty else self._workers.take()
            if process is None:
                break
            self._begin(self._again.popleft() if self._again else self._new_job(), process)
            self._next.extend(itertools.islice(self._tasks, count - len(self._next)))
        todo = min(len(self._again) + len(self._next), count - len(self._begun))
        for _ in range(todo - len(self._workers.starting())):
            self._workers.start()
        if not self._begun and not self._again and self._next and len(self._order) < self._ahead:
            self._read_here(self._new_job())

    def _new_job(self) -> _Job[Result]:
        task = self._next.popleft()
        job = _Job(task, task())
        self._order.append(job)
        return job

    def _read_here(self, job: _Job[Result]) -> None:
        """Work through a task here, as long as it only reads: known files need not wait until processes have started."""
        try:
            job.result, job.done = _here(job.steps, only=_READING), True
        except _NotHere:
            job.steps = job.task()
            self._again.append(job)
        except Exception as exc:
            job.error, job.done = exc, True

    def _begin(self, job: _Job[Result], process: _Process) -> None:
        job.process = process
        self._begun[job] = None
        self._go_on(job, None)

    def _step(self) -> bool:
        """Wait for answers, and go on with their tasks. False if none came for a while."""
        asked = {job.process.fileno(): job for job in self._begun if job.process and job.process.deadline}
        poll = select.poll()
        for number in (*asked, *(process.fileno() for process in self._workers.starting())):
            poll.register(number, select.POLLIN)
        ready = poll.poll(_POLL_MS)
        self._workers.greet()
        for number, _ in ready:
            if (job := asked.get(number)) is not None and job.process is not None:
                self._receive(job, job.process)
        now = time.monotonic()
        for job in list(self._begun):
            process = job.process
            if process is not None and process.deadline is not None and now > process.deadline:
                job.process = None
                self._workers.ended(process, kill=True)
                late = f"decoding it took more than {process.limits.seconds * WALL_FACTOR:g} seconds"
                self._go_on(job, WorkerLostError(late))
            elif not job.told and now > job.began + SLOW_S:
                job.told = True
                self._slow(job.task)
        return bool(ready)

    def _receive(self, job: _Job[Result], process: _Process) -> None:
        try:
            answer = process.receive()
        except (EOFError, OSError, ValueError):
            self._ended(job, process)
            return
        if answer is not None:
            exceeds = process.again and 0 < self._workers.limits.memory < answer.fields["peak"]
            fault = _too_large(self._workers.limits) if exceeds else _error(answer.fields, self._workers.limits)
            self._go_on(job, answer if fault is None else fault)

    def _go_on(self, job: _Job[Result], answer: Answer | BaseException | None) -> None:
        """Let the task take an answer, and send its next request if there is room for it."""
        try:
            request = _next(job.steps, answer)
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
            self._workers.put_back(job.process)
            job.process = None

    def _has_room(self, job: _Job[Result], request: Request) -> bool:
        if job is self._order[0]:
            return True
        views, held = self._views + request.views, self._holds + request.holds
        return (not request.views or views <= self._limit) and (not request.holds or held <= self._workers.memory)

    def _send(self, job: _Job[Result], request: Request) -> None:
        job.waiting = None
        self._take(job, request.views, request.holds)
        if job.process is None:
            job.process = self._workers.new(again=bool(job.faults))
        try:
            job.process.send(request)
        except OSError:
            self._ended(job, job.process)

    def _take(self, job: _Job[Result], views: int, holds: int) -> None:
        job.views += views
        job.holds += holds
        self._views += views
        self._holds += holds

    def _ended(self, job: _Job[Result], process: _Process) -> None:
        """The process has ended: begin the task anew, or tell it why it cannot be."""
        job.process = None
        how = self._workers.ended(process)
        own_fault = how >= 0 or -how in _OWN_FAULTS
        if not process.ready or (own_fault and not job.faults):
            if process.ready:
                job.faults.append(how)
            job.steps.close()
            job.steps = job.task()
            self._take(job, -job.views, -job.holds)
            del self._begun[job]
            self._again.append(job)
        elif own_fault:
            limits = self._workers.limits
            self._go_on(job, _too_large(limits) if 0 < limits.memory < job.holds else _fault(how, limits))
        else:
            self._go_on(job, WorkerLostError(f"its decoder process was ended from outside (signal {-how})"))


def _error(fields: dict[str, Any], limits: Limits) -> BaseException | None:
    """What an answer reports as raised."""
    name = fields.get("error")
    if name is None:
        return None
    if name == "OSError":
        return OSError(fields["errno"], fields["reason"])
    if name == "MemoryError":
        return _too_large(limits) if limits.memory else MemoryError()
    return _ERRORS.get(name, ImageError)(fields["reason"])


def _too_large(limits: Limits) -> LimitError:
    mib = f"{limits.memory / 2**20:g} MiB"
    return LimitError(f"decoding it takes more than {mib} (`decode_memory`)", limit=_EXCEEDED + mib)


def _fault(code: int, limits: Limits) -> ImageError:
    """Why a task fails whose processes ended with this code, twice."""
    if code == -signal.SIGPROF:
        seconds = f"{limits.seconds:g} s"
        return LimitError(
            f"decoding it takes more than {seconds} of CPU time (`decode_timeout`)", limit=_EXCEEDED + seconds
        )
    end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return ImageError(f"the decoder fails on it ({end})")


class _NotHere(Exception):
    """A task has a request that is for a decoder process."""


def _here(steps: Steps[Result], *, only: Collection[str] = ()) -> Result:
    """Work through a task in this process; raises _NotHere where a request is not among `only`, if there are any."""
    from clipsearch.images.worker import Session

    with contextlib.closing(Session()) as session:
        answer: Answer | BaseException | None = None
        while True:
            try:
                request = _next(steps, answer)
            except StopIteration as end:
                result: Result = end.value
                return result
            if only and request.fields["do"] not in only:
                steps.close()
                raise _NotHere
            try:
                fields, pixels = session.do(request.fields, request.data)
                answer = Answer(fields, _array(fields["shape"], b"".join(pixels)) if pixels else None)
            except (ImageError, OSError, MemoryError) as exc:
                answer = exc


def _next(steps: Steps[Any], answer: Answer | BaseException | None) -> Request:
    if isinstance(answer, BaseException):
        return steps.throw(answer)
    return steps.send(answer)  # type: ignore[arg-type]


def _array(shape: tuple[int, ...], data: bytes) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(data, np.uint8).reshape(shape)


def _widen(pipe: int) -> None:
    """Let a pipe hold an image, where the system allows it (Linux; otherwise a process waits a little)."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
