"""The decoder processes: whatever a file does to a decoder, it does to a process that can be replaced.

A task is a generator: it yields requests about one file and receives the answers (`images.decode` has the usual ones).
`Workers.run` works through tasks in as many processes as there are cores, and gives their results in order.

    def shown(path):
        yield from decode.opened(path)
        image = yield from decode.image()
        return (yield from image.upright(max_side=256))

    with Workers() as workers:
        for pixels in workers.run([functools.partial(shown, path) for path in paths]):
            ...

Where a process ends, its task starts again in another one. If that ends, too, by an exit or a signal that only a
decoder's own fault causes, the task gets an ImageError; if something outside ended it, an OSError.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
from collections.abc import Callable, Generator, Iterable
from typing import Self

from clipsearch.images.limits import Limits
from clipsearch.images.pool import Pool
from clipsearch.images.requests import Result, Task
from clipsearch.images.schedule import Schedule, do_here


class Workers:
    """Decoder processes, which start when there is work for them; several threads may use them.

    `memory`: bytes that the images of one run may hold together; by default a quarter of the machine's. Close it, or
    use it as a context. Processes also end when their parent does.
    """

    def __init__(self, limits: Limits | None = None, *, memory: int = 0) -> None:
        self.limits = limits or Limits()
        self.count = self.limits.count or os.cpu_count() or 1
        self._memory = memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        self._pool = Pool(self.limits, self.count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes that are not at work."""
        self._pool.close()

    def warm_up(self, count: int = 1) -> None:
        """Start processes, so that up to `count` are ready when there is work."""
        if self.limits.count is not None:
            self._pool.warm_up(count)

    def do(self, task: Task[Result]) -> Result:
        """Work through one task. Raises what it raises."""
        if self.limits.count is None:
            return do_here(task())
        return Schedule(self._pool, self._memory, [task], ahead=1, views=1).only_result()

    def run(
        self,
        tasks: Iterable[Task[Result]],
        *,
        ahead: int = 0,
        views: int = 0,
        stop: Callable[[], bool] = lambda: False,
        slow: Callable[[Task[Result]], None] = lambda task: None,
    ) -> Generator[Result, None, None]:
        """The results in the order of `tasks`; what a task raises is raised at its turn. Close it to stop early.

        Meanwhile, up to `ahead` tasks (0: twice the number of processes) are begun and not yet taken from here, and at
        most `views` views of them are decoded (0: no limit); the one that is waited for always gets its own. Tasks run
        in another thread, their iterator and the callbacks in the caller's. `stop` may end it while this waits for a
        process. `slow` receives each task that takes more than ten seconds.
        """
        if self.limits.count is None:
            return (do_here(task()) for task in tasks)
        schedule = Schedule(self._pool, self._memory, tasks, ahead=ahead or 2 * self.count, views=views or sys.maxsize)
        return schedule.results(stop, slow)


def shared(limits: Limits | None = None) -> Workers:
    """Those of this process for these limits."""
    return _shared(limits or Limits())


@functools.cache
def _shared(limits: Limits) -> Workers:
    workers = Workers(limits)
    atexit.register(workers.close)
    return workers
