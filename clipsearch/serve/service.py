"""The library that a server keeps open: the threads that answer, and its model, which loads in the background."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import Literal

from clipsearch.errors import ClipsearchError
from clipsearch.export.json import clean
from clipsearch.library.library import Library
from clipsearch.serve.executors import BoundedExecutor
from clipsearch.serve.problems import UnavailableError
from clipsearch.serve.runs import Runs

LOADING_S = 30.0
"""Seconds that a request waits for the model."""

DECODES, DECODES_WAITING = 2, 4
"""Images decoded at a time, and requests that may wait for that: a browser opens six connections."""

WAITING = 64
"""Requests that may wait for a search."""


class Service:
    """Answers requests from `library`, which it closes in the end. `may_index`: whether runs may be started."""

    def __init__(self, library: Library, *, may_index: bool) -> None:
        self.library = library
        self.may_index = may_index
        self.search = BoundedExecutor("search", library.reader, threads=max(2, os.cpu_count() or 1), waiting=WAITING)
        self.decode = BoundedExecutor("decode", library.reader, threads=DECODES, waiting=DECODES_WAITING)
        self.model: Literal["loading", "ready", "failed"] = "loading"
        self.model_reason: str | None = None
        self.stopping = threading.Event()
        self.runs = Runs(library, self.stopping, switched=self._load)
        self._loaded = asyncio.Event()

    def start(self) -> None:
        """Load the model, beside the event loop that this is called in."""
        loop = asyncio.get_running_loop()

        def load() -> None:
            self._load()
            with contextlib.suppress(RuntimeError):  # The server has stopped meanwhile.
                loop.call_soon_threadsafe(self._loaded.set)

        threading.Thread(target=load, name="model", daemon=True).start()

    async def wait_for_model(self) -> None:
        """Wait until the model is loaded, or has failed to: a search then says why. Raises UnavailableError."""
        if self._loaded.is_set():
            return
        try:
            async with asyncio.timeout(LOADING_S):
                await self._loaded.wait()
        except TimeoutError as exc:
            raise UnavailableError("the model is still loading", advice="try again in a few seconds") from exc

    def stop(self) -> None:
        """End streams and the index run soon."""
        self.stopping.set()

    def close(self) -> None:
        """Wait for the last search and the batch of an index run, then close the library."""
        self.runs.wait()
        for executor in (self.search, self.decode):
            executor.close()
        self.library.close()

    def _load(self) -> None:
        try:
            self.library.warm_up()
            self.model, self.model_reason = "ready", None
        except Exception as exc:
            why = str(exc) if isinstance(exc, ClipsearchError) else f"unexpected {type(exc).__name__}"
            self.model, self.model_reason = "failed", clean(why)
