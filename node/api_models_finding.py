"""What the engine's API takes and gives where executions are found by what they are."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)

from node.api_models import Ack, Asked, ErrorBody, ExecutionShown, Shown, Standing
from node.engine.events import Status

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


class ExecutionPage(Shown):
    """Some executions."""

    items: list[ExecutionShown]
    next: str | None = Field(description="The `after` of the next page; null after the last.")
