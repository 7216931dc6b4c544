"""The engine's HTTP API for forks, and for executions that are taken out and in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.api_answers import Ack, Answers, body_of, query_of
from node.engine.archive import Archive
from node.engine.engine import Engine
from node.engine.fork_preview import Preview
from node.engine.forked import ForkMode
from node.engine.forks import ForkResult


class ForkRequest(BaseModel):
    """What POST /executions/{id}/fork takes. `at` is a step, such as `charge#2`, or a sequence;
    with `dry_run` nothing is done but said what would be."""

    model_config = ConfigDict(extra="forbid")

    mode: ForkMode = ForkMode.EXACT
    at: int | str | None = None
    id: str | None = None
    input: dict[str, Any] | None = None
    messages: bool = True
    paused: bool = False
    dry_run: bool = False
    ack: Ack = "durable"


class ImportRequest(ForkRequest):
    """What POST /executions/import takes."""

    archive: dict[str, Any]
    mode: ForkMode = ForkMode.RECORD
    paused: bool = True


class ArchiveQuery(BaseModel):
    """What GET /executions/{id}/archive takes."""

    model_config = ConfigDict(extra="forbid")

    children: bool = False


def _how(body: ForkRequest) -> dict[str, Any]:
    return {"at": body.at, "mode": body.mode, "input": body.input, "messages": body.messages}


class ForksApi:
    """Routes for forks and archives."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    def routes(self) -> list[Route]:
        """Their paths begin with /executions."""
        return [
            Route("/executions/import", self.import_, methods=["POST"]),
            Route("/executions/{id}/fork", self.fork, methods=["POST"]),
            Route("/executions/{id}/archive", self.archive, methods=["GET"]),
        ]

    async def fork(self, request: Request) -> Response:
        """A new execution made from this one."""
        body, id = await body_of(ForkRequest, request), request.path_params["id"]
        how = _how(body)
        if body.dry_run:
            return self._planned(self.engine.preview_fork(id, **how))
        self.answers.admit(body.ack, "a fork")
        made = await self.engine.fork(id, new_id=body.id, paused=body.paused, **how)
        return await self._made(made, body.ack)

    async def import_(self, request: Request) -> Response:
        """A new execution made from an archive."""
        body = await body_of(ImportRequest, request)
        archive = Archive.checked(body.archive)
        how = _how(body)
        if body.dry_run:
            return self._planned(self.engine.preview_fork(archive, **how))
        self.answers.admit(body.ack, "an import")
        made = await self.engine.import_(archive, id=body.id, paused=body.paused, **how)
        return await self._made(made, body.ack)

    async def archive(self, request: Request) -> Response:
        """The execution as a file that `replay` and an import take."""
        query = query_of(ArchiveQuery, request)
        archive = self.engine.export(request.path_params["id"], with_children=query.children)
        return Response(archive.model_dump_json(), media_type="application/json")

    def _planned(self, plan: Preview) -> Response:
        standing = self.answers.standing(self.engine.sequence)
        return JSONResponse({**asdict(plan), "steps": [asdict(s) for s in plan.steps], **standing})

    async def _made(self, made: ForkResult, ack: Ack) -> Response:
        standing = await self.answers.proven(self.engine.sequence, ack)
        view = made.view
        body = {
            "id": view.id,
            "workflow": view.workflow,
            "status": view.status,
            "paused": view.paused,
            "forked_from": view.forked_from,
            "tokens": dict(made.tokens),
        }
        return JSONResponse({**body, **standing}, status_code=201 if made.created else 200)
