"""What can go wrong between a client and an engine. Each error says what to do next."""

from __future__ import annotations

from typing import Final

from node.api_models import Failure
from node.engine.events import Status


class LitefleetError(Exception):
    """The engine, or the fleet in front of it, refused a request.

    `type` says what it is, for programs; `hint` what to do next; `status` is the HTTP status, 0
    when there was no answer.
    """

    def __init__(self, type: str, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message if not hint else f"{message} ({hint})")
        self.type = type
        self.message = message
        self.hint = hint
        self.status = status


class Unreachable(LitefleetError):
    """Nothing answers at the address. What became of the request is unknown."""


class Unavailable(LitefleetError):
    """The engine cannot answer just now, or could not prove its answer durable (503). What became
    of the request is unknown; `retry_after` is in seconds."""

    def __init__(
        self, type: str, message: str, hint: str = "", *, retry_after: float = 1.0
    ) -> None:
        super().__init__(type, message, hint, 503)
        self.retry_after = retry_after


class Denied(LitefleetError):
    """The token is missing or wrong (401, 403)."""


class NotFound(LitefleetError):
    """There is no such execution, workflow, handler or tenant (404)."""


class Conflict(LitefleetError):
    """The id is taken, or the execution is not in a state for this (409)."""


class Invalid(LitefleetError):
    """The request is not what the engine takes (400, 413, 422)."""


class UpdateRefused(Invalid):
    """The update's validator refused it, and nothing was logged."""


class UpdateFailed(Invalid):
    """The update was accepted, and its handler raised."""


class QueryFailed(Invalid):
    """The query's function raised."""


class UnexpectedAnswer(LitefleetError):
    """The answer is none that this version of the client knows."""


class NotOver(LitefleetError, TimeoutError):
    """An execution has not ended within the time that the caller waited. It goes on."""

    def __init__(self, id: str, status: Status, wait: float) -> None:
        super().__init__(
            "not_over",
            f"execution {id!r} is {status} after {wait:g} s",
            "Ask again: waiting does not change it. `waiting()` says what it waits for.",
        )
        self.id = id


class ExecutionFailed(LitefleetError):
    """An execution ended without a result. `type` and `message` say why, `failure` has all that
    the log keeps of it."""

    how = "failed"

    def __init__(self, id: str, status: Status, failure: Failure) -> None:
        super().__init__(failure.type, f"execution {id!r} {self.how}: {_words(failure)}")
        self.id = id
        self.execution_status = status
        self.failure = failure


class ExecutionCancelled(ExecutionFailed):
    """It was cancelled; the message is the reason that was given."""

    how = "was cancelled"


class ExecutionTerminated(ExecutionFailed):
    """It was terminated; the message is the reason that was given."""

    how = "was terminated"


class ExecutionDiverged(ExecutionFailed):
    """Its code no longer follows its log. It goes on once an engine has fitting code."""

    how = "is stopped"


#: How an execution can stand once nothing more will happen to it by itself, but for completed.
ENDED_AS: Final[dict[Status, type[ExecutionFailed]]] = {
    Status.FAILED: ExecutionFailed,
    Status.CANCELLED: ExecutionCancelled,
    Status.TERMINATED: ExecutionTerminated,
    Status.DIVERGED: ExecutionDiverged,
    Status.PARKED: ExecutionDiverged,
}

_BY_TYPE: Final[dict[str, type[LitefleetError]]] = {
    "update_refused": UpdateRefused,
    "update_failed": UpdateFailed,
    "query_failed": QueryFailed,
}
_BY_STATUS: Final[dict[int, type[LitefleetError]]] = {
    400: Invalid,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    422: Invalid,
}


def error_for(type: str, message: str, hint: str, status: int) -> LitefleetError:
    """The error that an answer of this status and type is; not for 503."""
    kind = _BY_TYPE.get(type) or _BY_STATUS.get(status, LitefleetError)
    if kind is Denied and not hint:
        hint = "Check the token (LITEFLEET_TOKEN)."
    return kind(type, message, hint, status)


def _words(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}".rstrip(": ")
