"""One writer at a time: an advisory lock on a file in the library, which the kernel drops with the process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clipsearch.errors import LockedError, UsageError

LOCK_NAME = "lock"
"""The file in the library's folder that a writer locks."""

POLL_S = 0.2


@contextmanager
def writer_lock(path: Path, *, wait: bool = False, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold the writer's lock at `path`, or raise LockedError with the pid of its holder.

    `wait` waits for it instead, until `stop()` is true. Raises UsageError where the file cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        raise UsageError(f"cannot write to the library in {path.parent}: {exc.strerror}") from exc
    try:
        while not _try_lock(descriptor):
            if not wait or stop():
                pid = _holder(descriptor)
                who = f"process {pid}" if pid else "another process"
                raise LockedError(
                    f"{who} is writing to the library in {path.parent}",
                    advice="`wait=True` waits until it is done",
                    pid=pid,
                )
            time.sleep(POLL_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)  # Between two holders, the file names neither.
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        raise UsageError(
            f"the library's file system does not support locks ({exc.strerror})", advice="keep it on another one"
        ) from exc
    return True


def _holder(descriptor: int) -> int | None:
    written = os.pread(descriptor, 32, 0).strip()
    return int(written) if written.isdigit() else None
