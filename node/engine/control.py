"""Stopping executions and setting them going again."""

from __future__ import annotations

import json

from node.engine.beginning import compact, restarted, standing
from node.engine.commits import Commits
from node.engine.errors import (
    ActivityFailed,
    ChildFailed,
    ExecutionClosed,
    ExecutionConflict,
    ExecutionDiverged,
    UnknownExecution,
    UnknownWorkflow,
)
from node.engine.events import Event, Kind, Reuse, Status
from node.engine.executor import Executor
from node.engine.live import Live, Origin
from node.engine.queue_ticket import queue_of
from node.engine.queues import refused
from node.engine.store import Store, Stored


class Control:
    """What an operator does to executions. Each is in the log when its method returns; one that
    finds nothing to do changes nothing. All raise UnknownExecution and EngineStopped."""

    def __init__(self, *, executor: Executor, store: Store, commits: Commits) -> None:
        self._executor = executor
        self._store = store
        self._commits = commits

    async def cancel(self, id: str, reason: str = "") -> bool:
        """Ask an execution to stop: its code gets CancelledError where it waits, and may clean
        up. False when it has ended, or was asked before. Raises ExecutionDiverged."""
        live = self._live(id)
        if live is None:
            return False
        if live.trouble is not None:
            raise ExecutionDiverged(
                f"execution {id!r} is stopped and cannot clean up",
                hint="Terminate it, or put back the code that wrote its log.",
            )
        done = self._executor.unanswered()

        def committed(sequence: int) -> None:
            if not done.done():
                done.set_result(sequence)

        self._executor.cancel(live, _reason(reason), committed)
        asked = bool(await done)
        await self._commits.settled()
        return asked

    async def terminate(self, id: str, reason: str = "") -> bool:
        """End an execution and its children without asking their code; False when it has ended
        already."""
        live = self._live(id)
        if live is None:
            return False
        self._executor.terminate(live, _reason(reason))
        await live.closed.wait()
        self._executor.refuse_when_stopped()
        await self._commits.settled()
        return self._stored(id).status is Status.TERMINATED

    async def pause(self, id: str, reason: str = "") -> bool:
        """Start no more attempts of activities, and let no timer wake the code. What runs may
        finish, and messages still arrive. False when it is paused. Raises ExecutionClosed."""
        live = self._open(id)
        changed = not live.paused
        self._executor.pause(live, _reason(reason))
        await self._commits.settled()
        return changed

    async def resume(self, id: str) -> bool:
        """Go on; False when it is not paused. Raises ExecutionClosed."""
        live = self._open(id)
        changed = live.paused
        self._executor.resume(live)
        await self._commits.settled()
        return changed

    async def retry(self, id: str) -> None:
        """Open an execution that failed, was cancelled or was terminated, and try again: the step
        whose failure ended it gets new attempts, and what came after it is void.

        Children that it waits for and that did not complete are tried again as well.

        Without such a step, the code is replayed to its end and may do better if it was changed.
        Raises ExecutionConflict when it is open or completed, UnknownWorkflow.
        """
        stored = self._stored(id)
        if stored.closed is None or id in self._executor.live:
            raise ExecutionConflict(f"execution {id!r} is open", hint="Wait until it has ended.")
        if stored.status is Status.COMPLETED:
            raise ExecutionConflict(
                f"execution {id!r} completed", hint="Start another one with another id."
            )
        if not self._executor.knows(stored.workflow):
            raise UnknownWorkflow(f"no workflow {stored.workflow!r}")
        whole = self._store.history(id, stored.closed)
        ticket = queue_of(whole)
        other = None if ticket is None else self._executor.queues.duplicate(ticket)
        if ticket is not None and other is not None:
            raise refused(ticket, other.key)
        live = self._executor.reopen(stored, whole, _cut(standing(whole)))
        await self._commits.settled()
        for child in self._executor.children_to_retry(live):
            if child not in self._executor.live:
                await self.retry(child)
                if child in self._executor.live:
                    live.children.add(child)
        await self._commits.settled()

    async def reuse(
        self, stored: Stored, payload: str, policy: Reuse, origin: Origin | None = None
    ) -> Live | None:
        """Begin again under an id that is taken, if the policy says so; None if not.

        Raises ExecutionConflict.
        """
        live = self._executor.live.get(stored.id)
        status = stored.status
        if policy is Reuse.REJECT:
            raise ExecutionConflict(f"execution {stored.id!r} exists")
        if policy is Reuse.TERMINATE and live is not None:
            self._executor.terminate(live, compact("its id is used again"))
            await live.closed.wait()
            await self._commits.settled()
            stored = self._stored(stored.id)
        elif (
            policy is Reuse.EXISTING
            or live is not None
            or (policy is Reuse.IF_FAILED and status is Status.COMPLETED)
        ):
            return None
        if stored.id in self._executor.live:
            # Somebody else was faster, and this is what there is.
            return None
        history = standing(self._store.history(stored.id, stored.closed or 0))
        return self._executor.begin_again(stored, restarted(history, payload), origin)

    def _live(self, id: str) -> Live | None:
        live = self._executor.live.get(id)
        if live is None:
            self._stored(id)
        return live

    def _open(self, id: str) -> Live:
        live = self._live(id)
        over = live is None or (live.over and not (live.continuing or live.trouble or live.queued))
        if live is None or live.ending or over:
            raise ExecutionClosed(f"execution {id!r} has ended")
        return live

    def _stored(self, id: str) -> Stored:
        stored = self._store.find(id)
        if stored is None:
            raise UnknownExecution(f"no execution {id!r}")
        return stored


def _reason(text: str) -> str | None:
    return compact(text) if text else None


def _cut(history: list[Event]) -> int:
    """The first event to be void when the execution of this history is tried again."""
    last = history[-1]
    if last.kind is Kind.CANCELLED:
        return next(event.sequence for event in history if event.kind is Kind.CANCEL)
    if last.kind is Kind.FAILED:
        failure = json.loads(str(last.payload))
        failed = [event for event in history if event.kind in (Kind.STEP_FAILED, Kind.CHILD_FAILED)]
        grouped = failure["type"].endswith("ExceptionGroup")
        for event in reversed(failed):
            if grouped or _message(event) == failure["message"]:
                return event.sequence
    return last.sequence


def _message(event: Event) -> str:
    body = json.loads(str(event.payload))
    if event.kind is Kind.CHILD_FAILED:
        return str(ChildFailed(workflow=event.name, **body))
    return str(ActivityFailed(step=event.name, occurrence=event.occurrence, **body))
