"""How the engine's API answers: what an answer may promise, and how an error looks."""

from __future__ import annotations

import re
import typing
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from node.api_models import Ack
from node.engine.durability import Outcome
from node.engine.engine import Engine
from node.engine.errors import (
    Divergence,
    DuplicateRefused,
    DurabilityUnavailable,
    EngineError,
    EngineStopped,
    ExecutionClosed,
    ExecutionConflict,
    ExecutionDiverged,
    ExecutionHeld,
    ExecutionOpen,
    ForkRefused,
    NotProvenYet,
    PayloadError,
    PayloadTooLarge,
    QueryFailed,
    ReadersBusy,
    ReadTooLong,
    ScheduleConflict,
    StateChanged,
    StatementRefused,
    StatementTooSlow,
    UnknownExecution,
    UnknownHandler,
    UnknownQueue,
    UnknownSchedule,
    UnknownStream,
    UnknownToken,
    UnknownWebhook,
    UnknownWorkflow,
    UpdateFailed,
    UpdateRefused,
    VersionMissing,
    WebhookRefused,
    WebhookSecretMissing,
    WebhookTooLarge,
    WebhookUnreadable,
)

#: Seconds after which a client that was answered 503 should ask again.
RETRY_AFTER: Final = 1
_STATUS: Final[dict[type[EngineError], int]] = {
    UnknownWorkflow: 404,
    UnknownExecution: 404,
    UnknownHandler: 404,
    UnknownToken: 404,
    UnknownQueue: 404,
    UnknownStream: 404,
    UnknownSchedule: 404,
    ExecutionConflict: 409,
    ExecutionClosed: 409,
    ExecutionDiverged: 409,
    VersionMissing: 409,
    Divergence: 409,
    ExecutionOpen: 409,
    ExecutionHeld: 409,
    ReadTooLong: 422,
    DuplicateRefused: 409,
    ForkRefused: 409,
    ScheduleConflict: 409,
    PayloadTooLarge: 413,
    PayloadError: 422,
    DurabilityUnavailable: 422,
    UpdateRefused: 422,
    UpdateFailed: 422,
    QueryFailed: 422,
    StateChanged: 422,
    UnknownWebhook: 404,
    WebhookRefused: 401,
    WebhookUnreadable: 400,
    WebhookTooLarge: 413,
    WebhookSecretMissing: 503,
    EngineStopped: 503,
    StatementTooSlow: 422,
    StatementRefused: 422,
    ReadersBusy: 503,
    NotProvenYet: 503,
}

Model = TypeVar("Model", bound=BaseModel)
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


class Unproven(Exception):
    """An answer that may not be given as durable. The status of the thing itself is unknown."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome

    @property
    def late(self) -> bool:
        """Only late, which an answer can say with durable: false. Anything else means that this
        engine may no longer be the one to ask."""
        return self.outcome is Outcome.TIMED_OUT


class Answers:
    """What one engine may promise. `proof_timeout` in seconds."""

    def __init__(self, engine: Engine, proof_timeout: float) -> None:
        self.engine = engine
        self.proof_timeout = proof_timeout

    def admit(self, ack: Ack, what: str) -> None:
        """Refuse at once what could not be answered. Raises DurabilityUnavailable, Unproven."""
        if ack == "durable" and not self.engine.can_prove:
            raise DurabilityUnavailable(
                f"no supervisor is here to prove that {what} is durable; nothing was done",
                hint='Ask with "ack": "async", or run the engine under its supervisor.',
            )
        if not self.engine.authority():
            raise Unproven(Outcome.UNKNOWN)

    async def proven(self, sequence: int, ack: Ack) -> dict[str, Any]:
        """The standing of an answer that depends on `sequence`. Raises Unproven."""
        if ack == "durable":
            await self.prove(sequence)
        return self.standing(sequence, durable=ack == "durable")

    async def prove(self, sequence: int) -> None:
        """Raises Unproven."""
        outcome = await self.engine.prove(sequence, within=self.proof_timeout)
        if outcome is not Outcome.DURABLE:
            raise Unproven(outcome)

    def standing(self, sequence: int, *, durable: bool = False) -> dict[str, Any]:
        """Whether it is durable, and the point in the log that the answer depends on."""
        known = sequence <= self.engine.proven and self.engine.authority()
        return {"durable": durable or known, "bookmark": self.engine.bookmark(sequence)}


def query_of(model: type[Model], request: Request) -> Model:
    """The request's query string; a key that a list takes may be repeated. Raises
    ValidationError."""
    given = request.query_params
    lists = _lists(model)
    # Iterating gives each key once.
    return model.model_validate(
        {key: given.getlist(key) if key in lists else given[key] for key in given}
    )


def trace_of(request: Request) -> str | None:
    """The request's `traceparent` (W3C Trace Context); None for one that is none."""
    found = request.headers.get("traceparent", "")
    return found if _TRACEPARENT.fullmatch(found) else None


async def body_of(model: type[Model], request: Request) -> Model:
    """The request's JSON body; none is like an empty object. Raises ValidationError."""
    return model.model_validate_json(await request.body() or b"{}")


@cache
def _lists(model: type[BaseModel]) -> frozenset[str]:
    """The fields that take many values."""
    fields = model.model_fields.items()
    return frozenset(name for name, one in fields if typing.get_origin(one.annotation) is list)


# Errors -----------------------------------------------------------------------------------------


def error_answer(status: int, type: str, message: str, hint: str, **more: Any) -> JSONResponse:
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else None
    body = {"error": {"type": type, "message": message, "hint": hint}, **more}
    return JSONResponse(body, status_code=status, headers=headers)


def status_of(kind: type[EngineError]) -> int:
    """The HTTP status that an error is answered with."""
    return next((code for base, code in _STATUS.items() if issubclass(kind, base)), 500)


def type_of(kind: type[Exception]) -> str:
    """What an answer calls an error."""
    return _snake(kind.__name__)


async def engine_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EngineError)
    status = status_of(type(error))
    more = {"outcome": "unknown"} if status == 503 else {}
    return error_answer(status, type_of(type(error)), str(error), error.hint, **more)


async def unproven(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unproven)
    return error_answer(
        503,
        "unproven",
        f"it could not be proven durable ({error.outcome.value}); it may or may not last",
        "Ask again with the same id; the answer will be the same execution.",
        outcome="unknown",
    )


async def validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    details = error.errors(include_url=False, include_context=False, include_input=False)
    message = "; ".join(
        f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}".lstrip(": ")
        for detail in details
    )
    return error_answer(422, "bad_request", message, "Correct the request.")


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = "GET /openapi.json lists the paths, and what each takes."
    return error_answer(
        error.status_code, _snake(error.detail.replace(" ", "")), error.detail, hint
    )


async def unexpected(request: Request, error: Exception) -> Response:
    return error_answer(500, "internal", "the engine made a mistake", "Its log has the details.")


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
