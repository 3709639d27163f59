"""Progress of a long run on stderr, and what Ctrl-C does to the run."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from clipsearch.cli import output
from clipsearch.cli.render.tables import duration

if TYPE_CHECKING:
    from tqdm import tqdm

    from clipsearch.indexing.results import Progress

_SCANNING = "{desc}"
_FORMAT = "{desc} {percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt}{postfix}"
_COUNT = "{desc}: {n:,} of {total:,}"
_STOPPING = b"\nfinishing the current batch; Ctrl-C again stops at once\n"

_DELAY_S = 1
"""A count is shown only once the work has taken this long."""


class _Line:
    """A line on stderr that changes and vanishes at the end; `_open` gives none if stderr is not a terminal."""

    def __init__(self) -> None:
        self._line: tqdm[Any] | None = None

    def _open(self, bar_format: str, *, delay: float = 0) -> tqdm[Any] | None:
        if self._line is None and output.is_terminal(sys.stderr):
            from tqdm import tqdm

            self._line = tqdm(bar_format=bar_format, delay=delay, miniters=1, dynamic_ncols=True, leave=False)
        return self._line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._line is not None:
            self._line.close()


class Bar(_Line):
    """Shows `Progress` on stderr if it is a terminal."""

    def show(self, progress: Progress) -> None:
        if progress.total == 0 or (line := self._open(_SCANNING)) is None:
            return
        if progress.total is None:
            line.set_description_str(f"scanning: {progress.found:,} pictures")
            return
        line.bar_format, line.n, line.total = _FORMAT, progress.done, progress.total
        line.set_description_str(progress.stage, refresh=False)
        left = f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
        skipped = f", {progress.skipped} skipped" if progress.skipped else ""
        slow = f", decoding {output.printable(os.path.basename(progress.slow))}" if progress.slow else ""
        line.set_postfix_str(f"{progress.images_per_second:.1f} images/s{left}{skipped}{slow}")

    def note(self, text: str) -> None:
        """Print a note above the progress shown."""
        if self._line is not None:
            self._line.clear()
        output.note(text)


class Counter(_Line):
    """Shows on stderr, if it is a terminal, how far a long task is."""

    def show(self, what: str, done: int, total: int) -> None:
        if (line := self._open(_COUNT, delay=_DELAY_S)) is not None:
            line.total = total
            line.set_description_str(what, refresh=False)
            line.update(done - line.n)


class Stopper:
    """Inside the context, the first SIGINT or SIGTERM makes `asked()` true; the second ends the program as usual."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Self:
        for number in self._SIGNALS:
            # A shell lets background jobs ignore SIGINT; they go on ignoring it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *raised: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()
        # Not through sys.stderr: the signal may have interrupted a write to it.
        os.write(2, _STOPPING)
