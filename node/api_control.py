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
    StopRequest,
    Waits,
    WaitShown,
)
from node.api_route import Routes, operation
from node.engine.archive import Archive
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
)

_ONE: Final = "/executions/{id}"


class ControlApi(Routes):
    """Routes for control, for waiting, for archives and for tokens."""

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
    async def pause(self, id: str, body: ControlRequest) -> Controlled:
        """Let an execution start no further attempt and see no timer fire. Messages arrive."""
        self.answers.admit(body.ack, "it")
        return await self._done(id, await self.engine.control.pause(id), body)

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

    @operation("GET", f"{_ONE}/waiting", raises=(UnknownExecution,))
    async def waiting(self, id: str) -> Waits:
        """What an execution waits for, since when, and what will wake it."""
        items = [WaitShown(**asdict(wait)) for wait in self.engine.waiting(id)]
        return Waits(id=id, items=items, **self.answers.standing(self.engine.sequence))

    @operation("GET", f"{_ONE}/archive", raises=(UnknownExecution,))
    async def archive(self, id: str) -> Archive:
        """An execution as a file that `litefleet replay` takes. It holds what the execution's
        tokens are made with."""
        return self.engine.archive(id)

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
            id=id, status=view.status, paused=view.paused, changed=changed, **standing
        )
