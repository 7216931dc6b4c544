"""Requests to an engine as data, and what their answers mean. Nothing here sends anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from node.api_models import (
    Ack,
    Completed,
    CompleteRequest,
    Controlled,
    ControlRequest,
    EngineStatus,
    EventPage,
    EventsQuery,
    ExecutionDetail,
    Outcome,
    Queried,
    QueryRequest,
    ResultQuery,
    Signalled,
    SignalRequest,
    Started,
    StartRequest,
    StopRequest,
    StreamList,
    StreamPage,
    StreamQuery,
    Updated,
    UpdateRequest,
    Waits,
)
from node.api_models_application import WorkflowList
from node.api_models_finding import (
    BulkDone,
    BulkRequest,
    CountQuery,
    Counts,
    ExecutionPage,
    ListQuery,
)
from node.api_models_retention import (
    Deleted,
    DeleteRequest,
    Held,
    HoldRequest,
    Pruned,
    PruneRequest,
    RetentionShown,
)
from node.api_models_sql import SqlGuide, SqlRequest, SqlRows
from node.client.errors import LitefleetError, Unavailable, UnexpectedAnswer, Unreachable, error_for
from node.engine.archive import Archive

T = TypeVar("T", bound=BaseModel)
#: Seconds for an answer, beside those for which the engine was asked to hold it.
PATIENT: Final = 30.0
#: Seconds for a connection.
CONNECT: Final = 5.0
#: Items asked for at once where an answer comes in pages.
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the model of its answer. `hold` is for how many seconds the engine may
    keep it; `repeatable` says that sending it twice does no harm."""

    method: str
    path: str
    answer: type[T]
    body: bytes | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    hold: float = 0.0
    repeatable: bool = True

    def arguments(self) -> dict[str, Any]:
        """What `httpx` is to send it with."""
        given: dict[str, Any] = {
            "params": [(key, one) for key, value in self.query.items() for one in _several(value)],
            "timeout": httpx.Timeout(self.hold + PATIENT, connect=CONNECT),
        }
        if self.body is not None:
            given |= {"content": self.body, "headers": {"content-type": "application/json"}}
        return given


def get(path: str, answer: type[T], query: BaseModel | None = None, hold: float = 0) -> Call[T]:
    given = {} if query is None else query.model_dump(mode="json", exclude_unset=True)
    return Call("GET", path, answer, query=given, hold=hold)


def delete(path: str, answer: type[T], body: BaseModel) -> Call[T]:
    text = body.model_dump_json(exclude_unset=True).encode()
    return Call("DELETE", path, answer, text, repeatable=False)


def post(path: str, answer: type[T], body: BaseModel, *, repeatable: bool = True) -> Call[T]:
    text = body.model_dump_json(exclude_unset=True).encode()
    return Call("POST", path, answer, text, repeatable=repeatable)


# What can be asked ------------------------------------------------------------------------------


def start(request: StartRequest) -> Call[Started]:
    """It has an id of its own, or could not be repeated."""
    return post("/executions", Started, request, repeatable=request.id is not None)


def page(query: ListQuery) -> Call[ExecutionPage]:
    return get("/executions", ExecutionPage, query)


def count(query: CountQuery) -> Call[Counts]:
    return get("/counts", Counts, query)


def bulk(request: BulkRequest) -> Call[BulkDone]:
    """One batch. Of a signal, only a key makes a second one harmless; a second retry could be one
    too many."""
    safe = request.action != "retry" and (request.action != "signal" or request.key is not None)
    return post("/bulk", BulkDone, request, repeatable=safe or request.dry_run)


def sql(
    statement: str,
    parameters: Mapping[str, Any] | Sequence[Any],
    timeout: float | None,
    rows: int | None,
) -> Call[SqlRows]:
    """A SELECT."""
    given: dict[str, Any] = {"sql": statement}
    if parameters:
        named = isinstance(parameters, Mapping)
        given["parameters"] = dict(parameters) if named else list(parameters)
    given |= {} if timeout is None else {"timeout": timeout}
    given |= {} if rows is None else {"rows": rows}
    return post("/sql", SqlRows, SqlRequest(**given))


def sql_schema() -> Call[SqlGuide]:
    return get("/sql/schema", SqlGuide)


def show(id: str) -> Call[ExecutionDetail]:
    return get(one(id), ExecutionDetail)


def events(id: str, after: int) -> Call[EventPage]:
    return get(one(id, "events"), EventPage, EventsQuery(after=after))


def result(id: str, wait: float, ack: Ack) -> Call[Outcome]:
    query = ResultQuery(wait=wait, ack=ack)
    return get(one(id, "result"), Outcome, query, hold=wait)


def signal(id: str, name: str, request: SignalRequest) -> Call[Signalled]:
    return post(one(id, "signals", name), Signalled, request)


def update(id: str, name: str, request: UpdateRequest) -> Call[Updated]:
    return post(one(id, "updates", name), Updated, request)


def query(id: str, name: str, request: QueryRequest) -> Call[Queried]:
    return post(one(id, "queries", name), Queried, request)


def stop(id: str, action: str, reason: str, ack: Ack) -> Call[Controlled]:
    """`cancel` or `terminate` it."""
    return post(one(id, action), Controlled, StopRequest(reason=reason, ack=ack))


def control(id: str, action: str, ack: Ack) -> Call[Controlled]:
    """`pause`, `resume` or `retry` it. A second retry could be one too many."""
    request = ControlRequest(ack=ack)
    return post(one(id, action), Controlled, request, repeatable=action != "retry")


def remove(id: str, ack: Ack) -> Call[Deleted]:
    """Sent a second time, it would find nothing there."""
    return delete(one(id), Deleted, DeleteRequest(ack=ack))


def hold(id: str, reason: str, ack: Ack) -> Call[Held]:
    return post(one(id, "hold"), Held, HoldRequest(reason=reason, ack=ack))


def release(id: str, ack: Ack) -> Call[Held]:
    return post(one(id, "release"), Held, HoldRequest(ack=ack))


def retention() -> Call[RetentionShown]:
    return get("/retention", RetentionShown)


def prune(request: PruneRequest) -> Call[Pruned]:
    return post("/retention/prune", Pruned, request)


def waiting(id: str) -> Call[Waits]:
    return get(one(id, "waiting"), Waits)


def archive(id: str) -> Call[Archive]:
    return get(one(id, "archive"), Archive)


def streams(id: str) -> Call[StreamList]:
    return get(one(id, "streams"), StreamList)


def stream(id: str, name: str, query: StreamQuery) -> Call[StreamPage]:
    return get(one(id, "streams", name), StreamPage, query, hold=query.wait)


def complete(token: str, value: Any, ack: Ack) -> Call[Completed]:
    request = CompleteRequest(value=value, ack=ack)
    return post(f"/external/{quote(token, safe='')}", Completed, request)


def workflows() -> Call[WorkflowList]:
    return get("/workflows", WorkflowList)


def status() -> Call[EngineStatus]:
    return get("/status", EngineStatus)


def one(id: str, *more: str) -> str:
    """A path below an execution's."""
    return "/".join(["/executions", *(quote(part, safe="") for part in (id, *more))])


# Answers ----------------------------------------------------------------------------------------


def read(call: Call[T], response: httpx.Response) -> T:
    """The model in a response. Raises LitefleetError."""
    if response.is_success:
        try:
            return call.answer.model_validate_json(response.content or b"{}")
        except ValidationError as error:
            raise UnexpectedAnswer(
                "unexpected_answer",
                f"the answer to {call.method} {call.path} is not what this version expects:"
                f" {error.error_count()} fields do not fit",
                "Check that the address is an engine's, and that both versions agree.",
                response.status_code,
            ) from error
    raise _refusal(call, response)


def unreachable(address: str, error: Exception) -> Unreachable:
    """What an error of httpx's means."""
    return Unreachable(
        "unreachable",
        f"no answer at {address} ({type(error).__name__})",
        "Is it running, and is the address right?",
    )


def _refusal(call: Call[Any], response: httpx.Response) -> LitefleetError:
    status = response.status_code
    try:
        # The fleet's own errors have the same shape, and may have no hint.
        body = response.json()["error"]
        kind, message = str(body["type"]), str(body["message"])
        hint = str(body.get("hint") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        kind, hint = "http_error", ""
        message = f"{call.method} {call.path} was answered with status {status}"
    if status == 503:
        return Unavailable(kind, message, hint, retry_after=_retry_after(response))
    return error_for(kind, message, hint, status)


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _several(value: Any) -> Iterable[str | int | float]:
    for one in value if isinstance(value, list) else [value]:
        yield json.dumps(one) if isinstance(one, bool) else one
