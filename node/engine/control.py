"""Stopping executions and setting them going again."""

from __future__ import annotations

from node.engine.beginning import compact, restarted, standing
from node.engine.commits import Commits
from node.engine.errors import (
    ExecutionClosed,
    ExecutionConflict,
    ExecutionDiverged,
    PayloadError,
    UnknownExecution,
)
from node.engine.events import Reuse, Status
from node.engine.executor import Executor
from node.engine.live import Live, Origin
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

    async def pin(self, id: str, version: str | None = None) -> bool:
        """Keep an execution to the version of the application that it runs with; one that is
        stopped, to `version`, with which it goes on when an engine opens the log that has it.
        False when it is pinned to that already.

        Raises ExecutionClosed, ExecutionDiverged, PayloadError.
        """
        live = self._open(id)
        runs_on = self._executor.releases.runs_on(live)
        if live.trouble is not None and version is None:
            raise ExecutionDiverged(
                f"execution {id!r} runs with no version at present",
                hint="Say which version it is to be pinned to.",
            )
        if live.trouble is None and version not in (None, runs_on):
            raise PayloadError(
                f"execution {id!r} runs with version {runs_on!r} of the application, and can be"
                " pinned to no other"
            )
        version = version or runs_on
        if not version:
            raise PayloadError(
                "the application has no version that an execution could be pinned to",
                hint='Give it one: APPLICATION_VERSION = "1" in its module.',
            )
        changed = live.pin != version
        if changed:
            self._executor.pin(live, version)
        await self._commits.settled()
        return changed

    async def unpin(self, id: str) -> bool:
        """Let an execution move to the current version when an engine opens the log; False when
        it is not pinned.

        Raises ExecutionClosed, and Divergence, DeterminismError and UnknownWorkflow when the
        current version does not follow what it has done: it then stays pinned.
        """
        live = self._open(id)
        if live.pin is None:
            return False
        await self._commits.settled()
        stored = self._stored(id)
        self._executor.rehearse(stored, self._store.history_of(stored), unpinned=True).drop()
        self._executor.pin(live, None)
        await self._commits.settled()
        return True

    async def retry(self, id: str) -> None:
        """Open an execution that failed, was cancelled or was terminated, and try again: the step
        whose failure ended it gets new attempts, and what came after it is void.

        Children that it waits for and that did not complete are tried again as well, also when
        the engine is killed before all of them are. The failure of one that cannot be (its code
        is gone, or its queue has another one with its key) is told to its parent once more.

        Without such a step, the code is replayed to its end and may do better if it was changed.
        Raises ExecutionConflict when it is open or completed, UnknownWorkflow, VersionMissing,
        DuplicateRefused.
        """
        stored = self._stored(id)
        if stored.closed is None or id in self._executor.live:
            raise ExecutionConflict(f"execution {id!r} is open", hint="Wait until it has ended.")
        if stored.status is Status.COMPLETED:
            raise ExecutionConflict(
                f"execution {id!r} completed", hint="Start another one with another id."
            )
        self._executor.retry(stored)
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
