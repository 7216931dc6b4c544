"""The engine's HTTP API: start executions, and read what the log says about them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.engine.durability import Outcome
from node.engine.engine import Engine
from node.engine.errors import (
    DurabilityUnavailable,
    EngineError,
    EngineStopped,
    ExecutionConflict,
    PayloadError,
    PayloadTooLarge,
    UnknownExecution,
    UnknownWorkflow,
)
from node.engine.events import Event, Status
from node.engine.views import ExecutionView

#: Seconds after which a client that was answered 503 should ask again.
RETRY_AFTER: Final = 1
#: The longest wait for a result, in seconds; ask again for more.
LONGEST_WAIT: Final = 60.0
EPOCH_HEADER: Final = "litefleet-epoch"

_STATUS: Final[dict[type[EngineError], int]] = {
    UnknownWorkflow: 404,
    UnknownExecution: 404,
    ExecutionConflict: 409,
    PayloadTooLarge: 413,
    PayloadError: 422,
    DurabilityUnavailable: 422,
    EngineStopped: 503,
}
_CLOSED: Final = (Status.COMPLETED, Status.FAILED)


class StartRequest(BaseModel):
    """What POST /executions takes."""

    model_config = ConfigDict(extra="forbid")

    workflow: str
    id: str | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    ack: Literal["durable", "async"] = "durable"


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
    ack: Literal["durable", "async"] = "durable"


Model = TypeVar("Model", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


class _Unproven(Exception):
    """An answer that may not be given as durable. The status of the thing itself is unknown."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


def create_api(engine: Engine, *, proof_timeout: float = 10.0) -> Starlette:
    """The API of one engine.

    An answer says `durable: true` only when the log up to its bookmark is proven; it waits up
    to `proof_timeout` seconds for that.
    """
    return _EngineApi(
        engine.config.epoch,
        routes=_Api(engine, proof_timeout).routes(),
        exception_handlers={
            EngineError: _engine_error,
            ValidationError: _validation_error,
            HTTPException: _http_error,
            _Unproven: _unproven,
            Exception: _unexpected,
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
    def __init__(self, engine: Engine, proof_timeout: float) -> None:
        self.engine = engine
        self.proof_timeout = proof_timeout
        self.started_at = time.monotonic()

    def routes(self) -> list[Route]:
        return [
            Route("/executions", self.start, methods=["POST"]),
            Route("/executions", self.list, methods=["GET"]),
            Route("/executions/{id}", self.show, methods=["GET"]),
            Route("/executions/{id}/events", self.events, methods=["GET"]),
            Route("/executions/{id}/result", self.result, methods=["GET"]),
            Route("/status", self.status, methods=["GET"]),
        ]

    async def start(self, request: Request) -> Response:
        body = StartRequest.model_validate_json(await request.body())
        if body.ack == "durable" and not self.engine.can_prove:
            raise DurabilityUnavailable(
                "no supervisor is here to prove that a start is durable; nothing was started",
                hint='Ask with "ack": "async", or run the engine under its supervisor.',
            )
        if not self.engine.authority():
            raise _Unproven(Outcome.UNKNOWN)
        started = await self.engine.start(body.workflow, body.input, id=body.id)
        view = started.view
        if body.ack == "durable":
            await self._prove(view.sequence)
        return JSONResponse(
            {
                "id": view.id,
                "workflow": view.workflow,
                "status": view.status,
                **self._standing(view.sequence, durable=body.ack == "durable"),
            },
            status_code=201 if started.created else 200,
        )

    async def list(self, request: Request) -> Response:
        query = _query(ListQuery, request)
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
        query = _query(EventsQuery, request)
        events = [
            event
            for event in self.engine.events(request.path_params["id"])
            if event.sequence > query.after
        ]
        page = events[: query.limit]
        following = str(page[-1].sequence) if len(events) > len(page) else None
        newest = page[-1].sequence if page else self.engine.sequence
        return JSONResponse(
            {"items": [_event(e) for e in page], "next": following, **self._standing(newest)}
        )

    async def result(self, request: Request) -> Response:
        query = _query(ResultQuery, request)
        view = await self.engine.result(request.path_params["id"], wait=query.wait)
        durable = False
        if view.status in _CLOSED and query.ack == "durable" and self.engine.can_prove:
            try:
                await self._prove(view.sequence)
                durable = True
            except _Unproven as unproven:
                # Late is said with durable: false. Anything else means that this engine may no
                # longer be the one to ask.
                if unproven.outcome is not Outcome.TIMED_OUT:
                    raise
        standing = self._standing(view.sequence, durable=durable)
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

    async def _prove(self, sequence: int) -> None:
        outcome = await self.engine.prove(sequence, within=self.proof_timeout)
        if outcome is not Outcome.DURABLE:
            raise _Unproven(outcome)

    def _standing(self, sequence: int, *, durable: bool = False) -> dict[str, Any]:
        known = sequence <= self.engine.proven and self.engine.authority()
        return {"durable": durable or known, "bookmark": self.engine.bookmark(sequence)}

    def _summary(self, view: ExecutionView) -> dict[str, Any]:
        return {
            "id": view.id,
            "workflow": view.workflow,
            "status": view.status,
            "started_at": view.started_at,
            "closed_at": view.closed_at,
            **self._standing(view.sequence),
        }


def _query(model: type[Model], request: Request) -> Model:
    return model.model_validate(dict(request.query_params))


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


# Errors -----------------------------------------------------------------------------------------


def _error(status: int, type: str, message: str, hint: str, **more: Any) -> JSONResponse:
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else None
    body = {"error": {"type": type, "message": message, "hint": hint}, **more}
    return JSONResponse(body, status_code=status, headers=headers)


async def _engine_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EngineError)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    more = {"outcome": "unknown"} if status == 503 else {}
    return _error(status, _snake(type(error).__name__), str(error), error.hint, **more)


async def _unproven(request: Request, error: Exception) -> Response:
    assert isinstance(error, _Unproven)
    return _error(
        503,
        "unproven",
        f"it could not be proven durable ({error.outcome.value}); it may or may not last",
        "Ask again with the same id; the answer will be the same execution.",
        outcome="unknown",
    )


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    details = error.errors(include_url=False, include_context=False, include_input=False)
    message = "; ".join(
        f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}".lstrip(": ")
        for detail in details
    )
    return _error(422, "bad_request", message, "Correct the request.")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = "The paths are /executions, /executions/{id}[/events|/result] and /status."
    return _error(error.status_code, _snake(error.detail.replace(" ", "")), error.detail, hint)


async def _unexpected(request: Request, error: Exception) -> Response:
    return _error(500, "internal", "the engine made a mistake", "Its log has the details.")


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
