"""The engine's HTTP API for what an operator does to an execution, and what there is to see."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from node.api_answers import Answers
from node.api_models import (
    Completed,
    CompleteRequest,
    Controlled,
    ControlRequest,
    PinRequest,
    StackShown,
    StopRequest,
    WaitingPage,
    WaitingQuery,
    WaitingShown,
    Waits,
    WaitShown,
)
from node.api_route import Routes, operation
from node.engine.engine import Engine
from node.engine.errors import (
    ExecutionClosed,
    ExecutionConflict,
    ExecutionDiverged,
    PayloadError,
    PayloadTooLarge,
    UnknownExecution,
    UnknownToken,
    UnknownWorkflow,
    VersionMissing,
)

_ONE: Final = "/executions/{id}"


class ControlApi(Routes):
    """Routes for control, for waiting and for tokens."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation("POST", f"{_ONE}/cancel", raises=(UnknownExecution, ExecutionDiverged), proves=True)
    async def cancel(self, id: str, body: StopRequest) -> Controlled:
        """Ask an execution, and its children, to stop. `changed` is false when it has ended or
        was asked before."""
        self.answers.admit(body.ack, "it")
        return await self._done(id, await self.engine.control.cancel(id, body.reason), body)

    @operation("POST", f"{_ONE}/terminate", raises=(UnknownExecution,), proves=True)
    async def terminate(self, id: str, body: StopRequest) -> Controlled:
        """End an execution and its children without asking their code."""
        self.answers.admit(body.ack, "it")
        return await self._done(id, await self.engine.control.terminate(id, body.reason), body)

    @operation("POST", f"{_ONE}/pause", raises=(UnknownExecution, ExecutionClosed), proves=True)
    async def pause(self, id: str, body: StopRequest) -> Controlled:
        """Let an execution start no further attempt and see no timer fire. Messages arrive."""
        self.answers.admit(body.ack, "it")
        return await self._done(id, await self.engine.control.pause(id, body.reason), body)

    @operation("POST", f"{_ONE}/resume", raises=(UnknownExecution, ExecutionClosed), proves=True)
    async def resume(self, id: str, body: ControlRequest) -> Controlled:
        """Let a paused execution go on."""
        self.answers.admit(body.ack, "it")
        return await self._done(id, await self.engine.control.resume(id), body)

    @operation(
        "POST",
        f"{_ONE}/retry",
        raises=(UnknownExecution, ExecutionConflict, UnknownWorkflow),
        proves=True,
    )
    async def retry(self, id: str, body: ControlRequest) -> Controlled:
        """Try an execution that failed again, from the step that failed."""
        self.answers.admit(body.ack, "it")
        await self.engine.control.retry(id)
        return await self._done(id, True, body)

    @operation(
        "POST",
        f"{_ONE}/pin",
        raises=(UnknownExecution, ExecutionClosed, ExecutionConflict, VersionMissing, PayloadError),
        proves=True,
    )
    async def pin(self, id: str, body: PinRequest) -> Controlled:
        """Keep an execution to the version that it runs with, or one that is stopped to this
        one."""
        self.answers.admit(body.ack, "a pin")
        return await self._done(id, await self.engine.control.pin(id, body.version), body)

    @operation(
        "POST",
        f"{_ONE}/unpin",
        raises=(UnknownExecution, ExecutionClosed, ExecutionConflict, VersionMissing),
        proves=True,
    )
    async def unpin(self, id: str, body: ControlRequest) -> Controlled:
        """Let an execution move to the current version."""
        self.answers.admit(body.ack, "it")
        return await self._done(id, await self.engine.control.unpin(id), body)

    @operation("GET", f"{_ONE}/waiting", raises=(UnknownExecution,))
    async def waiting(self, id: str) -> Waits:
        """What an execution waits for, since when, and what will wake it."""
        items = [WaitShown(**asdict(wait)) for wait in self.engine.waiting(id)]
        stack = [StackShown.model_validate(asdict(one)) for one in self.engine.stack(id)]
        standing = self.answers.standing(self.engine.sequence)
        return Waits(id=id, items=items, stack=stack, **standing)

    @operation("GET", "/waiting")
    async def list_waiting(self, query: WaitingQuery) -> WaitingPage:
        """Open executions with what they wait for, in the order of their start."""
        found = self.engine.all_waiting(
            kind=query.kind,
            workflow=query.workflow,
            longer_than=query.longer_than,
            after=query.after,
            limit=query.limit,
        )
        following = str(found[-1].rowid) if len(found) == query.limit else None
        items = [
            WaitingShown(
                id=one.id,
                workflow=one.workflow,
                status=one.status,
                since=one.since,
                waits=[WaitShown(**asdict(wait)) for wait in one.waits],
            )
            for one in found
        ]
        standing = self.answers.standing(self.engine.sequence)
        return WaitingPage(items=items, next=following, **standing)

    @operation(
        "POST",
        "/external/{token}",
        raises=(UnknownToken, ExecutionClosed, PayloadError, PayloadTooLarge),
        proves=True,
        example={"value": "approved"},
    )
    async def complete(self, token: str, body: CompleteRequest) -> Completed:
        """Complete the external event that a token names."""
        self.answers.admit(body.ack, "a completion")
        changed = await self.engine.complete(token, body.value)
        return Completed(
            changed=changed, **await self.answers.proven(self.engine.sequence, body.ack)
        )

    async def _done(self, id: str, changed: bool, body: ControlRequest) -> Controlled:
        view = self.engine.execution(id)
        standing = await self.answers.proven(self.engine.sequence, body.ack)
        return Controlled(
            id=id,
            status=view.status,
            paused=view.paused,
            pinned=view.pinned,
            changed=changed,
            **standing,
        )
