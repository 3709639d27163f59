"""What tasks for decoder processes are: generators that yield requests about one file and receive the answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from clipsearch.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Result = TypeVar("Result")


class Request(NamedTuple):
    """One request. `data`: bytes to send along. views, holds: what it will take of the budgets until it is taken."""

    fields: dict[str, Any]
    data: bytes | None = None
    views: int = 0
    holds: int = 0


class Answer(NamedTuple):
    """The answer, with pixels of shape (n, 3, S, S) or (h, w, 3) if some were asked for."""

    fields: dict[str, Any]
    pixels: NDArray[np.uint8] | None


Steps = Generator[Request, Answer, Result]
Task = Callable[[], Steps[Result]]

READING = ("open", "read", "about")
"""Requests that do not reach any decoder."""


class NotHereError(Exception):
    """A task has a request that is for a decoder process."""


def next_request(steps: Steps[Any], answer: Answer | BaseException | None) -> Request:
    """Hand over an answer, an error or (at the beginning) None. Raises StopIteration, with the result, at the end."""
    if isinstance(answer, BaseException):
        return steps.throw(answer)
    return steps.send(answer)  # type: ignore[arg-type]


def do_here(steps: Steps[Result], *, only: Collection[str] = ()) -> Result:
    """Work through a task in this process. Raises NotHereError at a request that is not `only` allowed, if some are."""
    from clipsearch.images.worker import Session

    with contextlib.closing(Session()) as session:
        answer: Answer | BaseException | None = None
        while True:
            try:
                request = next_request(steps, answer)
            except StopIteration as end:
                result: Result = end.value
                return result
            if only and (request.fields["do"] not in only or "image" in request.fields):
                steps.close()
                raise NotHereError
            try:
                fields, pixels = session.do(request.fields, request.data)
                answer = Answer(fields, _array(fields["shape"], b"".join(pixels)) if pixels else None)
            except (ImageError, OSError, MemoryError) as exc:
                answer = exc


def _array(shape: tuple[int, ...], data: bytes) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(data, np.uint8).reshape(shape)
