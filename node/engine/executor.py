"""Drives open executions: tells their code what happened, and carries out what it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Final, cast

from node.engine.activities import Activities, StandIn
from node.engine.beginning import KEYS, Beginning, Post
from node.engine.commits import Commits
from node.engine.definition import Workflow
from node.engine.durability import Durability, Proofs, effective
from node.engine.errors import (
    Divergence,
    EngineError,
    ExecutionClosed,
    ExecutionConflict,
    describe,
)
from node.engine.events import (
    CLOSING,
    UPDATE_ENDS,
    Event,
    Kind,
    Payload,
    Status,
)
from node.engine.external import execution_secret
from node.engine.families import Families
from node.engine.identities import Identities
from node.engine.lines import emit
from node.engine.live import Answered, Ending, Live, Origin
from node.engine.observer import Observer
from node.engine.queue_ticket import Ticket
from node.engine.queues import KEEPER, Queues, keeper_of
from node.engine.releases import Releases
from node.engine.restoring import Restoring
from node.engine.run import Run
from node.engine.schedules import Schedules
from node.engine.steps import Command, Pending, Step
from node.engine.store import Stored
from node.engine.timers import Timers
from node.engine.writer import Entry

logger = logging.getLogger(__name__)

# Looking a member up in its enumeration takes 0.1 us, some dozens of times a step.
_STEP: Final = Kind.STEP
_TIMER: Final = Kind.TIMER
_CONTINUED: Final = Kind.CONTINUED


class Executor(Restoring):
    """The open executions of one engine.

    `on_closed` is called with an execution and its closing event's kind once that is committed;
    `on_broken` hears of a mistake of ours.
    """

    def __init__(
        self,
        *,
        releases: Releases,
        whose: Identities,
        floor: Durability,
        threads: int,
        forced_replay: bool,
        commits: Commits,
        proofs: Proofs,
        authority: Callable[[], bool],
        random: Random,
        now: Callable[[], int],
        find: Callable[[str], Stored | None],
        history: Callable[[Stored], list[Event]],
        crashes: Callable[[int], int],
        secret: bytes,
        last_rowid: int,
        gone: Callable[[str, str], Beginning | None],
        on_started: Callable[[str, Status | None], None],
        on_closed: Callable[[Live, Kind], None],
        on_broken: Callable[[BaseException], None],
        stand_in: StandIn | None,
        observer: Observer | None,
        on_chunk: Callable[[str, int], None],
        schedules_on: bool,
    ) -> None:
        super().__init__(commits=commits, proofs=proofs, on_started=on_started)
        self.releases = releases
        self._whose = whose
        lineage = whose.lineage
        self._floor = floor
        self._forced_replay = forced_replay
        self._rowid = last_rowid
        self._gone = gone
        self._crashes = crashes
        self._secret = secret
        self._families = Families(self, find, history)
        self.queues = Queues(
            releases.queues,
            loop=self._loop,
            now=now,
            at=lambda: self._commits.coming,
            let_go=self._let_go,
            is_paused=self._is_queue_paused,
        )
        self.schedules = Schedules(
            self,
            releases.current.schedules,
            loop=self._loop,
            now=now,
            at=lambda: self._commits.coming,
            find=find,
            history=history,
            lineage=lineage,
            on=schedules_on,
            on_broken=on_broken,
        )
        self._on_closed = on_closed
        self._on_broken = on_broken
        self._observer = observer
        self._on_chunk = on_chunk
        self._timers: Timers[tuple[Live, Step]] = Timers(self._loop, now, self._due, _still_waits)
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
            wake=self._wake,
            on_broken=on_broken,
            stand_in=stand_in,
            observer=observer,
            on_chunk=on_chunk,
        )

    def may_have_effects(self) -> bool:
        """Whether anything may leave the node now."""
        return self._activities.may_have_effects()

    @property
    def attempts_running(self) -> int:
        """How many attempts are under way, or about to be."""
        return self._activities.running

    @property
    def thread_is_free(self) -> bool:
        """Whether an activity that is a plain function could start at once."""
        return self._activities.thread_is_free

    def at_rest(self, hanging: int) -> bool:
        """Whether nothing runs but `hanging` attempts."""
        return (
            self._commits.at_rest
            and self._activities.running <= hanging
            and not (self._proofs.asking or self._later or self.queues.busy or self.schedules.busy)
        )

    @property
    def next_wake(self) -> int | None:
        """When time alone makes something happen next, unix milliseconds."""
        wakes = (self._timers.next(), self.queues.timers.next(), self.schedules.timers.next())
        return min((at for at in wakes if at is not None), default=None)

    def look_at_clock(self) -> None:
        """The clock may have jumped."""
        self._timers.look()
        self.queues.timers.look()
        self.schedules.timers.look()

    def stop(self) -> None:
        """Stop every effect and let nobody wait in vain. What is committed stays."""
        self._stopped = True
        self._timers.close()
        self.queues.stop()
        self.schedules.stop()
        self._activities.stop()
        for live in self.live.values():
            live.drop()
            live.closed.set()

    # Beginning --------------------------------------------------------------------------------

    def knows(self, workflow: str, origin: Origin) -> bool:
        """Whether the version that an execution of this origin runs with has the workflow."""
        return self.releases.definition(workflow, origin) is not None

    def definition(self, workflow: str) -> Workflow[..., Any] | None:
        """The workflow of this name, if the current version of the application has it."""
        return self.releases.definition(workflow, Origin())

    def ticket(self, workflow: str, origin: Origin, chosen: Ticket | None) -> Ticket | None:
        """Where an execution of this workflow waits for its turn: in the queue that was chosen,
        or in the workflow's own. Raises UnknownQueue, PayloadError."""
        definition = self.releases.definition(workflow, origin)
        if chosen is None and definition is not None and definition.queue is not None:
            chosen = Ticket(definition.queue.name)
        return None if chosen is None else self.queues.admit(chosen)

    def begin(self, key: str, workflow: str, payload: str, origin: Origin | None = None) -> Live:
        """Start a new execution. Its `committed` is done once the log has it. Raises
        ExecutionConflict while the one that had its id is being removed."""
        if key in self._commits.removing:
            raise ExecutionConflict(
                f"execution {key!r} is just being removed", hint="Try again in a moment."
            )
        origin = self.releases.begun(workflow, origin)
        # It must not have the keys of one that had its id and was removed.
        after = self._gone(key, payload)
        beginning = Beginning(payload) if after is None else after
        live = self._admit(key, self.next_rowid(), workflow, payload, beginning, origin)
        self._on_started(workflow, None)
        if after is None:
            self._begin(live, Kind.STARTED, payload)
        else:
            self._begin(live, Kind.RESTARTED, after.payload())
        return live

    def next_rowid(self) -> int:
        """The number of a new execution."""
        self._rowid += 1
        return self._rowid

    def waits_for_removal(self, key: str, act: Callable[[], None]) -> bool:
        """Whether the execution that had this id is just being removed; then `act` is called
        once it is."""
        waiting = self._commits.removing.get(key)
        if waiting is not None:
            waiting.append(act)
        return waiting is not None

    def begin_again(
        self, stored: Stored, beginning: Beginning, origin: Origin | None = None
    ) -> Live:
        """Use a closed execution's id once more."""
        origin = self.releases.begun(stored.workflow, origin)
        live = self._admit(
            stored.id, stored.rowid, stored.workflow, beginning.input, beginning, origin
        )
        live.post = Post(dict(beginning.posted))
        self._on_started(stored.workflow, stored.status)
        self._begin(live, Kind.RESTARTED, beginning.payload(), stored.closed or 0)
        return live

    def _begin(self, live: Live, kind: Kind, payload: str, head: int = 0) -> None:
        def committed(sequence: int) -> None:
            live.started = sequence
            if self._observer is not None:
                self._observer.execution_started(live.watched)
            if not live.committed.done():
                live.committed.set_result(None)

        entry = live.entry(kind, live.workflow, 1, payload, committed)
        entry.head = head
        at = self._commits.append(entry)
        live.started_at = at
        live.remember(kind, live.workflow, 1, payload, at)
        self._introduce(live)
        if live.origin.ticket is None:
            self._turn(live, lambda: live.code.begin(at))
        else:
            self.queues.enter(live, live.origin.ticket, at)

    def _is_queue_paused(self, queue: str) -> bool:
        keeper = self.live.get(keeper_of(queue))
        return keeper is not None and keeper.paused and keeper.workflow == KEEPER

    def _let_go(self, live: Live) -> None:
        """It has its turn in its queue."""
        assert live.origin.ticket is not None
        payload = live.origin.ticket.turn()
        at = self._commits.append(live.entry(Kind.DEQUEUED, live.workflow, 1, payload))
        live.remember(Kind.DEQUEUED, live.workflow, 1, payload, at)
        beginning, live.beginning = live.beginning, None
        if beginning is None:
            self._go_on(live)
            return
        early, live.early = live.early, []
        definition = self.releases.definition(live.workflow, live.origin)
        assert definition is not None
        live.run = self._run(live.key, definition, beginning, live.origin)
        self._turn(live, lambda: live.code.begin(at, early))

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
        definition, live.origin = self.releases.continued(
            live.code.workflow, live.origin, live.pin, beginning.input
        )
        live.pin, live.continuing = live.origin.pin, True
        live.untold.clear()
        self._refuse_answers(live, "went on with a new input")
        self._later.append(partial(self._families.ended, live, Kind.CONTINUED, None))

        def begin(sequence: int) -> None:
            if self._stopped:
                return
            live.continuing = live.cancelled = False
            live.reopened_at = 0
            if self._observer is not None:
                self._observer.execution_continued(live.watched)
            # Those with the writer are back, and the others were withdrawn.
            live.in_transaction = 0
            live.run = self._run(live.key, definition, beginning, live.origin)
            live.durability = effective(self._floor, definition.durability)
            if live.history is not None:
                live.history.clear()
            live.remember(Kind.CONTINUED, live.workflow, 1, payload, at)
            if (origin := live.origin.payload()) is not None:
                live.remember(Kind.ORIGIN, live.workflow, 1, origin, at)
            self._turn(live, lambda: live.code.begin(at))
            while live.deferred and not live.busy:
                live.deferred.pop(0)()

        payload, at = beginning.payload(), self._commits.at
        return payload, begin

    def _run(
        self, key: str, definition: Workflow[..., Any], beginning: Beginning, origin: Origin
    ) -> Run:
        tenant, lineage = self._whose.at(beginning.since)
        return Run(
            key=key,
            workflow=definition,
            beginning=beginning,
            tenant=tenant,
            lineage=lineage,
            secret=self.secret_of(key),
            schedule=origin.schedule,
            labels=origin.labels,
        )

    def durability(self, definition: Workflow[..., Any]) -> Durability:
        """That of a workflow's executions."""
        return effective(self._floor, definition.durability)

    def secret_of(self, key: str) -> bytes:
        """What an execution's tokens are made with."""
        return execution_secret(self._secret, key)

    def _admit(
        self,
        key: str,
        rowid: int,
        workflow: str,
        payload: str,
        beginning: Beginning,
        origin: Origin,
        begun: bool = False,
    ) -> Live:
        definition = self.releases.definition(workflow, origin)
        run: Run | None = None
        # In a queue there is no code: it costs memory, and many may be waiting.
        waits = origin.ticket is not None and not begun
        if definition is not None and not waits:
            run = self._run(key, definition, beginning, origin)
        live = Live(
            key=key,
            rowid=rowid,
            workflow=workflow,
            payload=payload,
            durability=effective(self._floor, definition.durability if definition else None),
            run=run,
            committed=self._loop.create_future(),
            origin=origin,
            pin=origin.pin,
            beginning=beginning if waits else None,
            history=[] if self._forced_replay else None,
        )
        self.live[key] = live
        if origin.schedule is not None:
            self.schedules.began(live)
        return live

    # The code's commands ------------------------------------------------------------------------

    def _turn(self, live: Live, turn: Callable[[], list[Command]]) -> None:
        run, commands = live.run, None
        try:
            commands = turn()
        except EngineError as error:
            self._give_up(live, error)
        except Exception as error:
            # Not the workflow's failure, which is a command, but ours: stop, and say so.
            logger.exception("a turn broke the engine", extra=live.about)
            self._on_broken(error)
        if run is not None and run.said:
            # What the turn is about is in this batch, or committed.
            self._commits.then(self._commits.newest, partial(emit, run.take()))
        if commands is not None:
            self._carry_out(live, commands)

    def _carry_out(self, live: Live, commands: list[Command]) -> None:
        self._depth += 1
        for command in commands:
            self._do(live, command)
        self._depth -= 1
        run = live.run
        if run is None or run.finished:
            live.drop()
        if self._later:
            self._drain()

    def _do(self, live: Live, command: Command) -> None:
        kind, pending, payload = command.kind, command.pending, command.payload
        after: Callable[[int], None] | None = None
        transactional = False
        if kind is _STEP and pending is not None:
            transactional = pending.activity is not None and pending.activity.transactional
            # A fork may have its result already, and that is told after the commit.
            transactional = transactional and live.supply is None
            if not transactional:
                after = partial(self._activities.committed, live, pending)
        elif kind in CLOSING:
            # What was left behind in this turn must not come after the end.
            self._commits.withdraw_calls(live.rowid)
            after = partial(self._closed, live, kind, payload, self._commits.at)
            self._later.append(partial(self._ended, live, kind, payload))
        elif kind is _TIMER and pending is not None:
            self._timers.add(cast(int, pending.payload), (live, pending.step))
        elif kind is _CONTINUED:
            payload, after = self._continue(live, command)
        elif kind is Kind.CHILD:
            step = (command.name, command.occurrence)
            self._later.append(partial(self._families.start, live, step, payload))
        elif kind in UPDATE_ENDS:
            after = partial(self._answered, live, command)
        elif kind is Kind.PATCH:
            pass
        elif kind is Kind.CHUNK:
            after = partial(self._on_chunk, live.key)
        elif kind is Kind.LABELLED:
            live.origin = replace(live.origin, labels=live.code.labels)
        elif pending is None:
            raise AssertionError(f"{kind.name} is about no step")
        elif kind is Kind.CHILD_CANCELLED:
            self._later.append(partial(self._families.given_up, pending))
        elif pending.progress.attempt is not None:
            pending.progress.attempt.cancel()
        name, nth = command.name, command.occurrence
        entry = Entry(live.rowid, live.key, kind, name, nth, payload, after)
        at = self._commits.append(entry)
        if live.history is not None:
            live.remember(kind, name, nth, payload, at)
        if kind is _CONTINUED:
            # In the same commit: a crash after it must not forget the parent, or the queue.
            self._introduce(live)
            self._cancel_again(live)
        if transactional and pending is not None:
            self._activities.call(live, pending)

    def _closed(self, live: Live, kind: Kind, payload: Payload, at: int, sequence: int) -> None:
        if self._observer is not None:
            self._observer.execution_closed(live.watched, kind, payload, at)
        self._close(live, Ending(kind, payload, at, sequence))

    def _close(self, live: Live, ending: Ending) -> None:
        del self.live[live.key]
        live.ended = ending
        self._on_closed(live, ending.kind)
        if live.run is not None:
            live.run.retire()
        live.closed.set()
        self._refuse_answers(live, "ended")
        # They find the execution closed. Calls that were withdrawn never come back.
        live.in_transaction = 0
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

    def _give_up(self, live: Live, error: EngineError) -> None:
        """Stop an execution that its code cannot continue. The log has it as open."""
        logger.error("the execution is stopped: %s", error, extra=live.about)
        if self._observer is not None:
            self._observer.execution_stopped(live.watched, error)
        live.trouble = {**describe(error), "hint": error.hint}
        live.stopped_at = self._commits.coming
        if isinstance(error, Divergence):
            live.trouble["sequence"] = error.sequence
        if live.run is not None:
            live.run.finished = True
        if live.queued and live.origin.ticket is not None:
            self.queues.leave(live, live.origin.ticket)
        live.drop()
        live.closed.set()

    # Outcomes -----------------------------------------------------------------------------------

    def _due(self, item: tuple[Live, Step]) -> None:
        live, step = item
        if live.still:
            live.held.append(partial(self._due, item))
            return
        pending = live.run.pending.get(step) if live.run is not None else None
        if pending is None:
            return
        if pending.kind is Kind.TIMER:
            self.resolve(live, Kind.TIMER_FIRED, pending, None)
        else:
            self._activities.launch(live, pending)

    def _wake(self, live: Live, pending: Pending) -> None:
        """The next attempt of an activity waits for its time."""
        self._timers.add(pending.progress.retry_at, (live, pending.step))


def _still_waits(item: tuple[Live, Step]) -> bool:
    live, step = item
    return not live.over and step in live.code.pending
