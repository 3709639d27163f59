"""Bounded work beside the event loop: threads that each have a reader of the library, and room for a few waiters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from clipsearch.library.library import Library
from clipsearch.serve.problems import UnavailableError

Answer = TypeVar("Answer")


class Lane:
    """Up to `threads` pieces of work at a time and `waiting` more; what comes on top is refused.

    `reader` opens the library for one thread. To be used from one event loop.
    """

    def __init__(self, name: str, reader: Callable[[], Library], *, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._reader = reader
        self._free = threads + waiting
        self._local = threading.local()
        self._readers: list[Library] = []

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place in the lane, for requests whose body is read only once there is room. Raises UnavailableError."""
        if not self._free:
            raise UnavailableError("too many requests at a time", advice="try again in a second")
        self._free -= 1
        place = Place(self)
        try:
            yield place
        finally:
            if place.running is None or place.running.done():
                self._leave()
            else:  # The client is gone, and a thread is still at it.
                place.running.add_done_callback(self._leave)

    async def run(self, work: Callable[[Library], Answer]) -> Answer:
        """Do a piece of work in one of the threads. Raises UnavailableError, and what the work raises."""
        async with self.place() as place:
            return await place.run(work)

    def close(self) -> None:
        """Wait for the work at hand, then close the readers."""
        self._executor.shutdown(cancel_futures=True)
        for reader in self._readers:
            reader.close()

    def submit(self, work: Callable[[Library], Answer]) -> asyncio.Future[Answer]:
        return asyncio.get_running_loop().run_in_executor(self._executor, self._do, work)

    def _leave(self, *_: object) -> None:
        self._free += 1

    def _do(self, work: Callable[[Library], Answer]) -> Answer:
        if not hasattr(self._local, "reader"):
            self._local.reader = self._reader()
            self._readers.append(self._local.reader)
        return work(self._local.reader)


class Place:
    """One place in a lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[Library], Answer]) -> Answer:
        """Do a piece of work in one of the lane's threads. It goes on if the caller is cancelled."""
        self.running = future = self._lane.submit(work)
        return await asyncio.shield(future)
