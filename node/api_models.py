"""What the engine's API takes and gives. The handlers and the client use these same models."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

from node.engine.events import Reuse, Status
from node.engine.forked import ForkMode

#: The longest wait for a result or a stream, in seconds; ask again for more.
LONGEST_WAIT: Final = 60.0
#: Whether an answer waits for proof that it is durable.
Ack = Literal["durable", "async"]


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
    pinned: bool | None = Field(
        default=None, description="Whether it stays with this version; else as declared."
    )
    ack: Ack = "durable"


class Started(Standing):
    """The answer to a start."""

    id: str
    workflow: str
    status: Status


class ForkedFromShown(Shown):
    """The execution that one was made from."""

    id: str
    mode: ForkMode
    sequence: int = Field(description="The newest of its events that this one has or knows of.")
    tenant: str | None = Field(default=None, description="Where it is from another log.")
    lineage: str | None = None
    digest: str | None = Field(default=None, description="Of the archive, where it was imported.")


class ExecutionShown(Standing):
    """An execution, as a list shows it. Times are unix seconds."""

    id: str
    workflow: str
    status: Status
    paused: bool = False
    version: str | None = Field(
        default=None, description="What the application that started it called its version."
    )
    pinned: bool = Field(default=False, description="Whether it stays with its version.")
    runs_on: str | None = Field(default=None, description="The version that runs it while open.")
    started_at: float
    closed_at: float | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    forked_from: ForkedFromShown | None = None


class ExecutionDetail(ExecutionShown):
    """An execution with what it was given and what came of it."""

    input: Any
    result: Any = Field(default=None, description="There once it has completed.")
    error: Failure | None = Field(
        default=None, description="There once it has failed, or was stopped."
    )


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


class ControlRequest(Asked):
    """Control an execution."""

    ack: Ack = "durable"


class PinRequest(ControlRequest):
    """Keep an execution to a version."""

    version: str | None = Field(default=None, description="By default the one that it runs with.")


class StopRequest(ControlRequest):
    """Stop or pause an execution."""

    reason: str = Field(default="", description="Kept in the log.")


class Controlled(Standing):
    """The answer to a control."""

    id: str
    status: Status
    paused: bool
    pinned: bool = Field(default=False, description="Whether it stays with its version.")
    changed: bool = Field(description="False when there was nothing to do.")


class WaitShown(Shown):
    """One thing that an execution waits for. Times are unix seconds."""

    kind: str = Field(
        description="queue, activity, timer, child, external, signal, condition, asyncio, pause, "
        "version, code or nothing"
    )
    name: str
    occurrence: int | None
    since: float | None
    until: float | None = Field(description="When time alone will wake it.")
    wakes: str = Field(description="What will wake it, in words.")
    detail: dict[str, Any]
    where: str | None = Field(default=None, description="The line of code that waits.")


class PlaceShown(Shown):
    """A line of code."""

    file: str
    line: int
    function: str


class StackShown(Shown):
    """Where one task of the code waits, the outermost place first."""

    task: str
    places: list[PlaceShown]


class Waits(Standing):
    """What an execution waits for."""

    id: str
    items: list[WaitShown]
    stack: list[StackShown] = Field(description="Where its code stands, for each of its tasks.")


class WaitingQuery(Asked):
    """Which open executions."""

    kind: str | None = Field(default=None, description="That wait for something of this kind.")
    workflow: str | None = None
    longer_than: Annotated[float, Field(ge=0, description="Seconds.")] = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    after: Annotated[int, Field(ge=0, description="The `next` of the page before.")] = 0


class WaitingShown(Shown):
    """An open execution with what it waits for. `since` is when the newest of that began."""

    id: str
    workflow: str
    status: Status
    since: float
    waits: list[WaitShown]


class WaitingPage(Standing):
    """Some open executions."""

    items: list[WaitingShown]
    next: str | None


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
