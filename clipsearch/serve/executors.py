"""Work beside the event loop: bounded pools of threads that each have a reader of the library."""

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


class BoundedExecutor:
    """Up to `threads` pieces of work at a time, and `waiting` more; further requests are refused.

    `reader` opens the library for one thread. To be used from one event loop.
    """

    def __init__(self, name: str, reader: Callable[[], Library], *, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._reader = reader
        self._free = threads + waiting
        self._local = threading.local()
        self._readers: list[Library] = []

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Room for one piece of work, before what it needs is read or waited for. Raises UnavailableError."""
        if not self._free:
            raise UnavailableError("too many requests at a time", advice="try again in a second")
        self._free -= 1
        slot = Slot(self)
        try:
            yield slot
        finally:
            if slot.running is None or slot.running.done():
                self._leave()
            else:  # The client is gone, and a thread is still running.
                slot.running.add_done_callback(self._leave)

    async def run(self, work: Callable[[Library], Answer]) -> Answer:
        """Do a piece of work in one of the threads. Raises UnavailableError, and what the work raises."""
        async with self.slot() as slot:
            return await slot.run(work)

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


class Slot:
    """Room for one piece of work."""

    def __init__(self, executor: BoundedExecutor) -> None:
        self._executor = executor
        self.running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[Library], Answer]) -> Answer:
        """Do it in one of the threads; it goes on if the caller is cancelled."""
        self.running = future = self._executor.submit(work)
        return await asyncio.shield(future)
