"""The engine's HTTP API for what its log keeps, and for removing executions from it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.api_answers import Ack, Answers, body_of
from node.engine.engine import Engine

#: Seconds for which one request to prune begins further batches, at most.
LONGEST_ROUND: Final = 30.0


class DeleteRequest(BaseModel):
    """What DELETE /executions/{id} takes."""

    model_config = ConfigDict(extra="forbid")

    ack: Ack = "durable"


class HoldRequest(BaseModel):
    """What POST /executions/{id}/hold and /release take. `reason` is for the first."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=1000)] = ""
    ack: Ack = "durable"


class PruneRequest(BaseModel):
    """What POST /retention/prune takes. `seconds` is for how long it begins further batches."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False
    seconds: Annotated[float, Field(gt=0, le=LONGEST_ROUND)] = 10.0
    ack: Ack = "durable"


class RetentionApi:
    """Routes for retention."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    def routes(self) -> list[Route]:
        """Under /executions/{id} and /retention."""
        one = "/executions/{id}"
        return [
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/hold", self.hold, methods=["POST"]),
            Route(one + "/release", self.release, methods=["POST"]),
            Route("/retention", self.show, methods=["GET"]),
            Route("/retention/prune", self.prune, methods=["POST"]),
        ]

    async def delete(self, request: Request) -> Response:
        """Remove a closed execution from the log."""
        body = await body_of(DeleteRequest, request)
        self.answers.admit(body.ack, "a deletion")
        id = request.path_params["id"]
        events = await self.engine.retention.delete(id)
        standing = await self.answers.proven(self.engine.sequence, body.ack)
        return JSONResponse({"id": id, "deleted": True, "events": events, **standing})

    async def hold(self, request: Request) -> Response:
        """Let nothing remove it; `changed` is false when it is held already."""
        body = await self._admit(request)
        id = request.path_params["id"]
        changed = await self.engine.retention.hold(id, body.reason)
        return await self._marked(id, True, changed, body.ack)

    async def release(self, request: Request) -> Response:
        """Let it be removed again; `changed` is false when it is not held."""
        body = await self._admit(request)
        id = request.path_params["id"]
        changed = await self.engine.retention.release(id)
        return await self._marked(id, False, changed, body.ack)

    async def show(self, request: Request) -> Response:
        """The rules, what was removed, and what is next."""
        return JSONResponse(asdict(self.engine.retention.view()))

    async def prune(self, request: Request) -> Response:
        """Remove what is due now, or say what that is."""
        body = await body_of(PruneRequest, request)
        if body.dry_run:
            plan = await self.engine.retention.plan()
            return JSONResponse({"dry_run": True, **asdict(plan)})
        self.answers.admit(body.ack, "it")
        done = await self.engine.retention.run(body.seconds)
        left = await self.engine.retention.plan()
        standing = await self.answers.proven(self.engine.sequence, body.ack)
        rest = {"left": {"executions": left.executions, "histories": left.histories}}
        return JSONResponse({"dry_run": False, **asdict(done), **rest, **standing})

    async def _admit(self, request: Request) -> HoldRequest:
        body = await body_of(HoldRequest, request)
        self.answers.admit(body.ack, "it")
        return body

    async def _marked(self, id: str, held: bool, changed: bool, ack: Ack) -> Response:
        standing = await self.answers.proven(self.engine.sequence, ack)
        body: dict[str, Any] = {"id": id, "held": held, "changed": changed}
        return JSONResponse({**body, **standing})
