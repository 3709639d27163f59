"""What tasks for decoder processes are: generators that yield requests about one file and receive the answers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

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

READING = ("open", "read")
"""Requests that do not reach any decoder."""

SMALL = 64 * 2**20
"""Bytes: images that hold less while they are decoded need not wait for room."""


def next_request(steps: Steps[Any], answer: Answer | BaseException | None) -> Request:
    """Hand over an answer, an error or (at the beginning) None. Raises StopIteration, with the result, at the end."""
    if isinstance(answer, BaseException):
        return steps.throw(answer)
    return steps.send(answer)  # type: ignore[arg-type]
