"""The engine's HTTP API for what is sent to an execution: signals, updates, queries."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from node.api_answers import Answers, Unproven, trace_of
from node.api_models import Queried, QueryRequest, Signalled, SignalRequest, Updated, UpdateRequest
from node.api_route import Routes, operation
from node.engine.engine import Engine
from node.engine.errors import (
    DeterminismError,
    Divergence,
    ExecutionClosed,
    ExecutionDiverged,
    PayloadError,
    PayloadTooLarge,
    QueryFailed,
    StateChanged,
    UnknownExecution,
    UnknownHandler,
    UnknownWorkflow,
    UpdateFailed,
    UpdateRefused,
)

_ONE: Final = "/executions/{id}"
_KEY: Final = {"Idempotency-Key": "The message's key, if the body has none."}
_REFUSED: Final = (
    UnknownExecution,
    ExecutionClosed,
    ExecutionDiverged,
    PayloadError,
    PayloadTooLarge,
)


class MessagesApi(Routes):
    """Routes for messages."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation(
        "POST",
        f"{_ONE}/signals/{{name}}",
        statuses=(202, 200),
        raises=_REFUSED,
        proves=True,
        headers=_KEY,
        example={"value": {"approved": True}, "key": "order-7-approved"},
    )
    async def signal(
        self, id: str, name: str, body: SignalRequest, request: Request
    ) -> tuple[int, Signalled]:
        """Send an execution a signal: 202 when it arrived, 200 when its key was there before."""
        self.answers.admit(body.ack, "a signal")
        key, trace = body.key or _key(request), trace_of(request)
        sent = await self.engine.signal(id, name, body.value, key=key, trace=trace)
        standing = await self.answers.proven(sent.sequence, body.ack)
        answer = Signalled(id=id, signal=name, arrived=sent.arrived, **standing)
        return 202 if sent.arrived else 200, answer

    @operation(
        "POST",
        f"{_ONE}/updates/{{name}}",
        raises=(*_REFUSED, UnknownHandler, UpdateRefused, UpdateFailed, StateChanged),
        proves=True,
        headers=_KEY,
        example={"input": {"number": 3}, "key": "order-7-3"},
    )
    async def update(self, id: str, name: str, body: UpdateRequest, request: Request) -> Updated:
        """Have an execution change something, and give what its handler answers. One that its
        validator refuses leaves no trace."""
        self.answers.admit(body.ack, "an update")
        key, trace = body.key or _key(request), trace_of(request)
        answer = await self.engine.update(id, name, body.input, key=key, trace=trace)
        standing = await self.answers.proven(answer.sequence, body.ack)
        return Updated(id=id, update=name, result=answer.value, **standing)

    @operation(
        "POST",
        f"{_ONE}/queries/{{name}}",
        raises=(
            UnknownExecution,
            UnknownHandler,
            UnknownWorkflow,
            PayloadError,
            PayloadTooLarge,
            StateChanged,
            QueryFailed,
            Divergence,
            DeterminismError,
        ),
        proves=True,
        example={"input": {}},
    )
    async def query(self, id: str, name: str, body: QueryRequest) -> Queried:
        """Ask an execution, open or closed, something that changes nothing. Without proof in
        time the answer says `durable: false`."""
        answer = await self.engine.query(id, name, body.input)
        standing = self.answers.standing(answer.sequence)
        if body.ack == "durable" and self.engine.can_prove:
            try:
                standing = await self.answers.proven(answer.sequence, "durable")
            except Unproven as unproven:
                if not unproven.late:
                    raise
        return Queried(id=id, query=name, result=answer.value, **standing)


def _key(request: Request) -> str | None:
    return request.headers.get("idempotency-key")
