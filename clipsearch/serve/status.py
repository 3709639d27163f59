"""What the server is doing, over HTTP: its status, and the index run, which requests start, watch and stop."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from clipsearch.export.json_reports import info_json
from clipsearch.serve import bodies, schema
from clipsearch.serve.problems import problem
from clipsearch.serve.responses import answers, as_json, problems
from clipsearch.serve.service import Service

EVENTS = "text/event-stream"

_EVENT = {"type": "object", "properties": {"event": {"type": "string"}, "data": {"type": "string"}}}


def routes(service: Service) -> APIRouter:
    """Their routes below /api/v1."""
    api = APIRouter()

    async def allowed(request: Request) -> None:
        if not service.may_index:
            raise HTTPException(403, "index runs are off; the server must be started with --allow-index")
        if await bodies.read(request) not in ((b"", []), (b"{}", [])):
            raise HTTPException(400, "there are no parameters: a run covers the folders that the library knows")

    @api.get("/status", responses=answers(schema.Status))
    async def status() -> Response:
        """What the library contains, and what the server is doing."""
        about = info_json(await service.search.run(lambda library: library.info()))
        now = {"model": service.model, "model_reason": service.model_reason, "may_index": service.may_index}
        return as_json({"library": about, **now, "run": service.runs.state()})

    @api.post("/index", status_code=202, responses=answers(schema.Run, 202), dependencies=[Depends(allowed)])
    async def index() -> Response:
        """Start an index run over the folders that the library knows."""
        return as_json(await service.runs.start(), 202)

    @api.post("/index/stop", status_code=202, responses=answers(schema.Run, 202), dependencies=[Depends(allowed)])
    async def stop() -> Response:
        """Let the run finish its batch and end; what it has done is kept."""
        service.runs.stop()
        state = service.runs.state()
        return problem(409, "no index run has been started") if state is None else as_json(state, 202)

    @api.get("/index/events", responses={**problems(), 200: {"content": {EVENTS: {"schema": _EVENT}}}})
    async def events() -> Response:
        """The run's state as server-sent events, until it ends."""
        return StreamingResponse(service.runs.events(), media_type=EVENTS)

    return api
