"""The API: search, images, classification, embedding and status, each answered from `Library`."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import FileResponse, StreamingResponse

from clipsearch.catalog.filters import Filter
from clipsearch.classify.labels import labels_in
from clipsearch.classify.options import ClassifyOptions
from clipsearch.errors import ImageError, UsageError
from clipsearch.export.json import clean, query_json, show_json, text
from clipsearch.export.json_reports import classify_json, info_json
from clipsearch.library.library import Library
from clipsearch.search.filter_options import read_filter
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Image, Indexed, Term, Text, Uploads, parse_term
from clipsearch.serve import bodies, schema
from clipsearch.serve.lanes import Place
from clipsearch.serve.originals import OriginalResponse
from clipsearch.serve.problems import problem
from clipsearch.serve.service import Service
from clipsearch.types import QueryResult

LINES, EVENTS = "application/x-ndjson", "text/event-stream"

_EVENT = {"type": "object", "properties": {"event": {"type": "string"}, "data": {"type": "string"}}}

Asked = TypeVar("Asked", bound=BaseModel)
ImageId = Annotated[int, Path(ge=1, le=schema.MAX_INTEGER, description="`id` of a hit")]


def routes(service: Service) -> APIRouter:
    """The routes below /api/v1."""
    api = APIRouter()

    @asynccontextmanager
    async def posted(request: Request, kind: type[Asked]) -> AsyncIterator[tuple[Asked, Uploads, Place]]:
        """What a body asks for, read once there is a place in the lane that it needs."""
        async with (service.decode if bodies.has_images(request) else service.search).place() as place:
            await service.wait_for_model()
            yield *await bodies.read(request, kind), place

    @api.get("/search", responses=_answers(schema.Found), openapi_extra=schema.parameters(schema.Search))
    async def search(request: Request) -> Response:
        """Find images by words, or by `id:N` of an image of the library."""
        asked = schema.read_parameters(schema.Search, request.query_params.multi_items())
        async with service.search.place() as place:
            await service.wait_for_model()
            return await place.run(partial(_found, asked=asked))

    @api.post("/search", responses=_answers(schema.Found), openapi_extra=bodies.description(schema.PostedSearch))
    async def search_posted(request: Request) -> Response:
        """Find images by words and by images that are sent along, or answer a batch of texts with a line for each."""
        async with posted(request, schema.PostedSearch) as (asked, uploads, place):
            work = partial(_found_many, asked=asked) if asked.queries else partial(_found, asked=asked, uploads=uploads)
            return await place.run(work)

    @api.get("/images/{number}", responses=_answers(schema.Image))
    async def image(number: ImageId, k: Annotated[int, Query(ge=0, le=schema.MAX_K)] = 5) -> Response:
        """Everything known about an image, with its nearest neighbours."""
        if service.library.digest(number) is None:
            return unknown(number)
        return await service.search.run(lambda library: _json(show_json(library.show(number, k=k))))

    @api.get("/images/{number}/file", response_class=FileResponse, responses=problems())
    async def file(request: Request, number: ImageId, download: bool = False) -> Response:
        """The file of an image as it is on disk, whole or in ranges; `download` asks browsers to save it."""
        digest = service.library.digest(number)
        if digest is None:
            return unknown(number)
        if request.headers.get("if-none-match") == f'"{digest.hex()}"':
            return Response(status_code=304)
        try:
            original = await service.search.run(lambda library: library.original(number))
        except ImageError as exc:
            return problem(404, clean(str(exc)) or "", exit_code=exc.exit_code)
        return OriginalResponse(original, download=download)

    @api.post("/classify", responses=_answers(schema.Classification), openapi_extra=bodies.description(schema.Classify))
    async def classify(request: Request) -> Response:
        """Choose among labels for images of the library, or for images that are sent along."""
        async with posted(request, schema.Classify) as (asked, uploads, place):
            return await place.run(partial(_classified, asked=asked, uploads=uploads))

    @api.post("/embed", responses=_answers(schema.Embedded), openapi_extra=bodies.description(schema.Embed))
    async def embed(request: Request) -> Response:
        """Unit vectors of texts, or of images that are sent along."""
        async with posted(request, schema.Embed) as (asked, uploads, place):
            return await place.run(partial(_embedded, asked=asked, uploads=uploads))

    @api.get("/status", responses=_answers(schema.Status))
    async def status() -> Response:
        """What the library contains, and what the server is doing."""
        about = info_json(await service.search.run(lambda library: library.info()))
        return _json(
            {
                "library": about,
                "model": service.model,
                "model_reason": service.model_reason,
                "may_index": service.may_index,
                "run": service.runs.state(),
            }
        )

    @api.post("/index", status_code=202, responses=_answers(schema.Run, 202))
    async def index() -> Response:
        """Start an index run over the folders that the library knows."""
        if not service.may_index:
            return problem(403, "this server does not start index runs", exit_code=1)
        return _json(await service.runs.start(), 202)

    @api.post("/index/stop", status_code=202, responses=_answers(schema.Run, 202))
    async def stop() -> Response:
        """Let the run finish its batch and end; what it has done is kept."""
        if not service.may_index:
            return problem(403, "this server does not start index runs", exit_code=1)
        service.runs.stop()
        state = service.runs.state()
        return problem(409, "no index run has been started here") if state is None else _json(state, 202)

    @api.get("/index/events", responses={200: {"content": {EVENTS: {"schema": _EVENT}}}})
    async def events() -> Response:
        """The run's state as server-sent events, until it ends."""
        return StreamingResponse(service.runs.events(), media_type=EVENTS)

    return api


# What is answered, by a thread with a reader of its own: the event loop must not wait for a thousand hits as JSON


def find(library: Library, asked: schema.Search, uploads: Uploads = ()) -> QueryResult:
    """The answer to a search. Raises what `Library.query` raises."""
    if not (asked.q or asked.text):
        raise UsageError("nothing to look for: give words or an image as `q`")
    first = Text(asked.q) if asked.text else parse_term(asked.q, uploads=uploads)
    others = [parse_term(term, uploads=uploads) for term in asked.with_]
    likes = [parse_term(term, image=True, uploads=uploads) for term in asked.like]
    options = QueryOptions(
        negative=[parse_term(term, uploads=uploads) for term in asked.without],
        match_all=asked.all_,
        page=asked.page,
        sort=asked.sort,
        relevant=asked.relevant,
        model=asked.model,
        unfold=asked.unfold,
        use_cache=not asked.no_cache,
    )
    terms: list[Term] = [first, *others, *likes]
    return library.query(terms, k=asked.k, where=_where(asked), options=options)


def _found(library: Library, asked: schema.Search, uploads: Uploads = ()) -> Response:
    return _json(query_json(find(library, asked, uploads)))


def _found_many(library: Library, asked: schema.PostedSearch) -> Response:
    lines = (text(query_json(each), indent=None) for each in find_many(library, asked))
    return Response("".join(lines), media_type=LINES)


def find_many(library: Library, asked: schema.PostedSearch) -> tuple[QueryResult, ...]:
    """The answers to a batch of texts."""
    unused = asked.model_fields_set - {"queries", "k", "model", *_FILTERS}
    if unused:
        raise UsageError(f"`queries` takes `k`, filters and `model` only, not `{min(unused).rstrip('_')}`")
    return library.query_many(asked.queries, k=asked.k, where=_where(asked), model=asked.model)


_FILTERS = (
    *("in_", "in_b64", "taken", "tag", "rating", "caption", "name", "camera", "near", "format", "min_size"),
    *("landscape", "portrait", "indexed_since", "state"),
)


def _where(asked: schema.Search) -> Filter | None:
    given: dict[str, Any] = {name: getattr(asked, name) for name in _FILTERS}
    named = {"within": given.pop("in_"), "tags": given.pop("tag"), "formats": given.pop("format")}
    try:
        places = [b64decode(place, validate=True) for place in given.pop("in_b64")]
    except ValueError as exc:
        raise UsageError("`in-b64`: not base64") from exc
    if not all(place.startswith((b"/", b"*/")) and b"\0" not in place for place in places):
        raise UsageError("`in-b64`: must be absolute paths, or globs that begin with */")
    where = read_filter(**given, **named) or Filter()
    return replace(where, within=(*where.within, *places)) or None


def _classified(library: Library, asked: schema.Classify, uploads: Uploads) -> Response:
    if bool(asked.id) == bool(uploads):
        raise UsageError("classify images of the library by their `id`, or send images along")
    images: list[Image | Indexed] = [*map(Indexed, asked.id), *(Image(source, name=name) for name, source in uploads)]
    options = ClassifyOptions(
        k=asked.k or (None if asked.multi else 5),
        multi=asked.multi,
        threshold=asked.threshold,
        unknown=asked.unknown,
        margin=asked.margin,
        templates=asked.template,
        model=asked.model,
    )
    labels = [label for value in asked.labels for label in labels_in(value)]
    return _json(classify_json(library.classify(images, labels, options=options)))


def _embedded(library: Library, asked: schema.Embed, uploads: Uploads) -> Response:
    if bool(asked.texts) == bool(uploads):
        raise UsageError("give `texts`, or send images along")
    terms: list[Term] = [*map(Text, asked.texts), *(Image(source, name=name) for name, source in uploads)]
    found = library.embed(terms, model=asked.model)
    value = {
        "model": found.model.spec,
        "fingerprint": found.model.fingerprint,
        "dim": found.model.dim,
        "vectors": found.vectors.tolist(),
        "notices": list(found.notices),
    }
    return _json(value)


# Responses


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(text(value), status, media_type="application/json")


def unknown(number: int) -> Response:
    """The response where the library has no image with this id."""
    return problem(404, f"id:{number}: the library has no such image", exit_code=UsageError.exit_code)


def _answers(kind: type[BaseModel], status: int = 200) -> Any:  # noqa: ANN401 - as FastAPI declares it
    return {status: {"model": kind}, **problems()}


def problems() -> dict[int | str, Any]:
    """The declaration of the problems that may come instead of an answer."""
    return {
        error: {"model": schema.Problem, "content": {"application/problem+json": {}}}
        for error in (400, 401, 403, 404, 409, 413, 415, 421, 422, 503)
    }
