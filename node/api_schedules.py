"""The engine's HTTP API for schedules."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.api_answers import Ack, Answers, body_of
from node.engine.engine import Engine
from node.engine.schedule_control import Manner, ScheduleView


class UpdateRequest(BaseModel):
    """What PUT /schedules/{id} takes: beside this, the fields of a ScheduleSpec."""

    model_config = ConfigDict(extra="allow")

    ack: Ack = "durable"

    @property
    def spec(self) -> dict[str, Any]:
        """The fields of the spec."""
        return dict(self.model_extra or {})


class CreateRequest(UpdateRequest):
    """What POST /schedules takes: beside this, the fields of a ScheduleSpec."""

    id: str
    paused: bool = False
    note: str = ""


class SteerRequest(BaseModel):
    """What POST /schedules/{id}/pause and resume take; `note` is for the first."""

    model_config = ConfigDict(extra="forbid")

    note: str = ""
    ack: Ack = "durable"


class TriggerRequest(BaseModel):
    """What POST /schedules/{id}/trigger takes."""

    model_config = ConfigDict(extra="forbid")

    key: str | None = None
    overlap: Manner | None = None
    ack: Ack = "durable"


class BackfillRequest(BaseModel):
    """What POST /schedules/{id}/backfill takes: unix seconds, or ISO 8601 with a time zone."""

    model_config = ConfigDict(extra="forbid")

    start: float | AwareDatetime
    end: float | AwareDatetime
    overlap: Manner | None = None
    ack: Ack = "durable"


class SchedulesApi:
    """Routes for schedules."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    def routes(self) -> list[Route]:
        """Their paths begin with /schedules."""
        one = "/schedules/{id}"
        return [
            Route("/schedules", self.create, methods=["POST"]),
            Route("/schedules", self.list, methods=["GET"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/pause", self.pause, methods=["POST"]),
            Route(one + "/resume", self.resume, methods=["POST"]),
            Route(one + "/trigger", self.trigger, methods=["POST"]),
            Route(one + "/backfill", self.backfill, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Make one; 200 when the same one is there already."""
        body = await self._admit(CreateRequest, request)
        paused = body.note if body.paused else None
        view, created = await self.engine.schedules.create(body.id, body.spec, paused=paused)
        return await self._done(asdict(view), body.ack, status=201 if created else 200)

    async def list(self, request: Request) -> Response:
        """All of them, by id."""
        items = [asdict(view) for view in self.engine.schedules.list()]
        return JSONResponse({"items": items, **self.answers.standing(self.engine.sequence)})

    async def show(self, request: Request) -> Response:
        """One of them."""
        view = self.engine.schedules.show(request.path_params["id"])
        return JSONResponse({**asdict(view), **self.answers.standing(self.engine.sequence)})

    async def update(self, request: Request) -> Response:
        """Give it another spec, whole."""
        body = await self._admit(UpdateRequest, request)
        view = await self.engine.schedules.update(request.path_params["id"], body.spec)
        return await self._done(asdict(view), body.ack)

    async def delete(self, request: Request) -> Response:
        """Forget it; what it has started goes on."""
        body = await self._admit(SteerRequest, request)
        id = request.path_params["id"]
        await self.engine.schedules.delete(id)
        return await self._done({"id": id, "deleted": True}, body.ack)

    async def pause(self, request: Request) -> Response:
        """Let none of its ticks happen; `changed` is false when it was paused."""
        body = await self._admit(SteerRequest, request)
        id = request.path_params["id"]
        changed = await self.engine.schedules.pause(id, body.note)
        return await self._steered(id, changed, body.ack)

    async def resume(self, request: Request) -> Response:
        """Go on from now; `changed` is false when it was not paused."""
        body = await self._admit(SteerRequest, request)
        id = request.path_params["id"]
        return await self._steered(id, await self.engine.schedules.resume(id), body.ack)

    async def trigger(self, request: Request) -> Response:
        """Start it once more, now; the same `key` again is the same execution."""
        body = await self._admit(TriggerRequest, request)
        id = request.path_params["id"]
        execution, changed = await self.engine.schedules.trigger(
            id, key=body.key or uuid4().hex, overlap=body.overlap
        )
        about = {"id": id, "execution": execution, "changed": changed}
        return await self._done(about, body.ack)

    async def backfill(self, request: Request) -> Response:
        """Have the ticks of a time that has passed happen."""
        body = await self._admit(BackfillRequest, request)
        id = request.path_params["id"]
        ticks = await self.engine.schedules.backfill(
            id, _seconds(body.start), _seconds(body.end), overlap=body.overlap
        )
        return await self._done({"id": id, "ticks": ticks}, body.ack)

    async def _admit(self, model: type[Any], request: Request) -> Any:
        body = await body_of(model, request)
        self.answers.admit(body.ack, "it")
        return body

    async def _steered(self, id: str, changed: bool, ack: Ack) -> Response:
        view: ScheduleView = self.engine.schedules.show(id)
        about = {"id": id, "status": view.status, "note": view.note, "changed": changed}
        return await self._done(about, ack)

    async def _done(self, about: dict[str, Any], ack: Ack, *, status: int = 200) -> Response:
        standing = await self.answers.proven(self.engine.sequence, ack)
        return JSONResponse({**about, **standing}, status_code=status)


def _seconds(moment: float | datetime) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment
