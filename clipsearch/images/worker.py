"""The decoder process: reads, hashes and decodes one file after another, as its parent asks through two pipes.

A request is a line of JSON, an answer is a line of JSON and the pixels that it announces. Nothing else is understood,
and nothing that comes out of a file is ever run. `workers` starts these processes; `--workers none` uses `Session` in
the parent itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import resource
import select
import signal
import stat
import sys
import time
from dataclasses import asdict
from typing import Any, BinaryIO

from clipsearch.errors import ImageError, TruncatedImageError, UnsupportedImageError
from clipsearch.images.open import IN_MEMORY_BYTES, bytes_to_open, open_image
from clipsearch.images.requests import READING, SMALL
from clipsearch.types import Preprocess

_COMPARED = 512
"""The longer side, in pixels, at which two decodes of a file are compared."""

_PIECE = 4 * 2**20

_OPENED_BYTES = 2**30
"""More than any decoder holds only to open an image of 64 megapixels."""

Reply = tuple[dict[str, Any], list[bytes]]
"""The fields, with the `shape` of the pixels that follow if there are any; and these."""


class Session:
    """One file at a time: `do` answers requests about it, in the order open, digest, header, then pixels.

    Raises what the decoders raise: ImageError, OSError, MemoryError.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._data: bytes | None = None
        self._picture: Any = None
        self._max_pixels = 0

    def do(self, request: dict[str, Any], data: bytes | None = None) -> Reply:
        """Answer a request; `data`: the bytes that came with it."""
        arguments = {name: value for name, value in request.items() if name not in ("do", "bytes")}
        if data is not None:
            self.close()
            self._data = data
            return {}, []
        answer: Reply = getattr(self, f"_do_{request['do']}")(**arguments)
        return answer

    def close(self) -> None:
        """Let go of the file and its pixels."""
        if self._file is not None:
            self._file.close()
        self._file = self._data = self._picture = None

    def may_hold(self, size: int) -> bool:
        """Whether decoding may hold `size` bytes; what cannot even be opened may hold a little."""
        return size < _OPENED_BYTES if self._picture is None else self._picture.holds() > size

    def _do_open(self, path: str) -> Reply:
        self.close()
        # A FIFO that took the file's place since the walk would block without O_NONBLOCK.
        if "\0" in path:  # For `os.open`, that is a ValueError.
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        descriptor = os.open(os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return {"size": 0, "mtime_ns": 0, "regular": False}, []
        self._file = os.fdopen(descriptor, "rb")
        return self._about(), []

    def _do_read(self, path: str, image: dict[str, Any] | None = None) -> Reply:
        """Open a file and read it once; what it was like before, and whether it has changed since.

        `image`: what `image` would be asked. If that fails, the answer is without it.
        """
        started_ns = time.time_ns()
        before, _ = self._do_open(path)
        if self._file is None:
            return before, []
        if before["size"] <= IN_MEMORY_BYTES:
            self._data = self._file.read(before["size"])  # A file that keeps growing ends here.
            digest = hashlib.sha256(self._data)
        else:
            digest = hashlib.sha256()
            while piece := self._file.read(_PIECE):
                digest.update(piece)
        changed = self._about() != before
        answer = {**before, "digest": digest.hexdigest(), "started_ns": started_ns, "changed": changed}
        if image is not None and before["size"] and not changed:
            with contextlib.suppress(Exception):  # Asked for alone, it says what is wrong.
                fields, pixels = self._do_image(**image)
                if "facts" not in fields:
                    return answer, []
                return {**answer, "image": fields, "shape": fields.pop("shape", None)}, pixels
        return answer, []

    def _do_image(
        self, max_pixels: int, truncated: bool, since: int | None, preprocess: dict[str, Any] | None, granted: int
    ) -> Reply:
        """The facts, and whether readers before the revision `since` gave other pixels.

        With `preprocess`, the pixels of the whole image come along, unless decoding holds more than SMALL bytes. If
        opening already does, and more than `granted`, the answer has only `holds`.
        """
        holds = bytes_to_open(self._source())
        if holds > max(SMALL, granted):
            return {"holds": holds}, []
        self._max_pixels = max_pixels
        self._picture = open_image(self._source(), max_pixels=max_pixels, truncated=truncated)
        changed = since is not None and self._picture.changed_since(since)
        whole = None if preprocess is None else Preprocess(**preprocess)
        holds = self._picture.holds(whole)
        answer = {"facts": asdict(self._picture.facts), "changed": changed, "holds": holds}
        if preprocess is None or holds > SMALL:
            return answer, []
        more, pixels = self._do_pixels(preprocess, [None])
        return {**answer, **more}, pixels

    def _do_pixels(self, preprocess: dict[str, Any], boxes: list[list[int] | None]) -> Reply:
        """Pixels (n, 3, S, S) of the boxes: decoded once, or twice where a box needs a larger draft than the whole.

        Where that is too large for the limit, the whole image stands in for the box; its place is in `whole`. `blank`:
        whether the image has only one colour.
        """
        wanted = Preprocess(**preprocess)
        squares, whole = [], []
        for place, box in enumerate(boxes):
            try:
                squares.append(self._picture.square(wanted, box=None if box is None else tuple(box)))
            except ImageError as exc:
                if box is None or isinstance(exc, TruncatedImageError) or isinstance(exc.__cause__, OSError):
                    raise
                squares.append(self._picture.square(wanted))
                whole.append(place)
        is_blank = self._picture.is_blank(squares[0])
        shape = len(squares), 3, wanted.size, wanted.size
        planes = [channel.tobytes() for square in squares for channel in square.split()]
        return {"whole": whole, "blank": is_blank, "shape": shape}, planes

    def _do_blank(self) -> Reply:
        return {"blank": self._picture.is_blank()}, []

    def _do_same_cut(self) -> Reply:
        """Whether a decode that allows for a truncated file gives the same pixels."""
        cut = open_image(self._source(), max_pixels=self._max_pixels, truncated=True)
        here, there = (image.upright(max_side=_COMPARED).tobytes() for image in (self._picture, cut))
        return {"same": here == there}, []

    def _do_upright(self, max_side: int | None) -> Reply:
        image = self._picture.upright(max_side=max_side)
        return {"shape": (image.height, image.width, 3)}, [image.tobytes()]

    def _about(self) -> dict[str, Any]:
        assert self._file is not None
        about = os.fstat(self._file.fileno())
        return {"size": about.st_size, "mtime_ns": about.st_mtime_ns, "regular": True}

    def _source(self) -> bytes | BinaryIO:
        if self._data is not None:
            return self._data
        assert self._file is not None
        return self._file


def main() -> None:
    """Answer requests until the end of stdin.

    Arguments: seconds of CPU time for a request; bytes of memory (0: no limit); bytes for another try, where a decoder
    reports damage; 1 to load the decoders at once, and 0 to load them for the first file that is not only hashed; the
    pipe that is closed when the parent ends, if there is one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent decides what an interrupted run still does.
    seconds, memory, more = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[5:]:
        _end_with_parent(int(sys.argv[5]))
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # A decoder that prints must not be taken for an answer.
        os.dup2(null, standard)
    session = Session()
    loaded = sys.argv[4] == "1" and _load(memory)
    _answer(answers, {}, [])
    while line := requests.readline():
        request = json.loads(line)
        if request["do"] == "close":
            session.close()
            continue
        decodes = request["do"] not in READING or "image" in request
        if decodes and not loaded:
            loaded = _load(memory)
        data = None if request["bytes"] is None else requests.read(request["bytes"])
        # Default actions end the process even inside a decoder's loop, and even if the parent is gone.
        signal.setitimer(signal.ITIMER_PROF, seconds if decodes else 0)
        signal.setitimer(signal.ITIMER_REAL, 10 * seconds + 5 if decodes else 0)
        answer: dict[str, Any]
        pixels: list[bytes] = []
        try:
            answer, pixels = _done(session, request, data, memory, more)
        except Exception as exc:
            answer = _error(exc)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if memory and memory == more:
            answer["peak"] = _peak()
        try:
            _answer(answers, answer, pixels)
        except BrokenPipeError:
            return


def _end_with_parent(life: int) -> None:
    """Let the kernel end this process (SIGIO) once the other end of a pipe is closed, even inside a decoder's loop.

    Nothing is ever written to it: that would end the process, too.
    """
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(life, 0)
    if poll.poll(0):
        sys.exit()


def _load(memory: int) -> bool:
    """Load the decoders, and limit the memory of this process from then on."""
    from clipsearch.images import picture  # noqa: F401

    if memory:
        _limit(memory)
    return True


def _done(session: Session, request: dict[str, Any], data: bytes | None, memory: int, more: int) -> Reply:
    """What `Session.do` answers. Raises its errors; MemoryError also where the image needs more than `memory` bytes.

    Many decoders take the lack of memory for damage. Then the image can be decoded if there is more.
    """
    try:
        return session.do(request, data)
    except (TruncatedImageError, UnsupportedImageError):
        raise
    except ImageError as exc:
        if exc.__cause__ is None or more <= memory or not session.may_hold(memory // 4):
            raise
        _limit(more)
        try:
            session.do(request, data)
        except ImageError:
            if not session.may_hold(more):
                raise
        finally:
            _limit(memory)
        raise MemoryError from None


def _limit(memory: int) -> None:
    """Limit the memory of this process, without what it has mapped from files."""
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS  # Elsewhere, DATA is not enforced.
    most = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (memory if most == resource.RLIM_INFINITY else min(memory, most), most))


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/status") as status:  # Linux's ru_maxrss begins with that of the parent.
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def _answer(answers: BinaryIO, fields: dict[str, Any], pixels: list[bytes]) -> None:
    """Four bytes of length, as much JSON, and the pixels."""
    text = json.dumps(fields).encode()
    answers.write(len(text).to_bytes(4, "big") + text)
    answers.writelines(pixels)
    answers.flush()


def _error(exc: Exception) -> dict[str, Any]:
    cause = exc.__cause__ if isinstance(exc, ImageError) else exc
    if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
        return {"error": "MemoryError", "reason": ""}
    if isinstance(cause, OSError) and cause.errno is not None:
        return {"error": "OSError", "reason": os.strerror(cause.errno), "errno": cause.errno}
    if isinstance(exc, ImageError | MemoryError):
        return {"error": type(exc).__name__, "reason": str(exc)}
    return {"error": "ImageError", "reason": f"the decoder fails on it ({type(exc).__name__}: {exc})"}


if __name__ == "__main__":
    main()
