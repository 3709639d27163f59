"""One encoder for several threads: texts that arrive while a batch is being encoded form the next batch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.encoders.base import Encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = 64
"""Texts of a joint batch, at most; a tokenizer takes as many at once."""


class BatchingEncoder:
    """Another encoder, whose `encode_texts` puts the requests of several threads together.

    Alone, a request is encoded as it is, so its vectors are exactly those of the other encoder. Images are encoded as
    they come: a server decodes so few at a time that hardly two meet, and texts do not wait for them.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.info = encoder.info
        self.load_images = encoder.load_images
        self.encode_images = encoder.encode_images
        self.overflow = encoder.overflow
        self.convert = encoder.convert
        self.explain = encoder.explain
        self.quantised = encoder.quantised
        self.encode_texts = _Batches(encoder.encode_texts)


@dataclass(eq=False, slots=True)
class _Request:
    """What one thread wants encoded, and what came of it."""

    given: Sequence[str]
    rows: NDArray[np.float32] | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.rows is not None or self.error is not None


class _Batches:
    """Calls `encode` for one batch at a time. A thread that finds none running encodes what waits, for all of them.

    So there is no timer, and no thread of its own. A request for TEXTS gains nothing from others, and neither waits for
    them nor holds them up.
    """

    def __init__(self, encode: Callable[[Sequence[str]], NDArray[np.float32]]) -> None:
        self._encode = encode
        self._waiting: list[_Request] = []
        self._running = False
        self._ended = threading.Condition()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not 0 < len(texts) < TEXTS:
            return self._encode(texts)
        own = _Request(texts)
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
        batch, room = [own], TEXTS - len(own.given)
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
                rows, start = self._encode([text for each in batch for text in each.given]), 0
                for each in batch:
                    each.rows = rows[start : start + len(each.given)]
                    start += len(each.given)
                return
        for each in batch:
            try:
                each.rows = self._encode(each.given)
            except Exception as exc:
                each.error = exc
