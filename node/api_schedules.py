"""The engine's HTTP API for schedules."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from node.api_answers import Answers
from node.api_models import Ack
from node.api_models_schedules import (
    BackfillRequest,
    CreateScheduleRequest,
    ScheduleBackfilled,
    ScheduleDeleted,
    ScheduleFields,
    ScheduleList,
    ScheduleRequest,
    ScheduleShown,
    ScheduleSteered,
    ScheduleTriggered,
    SteerRequest,
    TriggerRequest,
)
from node.api_route import Routes, operation
from node.engine.engine import Engine
from node.engine.errors import (
    ExecutionClosed,
    ExecutionConflict,
    PayloadError,
    PayloadTooLarge,
    ScheduleConflict,
    UnknownQueue,
    UnknownSchedule,
    UnknownWorkflow,
)
from node.engine.schedule_control import ScheduleView

_ONE: Final = "/schedules/{id}"
_SPEC_ERRORS: Final = (
    ScheduleConflict,
    UnknownWorkflow,
    UnknownQueue,
    PayloadError,
    PayloadTooLarge,
    ExecutionConflict,
    ExecutionClosed,
)
_ERRORS: Final = (UnknownSchedule, ScheduleConflict, PayloadError, ExecutionClosed)


class SchedulesApi(Routes):
    """Routes for schedules."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation("POST", "/schedules", statuses=(201, 200), raises=_SPEC_ERRORS, proves=True)
    async def create_schedule(self, body: CreateScheduleRequest) -> tuple[int, ScheduleShown]:
        """Make a schedule; 200 when the same one is there already."""
        self.answers.admit(body.ack, "it")
        paused = body.note if body.paused else None
        view, created = await self.engine.schedules.create(body.id, body.spec, paused=paused)
        return 201 if created else 200, await self._shown(view, body.ack)

    @operation("GET", "/schedules")
    async def list_schedules(self) -> ScheduleList:
        """All schedules, by id."""
        items = [ScheduleFields(**asdict(view)) for view in self.engine.schedules.list()]
        return ScheduleList(items=items, **self.answers.standing(self.engine.sequence))

    @operation("GET", _ONE, raises=(UnknownSchedule,))
    async def show_schedule(self, id: str) -> ScheduleShown:
        """One schedule."""
        return await self._shown(self.engine.schedules.show(id), "async")

    @operation("PUT", _ONE, raises=(UnknownSchedule, *_SPEC_ERRORS), proves=True)
    async def update_schedule(self, id: str, body: ScheduleRequest) -> ScheduleShown:
        """Give a schedule another spec, whole."""
        self.answers.admit(body.ack, "it")
        return await self._shown(await self.engine.schedules.update(id, body.spec), body.ack)

    @operation("DELETE", _ONE, raises=_ERRORS, proves=True)
    async def delete_schedule(self, id: str, body: SteerRequest) -> ScheduleDeleted:
        """Forget a schedule; what it has started goes on."""
        self.answers.admit(body.ack, "it")
        await self.engine.schedules.delete(id)
        return ScheduleDeleted(id=id, deleted=True, **await self._standing(body.ack))

    @operation("POST", f"{_ONE}/pause", raises=_ERRORS, proves=True)
    async def pause_schedule(self, id: str, body: SteerRequest) -> ScheduleSteered:
        """Let none of a schedule's ticks happen; `changed` is false when it was paused."""
        self.answers.admit(body.ack, "it")
        return await self._steered(id, await self.engine.schedules.pause(id, body.note), body.ack)

    @operation("POST", f"{_ONE}/resume", raises=_ERRORS, proves=True)
    async def resume_schedule(self, id: str, body: SteerRequest) -> ScheduleSteered:
        """Let a schedule go on from now; `changed` is false when it was not paused."""
        self.answers.admit(body.ack, "it")
        return await self._steered(id, await self.engine.schedules.resume(id), body.ack)

    @operation("POST", f"{_ONE}/trigger", raises=_ERRORS, proves=True)
    async def trigger_schedule(self, id: str, body: TriggerRequest) -> ScheduleTriggered:
        """Start what a schedule starts once more, now; the same `key` again is the same
        execution."""
        self.answers.admit(body.ack, "it")
        execution, changed = await self.engine.schedules.trigger(
            id, key=body.key or uuid4().hex, overlap=body.overlap
        )
        standing = await self._standing(body.ack)
        return ScheduleTriggered(id=id, execution=execution, changed=changed, **standing)

    @operation("POST", f"{_ONE}/backfill", raises=_ERRORS, proves=True)
    async def backfill_schedule(self, id: str, body: BackfillRequest) -> ScheduleBackfilled:
        """Have a schedule's ticks of a time that has passed happen."""
        self.answers.admit(body.ack, "it")
        ticks = await self.engine.schedules.backfill(
            id, _seconds(body.start), _seconds(body.end), overlap=body.overlap
        )
        return ScheduleBackfilled(id=id, ticks=ticks, **await self._standing(body.ack))

    async def _shown(self, view: ScheduleView, ack: Ack) -> ScheduleShown:
        return ScheduleShown(**asdict(view), **await self._standing(ack))

    async def _steered(self, id: str, changed: bool, ack: Ack) -> ScheduleSteered:
        view = self.engine.schedules.show(id)
        standing = await self._standing(ack)
        return ScheduleSteered(
            id=id, status=view.status, note=view.note, changed=changed, **standing
        )

    async def _standing(self, ack: Ack) -> dict[str, Any]:
        return await self.answers.proven(self.engine.sequence, ack)


def _seconds(moment: float | datetime) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment
