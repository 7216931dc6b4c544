"""The engine's HTTP API for what its log keeps, and for removing executions from it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from node.api_answers import Answers
from node.api_models import Ack
from node.api_models_retention import (
    Deleted,
    DeleteRequest,
    Held,
    HoldRequest,
    Pruned,
    PruneRequest,
    RetentionShown,
)
from node.api_route import Routes, operation
from node.engine.engine import Engine
from node.engine.errors import ExecutionHeld, ExecutionOpen, NotProvenYet, UnknownExecution

_ONE: Final = "/executions/{id}"


class RetentionApi(Routes):
    """Routes for retention."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation(
        "DELETE",
        _ONE,
        raises=(UnknownExecution, ExecutionOpen, ExecutionHeld, NotProvenYet),
        proves=True,
    )
    async def delete(self, id: str, body: DeleteRequest) -> Deleted:
        """Remove a closed execution from the log, with all that it said."""
        self.answers.admit(body.ack, "a deletion")
        events = await self.engine.retention.delete(id)
        standing = await self.answers.proven(self.engine.sequence, body.ack)
        return Deleted(id=id, deleted=True, events=events, **standing)

    @operation("POST", f"{_ONE}/hold", raises=(UnknownExecution,), proves=True)
    async def hold(self, id: str, body: HoldRequest) -> Held:
        """Let nothing remove an execution until it is released."""
        self.answers.admit(body.ack, "it")
        changed = await self.engine.retention.hold(id, body.reason)
        return await self._marked(id, True, changed, body.ack)

    @operation("POST", f"{_ONE}/release", raises=(UnknownExecution,), proves=True)
    async def release(self, id: str, body: HoldRequest) -> Held:
        """Let an execution that is held be removed again."""
        self.answers.admit(body.ack, "it")
        changed = await self.engine.retention.release(id)
        return await self._marked(id, False, changed, body.ack)

    @operation("GET", "/retention")
    async def show_retention(self) -> RetentionShown:
        """The rules of retention, what they have removed, and what is next."""
        return RetentionShown.model_validate(asdict(self.engine.retention.view()))

    @operation("POST", "/retention/prune", raises=(NotProvenYet,), proves=True)
    async def prune(self, body: PruneRequest) -> Pruned:
        """Remove what is due now, or with `dry_run` say what that is."""
        if body.dry_run:
            plan = await self.engine.retention.plan()
            return Pruned.model_validate({"dry_run": True, **asdict(plan)})
        self.answers.admit(body.ack, "it")
        done = await self.engine.retention.run(body.seconds)
        left = await self.engine.retention.plan()
        standing = await self.answers.proven(self.engine.sequence, body.ack)
        rest = {"left": {"executions": left.executions, "histories": left.histories}}
        return Pruned.model_validate({"dry_run": False, **asdict(done), **rest, **standing})

    async def _marked(self, id: str, held: bool, changed: bool, ack: Ack) -> Held:
        standing = await self.answers.proven(self.engine.sequence, ack)
        return Held(id=id, held=held, changed=changed, **standing)
