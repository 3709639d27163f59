"""Responses that several routes give, and how OpenAPI describes them."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from clipsearch.errors import UsageError
from clipsearch.export.json import text
from clipsearch.serve.problems import MEDIA_TYPE, problem
from clipsearch.serve.schema import Problem


def as_json(value: dict[str, Any], status: int = 200) -> Response:
    """The text that the command line prints."""
    return Response(text(value), status, media_type="application/json")


def no_such_image(number: int) -> Response:
    return problem(404, f"id:{number}: the library has no such image", exit_code=UsageError.exit_code)


def not_modified(request: Request, etag: str) -> Response | None:
    """The whole response, if the client has this version already."""
    tags = [tag.strip().removeprefix("W/") for tag in ",".join(request.headers.getlist("if-none-match")).split(",")]
    if etag not in tags and tags != ["*"]:
        return None
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": "private, no-cache"})


def answers(kind: type[BaseModel], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The declaration of an answer, and of the problems that may come instead."""
    return {status: {"model": kind}, **problems()}


def problems() -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": Problem, "content": {MEDIA_TYPE: {}}}
        for status in (400, 401, 403, 404, 408, 409, 413, 415, 421, 422, 500, 503)
    }
