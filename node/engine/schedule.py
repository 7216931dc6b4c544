"""Schedules: what is to be started when, as an application declares it or an operator makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from node.engine.definition import Workflow, named
from node.engine.errors import BadSchedule, DefinitionError, PayloadError
from node.engine.queue import Queue
from node.engine.timing import Cron, Every, Timing, cron_of

#: Seconds after which a tick that was missed does not happen any more, unless declared otherwise.
CATCH_UP_WINDOW: Final = 24 * 3600


class Overlap(StrEnum):
    """What a tick does that comes while something of its schedule runs or waits."""

    SKIP = "skip"
    """It does not happen."""
    BUFFER_ONE = "buffer_one"
    """It waits, unless one waits already."""
    BUFFER_ALL = "buffer_all"
    """It waits its turn, unless `buffer_limit` wait already."""
    CANCEL_OTHER = "cancel_other"
    """What runs is asked to stop; it happens when that has ended."""
    TERMINATE_OTHER = "terminate_other"
    """What runs is ended without being asked."""
    ALLOW_ALL = "allow_all"
    """It happens."""


def _seconds(value: Any) -> Any:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError("a moment needs a time zone: add Z for UTC, or +01:00")
        value = value.timestamp()
    return _seconds(value)


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


#: Whole seconds, or a timedelta of them.
Seconds = Annotated[int, BeforeValidator(_seconds)]
#: Unix seconds, a datetime or its ISO 8601 form.
Moment = Annotated[int, BeforeValidator(_moment)]
#: How what was asked for goes with what runs: after it, or beside it.
Manner = Literal["buffer_all", "allow_all"]


class ScheduleSpec(BaseModel):
    """What is started when. Durations are seconds, moments unix seconds; both whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workflow: str
    input: dict[str, Any] = Field(default_factory=dict)
    cron: Annotated[tuple[str, ...], BeforeValidator(_several)] | None = None
    time_zone: str = "UTC"
    every: Annotated[Seconds, Field(ge=1)] | None = None
    anchor: Moment = 0
    jitter: Annotated[Seconds, Field(ge=0, le=86_400)] = 0
    start_at: Moment | None = None
    end_at: Moment | None = None
    catch_up_window: Annotated[Seconds, Field(ge=0)] = CATCH_UP_WINDOW
    overlap: Overlap = Overlap.SKIP
    buffer_limit: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_runs: Annotated[int, Field(ge=1)] | None = None
    pause_on_failure: bool = False
    queue: str | None = None
    priority: int = 0
    partition: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> ScheduleSpec:
        if (self.cron is None) == (self.every is None):
            raise ValueError("it has either cron or every")
        if self.cron is not None and self.anchor:
            raise ValueError("an anchor is for every; a cron expression has none")
        if self.every is not None and self.time_zone != "UTC":
            raise ValueError("a time zone is for cron; every is the same everywhere")
        if self.start_at is not None and self.end_at is not None and self.end_at < self.start_at:
            raise ValueError("it ends before it starts")
        if self.queue is None and (self.priority or self.partition is not None):
            raise ValueError("a priority and a partition are for a start on a queue: name one")
        return self

    @staticmethod
    def of(values: Mapping[str, Any]) -> ScheduleSpec:
        """Checked, its cron expressions and its time zone included. Raises BadSchedule."""
        try:
            spec = ScheduleSpec.model_validate(dict(values))
        except ValidationError as error:
            raise BadSchedule(_words(error)) from None
        if spec.cron is not None:
            cron_of(spec.cron, spec.time_zone)
        return spec

    def body(self) -> dict[str, Any]:
        """What the log holds of it: all that is not as it is by default."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def timing(self) -> Timing:
        """When its ticks are, whatever its bounds."""
        if self.cron is not None:
            return Cron(self.cron, self.time_zone)
        assert self.every is not None
        return Every(self.every, self.anchor)


#: The fields of a spec that say when.
WHEN: Final = ("cron", "time_zone", "every", "anchor")


def timing_of(body: Mapping[str, Any]) -> Timing:
    """When the ticks are of what `ScheduleSpec.body` gave, or of the part of it that says when."""
    if body.get("cron") is not None:
        return Cron(tuple(body["cron"]), body.get("time_zone", "UTC"))
    return Every(body["every"], body.get("anchor", 0))


def _words(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc'])}: "
        f"{one['msg'].removeprefix('Value error, ')}".lstrip(": ")
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    )


class Schedule:
    """Starts a workflow at certain times, declared at the top level of an application.

    Either `cron`, one or more expressions of five fields in an IANA `time_zone`, or `every`, in
    seconds, with a tick at `anchor`. `input` has the workflow's arguments by name; the time that
    an execution is for is `workflow.info().scheduled_at`. `jitter` puts each tick off by up to so
    many seconds. A tick that could not happen in time does so later, if it is not older than
    `catch_up_window`.

    A declaration that changes is taken over when an engine starts with it; one that is gone
    stops. Whether it is paused is the operator's affair. Raises DefinitionError.
    """

    def __init__(
        self,
        name: str,
        workflow: Workflow[..., Any],
        *,
        cron: str | Sequence[str] | None = None,
        time_zone: str = "UTC",
        every: float | timedelta | None = None,
        anchor: datetime | float = 0,
        input: Mapping[str, Any] | None = None,
        jitter: float | timedelta = 0,
        start_at: datetime | float | None = None,
        end_at: datetime | float | None = None,
        catch_up_window: float | timedelta = CATCH_UP_WINDOW,
        overlap: Overlap | str = Overlap.SKIP,
        buffer_limit: int = 100,
        max_runs: int | None = None,
        pause_on_failure: bool = False,
        queue: Queue | None = None,
        priority: int = 0,
        partition: str | None = None,
    ) -> None:
        self.name = named(name, "schedule")
        self.workflow = workflow
        self.queue = queue
        self._input = dict(input or {})
        try:
            self._spec = ScheduleSpec.of(
                {
                    "workflow": workflow.name,
                    "cron": cron,
                    "time_zone": time_zone,
                    "every": every,
                    "anchor": anchor,
                    "jitter": jitter,
                    "start_at": start_at,
                    "end_at": end_at,
                    "catch_up_window": catch_up_window,
                    "overlap": overlap,
                    "buffer_limit": buffer_limit,
                    "max_runs": max_runs,
                    "pause_on_failure": pause_on_failure,
                    "queue": None if queue is None else queue.name,
                    "priority": priority,
                    "partition": partition,
                }
            )
        except BadSchedule as error:
            raise DefinitionError(f"schedule {name}: {error}", hint=error.hint) from None

    @property
    def spec(self) -> ScheduleSpec:
        """What it declares. Raises DefinitionError for an input that is not the workflow's."""
        return fitting(self._spec.model_copy(update={"input": self._input}), self.workflow)

    def check(self) -> None:
        """Raises DefinitionError."""
        try:
            _ = self.spec
        except PayloadError as error:
            raise DefinitionError(f"schedule {self.name}: {error}", hint=error.hint) from None


def fitting(spec: ScheduleSpec, workflow: Workflow[..., Any]) -> ScheduleSpec:
    """With the input as JSON that the workflow takes. Raises PayloadError."""
    return spec.model_copy(update={"input": json.loads(workflow.codec.input_of(spec.input))})
