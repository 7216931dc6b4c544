"""The engine's HTTP API for what is sent to an execution: signals, updates, queries."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.api_answers import Ack, Answers, Unproven, body_of, trace_of
from node.engine.engine import Engine


class SignalRequest(BaseModel):
    """What POST /executions/{id}/signals/{name} takes. The header `idempotency-key` is the key
    if the body has none."""

    model_config = ConfigDict(extra="forbid")

    value: Any = None
    key: str | None = None
    ack: Ack = "durable"


class UpdateRequest(BaseModel):
    """What POST /executions/{id}/updates/{name} takes; the key may be in the header, too."""

    model_config = ConfigDict(extra="forbid")

    input: dict[str, Any] = Field(default_factory=dict)
    key: str | None = None
    ack: Ack = "durable"


class QueryRequest(BaseModel):
    """What POST /executions/{id}/queries/{name} takes."""

    model_config = ConfigDict(extra="forbid")

    input: dict[str, Any] = Field(default_factory=dict)
    ack: Ack = "durable"


class MessagesApi:
    """Routes for messages."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    def routes(self) -> list[Route]:
        """Their paths begin with /executions/{id}."""
        one = "/executions/{id}"
        return [
            Route(one + "/signals/{name}", self.signal, methods=["POST"]),
            Route(one + "/updates/{name}", self.update, methods=["POST"]),
            Route(one + "/queries/{name}", self.query, methods=["POST"]),
        ]

    async def signal(self, request: Request) -> Response:
        """202 for one that arrived, 200 for one whose key was there before."""
        body = await body_of(SignalRequest, request)
        self.answers.admit(body.ack, "a signal")
        id, name = _names(request)
        key, trace = body.key or _key(request), trace_of(request)
        sent = await self.engine.signal(id, name, body.value, key=key, trace=trace)
        standing = await self.answers.proven(sent.sequence, body.ack)
        return JSONResponse(
            {"id": id, "signal": name, "arrived": sent.arrived, **standing},
            status_code=202 if sent.arrived else 200,
        )

    async def update(self, request: Request) -> Response:
        """200 with the handler's result; a refused update is 422 and leaves no trace."""
        body = await body_of(UpdateRequest, request)
        self.answers.admit(body.ack, "an update")
        id, name = _names(request)
        key, trace = body.key or _key(request), trace_of(request)
        answer = await self.engine.update(id, name, body.input, key=key, trace=trace)
        standing = await self.answers.proven(answer.sequence, body.ack)
        return JSONResponse({"id": id, "update": name, "result": answer.value, **standing})

    async def query(self, request: Request) -> Response:
        """200 with the answer. Without proof in time it says durable: false."""
        body = await body_of(QueryRequest, request)
        id, name = _names(request)
        answer = await self.engine.query(id, name, body.input)
        standing = self.answers.standing(answer.sequence)
        if body.ack == "durable" and self.engine.can_prove:
            try:
                standing = await self.answers.proven(answer.sequence, "durable")
            except Unproven as unproven:
                if not unproven.late:
                    raise
        return JSONResponse({"id": id, "query": name, "result": answer.value, **standing})


def _names(request: Request) -> tuple[str, str]:
    return request.path_params["id"], request.path_params["name"]


def _key(request: Request) -> str | None:
    return request.headers.get("idempotency-key")
