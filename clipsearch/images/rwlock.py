"""A readers–writer lock for threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ReadersWriterLock:
    """A writer waits for the readers to leave, and later readers wait for the writer."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0  # -1 while a writer holds the lock
        self._waiting = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: self._readers >= 0 and not self._waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._condition:
            self._waiting += 1
            try:
                self._condition.wait_for(lambda: self._readers == 0)
            finally:
                self._waiting -= 1
            self._readers = -1
        try:
            yield
        finally:
            with self._condition:
                self._readers = 0
                self._condition.notify_all()
