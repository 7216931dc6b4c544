"""Telling the code of open executions what happened: in the log first, and in its order."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from node.engine.commits import Commits
from node.engine.durability import Durability, Proofs
from node.engine.errors import EngineError, EngineStopped, ExecutionClosed, ExecutionDiverged
from node.engine.events import Event, Kind, Payload, opened
from node.engine.live import Live
from node.engine.run import Run
from node.engine.steps import Command, Pending, Step
from node.engine.writer import Entry

# Looking a member up in its enumeration takes 0.1 us, some dozens of times a step.
_SIGNAL: Final = Kind.SIGNAL
_CANCEL: Final = Kind.CANCEL
_EVERY_COMMIT: Final = Durability.EVERY_COMMIT


class Telling(ABC):
    """The open executions of one engine, and the ways to tell them something."""

    def __init__(self, *, commits: Commits, proofs: Proofs) -> None:
        self.live: dict[str, Live] = {}
        """By execution id. An execution leaves once its closing event is committed."""
        self._commits = commits
        self._proofs = proofs
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._unanswered: set[asyncio.Future[Any]] = set()

    @abstractmethod
    def _turn(self, live: Live, turn: Callable[[], list[Command]]) -> None:
        """Let the code run, and carry out what it does."""

    @abstractmethod
    def _give_up(self, live: Live, error: EngineError) -> None:
        """Stop an execution that its code cannot continue."""

    def refuse_when_stopped(self) -> None:
        """Raises EngineStopped."""
        if self._stopped:
            raise EngineStopped("the engine stopped; look again at what it does now")

    def refuse_uncommitted(self, reason: EngineStopped) -> None:
        """Tell who waits for a start or a message that it will not be committed."""
        for future in [future for future in self._unanswered if not future.done()]:
            future.set_exception(reason)
            future.exception()
        for live in self.live.values():
            if not live.committed.done():
                live.committed.set_exception(reason)
                # Whoever started it may be gone.
                live.committed.exception()

    def resolve(
        self,
        live: Live,
        kind: Kind,
        pending: Pending,
        payload: Payload,
        committed: Callable[[int], None] | None = None,
    ) -> None:
        """A step has its outcome: log it, then tell the code. `committed` is called with its
        sequence, or with 0 when it comes too late."""
        current, run = None, live.run
        if run is not None and not (self._stopped or run.finished):
            current = run.pending.get(pending.step)
        if current is None or current.progress.resolved:
            if committed is not None:
                committed(0)
            return
        if live.in_transaction or live.continuing:
            live.deferred.append(partial(self.resolve, live, kind, pending, payload, committed))
            return
        current.progress.resolved = True
        self._log_and_tell(live, kind, pending.step, payload, committed)

    def post(
        self, live: Live, kind: Kind, name: str, prepare: Callable[[], tuple[int, str]]
    ) -> asyncio.Future[int]:
        """Send the code a message; the future is its sequence once it is committed.

        `prepare` is called when the message's place in the log has come, and gives its number
        and its payload; the EngineError it raises instead is the future's.
        """
        future = self.unanswered()

        def deliver() -> None:
            try:
                _refuse_stopped(live)
                occurrence, payload = prepare()
            except EngineError as error:
                future.set_exception(error)
                return

            def committed(sequence: int) -> None:
                if not future.done():
                    future.set_result(sequence)

            self._log_and_tell(live, kind, (name, occurrence), payload, committed)

        if live.busy:
            live.deferred.append(deliver)
        else:
            deliver()
        return future

    def unanswered(self) -> asyncio.Future[Any]:
        """A future that ends with the engine at the latest."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._unanswered.add(future)
        future.add_done_callback(self._unanswered.discard)
        return future

    def _log_and_tell(
        self,
        live: Live,
        kind: Kind,
        step: Step,
        payload: Payload,
        committed: Callable[[int], None] | None = None,
    ) -> None:
        if live.run is None:
            # Its code has not begun, and finds it when it does.
            self._commits.append(live.entry(kind, *step, payload, committed))
            live.remember(kind, *step, payload, self._commits.at)
            live.early.append((step[0], payload))
            return
        run = live.run
        if live.durability is _EVERY_COMMIT:
            # The log's order is the order of telling, and proofs come in the log's order.
            at = self._commits.at
            self._wait_for_proof(live, kind, step[0], payload)

            def after(sequence: int) -> None:
                if committed is not None:
                    committed(sequence)
                self._tell_proven(live, run, kind, step, payload, at, sequence)

            self._commits.append(live.entry(kind, *step, payload, after))
        else:
            name, nth = step
            entry = Entry(live.rowid, live.key, kind, name, nth, payload, committed)
            self._tell(live, run, kind, step, payload, self._commits.append(entry))

    @staticmethod
    def _wait_for_proof(live: Live, kind: Kind, name: str, payload: Payload) -> None:
        """It is in the log, and must not be lost if the code goes on with a new input first."""
        if kind is _SIGNAL:
            live.untold.append((name, opened(payload)[0]))
        elif kind is _CANCEL:
            live.unheard = (payload,)

    def _cancel_again(self, live: Live) -> None:
        """The code went on with a new input before it heard that it is to stop: it hears it then.

        In the same commit, so that a crash after it does not forget it.
        """
        if live.unheard is None:
            return
        (reason,), step = live.unheard, (live.workflow, 1)
        at = self._commits.at

        def after(sequence: int) -> None:
            if self._stopped:
                return
            live.cancelled = True
            self._tell_proven(live, live.code, Kind.CANCEL, step, reason, at, sequence)

        self._commits.append(live.entry(Kind.CANCEL, *step, reason, after))

    def _called(self, live: Live, pending: Pending, kind: Kind, payload: Payload, at: int) -> None:
        """A transactional activity is back from the writer, its outcome in the log."""
        if kind is not Kind.STEP_RETRY:
            step, run = pending.step, live.code
            if live.durability is Durability.EVERY_COMMIT:
                self._tell_proven(live, run, kind, step, payload, at, self._commits.sequence)
            else:
                self._tell(live, run, kind, step, payload, at)
        live.in_transaction -= 1
        while live.deferred and not live.busy:
            live.deferred.pop(0)()

    def _tell_proven(
        self,
        live: Live,
        run: Run,
        kind: Kind,
        step: Step,
        payload: Payload,
        at: int,
        sequence: int,
    ) -> None:
        with suppress(EngineStopped):
            self._proofs.then(sequence, lambda: self._tell(live, run, kind, step, payload, at))

    def _tell(
        self, live: Live, run: Run, kind: Kind, step: Step, payload: Payload, at: int
    ) -> None:
        # It was for the code as it was before it went on with a new input.
        if self._stopped or live.run is not run or run.finished:
            return
        if kind is _SIGNAL and live.untold:
            live.untold.pop(0)
        elif kind is _CANCEL:
            live.unheard = None
        if live.history is not None:
            if not self._replaced(live, live.history):
                return
            live.remember(kind, *step, payload, at)
        self._turn(live, partial(run.deliver, kind, step, payload, at))

    def _replaced(self, live: Live, history: list[Event]) -> bool:
        """Forced replay: a new coroutine takes the place of the one that waits."""
        run = live.code
        before = dict(run.pending)
        try:
            beyond = run.replay(history)
        except EngineError as error:
            self._give_up(live, error)
            return False
        if beyond or set(run.pending) != set(before):
            raise AssertionError(f"the replay of {run.key} does not stand where the code stood")
        for step, pending in run.pending.items():
            pending.progress = before[step].progress
        return True


def _refuse_stopped(live: Live) -> None:
    if live.trouble is not None:
        raise ExecutionDiverged(f"execution {live.key!r} is stopped: {live.trouble['message']}")
    if live.ending or (live.over and not live.queued):
        raise ExecutionClosed(f"execution {live.key!r} has ended")
