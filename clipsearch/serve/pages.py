"""The page at `/`: a search box and results, without JavaScript; and the files that it loads."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from pydantic import Field, ValidationError
from starlette.responses import HTMLResponse

from clipsearch.display.html import page as html
from clipsearch.errors import ClipsearchError
from clipsearch.library.library import Library
from clipsearch.serve import schema
from clipsearch.serve.api import find
from clipsearch.serve.limits import MAX_K
from clipsearch.serve.problems import of_exception, problem
from clipsearch.serve.responses import not_modified
from clipsearch.serve.service import Service
from clipsearch.serve.thumbnails import Thumbnails
from clipsearch.types import Hit, QueryResult

_HERE = Path(__file__).parent
_SHARED = Path(html.__file__).parent
_TEMPLATE = html.environment(_HERE / "templates").get_template("search.html.jinja")

_FILES = (_SHARED / "page.css", _SHARED / "gallery.css", _HERE / "assets" / "search.css", _HERE / "assets" / "icon.svg")
_ASSETS = {path.name: path.read_bytes() for path in _FILES}
_TYPES = {"css": "text/css", "svg": "image/svg+xml"}

_SIDE = 320
"""Pixels of a thumbnail's longer side, as in galleries."""

_OWN = ("q", "relevant", "page")
"""Parameters that the form and the links have themselves; they carry the others along."""


class PageSearch(schema.Search):
    """What the page searches for, and what its links carry along: the parameters of the API."""

    k: int = Field(50, ge=1, le=MAX_K)


class Card(NamedTuple):
    """A hit in the grid, with the size of its thumbnail; `is_shown` is false where the server has none and no file."""

    hit: Hit
    width: int
    height: int
    is_shown: bool


def routes(service: Service, thumbnails: Thumbnails) -> APIRouter:
    """The page and its files."""
    pages = APIRouter(include_in_schema=False)

    @pages.get("/")
    async def search(request: Request) -> Response:
        try:
            params = schema.from_query(PageSearch, request.query_params.multi_items())
            if not params.q.strip():
                return _page(request, is_loading=service.model == "loading")
            async with service.search.slot() as slot:
                await service.wait_for_model()
                return await slot.run(partial(_found, request, params, thumbnails))
        except (ValidationError, ClipsearchError) as exc:
            refusal = of_exception(exc)
        page = _page(request, refusal.status_code, problem=json.loads(bytes(refusal.body))["detail"])
        page.headers.update({name: value for name, value in refusal.headers.items() if name == "retry-after"})
        return page

    @pages.get("/assets/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in _ASSETS:
            return problem(404, "There is no such file.")
        etag = f'"{hashlib.sha256(_ASSETS[name]).hexdigest()}"'
        if unchanged := not_modified(request, etag):
            return unchanged
        headers = {"Cache-Control": "private, no-cache", "ETag": etag}
        return Response(_ASSETS[name], headers=headers, media_type=_TYPES[name.rpartition(".")[2]])

    return pages


def _found(request: Request, params: PageSearch, thumbnails: Thumbnails, library: Library) -> Response:
    """The page with the answer to a search. Raises what `Library.query` raises."""
    result = find(library, params)
    cards = [_card(hit, thumbnails, library) for hit in result]
    return _page(
        request,
        result=result,
        cards=cards,
        page=params.page,
        first=params.k * (params.page - 1) + 1,
        before=_link(request, page=params.page - 1) if params.page > 1 else "",
        after=_link(request, page=params.page + 1) if len(result) >= params.k else "",
        everything=_link(request, relevant="false"),
    )


def _card(hit: Hit, thumbnails: Thumbnails, library: Library) -> Card:
    width, height = hit.width or _SIDE, hit.height or _SIDE
    scale = min(1.0, _SIDE / max(width, height))
    digest = library.digest(hit.id) if hit.offline else None
    is_shown = not hit.offline or (digest is not None and thumbnails.get(digest, _SIDE) is not None)
    return Card(hit, max(1, round(width * scale)), max(1, round(height * scale)), is_shown)


def _link(request: Request, **changes: object) -> str:
    """The address of the same search with some parameters changed."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in (*changes, "page")]
    return f"?{urlencode([*kept, *changes.items()])}"


def _page(request: Request, status: int = 200, *, result: QueryResult | None = None, **values: object) -> HTMLResponse:
    given = request.query_params
    text = _TEMPLATE.render(
        query=given.get("q", ""),
        is_relevant=given.get("relevant", "").lower() in ("true", "1", "on", "yes", "t", "y"),
        others=[(name, value) for name, value in given.multi_items() if name not in _OWN],
        side=_SIDE,
        result=result,
        **({"problem": "", "is_loading": False, "page": 1} | values),
    )
    return HTMLResponse(text, status, {"Cache-Control": "private, no-cache"})
