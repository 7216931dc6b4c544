"""The client for asyncio: an engine's schedules and queues."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from node.api_models_application import QueueChanged, QueueShown
from node.api_models_schedules import (
    BackfillRequest,
    CreateScheduleRequest,
    ScheduleBackfilled,
    ScheduleDeleted,
    ScheduleFields,
    ScheduleRequest,
    ScheduleShown,
    ScheduleSteered,
    ScheduleTriggered,
    TriggerRequest,
)
from node.client import calls
from node.engine.schedule import Manner, ScheduleSpec

if TYPE_CHECKING:
    from node.client.asyncio_client import AsyncClient


class AsyncSchedules:
    """The schedules of an engine. Every method raises LitefleetError."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(
        self,
        id: str,
        spec: ScheduleSpec | Mapping[str, Any],
        *,
        paused: bool = False,
        note: str = "",
    ) -> ScheduleShown:
        """Make a schedule; the same one that is there is given. Raises Conflict, Invalid."""
        request = CreateScheduleRequest(
            id=id, paused=paused, note=note, ack=self._client.ack, **_fields(spec)
        )
        return await self._client.send(calls.create_schedule(request))

    async def replace(self, id: str, spec: ScheduleSpec | Mapping[str, Any]) -> ScheduleShown:
        """Give one that is there another spec. Raises NotFound, Invalid."""
        request = ScheduleRequest(ack=self._client.ack, **_fields(spec))
        return await self._client.send(calls.replace_schedule(id, request))

    async def list(self) -> list[ScheduleFields]:
        """All of them."""
        return (await self._client.send(calls.schedules())).items

    async def show(self, id: str) -> ScheduleShown:
        """How one stands. Raises NotFound."""
        return await self._client.send(calls.schedule(id))

    async def delete(self, id: str) -> ScheduleDeleted:
        """Remove one; what it has started goes on. Raises NotFound."""
        return await self._client.send(calls.delete_schedule(id, self._client.ack))

    async def pause(self, id: str, note: str = "") -> ScheduleSteered:
        """Let one start nothing more until it is resumed."""
        return await self._client.send(calls.steer_schedule(id, "pause", note, self._client.ack))

    async def resume(self, id: str) -> ScheduleSteered:
        """Let one go on, with the ticks that are to come."""
        return await self._client.send(calls.steer_schedule(id, "resume", "", self._client.ack))

    async def trigger(
        self, id: str, *, key: str | None = None, overlap: Manner | None = None
    ) -> ScheduleTriggered:
        """Start one once more, now. Twice with one `key`, it is done once; without, one is made
        up."""
        request = TriggerRequest(key=key or uuid4().hex, overlap=overlap, ack=self._client.ack)
        return await self._client.send(calls.trigger_schedule(id, request))

    async def backfill(
        self,
        id: str,
        start: datetime | float,
        end: datetime | float,
        *,
        overlap: Manner | None = None,
    ) -> ScheduleBackfilled:
        """Have the ticks of a time that has passed happen: moments with a time zone, or unix
        seconds."""
        request = BackfillRequest(start=start, end=end, overlap=overlap, ack=self._client.ack)
        return await self._client.send(calls.backfill_schedule(id, request))


class AsyncQueues:
    """The queues of an engine. Every method raises LitefleetError."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self) -> list[QueueShown]:
        """All that the application declares, or that somebody waits in."""
        return (await self._client.send(calls.queues())).items

    async def show(self, name: str) -> QueueShown:
        """How one stands. Raises NotFound."""
        return await self._client.send(calls.queue(name))

    async def pause(self, name: str) -> QueueChanged:
        """Let nothing of it go until it is resumed; what runs goes on."""
        return await self._client.send(calls.steer_queue(name, "pause", self._client.ack))

    async def resume(self, name: str) -> QueueChanged:
        """Let it go on."""
        return await self._client.send(calls.steer_queue(name, "resume", self._client.ack))


def _fields(spec: ScheduleSpec | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(spec, ScheduleSpec):
        return spec.model_dump(mode="json", exclude_unset=True)
    return dict(spec)
