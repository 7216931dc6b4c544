"""What the engine's API takes and gives. The handlers and the client use these same models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    WithJsonSchema,
    model_validator,
)

from node.engine.events import Reuse, Status

#: The longest wait for a result or a stream, in seconds; ask again for more.
LONGEST_WAIT: Final = 60.0
#: The longest time that a statement may take, in seconds. A reader that stays keeps the write-ahead
#: log from being folded in, and in the end the writer from writing.
LONGEST_SQL: Final = 10.0
#: Whether an answer waits for proof that it is durable.
Ack = Literal["durable", "async"]
Label = Annotated[str, Field(pattern=r"^[^=]+=.+$")]


def _unix(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValueError("a moment has a time zone, as in 2026-11-24T09:00:00Z") from None
            return moment.timestamp()
    return value


Moment = Annotated[
    float,
    BeforeValidator(_unix),
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}]},
        mode="validation",
    ),
]
Wait = Annotated[float, Field(ge=0, le=LONGEST_WAIT, description="Seconds to wait for it.")]


class Asked(BaseModel):
    """A request: nothing in it is passed over in silence."""

    # Built when one is first used: an engine that nobody asks for it pays nothing.
    model_config = ConfigDict(extra="forbid", defer_build=True)


class Shown(BaseModel):
    """An answer. A client passes over what a newer engine adds."""

    model_config = ConfigDict(extra="ignore", defer_build=True)


class Standing(Shown):
    """How far an answer can be relied on."""

    durable: bool = Field(description="Whether it is proven to be in the bucket.")
    bookmark: str = Field(description="epoch:sequence, the point in the log that it depends on.")


class Failure(BaseModel):
    """Why something did not complete."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    type: str
    message: str = ""


# Errors -----------------------------------------------------------------------------------------


class ErrorBody(Shown):
    """What went wrong, and what to do about it."""

    type: str = Field(description="What it is, for programs.")
    message: str
    hint: str


class ErrorShown(Shown):
    """Every answer that is not a success."""

    error: ErrorBody
    outcome: Literal["unknown"] | None = Field(
        default=None, description="With 503: it may have taken effect, or not."
    )


# Executions -------------------------------------------------------------------------------------


class StartRequest(Asked):
    """Start an execution of a workflow."""

    workflow: str
    id: str | None = Field(
        default=None,
        description="1 to 200 printable characters without '/'. Sent again with the same id, "
        "workflow and input, it gives the execution that is there.",
    )
    input: dict[str, Any] = Field(
        default_factory=dict, description="The workflow's arguments by name."
    )
    reuse: Reuse = Field(default=Reuse.EXISTING, description="What an id that is taken means.")
    queue: str | None = Field(default=None, description="Where it waits for its turn.")
    priority: int = Field(default=0, description="In the queue: the smaller goes first.")
    dedup: str | None = Field(
        default=None, description="In the queue: what no two open executions have in common."
    )
    partition: str | None = Field(default=None, description="In the queue: whose limits count.")
    labels: dict[str, str] = Field(
        default_factory=dict, description="What executions are found by, as in customer: acme."
    )
    ack: Ack = "durable"


class Started(Standing):
    """The answer to a start."""

    id: str
    workflow: str
    status: Status


class Filter(Asked):
    """Which executions: those for which all of it is so. Of what can be given several times, one
    must be so; of labels, all."""

    status: list[Status] = Field(default_factory=list)
    workflow: list[str] = Field(default_factory=list)
    id_prefix: str | None = Field(default=None, description="What its id begins with.")
    label: list[Label] = Field(default_factory=list, description="As in customer=acme.")
    started_after: Moment | None = Field(default=None, description="At this moment or later.")
    started_before: Moment | None = None
    closed_after: Moment | None = Field(default=None, description="At this moment or later.")
    closed_before: Moment | None = None
    parent: str | None = Field(default=None, description="The id of the one that started it.")
    queue: str | None = Field(default=None, description="The queue that it was started on.")
    version: str | None = Field(default=None, description="Of the application that started it.")
    failures: bool | None = Field(
        default=None, description="Whether it, or a step of it, has failed for good."
    )


class ListQuery(Filter):
    """Which executions, and in what order."""

    order: Literal["oldest", "newest"] = Field(
        default="oldest", description="Which is first, by their first start."
    )
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    after: str | None = Field(default=None, description="The `next` of the page before.")


class CountQuery(Filter):
    """Which executions to count."""

    by: list[Literal["workflow", "status"]] = Field(
        default=["status"], description="What to count apart."
    )


class Count(Shown):
    """How many executions have this in common."""

    workflow: str | None = None
    status: Status | None = None
    count: int


class Counts(Shown):
    """How many executions there are."""

    items: list[Count]
    total: int


class BulkRequest(Asked):
    """Do something to every execution that a filter finds, a batch at a time."""

    action: Literal["cancel", "terminate", "pause", "resume", "retry", "signal"]
    filter: Filter = Field(default_factory=Filter)
    all: bool = Field(default=False, description="Needed where the filter leaves out nothing.")
    dry_run: bool = Field(default=False, description="Only say which ones it would be.")
    limit: Annotated[int, Field(ge=1, le=500, description="How many at once.")] = 100
    after: str | None = Field(default=None, description="The `next` of the batch before.")
    reason: str = Field(default="", description="Of a cancel or terminate; kept in the log.")
    signal: str | None = Field(default=None, description="The signal's name.")
    value: Any = Field(default=None, description="The signal's value.")
    key: str | None = Field(
        default=None, description="The signal's idempotency key; with it a batch can be repeated."
    )
    ack: Ack = "durable"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.action == "signal") != (self.signal is not None):
            raise ValueError("signal names the signal, and is for the action signal only")
        if not self.all and not self.filter.model_fields_set:
            raise ValueError("the filter leaves out nothing: say all: true if that is meant")
        return self


class BulkItem(Shown):
    """What came of one execution of a batch."""

    id: str
    workflow: str
    status: Status
    changed: bool = Field(description="False when there was nothing to do, or it failed.")
    error: ErrorBody | None = Field(default=None, description="Why it could not be done.")


class BulkDone(Standing):
    """One batch."""

    items: list[BulkItem]
    next: str | None = Field(description="The `after` of the next batch; null after the last.")


class ExecutionShown(Standing):
    """An execution, as a list shows it. Times are unix seconds."""

    id: str
    workflow: str
    status: Status
    paused: bool = False
    version: str | None = Field(
        default=None, description="What the application that started it called its version."
    )
    started_at: float
    closed_at: float | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class ExecutionDetail(ExecutionShown):
    """An execution with what it was given and what came of it."""

    input: Any
    result: Any = Field(default=None, description="There once it has completed.")
    error: Failure | None = Field(
        default=None, description="There once it has failed, or was stopped."
    )


class ExecutionPage(Shown):
    """Some executions."""

    items: list[ExecutionShown]
    next: str | None = Field(description="The `after` of the next page; null after the last.")


class EventsQuery(Asked):
    """Which part of an execution's log."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    after: Annotated[int, Field(ge=0, description="A sequence.")] = 0


class EventShown(Shown):
    """One event of the log."""

    sequence: int
    at: float
    kind: str
    step: str
    occurrence: int
    payload: Any


class EventPage(Standing):
    """A part of an execution's log."""

    items: list[EventShown]
    next: str | None = Field(description="The `after` of the next page; null after the last.")


class ResultQuery(Asked):
    """How long to wait for a result."""

    wait: Wait = 0
    ack: Ack = "durable"


class Outcome(Standing):
    """How an execution stands; with its result or its error once it is over."""

    id: str
    status: Status
    result: Any = Field(default=None, description="There once it has completed.")
    error: Failure | None = Field(
        default=None, description="There once it has failed, or was stopped."
    )


class EngineStatus(Shown):
    """How the engine stands."""

    tenant: str
    lineage: str
    epoch: int
    executions: dict[str, int] = Field(description="How many there are of each status.")
    sequence: int = Field(description="The newest event.")
    proven_sequence: int = Field(description="The newest that is proven to be in the bucket.")
    committed_at: float | None
    uptime: float = Field(description="Seconds.")


# Messages ---------------------------------------------------------------------------------------


class SignalRequest(Asked):
    """Send a signal. Without a `key`, the header Idempotency-Key is the key."""

    value: Any = None
    key: str | None = Field(default=None, description="Sent twice with one key, it arrives once.")
    ack: Ack = "durable"


class Signalled(Standing):
    """The answer to a signal."""

    id: str
    signal: str
    arrived: bool = Field(description="False when its key had been there before.")


class UpdateRequest(Asked):
    """Ask an execution to change. Without a `key`, the header Idempotency-Key is the key."""

    input: dict[str, Any] = Field(default_factory=dict)
    key: str | None = Field(default=None, description="Sent twice with one key, it is done once.")
    ack: Ack = "durable"


class Updated(Standing):
    """The answer to an update."""

    id: str
    update: str
    result: Any


class QueryRequest(Asked):
    """Ask an execution something that changes nothing."""

    input: dict[str, Any] = Field(default_factory=dict)
    ack: Ack = "durable"


class Queried(Standing):
    """The answer to a query."""

    id: str
    query: str
    result: Any


class CompleteRequest(Asked):
    """Complete an external event."""

    value: Any = None
    ack: Ack = "durable"


class Completed(Standing):
    """The answer to a completion."""

    changed: bool = Field(description="False when it was completed before.")


# Control ----------------------------------------------------------------------------------------


class ControlRequest(Asked):
    """Control an execution."""

    ack: Ack = "durable"


class StopRequest(ControlRequest):
    """Stop an execution."""

    reason: str = Field(default="", description="Kept in the log.")


class Controlled(Standing):
    """The answer to a control."""

    id: str
    status: Status
    paused: bool
    changed: bool = Field(description="False when there was nothing to do.")


class WaitShown(Shown):
    """One thing that an execution waits for. Times are unix seconds."""

    kind: str = Field(
        description="queue, activity, timer, child, external, signal, condition, pause, code or "
        "nothing"
    )
    name: str
    occurrence: int | None
    since: float | None
    until: float | None = Field(description="When time alone will wake it.")
    wakes: str = Field(description="What will wake it, in words.")
    detail: dict[str, Any]


class Waits(Standing):
    """What an execution waits for."""

    id: str
    items: list[WaitShown]


# Streams ----------------------------------------------------------------------------------------


class StreamQuery(Asked):
    """Which part of a stream."""

    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    wait: Wait = 0
    ack: Ack = "durable"


class StreamShown(Shown):
    """A stream as it is now."""

    name: str
    length: int
    closed: bool


class StreamList(Shown):
    """The streams of an execution."""

    items: list[StreamShown]


class StreamItem(Shown):
    """One value of a stream."""

    offset: int
    value: Any
    source: str | None = Field(default=None, description="The step that published it.")
    begins: bool = Field(default=False, description="A new attempt: its earlier values are void.")
    discards_from: int | None = Field(
        default=None, description="All from this offset up to here is void."
    )


class StreamPage(Standing):
    """Some values of a stream."""

    items: list[StreamItem]
    next: int = Field(description="The offset to go on from.")
    ended: bool = Field(description="Whether there is nothing more to come.")


# Webhooks, queues, workflows --------------------------------------------------------------------


class WebhookShown(Shown):
    """A webhook that the application declares."""

    path: str
    method: str
    check: str
    trouble: str | None = Field(description="Which secret is missing, if any.")


class WebhookList(Shown):
    """The application's webhooks."""

    items: list[WebhookShown]


class MessageShown(Shown):
    """A signal, query or update that a workflow's code takes."""

    name: str
    description: str = ""
    input: dict[str, Any] = Field(description="The JSON Schema of what it is sent.")
    result: dict[str, Any] | None = Field(
        default=None, description="The JSON Schema of its answer; a signal has none."
    )


class WorkflowShown(Shown):
    """A workflow, and how to speak to it."""

    name: str
    description: str = ""
    input: dict[str, Any] = Field(description="The JSON Schema of its arguments by name.")
    result: dict[str, Any] = Field(description="The JSON Schema of its result.")
    durability: str | None = None
    queue: str | None = None
    signals: list[MessageShown]
    queries: list[MessageShown]
    updates: list[MessageShown]


class RunQuery(Asked):
    """How to start a workflow whose arguments are the body."""

    id: str | None = None
    wait: Wait = 0
    reuse: Reuse = Reuse.EXISTING
    queue: str | None = None
    priority: int = 0
    dedup: str | None = None
    partition: str | None = None
    label: list[Label] = Field(default_factory=list, description="As in customer=acme.")
    ack: Ack = "durable"


class WorkflowInput(RootModel[dict[str, Any]]):
    """A workflow's arguments by name."""

    model_config = ConfigDict(defer_build=True)


class Ran(Started):
    """The answer to a start that waits: with the result or the error if it came in time."""

    result: Any = Field(default=None, description="There once it has completed.")
    error: Failure | None = Field(
        default=None, description="There once it has failed, or was stopped."
    )


class WorkflowList(Shown):
    """The application's workflows."""

    application: str
    version: str | None
    items: list[WorkflowShown]


# SQL --------------------------------------------------------------------------------------------


class SqlRequest(Asked):
    """A statement that only reads."""

    sql: str = Field(description="One SELECT.")
    parameters: list[Any] | dict[str, Any] = Field(
        default_factory=list, description="For its ? or :name."
    )
    timeout: Annotated[float, Field(gt=0, le=LONGEST_SQL, description="Seconds.")] = 2.0
    rows: Annotated[int, Field(ge=1, le=100_000, description="How many at most.")] = 1000


class SqlRows(Standing):
    """What a statement gave. A blob is given as {"base64": ...}."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = Field(description="Whether there were more rows, or bytes, than asked for.")
    seconds: float = Field(description="How long it took.")


class ColumnShown(Shown):
    """A column of a view or a table."""

    name: str
    description: str = ""


class RelationShown(Shown):
    """A view or a table."""

    name: str
    description: str = ""
    columns: list[ColumnShown]


class SqlExample(Shown):
    """A question, and the statement that answers it."""

    question: str
    sql: str


class SqlGuide(Shown):
    """What can be asked in SQL."""

    dialect: str
    views: list[RelationShown]
    tables: list[RelationShown] = Field(description="The tenant's own tables.")
    examples: list[SqlExample]
    limits: str
