"""The engine's HTTP API for what an operator does to an execution, and what there is to see."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.api_answers import Ack, Answers, body_of
from node.engine.engine import Engine


class ControlRequest(BaseModel):
    """What POST /executions/{id}/cancel, terminate, pause, resume and retry take. `reason` is
    for the first two."""

    model_config = ConfigDict(extra="forbid")

    reason: str = ""
    ack: Ack = "durable"


class CompleteRequest(BaseModel):
    """What POST /external/{token} takes."""

    model_config = ConfigDict(extra="forbid")

    value: Any = None
    ack: Ack = "durable"


class ControlApi:
    """Routes for control, for waiting and for tokens."""

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
        return await self._done(id, await self.engine.control.pause(id), body.ack)

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
        standing = self.answers.standing(self.engine.sequence)
        return JSONResponse({"id": id, "items": items, **standing})

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
