"""What the engine's API takes and gives about schedules."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from node.api_models import Ack, Asked, Shown, Standing
from node.engine.schedule import Manner


class ScheduleRequest(BaseModel):
    """What PUT /schedules/{id} takes: beside this, the fields of a ScheduleSpec."""

    model_config = ConfigDict(extra="allow")

    ack: Ack = "durable"

    @property
    def spec(self) -> dict[str, Any]:
        """The fields of the spec."""
        return dict(self.model_extra or {})


class CreateScheduleRequest(ScheduleRequest):
    """What POST /schedules takes: beside this, the fields of a ScheduleSpec."""

    id: str
    paused: bool = False
    note: str = ""


class SteerRequest(Asked):
    """What POST /schedules/{id}/pause and resume take; `note` is for the first."""

    note: str = ""
    ack: Ack = "durable"


class TriggerRequest(Asked):
    """What POST /schedules/{id}/trigger takes."""

    key: str | None = None
    overlap: Manner | None = None
    ack: Ack = "durable"


class BackfillRequest(Asked):
    """What POST /schedules/{id}/backfill takes: unix seconds, or ISO 8601 with a time zone."""

    start: float | AwareDatetime
    end: float | AwareDatetime
    overlap: Manner | None = None
    ack: Ack = "durable"


class ScheduleFields(Shown):
    """A schedule as it is now. Times are unix seconds."""

    id: str
    status: str = Field(description="active, paused, stopped, over or broken")
    note: str | None
    declared: bool
    spec: dict[str, Any]
    upto: float
    next: list[dict[str, Any]]
    running: list[str]
    waiting: list[dict[str, Any]]
    runs: int
    skipped: int
    recent: list[dict[str, Any]]


class ScheduleShown(ScheduleFields, Standing):
    """One schedule."""


class ScheduleList(Standing):
    """The schedules."""

    items: list[ScheduleFields]


class ScheduleDeleted(Standing):
    """The answer to a deletion."""

    id: str
    deleted: bool


class ScheduleSteered(Standing):
    """The answer to a pause or resume."""

    id: str
    status: str
    note: str | None
    changed: bool


class ScheduleTriggered(Standing):
    """The answer to a trigger."""

    id: str
    execution: str | None
    changed: bool


class ScheduleBackfilled(Standing):
    """The answer to a backfill."""

    id: str
    ticks: int
