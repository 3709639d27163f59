"""Turns what happens in an index run into `Progress`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from clipsearch.indexing.results import Progress

INTERVAL_S = 0.1
"""A callback is called no more often than this, but for the last file and a new stage."""


class Meter:
    """Counts files and vectors, and reports them to `progress`."""

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self._progress = progress
        self._found = 0
        self._done = 0
        self._encoded = 0
        self._total: int | None = None
        self._started = time.monotonic()
        self._told = 0.0
        self._skipped = 0
        self._slow: str | None = None

    @property
    def left(self) -> int:
        return max(0, (self._total or 0) - self._done)

    def found(self, count: int) -> None:
        """The walks have found `count` images so far."""
        self._found = count
        self._tell("scanning")

    def start(self, total: int) -> None:
        """The walks are over; `total` files are to be read."""
        self._total = total
        self._started = time.monotonic()
        self._tell("encoding", always=True)

    def done(self, files: int, *, encoded: int = 0, skipped: bool = False) -> None:
        """So many `files` are dealt with, and so many vectors `encoded`; `skipped` files could not be used."""
        self._done += files
        self._slow = None
        self._encoded += encoded
        self._skipped += files if skipped else 0
        self._tell("encoding", always=self.left == 0)

    def slow(self, path: str) -> None:
        """Decoding this file takes long."""
        self._slow = path
        self._tell("encoding", always=True)

    def publishing(self) -> None:
        self._tell("publishing", always=True)

    def _tell(self, stage: Literal["scanning", "encoding", "publishing"], *, always: bool = False) -> None:
        now = time.monotonic()
        if self._progress is None or not (always or now - self._told >= INTERVAL_S):
            return
        self._told = now
        seconds = max(now - self._started, 1e-9)
        rate = self._done / seconds
        self._progress(
            Progress(
                stage=stage,
                found=self._found,
                done=self._done,
                total=self._total,
                skipped=self._skipped,
                images_per_second=self._encoded / seconds,
                seconds_left=self.left / rate if rate else None,
                slow=self._slow,
            )
        )
