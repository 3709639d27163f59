"""Index runs that requests start: one at a time, over the folders that the library knows, watched and stopped."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from clipsearch.errors import ClipsearchError, LockedError
from clipsearch.export.json import clean
from clipsearch.export.json_reports import index_json
from clipsearch.indexing.results import IndexReport, Progress
from clipsearch.library.library import Library
from clipsearch.serve.problems import UnavailableError

STARTING_S = 0.5
"""Seconds in which a run that cannot begin fails: the request that starts it gets the reason."""

LOOK_S, QUIET_S = 0.25, 15.0
"""Seconds between two looks at a run for a stream of its progress, and between two signs of life."""

MAX_STREAMS = 32


class Runs:
    """The index run of a server, of which the last one is remembered. `stopping` ends it, and all streams.

    `switched` is called after a run that has made another encoder the active one.
    """

    def __init__(self, library: Library, stopping: threading.Event, switched: Callable[[], None]) -> None:
        self._library = library
        self._stopping = stopping
        self._switched = switched
        self._stopped = threading.Event()
        self._run: Future[IndexReport] | None = None
        self._progress: Progress | None = None
        self._streams = 0

    async def start(self) -> dict[str, Any]:
        """Start a run; its state.

        Raises LockedError while another one is writing to the library, and what makes it fail at once.
        """
        if self._run is not None and not self._run.done():
            raise LockedError("an index run is in progress")
        self._stopped.clear()
        self._progress = None
        self._run = run = Future[IndexReport]()
        threading.Thread(target=self._work, args=(run,), name="index", daemon=True).start()
        begun = time.monotonic()
        while not run.done() and self._progress is None and time.monotonic() < begun + STARTING_S:
            await asyncio.sleep(0.01)
        if run.done():
            run.result()
        return self._state(run)

    def stop(self) -> None:
        """Let the run finish its batch and end."""
        self._stopped.set()

    def wait(self) -> None:
        """Wait until the run has ended."""
        if self._run is not None:
            self._run.exception()

    def state(self) -> dict[str, Any] | None:
        """The last run: its state, its progress, and what it did or why it failed."""
        return None if self._run is None else self._state(self._run)

    def _state(self, run: Future[IndexReport]) -> dict[str, Any]:
        value: dict[str, Any] = {"state": "running", "progress": None, "report": None, "error": None}
        if self._progress is not None:
            value["progress"] = {**asdict(self._progress), "slow": clean(self._progress.slow)}
        if not run.done():
            return value
        error = run.exception()
        if error is not None:
            known = isinstance(error, ClipsearchError)
            return value | {"state": "failed", "error": clean(str(error)) if known else type(error).__name__}
        report = run.result()
        return value | {"state": "stopped" if report.interrupted else "finished", "report": index_json(report)}

    def events(self) -> AsyncIterator[str]:
        """Server-sent events of the run: its state whenever that has changed, until it ends.

        Raises UnavailableError for too many of them.
        """
        if self._streams >= MAX_STREAMS:
            raise UnavailableError("too many streams of progress at a time")
        return self._events()

    async def _events(self) -> AsyncIterator[str]:
        shown, spoken = None, time.monotonic()
        self._streams += 1
        try:
            while not self._stopping.is_set():
                now = self.state()
                if now != shown:
                    shown, spoken = now, time.monotonic()
                    yield f"event: {now['state'] if now else 'none'}\ndata: {json.dumps(now)}\n\n"
                elif time.monotonic() > spoken + QUIET_S:
                    spoken = time.monotonic()
                    yield ": still there\n\n"
                if now is None or now["state"] != "running":
                    return
                await asyncio.sleep(LOOK_S)
        finally:
            self._streams -= 1

    def _work(self, run: Future[IndexReport]) -> None:
        def show(progress: Progress) -> None:
            self._progress = progress

        try:
            with self._library.reader() as library:
                report = library.index(progress=show, stop=lambda: self._stopped.is_set() or self._stopping.is_set())
            if report.switched:
                self._switched()
        except BaseException as exc:
            run.set_exception(exc)
        else:
            run.set_result(report)
