"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from clipsearch import errors
from clipsearch.export.json import clean

MEDIA_TYPE = "application/problem+json"


class UnavailableError(errors.ClipsearchError):
    """The server cannot answer now, and may a little later."""


_STATUS: dict[type[errors.ClipsearchError], int] = {
    errors.UsageError: 400,
    errors.NoLibraryError: 503,
    errors.ImageError: 422,
    errors.UnsupportedImageError: 415,
    errors.EncoderError: 503,
    errors.ModelMismatchError: 409,
    errors.LockedError: 409,
    errors.StoppedError: 503,
    UnavailableError: 503,
}
"""The status of each class of error, unless a subclass has its own; 500 for the others."""


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: object) -> Response:
    """A response with the problem's status, the status's usual title, a detail and further members."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    return Response(json.dumps(body), status, headers, MEDIA_TYPE)


def of_error(error: errors.ClipsearchError, *, status: int = 0) -> Response:
    """An error as a problem, in the words of the command line; `exit_code` is what that would leave with.

    status: in place of the usual one.
    """
    status = status or next((_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS), 500)
    headers = {"Retry-After": "1"} if isinstance(error, UnavailableError) else None  # The others last.
    return problem(status, clean(str(error)) or "", headers=headers, exit_code=error.exit_code)


def of_exception(exc: Exception) -> Response:
    """Any exception as a problem; of invalid values, the first."""
    if isinstance(exc, errors.ClipsearchError):
        return of_error(exc)
    if isinstance(exc, HTTPException):
        return problem(exc.status_code, exc.detail, headers=exc.headers)
    if isinstance(exc, RequestValidationError | ValidationError):
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if part not in ("query", "path", "body"))
        return problem(422, f"{name}: {first['msg']}" if name else str(first["msg"]), exit_code=2)
    return problem(500, "The server failed unexpectedly; its log says where.", exit_code=1)
