"""The bodies of POST requests: JSON, or a form with images, which stay in memory."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from clipsearch.errors import UsageError
from clipsearch.search.terms import Uploads
from clipsearch.serve.limits import MAX_IMAGES, MAX_JSON, MAX_PARTS, READING_S

FORM = "multipart/form-data"
PARAMETERS = "query"
"""The part of a form that has the parameters, as JSON."""
IMAGE = "image"
"""The name of all other parts."""


logging.getLogger("python_multipart").setLevel(logging.ERROR)  # It warns of what the client is told anyway.


class _InMemory(MultiPartParser):
    spool_max_size = 2**40


def has_images(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith(FORM)


async def read(request: Request) -> tuple[bytes, Uploads]:
    """The JSON in a body, and the images that came along. Raises UsageError, HTTPException."""
    try:
        async with asyncio.timeout(READING_S):
            return await _form(request) if has_images(request) else (await _json(request), [])
    except TimeoutError as exc:
        raise HTTPException(408, "the request takes too long to arrive") from exc


async def _json(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_JSON:
            raise HTTPException(413, f"the JSON is larger than {MAX_JSON} bytes")
    return bytes(data)


async def _form(request: Request) -> tuple[bytes, Uploads]:
    try:
        parser = _InMemory(request.headers, request.stream(), max_files=MAX_PARTS, max_fields=MAX_PARTS)
        form = await parser.parse()
    except MultiPartException as exc:
        raise UsageError(f"the form cannot be read: {exc.message}") from exc
    data, uploads = b"", list[tuple[str, bytes]]()
    parts = form.multi_items()
    if len(parts) > MAX_PARTS:
        raise UsageError(f"{len(parts)} parts in the form; at most {MAX_PARTS}")
    for name, part in parts:
        content = await part.read() if isinstance(part, UploadFile) else part.encode()
        if name == PARAMETERS and not data and len(content) <= MAX_JSON:
            data = content
        elif name == IMAGE and isinstance(part, UploadFile):
            uploads.append((part.filename or f"image:{len(uploads)}", content))
        else:
            raise UsageError(f"a part {name!r} in the form: one is named {PARAMETERS}, and each file {IMAGE}")
    return data, uploads


def description(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of such a body."""
    schema = kind.model_json_schema()
    image = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": MAX_IMAGES}
    form = {"type": "object", "properties": {PARAMETERS: schema, IMAGE: image}}
    return {"requestBody": {"content": {"application/json": {"schema": schema}, FORM: {"schema": form}}}}
