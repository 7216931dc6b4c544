"""Drives open executions: tells their code what happened, and carries out what it does."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, cast

from node.engine.activities import Activities
from node.engine.application import Application
from node.engine.beginning import KEYS, Beginning, Post, standing
from node.engine.commits import Commits
from node.engine.definition import Workflow
from node.engine.durability import Durability, Proofs, effective
from node.engine.errors import (
    Divergence,
    EngineError,
    EngineStopped,
    ExecutionClosed,
    ExecutionDiverged,
    UnknownWorkflow,
    describe,
)
from node.engine.events import (
    CLOSING,
    MESSAGES,
    NOTES,
    UPDATE_ENDS,
    Event,
    Kind,
    Payload,
    Status,
    opened,
)
from node.engine.external import execution_secret
from node.engine.families import Families
from node.engine.live import Answered, Live, Origin
from node.engine.run import Run
from node.engine.steps import Command, Pending, Step
from node.engine.store import Stored
from node.engine.timers import Timers
from node.engine.writer import Entry

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
        find: Callable[[str], Stored | None],
        crashes: Callable[[int], int],
        secret: bytes,
        last_rowid: int,
        on_started: Callable[[Status | None], None],
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
        self._rowid = last_rowid
        self._crashes = crashes
        self._secret = secret
        self._later: deque[Callable[[], None]] = deque()
        # Held until `recover`: families are settled when all of their members are here.
        self._depth = 1
        self._families = Families(self, find)
        self._on_started = on_started
        self._on_closed = on_closed
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._unanswered: set[asyncio.Future[Any]] = set()
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
            resolve=self.resolve,
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
        """Tell who waits for a start or a message that it will not be committed."""
        for future in [future for future in self._unanswered if not future.done()]:
            future.set_exception(reason)
            future.exception()
        for live in self.live.values():
            if not live.committed.done():
                live.committed.set_exception(reason)
                # Whoever started it may be gone.
                live.committed.exception()

    # Beginning --------------------------------------------------------------------------------

    def knows(self, workflow: str) -> bool:
        """Whether the application has a workflow of this name."""
        return workflow in self._application.workflows

    def begin(self, key: str, workflow: str, payload: str, origin: Origin | None = None) -> Live:
        """Start a new execution. Its `committed` is done once the log has it."""
        self._rowid += 1
        live = self._admit(key, self._rowid, workflow, payload, Beginning(payload))
        live.origin = replace(origin or Origin(), version=self._application.version)
        self._on_started(None)
        self._begin(live, Kind.STARTED, payload)
        return live

    def begin_again(self, stored: Stored, beginning: Beginning) -> Live:
        """Use a closed execution's id once more."""
        live = self._admit(stored.id, stored.rowid, stored.workflow, beginning.input, beginning)
        live.origin = Origin(version=self._application.version)
        live.post = Post(dict(beginning.posted))
        self._on_started(stored.status)
        self._begin(live, Kind.RESTARTED, beginning.payload(), stored.closed or 0)
        return live

    def _begin(self, live: Live, kind: Kind, payload: str, head: int = 0) -> None:
        def committed(sequence: int) -> None:
            if not live.committed.done():
                live.committed.set_result(None)

        entry = live.entry(kind, live.workflow, 1, payload, committed)
        entry.head = head
        at = self._commits.append(entry)
        live.remember(kind, live.workflow, 1, payload, at)
        self._introduce(live)
        self._turn(live, lambda: live.code.begin(at))

    def _introduce(self, live: Live) -> None:
        payload = live.origin.payload()
        if payload is not None:
            at = self._commits.append(live.entry(Kind.ORIGIN, live.workflow, 1, payload))
            live.remember(Kind.ORIGIN, live.workflow, 1, payload, at)

    def _continue(self, live: Live, command: Command) -> tuple[str, Callable[[int], None]]:
        """The code has ended to go on with a new input: what the log holds of that, and what
        follows its commit."""
        self._commits.withdraw_calls(live.rowid)
        inbox = live.code.messages.inbox
        left = [(name, value) for name, values in inbox.items() for value in values]
        beginning = replace(
            Beginning.read(command.payload),
            posted=dict(live.post.counts),
            signals=(*left, *live.untold),
            keys=tuple(live.post.keys)[-KEYS:],
            paused=live.paused,
        )
        live.continuing = True
        live.untold.clear()
        self._refuse_answers(live, "went on with a new input")
        self._later.append(partial(self._families.ended, live, Kind.CONTINUED, None))

        def begin(sequence: int) -> None:
            if self._stopped:
                return
            live.continuing = live.cancelled = False
            # Those with the writer are back, and the others were withdrawn.
            live.in_transaction = 0
            live.run = self._run(live.key, live.code.workflow, beginning)
            if live.history is not None:
                live.history.clear()
            live.remember(Kind.CONTINUED, live.workflow, 1, payload, at)
            self._introduce(live)
            self._turn(live, lambda: live.code.begin(at))
            while live.deferred and not live.busy:
                live.deferred.pop(0)()

        payload, at = beginning.payload(), self._commits.at
        return payload, begin

    def restore(self, stored: Stored, whole: Sequence[Event]) -> Live:
        """Go on with an execution that the log has open."""
        history = standing(whole)
        beginning = Beginning.of(history[0])
        given = str(stored.input)
        live = self._admit(stored.id, stored.rowid, stored.workflow, given, beginning)
        live.origin = Origin.of(history)
        if any(event.kind is Kind.REOPENED for event in whole):
            # Its parent was told of the end it had.
            live.origin = replace(live.origin, detached=True)
        live.paused = _is_paused(beginning, history)
        live.cancelled = any(event.kind is Kind.CANCEL for event in history)
        live.committed.set_result(None)
        if live.run is None:
            missing = UnknownWorkflow(
                f"the application {self._application.name} has no workflow {stored.workflow!r},"
                " which this execution runs"
            )
            self._give_up(live, missing)
            return live
        if live.history is not None:
            live.history = [event for event in history if event.kind not in NOTES]
        live.post = Post.of(history)
        try:
            commands = live.run.replay(history, strict=_strict(live.durability))
        except EngineError as error:
            self._give_up(live, error)
            return live
        fresh = {id(command.pending) for command in commands}
        waiting = [pending for pending in live.run.pending.values() if id(pending) not in fresh]
        self._carry_out(live, commands)
        for pending in waiting:
            if pending.kind is Kind.TIMER:
                self._timers.add(cast(int, pending.payload), (live, pending.step))
            elif pending.kind is Kind.STEP:
                crashes = self._crashes(pending.progress.sign)
                self._activities.launch_again(live, pending, crashes)
        return live

    def recover(self) -> None:
        """Every open execution is restored: settle what a crash has left between them."""
        self._depth -= 1
        self._drain()
        self._families.recover()
        self._drain()

    def rehearse(self, stored: Stored, whole: Sequence[Event]) -> Run:
        """The code of an execution as the log has it, beside the one that runs, to be looked at
        and dropped. Raises UnknownWorkflow, Divergence, DeterminismError."""
        definition = self._application.workflows.get(stored.workflow)
        if definition is None:
            raise UnknownWorkflow(f"no workflow {stored.workflow!r}")
        history = standing(whole)
        run = self._run(stored.id, definition, Beginning.of(history[0]))
        run.replay(history, strict=_strict(effective(self._floor, definition.durability)))
        return run

    def _run(self, key: str, definition: Workflow[..., Any], beginning: Beginning) -> Run:
        return Run(
            key=key,
            workflow=definition,
            beginning=beginning,
            tenant=self._tenant,
            lineage=self._lineage,
            secret=self.secret_of(key),
        )

    def secret_of(self, key: str) -> bytes:
        """What an execution's tokens are made with."""
        return execution_secret(self._secret, key)

    def _admit(
        self, key: str, rowid: int, workflow: str, payload: str, beginning: Beginning
    ) -> Live:
        definition = self._application.workflows.get(workflow)
        run = None if definition is None else self._run(key, definition, beginning)
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
        self._depth += 1
        for command in commands:
            self._do(live, command)
        self._depth -= 1
        if live.over:
            live.drop()
        self._drain()

    def _drain(self) -> None:
        """What concerns other executions comes when the one at hand stands still."""
        while self._later and not self._depth:
            self._depth += 1
            try:
                self._later.popleft()()
            finally:
                self._depth -= 1

    def _do(self, live: Live, command: Command) -> None:
        pending, payload = command.pending, command.payload
        after: Callable[[int], None] | None = None
        transactional = False
        if command.kind in CLOSING:
            # What was left behind in this turn must not come after the end.
            self._commits.withdraw_calls(live.rowid)
            after = partial(self._closed, live, command.kind)
            self._later.append(partial(self._families.ended, live, command.kind, payload))
        elif command.kind is Kind.CONTINUED:
            payload, after = self._continue(live, command)
        elif command.kind is Kind.CHILD:
            step = (command.name, command.occurrence)
            self._later.append(partial(self._families.start, live, step, payload))
        elif command.kind in UPDATE_ENDS:
            after = partial(self._answered, live, command)
        elif command.kind is Kind.PATCH:
            pass
        elif pending is None:
            raise AssertionError(f"{command.kind.name} is about no step")
        elif command.kind is Kind.STEP:
            transactional = pending.activity is not None and pending.activity.transactional
            if not transactional:
                after = partial(self._activities.launch, live, pending)
        elif command.kind is Kind.TIMER:
            self._timers.add(cast(int, pending.payload), (live, pending.step))
        elif command.kind is Kind.CHILD_CANCELLED:
            self._later.append(partial(self._families.given_up, pending))
        elif pending.progress.attempt is not None:
            pending.progress.attempt.cancel()
        event = (command.kind, command.name, command.occurrence, payload)
        at = self._commits.append(live.entry(*event, after))
        live.remember(*event, at)
        if transactional and pending is not None:
            self._activities.call(live, pending)

    def _closed(self, live: Live, kind: Kind, sequence: int) -> None:
        del self.live[live.key]
        self._on_closed(live, kind)
        live.closed.set()
        self._refuse_answers(live, "ended")
        # They find the execution closed.
        while live.deferred:
            live.deferred.pop(0)()

    def _refuse_answers(self, live: Live, why: str) -> None:
        for future in live.answers.values():
            if not future.done():
                future.set_exception(
                    ExecutionClosed(f"execution {live.key!r} {why} before it could answer")
                )
        live.answers.clear()

    def _answered(self, live: Live, command: Command, sequence: int) -> None:
        future = live.answers.pop((command.name, command.occurrence), None)
        if future is not None and not future.done():
            future.set_result(Answered(command.kind, command.payload, sequence))

    # Control ------------------------------------------------------------------------------------

    def cancel(
        self, live: Live, reason: Payload, done: Callable[[int], None] | None = None
    ) -> None:
        """Ask the code to stop, once. `done` is called with the sequence of that in the log, or
        with 0 when it changes nothing any more."""
        if live.continuing or live.in_transaction:
            live.deferred.append(partial(self.cancel, live, reason, done))
            return
        if live.over or live.cancelled:
            if done is not None:
                done(0)
            return
        live.cancelled = True
        self._log_and_tell(live, Kind.CANCEL, (live.workflow, 1), reason, done)

    def terminate(self, live: Live, reason: Payload) -> None:
        """End an execution without asking its code. Its children end with it."""
        if live.continuing:
            live.deferred.append(partial(self.terminate, live, reason))
            return
        if live.ending or (live.over and live.trouble is None):
            return
        live.ending = True
        live.trouble = None
        self._commits.withdraw_calls(live.rowid)
        if live.run is not None:
            live.run.finished = True
        after = partial(self._closed, live, Kind.TERMINATED)
        self._commits.append(live.entry(Kind.TERMINATED, live.workflow, 1, reason, after))
        live.drop()
        self._later.append(partial(self._families.ended, live, Kind.TERMINATED, reason))
        self._drain()

    def pause(self, live: Live) -> None:
        """Start no more attempts and tell the code of no more timers."""
        if not live.paused:
            live.paused = True
            self._commits.append(live.entry(Kind.PAUSED, live.workflow, 1, None))

    def resume(self, live: Live) -> None:
        """Go on with what was held back."""
        if live.paused:
            live.paused = False
            self._commits.append(live.entry(Kind.RESUMED, live.workflow, 1, None))
            held, live.held = live.held, []
            for act in held:
                act()

    def reopen(self, stored: Stored, whole: Sequence[Event], cut: int) -> Live:
        """Try a closed execution again from before the event `cut`; the messages that came after
        it are told again."""
        self._on_started(stored.status)
        entry = Entry(stored.rowid, stored.id, Kind.REOPENED, stored.workflow, 1, cut)
        entry.head = stored.closed or 0
        at = self._commits.append(entry)
        event = Event(cut, stored.id, Kind.REOPENED, stored.workflow, 1, cut, at, cut)
        history = standing(whole)
        live = self.restore(stored, [*whole, event])
        for lost in history:
            if lost.sequence >= cut and lost.kind in MESSAGES:
                self._post_again(live, lost)
        return live

    def _post_again(self, live: Live, lost: Event) -> None:
        if live.busy:
            live.deferred.append(partial(self._post_again, live, lost))
            return
        if live.over or (lost.kind is Kind.UPDATE and lost.name not in live.code.messages.updates):
            logger.warning("%s %s of %s is dropped", lost.kind.name, lost.name, live.key)
            return
        number = live.post.add(lost.kind, lost.name, opened(lost.payload)[1])
        self._log_and_tell(live, lost.kind, (lost.name, number), lost.payload)

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
        if live.paused:
            live.held.append(partial(self._due, item))
            return
        pending = live.run.pending.get(step) if live.run is not None else None
        if pending is not None:
            self.resolve(live, Kind.TIMER_FIRED, pending, None)

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
        current = None
        if not self._stopped and not live.over:
            current = live.code.pending.get(pending.step)
        if current is None or current.progress.resolved:
            if committed is not None:
                committed(0)
            return
        if live.busy:
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
        run = live.code
        if live.durability is Durability.EVERY_COMMIT:
            # The log's order is the order of telling, and proofs come in the log's order.
            at = self._commits.at
            if kind is Kind.SIGNAL:
                live.untold.append((step[0], opened(payload)[0]))

            def after(sequence: int) -> None:
                if committed is not None:
                    committed(sequence)
                self._tell_proven(live, run, kind, step, payload, at, sequence)

            self._commits.append(live.entry(kind, *step, payload, after))
        else:
            at = self._commits.append(live.entry(kind, *step, payload, committed))
            self._tell(live, run, kind, step, payload, at)

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
        if self._stopped or live.over or live.run is not run:
            return
        if kind is Kind.SIGNAL and live.untold:
            live.untold.pop(0)
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


def _strict(durability: Durability) -> bool:
    # With every_commit, outcomes are logged before the code is told.
    return durability is not Durability.EVERY_COMMIT


def _is_paused(beginning: Beginning, history: Iterable[Event]) -> bool:
    paused = beginning.paused
    for event in history:
        if event.kind in (Kind.PAUSED, Kind.RESUMED):
            paused = event.kind is Kind.PAUSED
    return paused


def _refuse_stopped(live: Live) -> None:
    if live.trouble is not None:
        raise ExecutionDiverged(f"execution {live.key!r} is stopped: {live.trouble['message']}")
    if live.over:
        raise ExecutionClosed(f"execution {live.key!r} has ended")
