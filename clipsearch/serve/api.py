"""The API's searches, classification and embedding, each answered by `Library`."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from clipsearch.catalog.filters import Filter
from clipsearch.classify.labels import labels_in
from clipsearch.classify.options import ClassifyOptions
from clipsearch.classify.templates import expand
from clipsearch.errors import UsageError
from clipsearch.export.json import clean, query_json, text
from clipsearch.export.json_reports import classify_json
from clipsearch.library.library import Library
from clipsearch.search.filter_options import read_filter
from clipsearch.search.query import QueryOptions
from clipsearch.search.terms import Image, Indexed, Term, Text, Uploads, parse_term
from clipsearch.serve import bodies, schema
from clipsearch.serve.limits import MAX_HITS, MAX_IMAGES, MAX_TEXTS
from clipsearch.serve.responses import answers, as_json
from clipsearch.serve.service import Service
from clipsearch.types import QueryResult

LINES = "application/x-ndjson"

MAX_PROMPTS = MAX_TEXTS * 80
"""Prompts of one classification: so many labels in the 80 templates of OpenAI."""

Params = TypeVar("Params", bound=BaseModel)


def routes(service: Service) -> APIRouter:
    """Their routes below /api/v1."""
    api = APIRouter()

    async def answered(
        request: Request, kind: type[Params], answer: Callable[[Library, Params, Uploads], Response]
    ) -> Response:
        """The answer to what a body asks for, which is read once there is room for the work, and parsed beside it."""
        executor = service.decode if bodies.has_images(request) else service.search
        async with executor.slot() as slot:
            await service.wait_for_model()
            data, uploads = await bodies.read(request)
            return await slot.run(lambda library: answer(library, schema.from_json(kind, data), uploads))

    @api.get("/search", responses=answers(schema.Found), openapi_extra=schema.parameters(schema.Search))
    async def search(request: Request) -> Response:
        """Find images by words, or by `id:N` of an image of the library."""
        params = schema.from_query(schema.Search, request.query_params.multi_items())
        async with service.search.slot() as slot:
            await service.wait_for_model()
            return await slot.run(partial(_found, params=params))

    @api.post("/search", responses=answers(schema.Found), openapi_extra=bodies.description(schema.PostedSearch))
    async def search_posted(request: Request) -> Response:
        """Find images by words and by uploaded images, or answer a batch of texts with a line for each."""
        return await answered(request, schema.PostedSearch, _found)

    @api.post("/classify", responses=answers(schema.Classification), openapi_extra=bodies.description(schema.Classify))
    async def classify(request: Request) -> Response:
        """Choose among labels for images of the library, or for uploaded images."""
        return await answered(request, schema.Classify, _classified)

    @api.post("/embed", responses=answers(schema.Embedded), openapi_extra=bodies.description(schema.Embed))
    async def embed(request: Request) -> Response:
        """Unit vectors of texts, or of uploaded images."""
        return await answered(request, schema.Embed, _embedded)

    return api


# What is answered, by a thread with a reader of its own: the event loop must not wait for a thousand hits as JSON


def find(library: Library, params: schema.Search, uploads: Uploads = ()) -> QueryResult:
    """The answer to a search. Raises what `Library.query` raises."""
    if not (params.q or params.text):
        raise UsageError("nothing to look for: give words or an image as `q`")
    first = Text(params.q) if params.text else parse_term(params.q, uploads=uploads)
    terms = [first, *(parse_term(term, uploads=uploads) for term in params.with_)]
    terms += [parse_term(term, image=True, uploads=uploads) for term in params.like]
    negative = [parse_term(term, uploads=uploads) for term in params.without]
    images = [term.source for term in (*terms, *negative) if isinstance(term, Image)]
    if len({*images}) < len({data for _, data in uploads}):
        raise UsageError("an uploaded image is not used; `q` or another term names it: image:0")
    if len(terms) + len(negative) > MAX_TEXTS or len(images) > MAX_IMAGES:
        raise UsageError(f"too many terms: at most {MAX_TEXTS}, {MAX_IMAGES} of them uploaded images")
    options = QueryOptions(
        negative=negative,
        match_all=params.all_,
        page=params.page,
        sort=params.sort,
        relevant=params.relevant,
        model=params.model,
        unfold=params.unfold,
        use_cache=not params.no_cache,
    )
    return library.query(terms, k=params.k, where=_where(params), options=options)


def _found(library: Library, params: schema.Search, uploads: Uploads = ()) -> Response:
    if isinstance(params, schema.PostedSearch) and params.queries:
        lines = (text(query_json(each), indent=None) for each in _batch(library, params, uploads))
        return Response("".join(lines), media_type=LINES)
    return as_json(query_json(find(library, params, uploads)))


def _batch(library: Library, params: schema.PostedSearch, uploads: Uploads) -> tuple[QueryResult, ...]:
    unused = params.model_fields_set - {"queries", "k", "model", "in_b64", *_FILTERS}
    if unused or uploads:
        name = min(unused).rstrip("_") if unused else bodies.IMAGE
        raise UsageError(f"`queries` takes `k`, filters and `model` only, not `{name}`")
    if len(params.queries) * params.k > MAX_HITS:
        raise UsageError(f"{len(params.queries)} queries with {params.k} hits each are more than {MAX_HITS} hits")
    return library.query_many(params.queries, k=params.k, where=_where(params), model=params.model)


_FILTERS = (
    *("in_", "taken", "tag", "rating", "caption", "name", "camera", "near", "format", "min_size"),
    *("landscape", "portrait", "indexed_since", "state"),
)


def _where(params: schema.Search) -> Filter | None:
    given: dict[str, Any] = {name: getattr(params, name) for name in _FILTERS}
    named = {"within": given.pop("in_"), "tags": given.pop("tag"), "formats": given.pop("format")}
    try:
        coded = params.in_b64 if isinstance(params, schema.PostedSearch) else ()
        places = [b64decode(place, validate=True) for place in coded]
    except ValueError as exc:
        raise UsageError("`in-b64`: not base64") from exc
    if not all(place.startswith((b"/", b"*/")) and b"\0" not in place for place in places):
        raise UsageError("`in-b64`: must be absolute paths, or globs that begin with */")
    where = read_filter(**given, **named, as_text=True) or Filter()
    return replace(where, within=(*where.within, *places), as_text=bool(where.within or places)) or None


def _classified(library: Library, params: schema.Classify, uploads: Uploads) -> Response:
    if bool(params.id) == bool(uploads):
        raise UsageError("classify either images of the library, by their `id`, or uploaded images")
    images: list[Image | Indexed] = [*map(Indexed, params.id), *(Image(source, name=name) for name, source in uploads)]
    labels = [label for value in params.labels for label in labels_in(value)]
    prompts = sum(len(label.words) for label in labels) * len(expand(params.template, default=""))
    if prompts > MAX_PROMPTS:
        raise UsageError(f"{prompts} prompts, one for each label and template: at most {MAX_PROMPTS}")
    options = ClassifyOptions(
        k=params.k or (None if params.multi else 5),
        multi=params.multi,
        threshold=params.threshold,
        unknown=params.unknown,
        margin=params.margin,
        templates=params.template,
        model=params.model,
    )
    return as_json(classify_json(library.classify(images, labels, options=options)))


def _embedded(library: Library, params: schema.Embed, uploads: Uploads) -> Response:
    if bool(params.texts) == bool(uploads):
        raise UsageError("give either `texts` or images")
    terms: list[Term] = [*map(Text, params.texts), *(Image(source, name=name) for name, source in uploads)]
    found = library.embed(terms, model=params.model)
    value = {
        "model": found.model.spec,
        "fingerprint": found.model.fingerprint,
        "dim": found.model.dim,
        "vectors": found.vectors.tolist(),
        "notices": [clean(notice) for notice in found.notices],
    }
    return as_json(value)
