"""Look-ahead: what threads read and decode before its turn, in order, and within bounds."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Budget:
    """At most `limit` views between the decoders and the encoder; files have their turns, counted from 0.

    The file whose turn it is always gets its views, or those that came ahead of it would keep out what all of them wait
    for. So at most `limit` views and those of one file are held.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._turn = 0
        self._lifted = False
        self._changed = threading.Condition()

    def take(self, turn: int, views: int) -> None:
        """Wait until so many views of the file with this turn are within the budget, and take them."""
        with self._changed:
            self._changed.wait_for(lambda: self._lifted or turn <= self._turn or self._taken + views <= self._limit)
            self._taken += views

    def start(self, turn: int) -> None:
        """Let the file with this turn take what it needs."""
        with self._changed:
            self._turn = turn
            self._changed.notify_all()

    def release(self, views: int) -> None:
        """Return what a file had taken."""
        with self._changed:
            self._taken -= views
            self._changed.notify_all()

    def lift(self) -> None:
        """Let every file take what it needs, since nothing will be released any more."""
        with self._changed:
            self._lifted = True
            self._changed.notify_all()


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    budget: Budget | None = None,
) -> Generator[Result, None, None]:
    """The results of `work` in the order of `items`, up to `ahead` of them being computed in `threads` threads.

    Items are taken from `items` as results are taken from here. Close the generator to stop early: what has not begun
    is cancelled, and what runs is waited for. `budget` learns whose turn it is, and is lifted at the end.
    """
    waiting: deque[Future[Result]] = deque()
    turns = itertools.count()

    def first() -> Result:
        if budget is not None:
            budget.start(next(turns))
        return waiting.popleft().result()

    with ThreadPoolExecutor(threads, thread_name_prefix="decoder") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= ahead:
                    yield first()
            while waiting:
                yield first()
        finally:
            if budget is not None:
                budget.lift()
            pool.shutdown(wait=False, cancel_futures=True)
