"""One decoder process, as its parent sees it: it is sent requests, and answers each of them, in order."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import sys
import time
from typing import IO

from clipsearch.errors import ClipsearchError, ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.images.limits import Limits
from clipsearch.images.requests import READING, Answer, Request

WALL_FACTOR = 10
"""A request may take as many times the limit of its CPU time before its process is ended."""

_ANSWER_S = 10
"""Seconds between two pieces of an answer, which a process writes in one go."""

_MAX_TEXT = 16 * 2**20
"""Bytes of JSON in an answer; the facts of an image take a few thousand."""

_END_S = 5
"""Seconds for a process to end."""

_PIPE_BYTES = 2**20
"""What a pipe holds, where the system lets it grow: so a process hands over an image without waiting."""

_ERRORS: dict[str, type[ClipsearchError]] = {
    "TruncatedImageError": TruncatedImageError,
    "UnsupportedImageError": UnsupportedImageError,
}


class Process:
    """`asked`: when it got its request. `deadline`: until when it must answer; None without a request. `ready`: whether
    it has started.

    Nothing is written to the pipe `_life`: its end tells the process that its parent has ended.

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
        life, own_end = os.pipe()
        self._life: IO[bytes] = os.fdopen(own_end, "wb", buffering=0)
        arguments = limits.seconds, *sizes, int(prepare), life
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "clipsearch.images.worker", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            pass_fds=(life,),
            process_group=0,  # What the terminal sends to the program's group is not for it: it may just be starting.
        )
        os.close(life)
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._requests: IO[bytes] = self._popen.stdin
        self._answers: IO[bytes] = self._popen.stdout
        _widen(self._answers.fileno())
        self.ready = False
        self.asked = 0.0
        self.deadline: float | None = None

    def fileno(self) -> int:
        """The descriptor that can be read once there is an answer."""
        return self._answers.fileno()

    def send(self, request: Request) -> None:
        """Raises OSError where the process has ended."""
        size = None if request.data is None else len(request.data)
        self._requests.write(json.dumps({**request.fields, "bytes": size}).encode() + b"\n")
        if request.data is not None:
            self._requests.write(request.data)
        self._requests.flush()
        reads = request.fields["do"] in READING and "image" not in request.fields
        self.asked = time.monotonic()
        self.deadline = math.inf if reads else self.asked + WALL_FACTOR * self.limits.seconds

    def receive(self) -> Answer | BaseException | None:
        """The next answer, or what it reports as raised; None for the sign that the process has started.

        Waits for it. Raises EOFError where the process has ended, ValueError for what is no answer or stops half way.
        """
        head = bytearray(4)  # No more is read than one message has, or `poll` would not report the next one.
        self._read(head)
        length = int.from_bytes(head, "big")
        if length > _MAX_TEXT:
            raise ValueError("a decoder has written into the answers")
        text = bytearray(length)
        self._read(text)
        fields = json.loads(text)
        if not self.ready:
            self.ready = True
            return None
        pixels = None
        if fields.get("shape"):
            import numpy as np

            pixels = np.empty(fields["shape"], np.uint8)
            self._read(pixels.data.cast("B"))
        self.deadline = None
        error = self._error(fields)
        if (error or pixels is not None) and 0 < self.limits.memory < fields.get("peak", 0):
            return self.limits.too_large()
        return error or Answer(fields, pixels)

    def let_go(self) -> None:
        """Let it close its file, and give back its pixels; there is no answer."""
        with contextlib.suppress(OSError):
            self._requests.write(b'{"do": "close"}\n')
            self._requests.flush()

    def has_answer(self, seconds: float = 0) -> bool:
        """Whether something of an answer, or the end of the process, comes within so many seconds."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def end(self, *, kill: bool = False) -> int:
        """Wait for the end of the process; its exit code, or the negative number of the signal that ended it."""
        import subprocess

        if kill:
            self._popen.kill()
        self._close()
        for _ in range(2):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._popen.wait(timeout=_END_S)
            self._popen.kill()
        return -signal.SIGKILL  # It waits for a disk; it ends once that answers.

    def forget(self) -> None:
        """Let go of a process of the parent, after a fork."""
        self._close()
        self._popen.returncode = 0  # Or it would be waited for, in vain.

    def _close(self) -> None:
        for pipe in (self._requests, self._answers, self._life):
            with contextlib.suppress(OSError):
                pipe.close()

    def _read(self, into: bytearray | memoryview) -> None:
        left = memoryview(into)
        while left:
            if not self.has_answer(_ANSWER_S):
                raise ValueError("an answer stops half way")
            count = os.readv(self._answers.fileno(), [left])
            if not count:
                raise EOFError
            left = left[count:]

    def _error(self, fields: dict[str, object]) -> BaseException | None:
        match fields.get("error"):
            case None:
                return None
            case "OSError":
                return OSError(fields["errno"], fields["reason"])
            case "MemoryError":
                return self.limits.too_large() if self.limits.memory else MemoryError()
            case name:
                return _ERRORS.get(str(name), ImageError)(str(fields["reason"]))


def _widen(pipe: int) -> None:
    """Let a pipe hold an image, where the system allows it (Linux; otherwise a process waits a little)."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
