"""One encoder for several threads: what arrives while a batch is being encoded forms the next batch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipsearch.encoders.base import Encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = 64
"""Texts of a joint batch, at most; a tokenizer takes as many at once."""

IMAGES = 16
"""Images of a joint batch, at most; more gain nothing on a CPU (`search.embed.BATCH`)."""


class BatchingEncoder:
    """Another encoder, whose `encode_texts` and `encode_images` put the requests of several threads together.

    Alone, a request is encoded as it is, so its vectors are exactly those of the other encoder. Texts and images do not
    wait for each other.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.info = encoder.info
        self.load_images = encoder.load_images
        self.overflow = encoder.overflow
        self.convert = encoder.convert
        self.explain = encoder.explain
        self.quantised = getattr(encoder, "quantised", None)
        self._texts = _Batches(encoder.encode_texts, _joined_texts, TEXTS)
        self._images = _Batches(encoder.encode_images, _joined_pixels, IMAGES)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Encoder.encode_texts."""
        return self._texts(texts)

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Encoder.encode_images."""
        return self._images(batch)


@dataclass(eq=False, slots=True)
class _Request:
    """What one thread wants encoded, and what came of it."""

    given: Any
    rows: NDArray[np.float32] | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.rows is not None or self.error is not None


class _Batches:
    """Calls `encode` for one batch at a time. A thread that finds none running encodes what waits, for all of them.

    So there is no timer, and no thread of its own. `join` makes one batch of several requests; up to `most` rows.
    A request for as many gains nothing from others, and neither waits for them nor holds them up.
    """

    def __init__(
        self,
        encode: Callable[[Any], NDArray[np.float32]],
        join: Callable[[list[Any]], Any],
        most: int,
    ) -> None:
        self._encode = encode
        self._join = join
        self._most = most
        self._waiting: list[_Request] = []
        self._running = False
        self._ended = threading.Condition()

    def __call__(self, given: Any) -> NDArray[np.float32]:  # noqa: ANN401 - texts or pixels
        if not 0 < len(given) < self._most:
            return self._encode(given)
        own = _Request(given)
        with self._ended:
            self._waiting.append(own)
            try:
                self._ended.wait_for(lambda: own.is_done or not self._running)
            except BaseException:  # Ctrl-C: the others go on.
                self._waiting = [each for each in self._waiting if each is not own]
                raise
            batch = [] if own.is_done else self._batch_with(own)
            self._running = self._running or bool(batch)
        if batch:
            self._lead(batch, own)
        if own.error is not None:
            raise own.error
        if own.rows is None:
            raise AssertionError("unreachable")
        return own.rows

    def _batch_with(self, own: _Request) -> list[_Request]:
        """A request and those that have waited longest, as far as they fit."""
        batch, room = [own], self._most - len(own.given)
        for each in self._waiting:
            if each is not own and len(each.given) <= room:
                batch.append(each)
                room -= len(each.given)
        return batch

    def _lead(self, batch: list[_Request], own: _Request) -> None:
        try:
            self._run(batch)
        finally:
            with self._ended:
                self._running = False
                self._waiting = [each for each in self._waiting if each is not own and not each.is_done]
                self._ended.notify_all()

    def _run(self, batch: list[_Request]) -> None:
        """Encode requests together, or one by one where that fails: nobody gets another one's error."""
        if len(batch) > 1:
            with contextlib.suppress(Exception):
                rows, start = self._encode(self._join([each.given for each in batch])), 0
                for each in batch:
                    each.rows = rows[start : start + len(each.given)]
                    start += len(each.given)
                return
        for each in batch:
            try:
                each.rows = self._encode(each.given)
            except Exception as exc:
                each.error = exc


def _joined_texts(requests: list[Sequence[str]]) -> list[str]:
    return [text for texts in requests for text in texts]


def _joined_pixels(requests: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    import numpy as np

    return np.concatenate(requests)
