"""Drives open executions: tells their code what happened, and carries out what it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import cast

from node.engine.activities import Activities
from node.engine.application import Application
from node.engine.commits import Commits
from node.engine.durability import Durability, Proofs, effective
from node.engine.errors import (
    Divergence,
    EngineError,
    EngineStopped,
    UnknownWorkflow,
    describe,
)
from node.engine.events import CLOSING, Event, Kind, Payload
from node.engine.live import Ending, Live
from node.engine.run import Command, Pending, Run, Step
from node.engine.store import Stored
from node.engine.timers import Timers

logger = logging.getLogger(__name__)


class Executor:
    """The open executions of one engine.

    `on_closed` is called with an execution and its closing event's kind once that is committed;
    `on_broken` hears of a mistake of ours.
    """

    def __init__(
        self,
        *,
        application: Application,
        tenant: str,
        lineage: str,
        floor: Durability,
        threads: int,
        forced_replay: bool,
        commits: Commits,
        proofs: Proofs,
        authority: Callable[[], bool],
        random: Random,
        now: Callable[[], int],
        on_closed: Callable[[Live, Kind], None],
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self.live: dict[str, Live] = {}
        """By execution id. An execution leaves once its closing event is committed."""
        self._application = application
        self._tenant = tenant
        self._lineage = lineage
        self._floor = floor
        self._forced_replay = forced_replay
        self._commits = commits
        self._proofs = proofs
        self._on_closed = on_closed
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._timers: Timers[tuple[Live, Step]] = Timers(self._loop, now, self._due)
        self._activities = Activities(
            lineage=lineage,
            floor=floor,
            commits=commits,
            proofs=proofs,
            threads=threads,
            authority=authority,
            random=random,
            now=now,
            resolve=self._resolve,
            called=self._called,
            on_broken=on_broken,
        )

    def may_have_effects(self) -> bool:
        """Whether anything may leave the node now."""
        return self._activities.may_have_effects()

    def stop(self) -> None:
        """Stop every effect and let nobody wait in vain. What is committed stays."""
        self._stopped = True
        self._timers.close()
        self._activities.stop()
        for live in self.live.values():
            live.drop()
            live.closed.set()

    def refuse_uncommitted(self, reason: EngineStopped) -> None:
        """Tell who waits for a start that it will not be committed."""
        for live in self.live.values():
            if not live.committed.done():
                live.committed.set_exception(reason)
                # Whoever started it may be gone.
                live.committed.exception()

    # Beginning --------------------------------------------------------------------------------

    def begin(self, key: str, rowid: int, workflow: str, payload: str) -> Live:
        """Start a new execution. Its `committed` is done once the log has it."""
        live = self._admit(key, rowid, workflow, payload)

        def committed(sequence: int) -> None:
            live.started = sequence
            if not live.committed.done():
                live.committed.set_result(None)

        at = self._commits.append(live.entry(Kind.STARTED, workflow, 1, payload, committed))
        live.started_at = at
        live.remember(Kind.STARTED, workflow, 1, payload, at)
        self._turn(live, lambda: live.code.begin(at))
        return live

    def restore(self, stored: Stored, history: Sequence[Event]) -> Live:
        """Go on with an execution that the log has open."""
        live = self._admit(stored.id, stored.rowid, stored.workflow, str(stored.input))
        live.started, live.started_at = stored.started, stored.started_at
        live.committed.set_result(None)
        if live.run is None:
            missing = UnknownWorkflow(
                f"the application {self._application.name} has no workflow {stored.workflow!r},"
                " which this execution runs"
            )
            self._give_up(live, missing)
            return live
        if live.history is not None:
            live.history = [event for event in history if event.kind is not Kind.STEP_RETRY]
        # With every_commit, outcomes are logged before the code is told.
        strict = live.durability is not Durability.EVERY_COMMIT
        try:
            commands = live.run.replay(history, strict=strict)
        except EngineError as error:
            self._give_up(live, error)
            return live
        fresh = {id(command.pending) for command in commands}
        waiting = [pending for pending in live.run.pending.values() if id(pending) not in fresh]
        self._carry_out(live, commands)
        for pending in waiting:
            if pending.activity is None:
                self._timers.add(cast(int, pending.payload), (live, pending.step))
            else:
                self._activities.launch(live, pending, pending.progress.sequence)
        return live

    def _admit(self, key: str, rowid: int, workflow: str, payload: str) -> Live:
        definition = self._application.workflows.get(workflow)
        run = None
        if definition is not None:
            run = Run(
                key=key,
                workflow=definition,
                payload=payload,
                tenant=self._tenant,
                lineage=self._lineage,
            )
        live = Live(
            key=key,
            rowid=rowid,
            workflow=workflow,
            payload=payload,
            durability=effective(self._floor, definition.durability if definition else None),
            run=run,
            committed=self._loop.create_future(),
            history=[] if self._forced_replay else None,
        )
        self.live[key] = live
        return live

    # The code's commands ------------------------------------------------------------------------

    def _turn(self, live: Live, turn: Callable[[], list[Command]]) -> None:
        try:
            commands = turn()
        except EngineError as error:
            self._give_up(live, error)
        except Exception as error:
            # Not the workflow's failure, which is a command, but ours: stop, and say so.
            logger.exception("a turn of %s broke the engine", live.key)
            self._on_broken(error)
        else:
            self._carry_out(live, commands)

    def _carry_out(self, live: Live, commands: list[Command]) -> None:
        for command in commands:
            pending = command.pending
            after: Callable[[int], None] | None = None
            transactional = False
            if command.kind in CLOSING:
                # What was left behind in this turn must not come after the end.
                self._commits.withdraw_calls(live.rowid)
                after = partial(self._closed, live, command, self._commits.at)
            elif pending is None:
                raise AssertionError(f"{command.kind.name} is about no step")
            elif command.kind is Kind.STEP:
                transactional = pending.activity is not None and pending.activity.transactional
                if not transactional:
                    after = partial(self._activities.launch, live, pending)
            elif command.kind is Kind.TIMER:
                self._timers.add(cast(int, pending.payload), (live, pending.step))
            elif pending.progress.attempt is not None:
                pending.progress.attempt.cancel()
            event = (command.kind, command.name, command.occurrence, command.payload)
            at = self._commits.append(live.entry(*event, after))
            live.remember(*event, at)
            if transactional and pending is not None:
                self._activities.call(live, pending)
        if live.over:
            live.drop()

    def _closed(self, live: Live, command: Command, at: int, sequence: int) -> None:
        del self.live[live.key]
        live.ending = Ending(command.kind, command.payload, at, sequence)
        self._on_closed(live, command.kind)
        live.closed.set()

    def _give_up(self, live: Live, error: EngineError) -> None:
        """Stop an execution that its code cannot continue. The log has it as open."""
        logger.error("execution %s of %s is stopped: %s", live.key, live.workflow, error)
        live.trouble = {**describe(error), "hint": error.hint}
        if isinstance(error, Divergence):
            live.trouble["sequence"] = error.sequence
        if live.run is not None:
            live.run.finished = True
        live.drop()
        live.closed.set()

    # Outcomes -----------------------------------------------------------------------------------

    def _due(self, item: tuple[Live, Step]) -> None:
        live, step = item
        pending = live.run.pending.get(step) if live.run is not None else None
        if pending is not None:
            self._resolve(live, Kind.TIMER_FIRED, pending, None)

    def _resolve(self, live: Live, kind: Kind, pending: Pending, payload: Payload) -> None:
        """A step has its outcome: log it, then tell the code."""
        if self._stopped or live.over:
            return
        current = live.code.pending.get(pending.step)
        if current is None or current.progress.resolved:
            return
        if live.in_transaction:
            live.deferred.append((kind, pending, payload))
            return
        current.progress.resolved = True
        if live.durability is Durability.EVERY_COMMIT:
            # The log's order is the order of telling, and proofs come in the log's order.
            at = self._commits.at
            after = partial(self._tell_proven, live, kind, pending.step, payload, at)
            self._commits.append(live.entry(kind, *pending.step, payload, after))
        else:
            at = self._commits.append(live.entry(kind, *pending.step, payload))
            self._tell(live, kind, pending.step, payload, at)

    def _called(self, live: Live, pending: Pending, kind: Kind, payload: Payload, at: int) -> None:
        """A transactional activity is back from the writer, its outcome in the log."""
        if kind is not Kind.STEP_RETRY:
            if live.durability is Durability.EVERY_COMMIT:
                self._tell_proven(live, kind, pending.step, payload, at, self._commits.sequence)
            else:
                self._tell(live, kind, pending.step, payload, at)
        live.in_transaction -= 1
        while live.deferred and not live.in_transaction:
            self._resolve(live, *live.deferred.pop(0))

    def _tell_proven(
        self, live: Live, kind: Kind, step: Step, payload: Payload, at: int, sequence: int
    ) -> None:
        with suppress(EngineStopped):
            self._proofs.then(sequence, lambda: self._tell(live, kind, step, payload, at))

    def _tell(self, live: Live, kind: Kind, step: Step, payload: Payload, at: int) -> None:
        if self._stopped or live.over:
            return
        if live.history is not None and not self._replaced(live, live.history):
            return
        live.remember(kind, *step, payload, at)
        self._turn(live, lambda: live.code.deliver(kind, step, payload, at))

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
