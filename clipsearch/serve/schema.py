"""What requests may contain and what answers look like, for validation and for the OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from clipsearch import types
from clipsearch.errors import UsageError
from clipsearch.serve.limits import MAX_K, MAX_PATH, MAX_TEXT, MAX_TEXTS
from clipsearch.types import MAX_INTEGER, ContentState, HitState, ScoreKind, Sort

Params = TypeVar("Params", bound=BaseModel)

Id = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Texts = Annotated[list[Text], Field(max_length=MAX_TEXTS)]


class Request(BaseModel):
    """Parameters under the names of the command line's options; others are refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=lambda name: name.rstrip("_").replace("_", "-"))


class Search(Request):
    """Terms, filters and options of `clipsearch query`; `q` has the words, or `id:N`."""

    q: Text = ""
    text: bool = False
    with_: Texts = []
    without: Texts = []
    like: Texts = []
    all_: bool = False
    k: int = Field(10, ge=1, le=MAX_K)
    page: int = Field(1, ge=1, le=MAX_INTEGER // MAX_K)
    in_: Texts = []
    taken: Text | None = None
    tag: Texts = []
    rating: Text | None = None
    caption: Text | None = None
    name: Text | None = None
    camera: Text | None = None
    near: Text | None = None
    format: Texts = []
    min_size: Text | None = None
    landscape: bool = False
    portrait: bool = False
    indexed_since: Text | None = None
    state: HitState | None = None
    relevant: bool = False
    sort: Sort = "score"
    unfold: bool = False
    model: Text | None = None
    no_cache: bool = False


_REPEATABLE = {name for name, about in Search.model_json_schema()["properties"].items() if about.get("type") == "array"}


class PostedSearch(Search):
    """As `Search`; or `queries`, texts that are each a query of its own, which take `k`, filters and `model` only.

    With images in a multipart request, `image:0` names the first of them in `q`, `with`, `without` and `like`.
    """

    queries: Texts = []
    in_b64: Annotated[list[Annotated[str, StringConstraints(max_length=MAX_PATH)]], Field(max_length=MAX_TEXTS)] = []
    """More places: paths and globs as `catalog.filters.Filter.within` has them, in base64, which keeps every byte."""


class Classify(Request):
    """The options of `clipsearch classify`, for images of the library (`id`) or uploaded ones."""

    labels: Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    id: Annotated[list[Id], Field(max_length=MAX_K)] = []
    template: Texts = []
    multi: bool = False
    threshold: float = Field(0.5, ge=0, le=1)
    unknown: bool = False
    margin: float | None = Field(None, allow_inf_nan=False)
    k: int | None = Field(None, ge=1, le=MAX_TEXTS)
    model: Text | None = None


class Embed(Request):
    """Texts to embed; or none, with uploaded images."""

    texts: Texts = []
    model: Text | None = None


def from_query(kind: type[Params], given: Iterable[tuple[str, str]]) -> Params:
    """The parameters of a GET request; the last one counts where only one can. Raises as `checked`.

    FastAPI's own way takes a fifth of the time that a request costs beside its search.
    """
    values: dict[str, Any] = {}
    for name, value in given:
        if name in _REPEATABLE:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return checked(kind, values)


def from_json(kind: type[Params], data: bytes) -> Params:
    """The parameters in a body; an empty one has none. Raises as `checked`."""
    try:
        values = json.loads(data or b"{}")
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"the body is not valid JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise UsageError("the body must be a JSON object")
    return checked(kind, values)


def checked(kind: type[Params], values: dict[str, Any]) -> Params:
    """Raises UsageError for unknown names, pydantic's ValidationError for invalid values."""
    known = {about.alias for about in kind.model_fields.values()}
    unknown = next((name for name in values if name not in known), None)
    if unknown is not None:
        raise UsageError(f"{unknown[:80]}: there is no such parameter")
    return kind.model_validate(values)


def parameters(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of them."""
    properties = kind.model_json_schema()["properties"]
    return {"parameters": [{"name": name, "in": "query", "schema": about} for name, about in properties.items()]}


class Answer(BaseModel):
    """An answer has the keys that the command line prints with --json, and may get more of them."""


def _of(kind: type, **others: Any) -> Any:  # noqa: ANN401 - a model, made at run time
    """The answer with the fields of a dataclass, which are all there, and with `others`."""
    fields: dict[str, Any] = {name: (found, ...) for name, found in get_type_hints(kind).items()}
    return create_model(kind.__name__, __base__=Answer, **(fields | others))


class Also(Answer):
    id: int
    path: str
    path_b64: str | None = None
    format: str | None


Hit = _of(types.Hit, path_b64=(str | None, None), paths_b64=(list[str] | None, None), also=(list[Also], ...))


class Found(Answer):
    """The answer of `clipsearch query --json`."""

    schema_version: int
    query: str
    model: str
    is_clip: bool
    weak_below: float | None
    score_kind: ScoreKind
    hits: list[Hit]  # type: ignore[valid-type]
    relevant_total: int | None
    relevant_total_exact: bool | None
    notices: list[str]
    notice_kinds: list[str]


class File(Answer):
    path: str
    path_b64: str | None = None
    state: str


class View(Answer):
    model: str
    view: int
    box: tuple[int, int, int, int] | None


class Image(Answer):
    """The answer of `clipsearch show --json`."""

    schema_version: int
    id: int
    digest: str
    bytes: int
    facts: dict[str, Any] | None
    state: ContentState
    reason: str | None
    decoder: str
    added_at: str
    files: list[File]
    views: list[View]
    neighbours: list[Hit]  # type: ignore[valid-type]


class Prediction(Answer):
    label: str
    probability: float
    score: float


class Classified(Answer):
    path: str
    path_b64: str | None = None
    id: int | None = None
    paths: list[str] = []
    offline: bool = False
    unknown: bool = False
    margin: float | None = None
    predictions: list[Prediction]
    reason: str | None = None


class Classification(Answer):
    """The answer of `clipsearch classify --json`."""

    schema_version: int
    model: str
    is_clip: bool
    results: list[Classified]
    notices: list[str]
    threshold: float | None = None


class Embedded(Answer):
    """Unit vectors in the order of the texts or images, and what identifies the encoder that made them."""

    model: str
    fingerprint: str
    dim: int
    vectors: list[list[float]]
    notices: list[str]


class Run(Answer):
    """The last index run that was started here; `report` is what `clipsearch index --json` prints."""

    state: Literal["running", "finished", "stopped", "failed"]
    progress: dict[str, Any] | None
    report: dict[str, Any] | None
    error: str | None


class Status(Answer):
    """`library` is what `clipsearch info --json` prints; `run` the index run, if one was started here."""

    library: dict[str, Any]
    model: Literal["loading", "ready", "failed"]
    model_reason: str | None
    may_index: bool
    run: Run | None


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    exit_code: int | None = None
