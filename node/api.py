"""The engine's HTTP API: start executions, and read what the log says about them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.api_answers import (
    Ack,
    Answers,
    Unproven,
    body_of,
    engine_error,
    http_error,
    query_of,
    trace_of,
    unexpected,
    unproven,
    validation_error,
)
from node.api_control import ControlApi
from node.api_log import LogApi
from node.api_messages import MessagesApi
from node.api_metrics import MetricsApi
from node.api_schedules import SchedulesApi
from node.api_streams import StreamsApi
from node.api_webhooks import WebhooksApi
from node.engine.engine import Engine
from node.engine.errors import EngineError
from node.engine.events import CLOSED_STATUS, Event, Reuse, Status
from node.engine.views import ExecutionView

#: The longest wait for a result, in seconds; ask again for more.
LONGEST_WAIT: Final = 60.0
EPOCH_HEADER: Final = "litefleet-epoch"

_CLOSED: Final = frozenset(CLOSED_STATUS.values())


class StartRequest(BaseModel):
    """What POST /executions takes."""

    model_config = ConfigDict(extra="forbid")

    workflow: str
    id: str | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    reuse: Reuse = Reuse.EXISTING
    ack: Ack = "durable"


class ListQuery(BaseModel):
    """What GET /executions takes."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    workflow: str | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    after: Annotated[int, Field(ge=0)] = 0


class EventsQuery(BaseModel):
    """What GET /executions/{id}/events takes."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    after: Annotated[int, Field(ge=0)] = 0


class ResultQuery(BaseModel):
    """What GET /executions/{id}/result takes."""

    model_config = ConfigDict(extra="forbid")

    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT)] = 0
    ack: Ack = "durable"


def create_api(
    engine: Engine,
    *,
    proof_timeout: float = 10.0,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
    log: Path | None = None,
    metrics: MetricsApi | None = None,
) -> Starlette:
    """The API of one engine. The secrets of its webhooks are in the `environment`; `clock` gives
    unix seconds; `log` is the file that its process logs to.

    An answer says `durable: true` only when the log up to its bookmark is proven; it waits up
    to `proof_timeout` seconds for that.
    """
    return _EngineApi(
        engine.config.epoch,
        routes=[
            *_Api(engine, proof_timeout, environment, clock).routes(),
            *LogApi(log).routes(),
            *(metrics or MetricsApi(engine)).routes(),
        ],
        exception_handlers={
            EngineError: engine_error,
            ValidationError: validation_error,
            HTTPException: http_error,
            Unproven: unproven,
            Exception: unexpected,
        },
    )


class _EngineApi(Starlette):
    def __init__(self, epoch: int, **options: Any) -> None:
        super().__init__(**options)
        self._epoch = str(epoch).encode()

    def build_middleware_stack(self) -> ASGIApp:
        # Around everything, since the handler of unexpected errors is outside of any middleware.
        return _EpochHeader(super().build_middleware_stack(), self._epoch)


class _EpochHeader:
    """Puts the epoch on every answer, so that a gateway can tell an old engine's from a new."""

    def __init__(self, app: ASGIApp, epoch: bytes) -> None:
        self.app = app
        self.header = (EPOCH_HEADER.encode(), epoch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self.header]
            await send(message)

        await self.app(scope, receive, stamped if scope["type"] == "http" else send)


class _Api:
    def __init__(
        self,
        engine: Engine,
        proof_timeout: float,
        environment: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        self.engine = engine
        self.answers = Answers(engine, proof_timeout)
        self.webhooks = WebhooksApi(engine, self.answers, environment, clock)
        self.started_at = time.monotonic()

    def routes(self) -> list[Route]:
        return [
            Route("/executions", self.start, methods=["POST"]),
            Route("/executions", self.list, methods=["GET"]),
            Route("/executions/{id}", self.show, methods=["GET"]),
            Route("/executions/{id}/events", self.events, methods=["GET"]),
            Route("/executions/{id}/result", self.result, methods=["GET"]),
            Route("/status", self.status, methods=["GET"]),
            *MessagesApi(self.engine, self.answers).routes(),
            *ControlApi(self.engine, self.answers).routes(),
            *StreamsApi(self.engine, self.answers).routes(),
            *SchedulesApi(self.engine, self.answers).routes(),
            *self.webhooks.routes(),
        ]

    async def start(self, request: Request) -> Response:
        body = await body_of(StartRequest, request)
        self.answers.admit(body.ack, "a start")
        started = await self.engine.start(
            body.workflow, body.input, id=body.id, reuse=body.reuse, trace=trace_of(request)
        )
        view = started.view
        standing = await self.answers.proven(view.sequence, body.ack)
        return JSONResponse(
            {"id": view.id, "workflow": view.workflow, "status": view.status, **standing},
            status_code=201 if started.created else 200,
        )

    async def list(self, request: Request) -> Response:
        query = query_of(ListQuery, request)
        views = self.engine.executions(
            status=query.status,
            workflow=query.workflow,
            after=query.after,
            limit=query.limit,
        )
        following = str(views[-1].rowid) if len(views) == query.limit else None
        return JSONResponse({"items": [self._summary(v) for v in views], "next": following})

    async def show(self, request: Request) -> Response:
        view = self.engine.execution(request.path_params["id"])
        return JSONResponse({**self._summary(view), "input": view.input, **_outcome(view)})

    async def events(self, request: Request) -> Response:
        query = query_of(EventsQuery, request)
        events = [
            event
            for event in self.engine.events(request.path_params["id"])
            if event.sequence > query.after
        ]
        page = events[: query.limit]
        following = str(page[-1].sequence) if len(events) > len(page) else None
        newest = page[-1].sequence if page else self.engine.sequence
        return JSONResponse(
            {"items": [_event(e) for e in page], "next": following, **self.answers.standing(newest)}
        )

    async def result(self, request: Request) -> Response:
        query = query_of(ResultQuery, request)
        view = await self.engine.result(request.path_params["id"], wait=query.wait)
        durable = False
        if view.status in _CLOSED and query.ack == "durable" and self.engine.can_prove:
            try:
                await self.answers.prove(view.sequence)
                durable = True
            except Unproven as error:
                if not error.late:
                    raise
        standing = self.answers.standing(view.sequence, durable=durable)
        return JSONResponse({"id": view.id, "status": view.status, **_outcome(view), **standing})

    async def status(self, request: Request) -> Response:
        engine = self.engine
        return JSONResponse(
            {
                "tenant": engine.config.tenant,
                "lineage": engine.config.lineage,
                "epoch": engine.config.epoch,
                "executions": engine.counts,
                "sequence": engine.sequence,
                "proven_sequence": engine.proven,
                "committed_at": engine.committed_at,
                "uptime": time.monotonic() - self.started_at,
            }
        )

    def _summary(self, view: ExecutionView) -> dict[str, Any]:
        return {
            "id": view.id,
            "workflow": view.workflow,
            "status": view.status,
            "paused": view.paused,
            "version": view.version,
            "started_at": view.started_at,
            "closed_at": view.closed_at,
            **self.answers.standing(view.sequence),
        }


def _outcome(view: ExecutionView) -> dict[str, Any]:
    if view.status is Status.COMPLETED:
        return {"result": view.result}
    return {} if view.error is None else {"error": view.error}


def _event(event: Event) -> dict[str, Any]:
    payload = event.payload
    return {
        "sequence": event.sequence,
        "at": event.at / 1000,
        "kind": event.kind.name.lower(),
        "step": event.name,
        "occurrence": event.occurrence,
        "payload": json.loads(payload) if isinstance(payload, str) else payload,
    }
