"""The engine's HTTP API for forks, and for executions that are taken out and in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from starlette.responses import Response

from node.api_answers import Answers
from node.api_models import Ack, ForkedFromShown
from node.api_models_forks import ArchiveQuery, ForkRequest, ForkShown, ImportRequest, PlannedShown
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
from node.engine.fork_preview import Preview
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
