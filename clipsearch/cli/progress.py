"""The progress bar of a long run, and what Ctrl-C does to it."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from clipsearch.cli import output
from clipsearch.cli.render.tables import duration

if TYPE_CHECKING:
    from clipsearch.types import Progress

_FORMAT = "{desc} {percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt}{postfix}"
_STOPPING = b"\nstopping: the batch in hand is finished first; Ctrl-C again stops at once\n"


class Bar:
    """Shows `Progress` on stderr, where that is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = output.is_terminal(sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._shown:
            sys.stderr.write("\r\x1b[K")

    def show(self, progress: Progress) -> None:
        if not self._shown:
            return
        if progress.stage == "scanning" or progress.total is None:
            sys.stderr.write(f"\r\x1b[Kscanning: {progress.found:,} pictures")
            sys.stderr.flush()
            return
        if progress.total == 0:
            return
        if self._bar is None:
            from tqdm import tqdm

            sys.stderr.write("\r\x1b[K")
            self._bar = tqdm(
                total=progress.total, desc=progress.stage, bar_format=_FORMAT, dynamic_ncols=True, leave=False
            )
        self._bar.n = progress.done
        self._bar.set_description_str(progress.stage, refresh=False)
        left = f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
        skipped = f", {progress.skipped} skipped" if progress.skipped else ""
        self._bar.set_postfix_str(f"{progress.images_per_second:.1f} images/s{left}{skipped}", refresh=True)

    def note(self, text: str) -> None:
        """Say something on a line of its own, in place of what is shown so far."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
        output.note(text)


class Counter:
    """Says on stderr how far something long is, where that is a terminal, once it has taken a second."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown = output.is_terminal(sys.stderr)
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._shown or now - self._begun < 1 or now - self._drawn < 0.1:
            return
        self._drawn = now
        sys.stderr.write(f"\r\x1b[K{what}: {done:,} of {total:,}")
        sys.stderr.flush()


class Stopper:
    """While entered, a first SIGINT or SIGTERM makes `asked()` true, and a second one ends the program as usual."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Self:
        for number in self._SIGNALS:
            # A shell has jobs in the background ignore SIGINT; that is left as it is.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()
        # Not through sys.stderr: the signal may have come in the middle of a write to it.
        os.write(2, _STOPPING)
