"""How much one image may cost a decoder process, and the errors where it costs more."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clipsearch.errors import ImageError

SECONDS = 20.0
MEMORY_BYTES = 2 * 2**30
LEAST_MEMORY_BYTES = 256 * 2**20
"""With less, ordinary photos would be over the limit: a progressive JPEG of 60 megapixels holds 180 MiB."""

_EXCEEDED = ", exceeded "


@dataclass(frozen=True, slots=True)
class Limits:
    """count: of processes; 0 means one per core, None decodes in this process. seconds: of CPU time for one request.
    memory: bytes for one process; 0 means no limit.
    """

    count: int | None = 0
    seconds: float = SECONDS
    memory: int = MEMORY_BYTES

    def settle(self, recorded: str, decoder: str) -> bool:
        """Whether a failure is final that was `recorded` for a decoder, with the limit that was exceeded, if any."""
        version, _, exceeded = recorded.partition(_EXCEEDED)
        number, _, unit = exceeded.partition(" ")
        now = {"": 0.0, "s": self.seconds, "MiB": self.memory / 2**20 or math.inf}[unit]
        return version == decoder and now <= float(number or 0)

    def too_large(self) -> LimitError:
        """The error for an image that takes more memory."""
        mib = f"{self.memory / 2**20:g} MiB"
        exact = f"{_EXCEEDED}{self.memory / 2**20!r} MiB"
        return LimitError(f"decoding it takes more than {mib} (`decode_memory`)", limit=exact)

    def too_slow(self) -> LimitError:
        """The error for an image that takes more CPU time."""
        seconds = f"{self.seconds:g} s"
        reason = f"decoding it takes more than {seconds} of CPU time (`decode_timeout`)"
        return LimitError(reason, limit=f"{_EXCEEDED}{self.seconds!r} s")


class LimitError(ImageError):
    """Decoding an image exceeds a limit: `limit` is what `Limits.settle` expects behind the decoder's version."""

    def __init__(self, reason: str, *, path: str = "", advice: str = "", limit: str = "") -> None:
        super().__init__(reason, path=path, advice=advice)
        self.limit = limit
