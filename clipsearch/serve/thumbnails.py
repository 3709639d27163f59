"""Thumbnails by content and size: small ones that were used lately in memory, all in a bounded folder on disk.

The folder is a cache that several servers may share. Where it is missing, full or damaged, thumbnails are made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import tempfile
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from clipsearch.display.thumbnails import first_upright, jpeg
from clipsearch.encoders.cache import cache_dir
from clipsearch.errors import ImageError
from clipsearch.files import TEMPORARY
from clipsearch.images.open import READER_REVISION
from clipsearch.images.workers import Workers, shared
from clipsearch.library.library import Library
from clipsearch.serve.images import ImageId
from clipsearch.serve.problems import UnavailableError, of_error, problem
from clipsearch.serve.responses import no_such_image, not_modified, problems
from clipsearch.serve.service import DECODES, WAITING, Service

SIDES = (160, 320, 640, 1600)
"""The longer side of a thumbnail in pixels, at most: a list, a grid, a grid on a dense screen, and the whole window."""

DISK_BYTES = 512 * 2**20

MEMORY_BYTES = 16 * 2**20
"""About 1,000 thumbnails of 320 pixels: twenty pages."""

REVISION = f"{READER_REVISION}.1"
"""Changes with the pixels of thumbnails, and with how they are compressed."""

_SMALL = 64 * 2**10
"""Bytes of a thumbnail that is held in memory, at most."""

_BLOCK = 4096
"""What a file's size on disk is a multiple of."""

_CHECK = 4
"""Bytes before each file's thumbnail: its CRC-32."""


def etag(digest: bytes, side: int) -> str:
    """A strong ETag, which changes whenever the bytes of the thumbnail may."""
    return f'"{_name(digest, side)}"'


def _name(digest: bytes, side: int) -> str:
    return f"{digest.hex()}-{side}-{REVISION}"


class Thumbnails:
    """The thumbnails that were made so far, and those that are made now. Several threads may use it.

    `folder`: where they are kept, by default below the cache directory. disk, memory: bytes that they may take there.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        disk: int = DISK_BYTES,
        memory: int = MEMORY_BYTES,
        workers: Workers | None = None,
    ) -> None:
        self._folder = folder or cache_dir() / "thumbnails"
        self._disk, self._memory = disk, memory
        self._workers = workers or shared()
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._holds = 0
        self._unseen = disk  # Bytes on disk since `_trim`; what was there before is unknown.
        self._lock = threading.Lock()
        self._trimming = threading.Lock()

    def from_memory(self, digest: bytes, side: int) -> bytes | None:
        """A thumbnail from memory: takes no time."""
        name = _name(digest, side)
        with self._lock:
            if (data := self._held.get(name)) is not None:
                self._held.move_to_end(name)
        return data

    def get(self, digest: bytes, side: int) -> bytes | None:
        """A thumbnail from memory or disk."""
        if (data := self.from_memory(digest, side)) is not None:
            return data
        name = _name(digest, side)
        try:
            if not self._is_private():
                return None
            stored = (self._folder / name).read_bytes()
            data = stored[_CHECK:]
            if not data or stored[:_CHECK] != _check(data):
                return None
            _touch(self._folder / name)
        except OSError:
            return None
        self._put_memory(name, data)
        return data

    def make(self, digest: bytes, side: int, paths: Iterable[str]) -> bytes:
        """The thumbnail of a content, from the first of its files that still is that content; it is kept.

        Raises ImageError where there is none, or it cannot be decoded.
        """
        from PIL import Image

        found = self._workers.do(functools.partial(first_upright, tuple(paths), side, digest=digest))
        data = jpeg(Image.fromarray(found.pixels))
        name = _name(digest, side)
        self._put_memory(name, data)
        with contextlib.suppress(OSError):
            self._put_disk(name, data)
        return data

    def _put_memory(self, name: str, data: bytes) -> None:
        """Put a small thumbnail into memory, in place of those used longest ago."""
        if len(data) > _SMALL:
            return
        with self._lock:
            self._holds += len(data) - len(self._held.pop(name, b""))
            self._held[name] = data
            while self._holds > self._memory:
                self._holds -= len(self._held.popitem(last=False)[1])

    def _is_private(self) -> bool:
        """Whether nobody else can put files into the folder. Raises OSError."""
        status = self._folder.stat()
        return status.st_uid == os.geteuid() and not status.st_mode & 0o077

    def _put_disk(self, name: str, data: bytes) -> None:
        """Put a thumbnail on disk. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_private():
            self._folder.chmod(0o700)
            if not self._is_private():
                return
        descriptor, temporary = tempfile.mkstemp(TEMPORARY, dir=self._folder)  # Has the mode 0600.
        try:
            with open(descriptor, "wb") as file:
                file.write(_check(data) + data)
            os.replace(temporary, self._folder / name)
        except BaseException:
            os.unlink(temporary)
            raise
        self._unseen += _on_disk(len(data))
        if self._unseen > self._disk // 16 and self._trimming.acquire(blocking=False):
            try:
                self._trim()
            finally:
                self._trimming.release()

    def _trim(self) -> None:
        """Drop the thumbnails on disk that were used longest ago, if little room is left. Raises OSError."""
        self._unseen = 0
        with self._lock:
            held = list(self._held)
        for name in held:  # Those were not read from disk when they were used.
            _touch(self._folder / name)
        files = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # Another server is at work, too.
                    status = entry.stat(follow_symlinks=False)
                    files.append((status.st_mtime_ns, _on_disk(status.st_size), entry.path))
        total = sum(size for _, size, _ in files)
        if total <= self._disk - self._disk // 16:
            return
        for _, size, path in sorted(files):
            if total <= self._disk - self._disk // 8:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size


def _touch(path: Path) -> None:
    """Note that a file was used now: the kernel's own time is too coarse to tell which one was first."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(now := time.time_ns(), now))


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _check(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECK)


# Over HTTP


def routes(service: Service, thumbnails: Thumbnails) -> APIRouter:
    """The route of thumbnails below /api/v1. What several requests want is read or decoded once."""
    api = APIRouter()
    described: dict[int | str, Any] = {200: {"content": {"image/jpeg": {}}}, 304: {"description": "Not modified"}}
    in_flight: dict[str, asyncio.Task[bytes]] = {}
    decoding = asyncio.Semaphore(DECODES)

    async def load(digest: bytes, side: int, number: int) -> bytes:
        data = await asyncio.to_thread(thumbnails.get, digest, side)
        if data is None:
            async with decoding:  # A proxy asks for a whole page at once; waiting here leaves the executor to uploads.
                data = await service.decode.run(functools.partial(_made, thumbnails, digest, side, number))
        return data

    async def loaded(digest: bytes, side: int, number: int) -> bytes:
        name = etag(digest, side)
        if name not in in_flight:
            if len(in_flight) >= WAITING:
                raise UnavailableError("too many thumbnails at a time", advice="try again in a second")
            in_flight[name] = asyncio.create_task(load(digest, side, number))
            in_flight[name].add_done_callback(lambda _: in_flight.pop(name))
        return await asyncio.shield(in_flight[name])

    @api.get("/images/{number}/thumbnail", response_class=Response, responses=problems() | described)
    async def thumbnail(
        request: Request, number: ImageId, side: Annotated[int, Query(json_schema_extra={"enum": SIDES})] = SIDES[1]
    ) -> Response:
        """The image, upright, in sRGB and without metadata, at most `side` pixels wide and high."""
        if side not in SIDES:
            return problem(422, f"side: must be one of {', '.join(map(str, SIDES))}", exit_code=2)
        digest = await asyncio.to_thread(service.library.digest, number)
        if digest is None:
            return no_such_image(number)
        name = etag(digest, side)
        if unchanged := not_modified(request, name):
            return unchanged
        try:
            data = thumbnails.from_memory(digest, side) or await loaded(digest, side, number)
        except ImageError as exc:
            return of_error(exc, status=404)
        return Response(data, headers={"Cache-Control": "private, no-cache", "ETag": name}, media_type="image/jpeg")

    return api


def _made(thumbnails: Thumbnails, digest: bytes, side: int, number: int, library: Library) -> bytes:
    original = library.original(number)
    original.file.close()  # A decoder process opens it, and compares its hash.
    return thumbnails.make(digest, side, (original.path,))
