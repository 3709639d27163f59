"""The application: the API and the pages, with errors as problem details, behind the guard."""

from __future__ import annotations

from importlib import metadata

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from clipsearch.errors import ClipsearchError
from clipsearch.serve import api, images, pages, status, thumbnails
from clipsearch.serve.guard import Guard, Policy
from clipsearch.serve.problems import of_exception
from clipsearch.serve.service import Service

API = "/api/v1"


def application(service: Service, policy: Policy) -> ASGIApp:
    """The ASGI application of a server."""

    app = FastAPI(
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        title="clipsearch",
        version=metadata.version("clipsearch"),
        docs_url=None,  # Their pages load scripts from other hosts.
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        redirect_slashes=False,  # They would lead out of a proxy's path.
    )
    store = thumbnails.Thumbnails()
    for routes in (api.routes, images.routes, status.routes):
        app.include_router(routes(service), prefix=API)
    app.include_router(thumbnails.routes(service, store), prefix=API)
    app.include_router(pages.routes(service, store))

    @app.api_route("/healthz", methods=["GET", "HEAD"], include_in_schema=False)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    for kind in (ClipsearchError, RequestValidationError, ValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _problem)
    return Guard(app, policy)


async def _problem(_: Request, exc: Exception) -> Response:
    return of_exception(exc)
