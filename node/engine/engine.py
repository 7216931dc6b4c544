"""The engine: executions of one application on one log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random, SystemRandom
from typing import Any, Final, Self

from node.engine import collection, guard, lines
from node.engine.activities import StandIn
from node.engine.builtins import extended
from node.engine.commits import Commits
from node.engine.config import EngineConfig
from node.engine.context import new_id
from node.engine.control import Control
from node.engine.durability import Barrier, Durability, Outcome, Proofs, effective
from node.engine.errors import (
    DurabilityUnavailable,
    EngineStopped,
    ExecutionConflict,
    UnknownWorkflow,
)
from node.engine.events import CLOSED_STATUS, RESERVED, STATUS_CODES, Kind, Payload, Reuse, Status
from node.engine.executor import Executor
from node.engine.families import check_id
from node.engine.forks import Forks
from node.engine.labels import checked_labels
from node.engine.live import Live, Origin
from node.engine.mail import Answer, Mail, Sent
from node.engine.making import Making
from node.engine.observer import Observer, Observers
from node.engine.payload import limit_to
from node.engine.queue_control import QueueControl
from node.engine.queues import asked
from node.engine.releases import Releases
from node.engine.retention import Rules
from node.engine.retention_control import RetentionControl
from node.engine.schedule_control import ScheduleControl
from node.engine.schema import connect
from node.engine.store import PATIENCE, Store
from node.engine.unwritable import advice
from node.engine.views import ExecutionView, Started, stored_of

logger = logging.getLogger(__name__)

#: Executions replayed in one go while an engine opens, before the loop may do other things.
REPLAYS_AT_ONCE: Final = 50
#: Seconds that a removal waits for the proof that the bucket has the log so far.
PROOF_PATIENCE: Final = 10.0


class Engine(Making):
    """Runs the executions of one log. All methods belong to the loop that called `open`.

    `authority` is asked right before anything leaves the node. `clock` gives unix seconds.
    `on_commit` gets (last sequence, unix seconds) after each commit; `observer` is told of what
    is new; `on_fenced` and `on_failed` are called once when the engine stops for that reason.
    `stand_in`, for tests, gives what is run in the place of an activity.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        barrier: Barrier | None = None,
        authority: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        random: Random | None = None,
        on_commit: Callable[[int, float], None] | None = None,
        on_fenced: Callable[[], None] | None = None,
        on_failed: Callable[[BaseException], None] | None = None,
        stand_in: StandIn | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(config, clock)
        self.authority = authority
        self._barrier = barrier
        self._random = random or SystemRandom()
        self._on_commit = on_commit
        self._on_fenced = on_fenced
        self._on_failed = on_failed
        self._stand_in = stand_in
        self._observer = None if observer is None else Observers([observer])
        self._stopped: EngineStopped | None = None
        self._cut_short = False

    # Life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the log and go on with every open execution.

        Raises LogInUse, LogMissing, LogDamaged, LogRefused, DurabilityUnavailable.
        """
        config = self.config
        self._refuse_unprovable()
        limit_to(config.blob_limit)
        guard.install()
        lines.install(config.tenant, config.epoch)
        collection.install()
        store = Store(
            config.path,
            tenant=config.tenant,
            lineage=config.lineage,
            create=config.create,
            now=self._now,
        )
        try:
            heads = store.heads()
            names = self.tally.names = store.names()
            self._commits = Commits(
                connect(config.path),
                store.tail,
                names=names,
                heads=dict(heads),
                now=self._now,
                on_commit=self._on_commit,
                observer=self._observer,
                tally=self.tally,
                on_failed=self._failed,
                inline_limit=config.inline_limit,
            )
        except BaseException:
            store.close()
            raise
        self._store = store
        self._proofs = Proofs(
            self._barrier,
            committed=lambda: self._commits.sequence,
            on_fenced=self._fenced,
            answered=self.tally.answered,
        )
        self._application = extended(config.application, self)
        self._executor = Executor(
            releases=Releases(self._application, config.kept),
            whose=store.identities,
            floor=config.durability,
            threads=config.threads,
            forced_replay=config.forced_replay,
            commits=self._commits,
            proofs=self._proofs,
            authority=self.authority,
            random=self._random,
            now=self._now,
            find=store.patiently(store.find),
            history=store.patiently(store.history_of),
            crashes=store.crashes_since,
            secret=store.secret,
            last_rowid=store.last_rowid(),
            gone=store.patiently(store.beginning_after),
            on_started=self._started,
            on_closed=self._closed,
            on_broken=self._failed,
            stand_in=self._stand_in,
            observer=self._observer,
            on_chunk=self._readers.wake,
            schedules_on=config.schedules,
        )
        self._mail = Mail(executor=self._executor, store=store, commits=self._commits)
        self.control = Control(executor=self._executor, store=store, commits=self._commits)
        self._forks = Forks(
            application=self._application,
            executor=self._executor,
            store=store,
            commits=self._commits,
            whose=store.identities,
            random=self._random,
            now=self._now,
            view=self.execution,
        )
        self.queues = QueueControl(self, self._executor.queues)
        self.retention = RetentionControl(
            Rules.of(config.application.retention, config.retention),
            executor=self._executor,
            store=store,
            commits=self._commits,
            prove=self._is_proven,
            now=self._now,
            least=self._rates_look_back(),
            genesis=store.genesis(),
            on_removed=self._removed,
            followed=self._readers.follows,
        )
        self.schedules = ScheduleControl(config.application, self._executor, store, self._commits)
        for code, count in store.counts().items():
            self._counts[STATUS_CODES[code]] = count
        self._opened = True
        with collection.paused():
            for number, stored in enumerate(store.open_executions(), 1):
                self._executor.restore(stored, store.history(stored.id, heads[stored.rowid]))
                if number % REPLAYS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            self._executor.recover(self._begun())
        store.patience = PATIENCE
        self.retention.begin()

    async def _is_proven(self, sequence: int) -> bool:
        if not self._proofs.available:
            return True
        return await self.prove(sequence, within=PROOF_PATIENCE) is Outcome.DURABLE

    def _rates_look_back(self) -> int:
        """Milliseconds for which the rate of any queue counts a turn."""
        queues = self._application.queues.values()
        return max((max(q.limits.per, q.partition_limits.per) for q in queues), default=0)

    def _begun(self) -> list[tuple[str, str | None, int]]:
        """The turns that executions got, as far back as any queue's rate counts."""
        per = self._rates_look_back()
        return self._store.dequeued(since=self._now() - per) if per else []

    def _refuse_unprovable(self) -> None:
        if self._barrier is not None:
            return
        floor = self.config.durability
        levels = {"the engine's floor": floor}
        for application in (self.config.application, *self.config.kept):
            for name, workflow in application.workflows.items():
                levels[f"workflow {name}"] = effective(floor, workflow.durability)
            for name, activity in application.activities.items():
                levels[f"activity {name}"] = effective(floor, None, activity.durability)
        for what, level in levels.items():
            if level is not Durability.ASYNC:
                raise DurabilityUnavailable(
                    f"{what} asks for durability {level}, and no barrier is here to prove it"
                )

    async def close(self) -> None:
        """Take no more work, commit what is ready, and stop. Open executions stay open."""
        if not self._opened:
            return
        self._opened = False
        self._stop(EngineStopped("the engine is closed"))
        await self._commits.close()
        self._executor.refuse_uncommitted(EngineStopped("the engine is closed"))
        await self._proofs.close()
        self._aside.close()
        self._questions.close()
        self._store.close(gracefully=not self._cut_short)

    def cut_off(self) -> None:
        """Stop as a killed process does, for tests: nothing more is committed, and nobody is
        told what was. Its files are closed by `close`."""
        self._commits.cut_off()
        self._abandon(EngineStopped("the engine was cut off"))

    @property
    def running(self) -> bool:
        """Whether it is open and was not stopped by anything."""
        return self._opened and self._stopped is None

    # Time -------------------------------------------------------------------------------------

    @property
    def next_wake(self) -> float | None:
        """When time alone makes something happen next, in unix seconds: a timer, the next
        attempt of an activity, the rate of a queue or a schedule. None when nothing will."""
        wake = self._executor.next_wake
        return None if wake is None else wake / 1000

    def at_rest(self, hanging: int = 0) -> bool:
        """Whether all is committed and proven, and no attempt of an activity runs but `hanging`
        ones: only time or a message will make something happen."""
        return self._executor.at_rest(hanging)

    def look_at_clock(self) -> None:
        """Fire the timers that are due. For a clock that jumps; any other is looked at in time."""
        self._executor.look_at_clock()
        self.retention.look()

    def _stop(self, reason: EngineStopped) -> None:
        self._stopped = self._stopped or reason
        self._executor.stop()
        self.retention.stop()
        self._proofs.stop()
        self._readers.stop()

    def _abandon(self, reason: EngineStopped) -> None:
        """Stop without committing what is not with the writer yet."""
        self._cut_short = True
        self._commits.abandon()
        self._executor.refuse_uncommitted(reason)
        self._stop(reason)

    def _fenced(self) -> None:
        logger.critical("another owner has this tenant; the engine stops")
        self._abandon(EngineStopped("the engine is fenced: another owner has this tenant"))
        if self._on_fenced is not None:
            self._on_fenced()

    def _failed(self, error: BaseException) -> None:
        self._abandon(EngineStopped(f"the engine failed: {error}", hint=advice(error)))
        if self._on_failed is not None:
            self._on_failed(error)

    def _closed(self, live: Live, kind: Kind) -> None:
        self._readers.wake(live.key, 0)
        if live.workflow.startswith(RESERVED):
            return
        self._counts[Status.RUNNING] -= 1
        self._counts[CLOSED_STATUS[kind]] += 1

    def _removed(self, status: Status) -> None:
        """A closed execution is gone from the log."""
        self._counts[status] -= 1

    def _started(self, workflow: str, before: Status | None) -> None:
        """An execution is open now, which was closed like this, or was not there."""
        if workflow.startswith(RESERVED):
            return
        self._counts[Status.RUNNING] += 1
        if before is not None:
            self._counts[before] -= 1

    def _refuse_when_stopped(self) -> None:
        if self._stopped is not None:
            raise EngineStopped(str(self._stopped), hint=self._stopped.hint)
        if not self._opened:
            raise EngineStopped("the engine is not open")

    # Executions -------------------------------------------------------------------------------

    async def start(
        self,
        workflow: str,
        input: Mapping[str, object],
        *,
        id: str | None = None,
        reuse: Reuse = Reuse.EXISTING,
        queue: str | None = None,
        priority: int = 0,
        dedup: str | None = None,
        partition: str | None = None,
        trace: str | None = None,
        pinned: bool | None = None,
        labels: Mapping[str, str] | None = None,
        system: bool = False,
    ) -> Started:
        """Start an execution; committed when this returns. `system` is for a workflow of the
        engine's own. `pinned` says whether it stays with this version of the application; if
        that is not said, its workflow does.

        The same id with the same workflow and input gives the existing execution, unless `reuse`
        says otherwise; its steps then go on being counted, so that none has the idempotency key
        of an earlier one.

        On a `queue`, or on the workflow's own, it waits for its turn: the smaller `priority`
        first. While an execution of that queue with the same `dedup` key is open, that one is
        given. `partition` says whose limits count beside the queue's. `trace` is the
        `traceparent` of what asks for it. `labels` are what it is found by;
        an execution that exists keeps those that it has. Raises UnknownQueue,
        DuplicateRefused,
        UnknownWorkflow, PayloadError, PayloadTooLarge, ExecutionConflict, EngineStopped.
        """
        self._refuse_when_stopped()
        known_ones = self._application if system else self.config.application
        definition = known_ones.workflows.get(workflow)
        if definition is None:
            known = ", ".join(sorted(self.config.application.workflows))
            raise UnknownWorkflow(f"no workflow {workflow!r}; there are: {known}")
        payload = definition.codec.start(input)
        key = new_id(self._now(), self._random) if id is None else id
        check_id(key, system=system)
        if key in self._commits.removing:
            await self.retention.passed(key)
        ticket = asked(definition.queue, queue, priority=priority, dedup=dedup, partition=partition)
        if ticket is not None:
            ticket = self._executor.queues.admit(ticket)
        origin = self._executor.releases.asked(pinned, ticket, trace)
        if labels:
            origin = replace(origin or Origin(), labels=checked_labels(labels))
        live = self._executor.live.get(key)
        unknown = live is not None or self._commits.lacks(key)
        stored = None if unknown else self._store.find(key)
        created = live is None and stored is None
        if live is not None and reuse in (Reuse.REJECT, Reuse.TERMINATE):
            await asyncio.shield(live.committed)
            stored = self._find(key)
        if stored is not None and stored.workflow == workflow:
            again = await self.control.reuse(stored, payload, reuse, origin)
            if again is not None:
                await asyncio.shield(again.committed)
                return Started(self.execution(key), True)
        if stored is not None:
            _refuse_other(key, (stored.workflow, stored.input), (workflow, payload))
            return Started(self._view(stored), False)
        if live is None and ticket is not None:
            other = self._executor.queues.duplicate(ticket)
            if other is not None:
                await asyncio.shield(other.committed)
                return Started(self.execution(other.key), False)
        if live is None:
            live = self._executor.begin(key, workflow, payload, origin)
        _refuse_other(key, (live.workflow, live.payload), (workflow, payload))
        await asyncio.shield(live.committed)
        # What this call has not begun itself may be open again in memory before it is in the log.
        view = self._view(stored_of(live)) if created else self.execution(key)
        return Started(view, created)

    async def result(self, id: str, *, wait: float = 0) -> ExecutionView:
        """The execution once it is closed, or as it is after `wait` seconds.

        Raises UnknownExecution, EngineStopped.
        """
        self._reading()
        live = self._executor.live.get(id)
        if live is not None and wait > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await live.closed.wait()
            self._refuse_when_stopped()
            if live.ended is not None:
                return self._view(stored_of(live))
        return self.execution(id)

    async def prove(self, sequence: int, *, within: float) -> Outcome:
        """Whether everything up to `sequence` is durable and ours, within `within` seconds.

        Raises DurabilityUnavailable without a barrier.
        """
        if not self._proofs.available:
            raise DurabilityUnavailable("nothing here can prove that a commit is durable")
        try:
            async with asyncio.timeout(within):
                await self._proofs.wait(sequence)
        except TimeoutError:
            return Outcome.TIMED_OUT
        except EngineStopped:
            return Outcome.FENCED if self._proofs.fenced else Outcome.UNKNOWN
        return Outcome.DURABLE if self._executor.may_have_effects() else Outcome.UNKNOWN

    # Messages ---------------------------------------------------------------------------------

    async def signal(
        self,
        id: str,
        name: str,
        value: Any = None,
        *,
        key: str | None = None,
        trace: str | None = None,
    ) -> Sent:
        """Send an execution a signal; in the log when this returns, and told after that.

        With a `key` that this execution has had in a signal of this name, nothing happens.
        Raises UnknownExecution, ExecutionClosed, ExecutionDiverged, PayloadError,
        PayloadTooLarge, EngineStopped.
        """
        self._refuse_when_stopped()
        return await self._mail.signal(id, name, value, key, trace)

    async def update(
        self,
        id: str,
        name: str,
        input: Mapping[str, Any],
        *,
        key: str | None = None,
        trace: str | None = None,
    ) -> Answer:
        """Have an execution's update handler answer; its answer is in the log when this returns.

        Sent again with the same `key` it gives the same answer. Raises UnknownHandler,
        UpdateRefused (nothing was logged), UpdateFailed, and what `signal` raises.
        """
        self._refuse_when_stopped()
        return await self._mail.update(id, name, input, key, trace)

    async def query(self, id: str, name: str, input: Mapping[str, Any]) -> Answer:
        """Ask an execution, open or closed, something that changes nothing and is not logged.

        Raises UnknownExecution, UnknownHandler, PayloadError, StateChanged (it tried to change
        something), QueryFailed, UnknownWorkflow, Divergence, EngineStopped.
        """
        self._refuse_when_stopped()
        return await self._mail.query(id, name, input)

    async def complete(self, token: str, value: Any = None) -> bool:
        """Complete an external event by its token; False when it was completed before, with
        whatever value. In the log when this returns.

        Raises UnknownToken, PayloadError, ExecutionClosed (nothing waits for it any more),
        EngineStopped.
        """
        self._refuse_when_stopped()
        return await self._mail.complete(token, value)


def _refuse_other(key: str, existing: tuple[str, Payload], asked: tuple[str, Payload]) -> None:
    if existing[0] != asked[0]:
        raise ExecutionConflict(f"execution {key!r} exists and runs workflow {existing[0]!r}")
    if existing[1] != asked[1]:
        raise ExecutionConflict(f"execution {key!r} exists with another input")


__all__ = ["Engine", "EngineConfig"]
