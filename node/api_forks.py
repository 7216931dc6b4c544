"""The engine's HTTP API for forks, and for executions that are taken out and in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from node.api_answers import Answers
from node.api_models import Ack, Asked, ForkedFromShown, Shown, Standing
from node.api_route import Content, Routes, operation
from node.engine.archive import Archive
from node.engine.engine import Engine
from node.engine.errors import (
    ArchiveRefused,
    ExecutionConflict,
    ForkRefused,
    PayloadError,
    PayloadTooLarge,
    UnknownExecution,
    UnknownWorkflow,
    VersionMissing,
)
from node.engine.events import Status
from node.engine.fork_preview import Preview
from node.engine.forked import ForkMode
from node.engine.forks import ForkResult

_REFUSALS: Final = (
    UnknownExecution,
    UnknownWorkflow,
    VersionMissing,
    ExecutionConflict,
    ForkRefused,
    PayloadError,
    PayloadTooLarge,
)


class ForkRequest(Asked):
    """What POST /executions/{id}/fork takes. `at` is a step, such as `charge#2`, or a sequence;
    with `dry_run` nothing is done but said what would be."""

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


class ArchiveQuery(Asked):
    """What GET /executions/{id}/archive takes."""

    children: bool = Field(default=False, description="Whether its children come along.")


class PlannedShown(Shown):
    """What would become of one step."""

    name: str
    occurrence: int
    kind: str
    action: str
    why: str
    certain: bool


class ForkShown(Standing):
    """An execution that was made from another one, with the tokens of the external events that it
    waits for; or, of a dry run, what would become of each step: `ends` says how far that is
    known."""

    id: str | None = None
    workflow: str | None = None
    status: Status | None = None
    paused: bool = False
    forked_from: ForkedFromShown | None = None
    tokens: dict[str, str] = Field(default_factory=dict)
    mode: ForkMode | None = Field(default=None, description="Of a dry run.")
    steps: list[PlannedShown] | None = Field(default=None, description="Of a dry run.")
    ends: str | None = Field(default=None, description="Of a dry run.")


def _how(body: ForkRequest) -> dict[str, Any]:
    return {"at": body.at, "mode": body.mode, "input": body.input, "messages": body.messages}


class ForksApi(Routes):
    """Routes for forks and archives."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    # Before those of /executions/{id}, which would take "import" for an id.
    @operation(
        "POST",
        "/executions/import",
        statuses=(201, 200),
        raises=(*_REFUSALS, ArchiveRefused),
        proves=True,
    )
    async def import_(self, body: ImportRequest) -> tuple[int, ForkShown]:
        """Make an execution from an archive: a record of it, or one that goes on here."""
        archive = Archive.checked(body.archive)
        how = _how(body)
        if body.dry_run:
            return 200, self._planned(self.engine.preview_fork(archive, **how))
        self.answers.admit(body.ack, "an import")
        made = await self.engine.import_(archive, id=body.id, paused=body.paused, **how)
        return await self._made(made, body.ack)

    @operation("POST", "/executions/{id}/fork", statuses=(201, 200), raises=_REFUSALS, proves=True)
    async def fork(self, id: str, body: ForkRequest) -> tuple[int, ForkShown]:
        """Make an execution from this one: from any of its steps on, or with its results."""
        how = _how(body)
        if body.dry_run:
            return 200, self._planned(self.engine.preview_fork(id, **how))
        self.answers.admit(body.ack, "a fork")
        made = await self.engine.fork(id, new_id=body.id, paused=body.paused, **how)
        return await self._made(made, body.ack)

    @operation(
        "GET",
        "/executions/{id}/archive",
        raises=(UnknownExecution,),
        content=(Content("application/json", "The archive, with its digest.", {"type": "object"}),),
    )
    async def archive(self, id: str, query: ArchiveQuery) -> Response:
        """An execution as a file that `litefleet replay` and an import take. It holds what the
        execution's tokens are made with."""
        # Every field of it: the digest is over all.
        archive = self.engine.export(id, with_children=query.children)
        return Response(archive.model_dump_json(), media_type="application/json")

    def _planned(self, plan: Preview) -> ForkShown:
        standing = self.answers.standing(self.engine.sequence)
        steps = [PlannedShown.model_validate(asdict(step)) for step in plan.steps]
        return ForkShown(mode=plan.mode, steps=steps, ends=plan.ends, **standing)

    async def _made(self, made: ForkResult, ack: Ack) -> tuple[int, ForkShown]:
        standing = await self.answers.proven(self.engine.sequence, ack)
        view = made.view
        from_ = view.forked_from
        forked = ForkShown(
            id=view.id,
            workflow=view.workflow,
            status=view.status,
            paused=view.paused,
            forked_from=None if from_ is None else ForkedFromShown.model_validate(from_),
            tokens=dict(made.tokens),
            **standing,
        )
        return 201 if made.created else 200, forked
