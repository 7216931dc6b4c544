"""The engine's HTTP API for what an operator does to an execution, and what there is to see."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.api_answers import Ack, Answers, body_of, query_of
from node.engine.engine import Engine
from node.engine.waiting import Waiting


class ControlRequest(BaseModel):
    """What POST /executions/{id}/cancel, terminate, pause, resume and retry take. `reason` is
    for the first three."""

    model_config = ConfigDict(extra="forbid")

    reason: str = ""
    ack: Ack = "durable"


class CompleteRequest(BaseModel):
    """What POST /external/{token} takes."""

    model_config = ConfigDict(extra="forbid")

    value: Any = None
    ack: Ack = "durable"


class WaitingQuery(BaseModel):
    """What GET /waiting takes. `longer_than` in seconds."""

    model_config = ConfigDict(extra="forbid")

    kind: str | None = None
    workflow: str | None = None
    longer_than: Annotated[float, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    after: Annotated[int, Field(ge=0)] = 0


class ControlApi:
    """Routes for control, for waiting, for archives and for tokens."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    def routes(self) -> list[Route]:
        """Their paths begin with /executions/{id}, and there is /external/{token}."""
        one = "/executions/{id}"
        return [
            Route(one + "/cancel", self.cancel, methods=["POST"]),
            Route(one + "/terminate", self.terminate, methods=["POST"]),
            Route(one + "/pause", self.pause, methods=["POST"]),
            Route(one + "/resume", self.resume, methods=["POST"]),
            Route(one + "/retry", self.retry, methods=["POST"]),
            Route(one + "/waiting", self.waiting, methods=["GET"]),
            Route(one + "/archive", self.archive, methods=["GET"]),
            Route("/waiting", self.all_waiting, methods=["GET"]),
            Route("/external/{token}", self.complete, methods=["POST"]),
        ]

    async def cancel(self, request: Request) -> Response:
        """Ask it to stop; `changed` is false when it has ended or was asked before."""
        body, id = await self._admit(request)
        return await self._done(id, await self.engine.control.cancel(id, body.reason), body.ack)

    async def terminate(self, request: Request) -> Response:
        """End it and its children without asking."""
        body, id = await self._admit(request)
        changed = await self.engine.control.terminate(id, body.reason)
        return await self._done(id, changed, body.ack)

    async def pause(self, request: Request) -> Response:
        """Let it start nothing more for now."""
        body, id = await self._admit(request)
        return await self._done(id, await self.engine.control.pause(id, body.reason), body.ack)

    async def resume(self, request: Request) -> Response:
        """Let it go on."""
        body, id = await self._admit(request)
        return await self._done(id, await self.engine.control.resume(id), body.ack)

    async def retry(self, request: Request) -> Response:
        """Try one that failed again, from the step that failed."""
        body, id = await self._admit(request)
        await self.engine.control.retry(id)
        return await self._done(id, True, body.ack)

    async def waiting(self, request: Request) -> Response:
        """What it waits for, since when, and what will wake it."""
        id = request.path_params["id"]
        items = [asdict(wait) for wait in self.engine.waiting(id)]
        stack = [asdict(one) for one in self.engine.stack(id)]
        standing = self.answers.standing(self.engine.sequence)
        return JSONResponse({"id": id, "items": items, "stack": stack, **standing})

    async def all_waiting(self, request: Request) -> Response:
        """All open executions with what they wait for."""
        query = query_of(WaitingQuery, request)
        found = self.engine.all_waiting(
            kind=query.kind,
            workflow=query.workflow,
            longer_than=query.longer_than,
            after=query.after,
            limit=query.limit,
        )
        following = str(found[-1].rowid) if len(found) == query.limit else None
        items = [_waiting(one) for one in found]
        standing = self.answers.standing(self.engine.sequence)
        return JSONResponse({"items": items, "next": following, **standing})

    async def archive(self, request: Request) -> Response:
        """The execution as a file that `replay` takes."""
        archive = self.engine.archive(request.path_params["id"])
        return Response(archive.model_dump_json(), media_type="application/json")

    async def complete(self, request: Request) -> Response:
        """Complete an external event; `changed` is false when it was completed before."""
        body = await body_of(CompleteRequest, request)
        self.answers.admit(body.ack, "a completion")
        changed = await self.engine.complete(request.path_params["token"], body.value)
        standing = await self.answers.proven(self.engine.sequence, body.ack)
        return JSONResponse({"changed": changed, **standing})

    async def _admit(self, request: Request) -> tuple[ControlRequest, str]:
        body = await body_of(ControlRequest, request)
        self.answers.admit(body.ack, "it")
        return body, request.path_params["id"]

    async def _done(self, id: str, changed: bool, ack: Ack) -> Response:
        view = self.engine.execution(id)
        standing = await self.answers.proven(self.engine.sequence, ack)
        body = {"id": id, "status": view.status, "paused": view.paused, "changed": changed}
        return JSONResponse({**body, **standing})


def _waiting(one: Waiting) -> dict[str, Any]:
    about = {"id": one.id, "workflow": one.workflow, "status": one.status, "since": one.since}
    return {**about, "waits": [asdict(wait) for wait in one.waits]}
