"""One image over HTTP: everything known about it, and its file, in ranges if asked for."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from clipsearch.errors import ImageError
from clipsearch.export.json import show_json
from clipsearch.library.library import Library
from clipsearch.library.originals import Original
from clipsearch.serve import schema
from clipsearch.serve.limits import MAX_K
from clipsearch.serve.problems import of_error
from clipsearch.serve.responses import answers, as_json, no_such_image, not_modified, problems
from clipsearch.serve.service import Service

ImageId = Annotated[int, Path(ge=1, le=schema.MAX_INTEGER, description="`id` of a hit")]

_RANGES: dict[int | str, dict[str, Any]] = {
    206: {"description": "A part of the file"},
    304: {"description": "Not modified"},
    416: {"description": "There is no such part", "content": {"text/plain": {}}},
}

_TYPES = {"JPEG2000": "image/jp2", "PPM": "image/x-portable-anymap", "RAW": "application/octet-stream"}
"""Where the media type is not the name of the format."""


def routes(service: Service) -> APIRouter:
    """Its routes below /api/v1."""
    api = APIRouter()

    @api.get("/images/{number}", responses=answers(schema.Image))
    async def image(
        number: ImageId,
        k: Annotated[int, Query(ge=0, le=MAX_K)] = 5,
        model: schema.Text | None = None,
    ) -> Response:
        """Everything known about an image, with its nearest neighbours."""
        return await service.search.run(partial(_shown, number=number, k=k, model=model))

    @api.get("/images/{number}/file", response_class=FileResponse, responses=problems() | _RANGES)
    async def file(request: Request, number: ImageId, download: bool = False) -> Response:
        """The file of an image as it is on disk, whole or in ranges; `download` asks browsers to save it."""
        digest = await asyncio.to_thread(service.library.digest, number)
        if digest is None:
            return no_such_image(number)
        if unchanged := not_modified(request, f'"{digest.hex()}"'):
            return unchanged
        try:
            original = await service.search.run(lambda library: library.original(number))
        except ImageError as exc:
            return of_error(exc, status=404)
        return OriginalResponse(original, download=download)

    return api


def _shown(library: Library, number: int, k: int, model: str | None) -> Response:
    if library.digest(number) is None:
        return no_such_image(number)
    return as_json(show_json(library.show(number, k=k, model=model)))


class OriginalResponse(FileResponse):
    """Sends the file that is open in `original`, whatever has become of its path, and closes it."""

    def __init__(self, original: Original, *, download: bool) -> None:
        kind = original.format or "RAW"
        super().__init__(
            f"/dev/fd/{original.file.fileno()}",
            headers={"ETag": f'"{original.digest}"', "Cache-Control": "private, no-cache"},
            media_type=_TYPES.get(kind, f"image/{kind.lower()}"),
            filename=os.fsencode(os.path.basename(original.path)).decode("utf-8", "replace"),
            stat_result=original.status,
            content_disposition_type="attachment" if download else "inline",
        )
        self._original = original

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._original.file:
            await super().__call__(scope, receive, send)
