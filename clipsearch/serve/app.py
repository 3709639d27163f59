"""The application: the API and the pages, with errors as problem details, behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from clipsearch.errors import ClipsearchError
from clipsearch.serve import api, pages, thumbnails
from clipsearch.serve.guard import Guard, Policy
from clipsearch.serve.problems import of_error, of_invalid, problem
from clipsearch.serve.service import Service

API = "/api/v1"


def application(service: Service, policy: Policy) -> ASGIApp:
    """The ASGI application of a server."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield

    app = FastAPI(
        title="clipsearch",
        version=metadata.version("clipsearch"),
        docs_url=None,  # Their pages load scripts from other hosts.
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        redirect_slashes=False,  # They would lead out of a proxy's path.
        lifespan=lifespan,
    )
    store = thumbnails.Thumbnails()
    app.include_router(api.routes(service), prefix=API)
    app.include_router(thumbnails.routes(service, store), prefix=API)
    app.include_router(pages.routes(service, store))

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    app.add_exception_handler(ClipsearchError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(ValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)
    return Guard(app, policy)


async def _on_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, ClipsearchError)
    return of_error(exc)


async def _on_invalid(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError | ValidationError)
    return of_invalid(exc.errors())


async def _on_unexpected(*_: object) -> Response:
    return problem(500, "The server failed unexpectedly; its log says where.", exit_code=1)


async def _on_http(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return problem(exc.status_code, str(exc.detail), headers=exc.headers)
