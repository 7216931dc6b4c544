"""The engine: executions of one application on one log."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Self, cast

from node.engine import guard
from node.engine.application import Application
from node.engine.attempts import Outcome as AttemptOutcome
from node.engine.attempts import Threads, attempt, attempt_in_transaction
from node.engine.context import ActivityInfo, idempotency_key
from node.engine.durability import Barrier, Durability, Outcome, Proofs, effective
from node.engine.errors import (
    DeterminismError,
    Divergence,
    DurabilityUnavailable,
    EngineError,
    EngineStopped,
    ExecutionConflict,
    PayloadError,
    UnknownExecution,
    UnknownWorkflow,
    describe,
)
from node.engine.events import CLOSING, Event, Kind, Payload, Status
from node.engine.run import Command, Pending, Run, Step
from node.engine.schema import connect
from node.engine.store import Store, Stored
from node.engine.timers import Timers
from node.engine.writer import Batch, Call, Entry, Writer, WriterTransaction

logger = logging.getLogger(__name__)

#: Executions replayed in one go while an engine opens, before the loop may do other things.
REPLAYS_AT_ONCE = 50
#: Seconds between two looks whether effects are allowed again.
AUTHORITY_PAUSE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What an engine runs, and on which file.

    `create` starts an empty log and is for a tenant's genesis only. `durability` is the
    tenant's floor. `threads` bounds the plain activities that run at once. `forced_replay` is
    a mode for tests: the coroutine is dropped at every await and replayed for the next event.
    """

    path: Path
    application: Application
    tenant: str
    lineage: str
    epoch: int = 1
    create: bool = False
    durability: Durability = Durability.ASYNC
    threads: int = 16
    forced_replay: bool = False


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution as it is known now. Times are unix seconds; payloads are decoded JSON.

    `sequence` is the event that a reader of this view depends on: its closing event, or the
    newest committed one. `error` is {"type", "message"}.
    """

    id: str
    workflow: str
    status: Status
    input: Any
    result: Any
    error: dict[str, Any] | None
    started_at: float
    closed_at: float | None
    sequence: int
    rowid: int


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to a start: the execution, and whether this call created it."""

    view: ExecutionView
    created: bool


@dataclass(slots=True, eq=False)
class _Live:
    """An open execution in memory."""

    run: Run | None
    rowid: int
    workflow: str
    payload: str
    durability: Durability
    committed: asyncio.Future[None]
    """Done once its first event is in the log."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Its closing event is in the log, or it was stopped."""
    trouble: dict[str, Any] | None = None
    in_transaction: int = 0
    """Transactional activities handed to the writer; until they are back, nothing else may be
    told, since their outcome's place in the log is before what would be logged now."""
    deferred: list[tuple[Kind, Pending, Payload]] = field(default_factory=list)
    history: list[Event] | None = None


class Engine:
    """Runs the executions of one log. All methods belong to the loop that called `open`.

    `authority` is asked right before anything leaves the node. `clock` gives unix seconds.
    `on_commit` gets (last sequence, unix seconds) after each commit; `on_fenced` and
    `on_failed` are called once when the engine stops for that reason.
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
    ) -> None:
        self.config = config
        self.authority = authority
        self._clock = clock
        self._random = random or SystemRandom()
        self._on_commit = on_commit
        self._on_fenced = on_fenced
        self._on_failed = on_failed
        self._barrier = barrier
        self._live: dict[str, _Live] = {}
        self._batch: Batch | None = None
        self._writing = False
        self._idle = asyncio.Event()
        self._at = 0
        self._counts = {Status.RUNNING: 0, Status.COMPLETED: 0, Status.FAILED: 0}
        self._opened = False
        self._stopped: BaseException | None = None
        self.sequence = 0
        """The newest committed event."""
        self.committed_at: float | None = None
        """When, in unix seconds; None before the first."""

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
        guard.install()
        self._loop = asyncio.get_running_loop()
        self._store = Store(
            config.path,
            tenant=config.tenant,
            lineage=config.lineage,
            create=config.create,
            now=self._milliseconds,
        )
        try:
            tail = self._store.tail
            self.sequence, self._at = tail.sequence, tail.at
            self.committed_at = tail.at / 1000 if tail.sequence else None
            heads = self._store.heads()
            self._writer = Writer(
                connect(config.path),
                tail,
                names=self._store.names(),
                heads=dict(heads),
                on_committed=partial(self._from_writer, self._committed),
                on_failed=partial(self._from_writer, self._failed),
            )
        except BaseException:
            self._store.close()
            raise
        self._writer.start()
        self._threads = Threads(config.threads)
        self._timers: Timers[tuple[_Live, Step]] = Timers(self._loop, self._milliseconds, self._due)
        self._proofs = Proofs(
            self._barrier, committed=lambda: self.sequence, on_fenced=self._fenced
        )
        self._rowid = self._store.last_rowid()
        for code, count in self._store.counts().items():
            self._counts[list(self._counts)[code]] = count
        self._opened = True
        await self._go_on(heads)

    def _refuse_unprovable(self) -> None:
        if self._barrier is not None:
            return
        floor = self.config.durability
        levels = {"the engine's floor": floor}
        for name, workflow in self.config.application.workflows.items():
            levels[f"workflow {name}"] = effective(floor, workflow.durability)
        for name, activity in self.config.application.activities.items():
            levels[f"activity {name}"] = effective(floor, None, activity.durability)
        for what, level in levels.items():
            if level is not Durability.ASYNC:
                raise DurabilityUnavailable(
                    f"{what} asks for durability {level}, and no barrier is here to prove it"
                )

    async def _go_on(self, heads: Mapping[int, int]) -> None:
        for count, stored in enumerate(self._store.open_executions(), 1):
            live = self._admit(stored.id, stored.rowid, stored.workflow, str(stored.input))
            live.committed.set_result(None)
            history = self._store.history(stored.id, heads[stored.rowid])
            if live.history is not None:
                live.history = [e for e in history if e.kind is not Kind.STEP_RETRY]
            if live.run is None:
                missing = UnknownWorkflow(
                    f"the application {self.config.application.name} has no workflow"
                    f" {stored.workflow!r}, which this execution runs"
                )
                self._stop_execution(live, missing)
            else:
                self._replay(live, live.run, history)
            if count % REPLAYS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _replay(self, live: _Live, run: Run, history: list[Event]) -> None:
        strict = live.durability is not Durability.EVERY_COMMIT
        try:
            commands = run.replay(history, strict=strict)
        except EngineError as error:
            self._stop_execution(live, error)
            return
        fresh = {id(command.pending) for command in commands}
        waiting = [pending for pending in run.pending.values() if id(pending) not in fresh]
        self._carry_out(live, commands)
        for pending in waiting:
            if pending.activity is None:
                self._timers.add(cast(int, pending.payload), (live, pending.step))
            else:
                self._launch(live, pending, pending.progress.sequence)

    async def close(self) -> None:
        """Take no more work, commit what is ready, and stop. Open executions stay open."""
        if not self._opened:
            return
        self._opened = False
        self._halt(self._stopped or EngineStopped("the engine is closed"))
        while self._writing:
            self._idle.clear()
            await self._idle.wait()
        await self._proofs.close()
        await self._loop.run_in_executor(None, self._writer.close)
        self._store.close()

    def _halt(self, reason: BaseException) -> None:
        """Stop every effect and let nobody wait in vain. What is committed stays."""
        self._stopped = reason
        self._timers.close()
        self._threads.close()
        self._proofs.stop()
        for live in self._live.values():
            if live.run is not None:
                for pending in live.run.pending.values():
                    if pending.progress.attempt is not None:
                        pending.progress.attempt.cancel()
                live.run.drop()
            live.closed.set()
        self._flush()

    def _fenced(self) -> None:
        logger.critical("another owner has this tenant; the engine stops")
        self._abandon(EngineStopped("the engine is fenced: another owner has this tenant"))
        if self._on_fenced is not None:
            self._on_fenced()

    def _failed(self, error: BaseException) -> None:
        self._writing = False
        self._idle.set()
        self._abandon(EngineStopped(f"the log cannot be written: {error}"))
        if self._on_failed is not None:
            self._on_failed(error)

    def _abandon(self, reason: EngineStopped) -> None:
        batch, self._batch = self._batch, None
        for entry in batch.entries if batch is not None else []:
            live = self._live.get(entry.key)
            if live is not None and not live.committed.done():
                live.committed.set_exception(reason)
        for live in self._live.values():
            if not live.committed.done():
                live.committed.set_exception(reason)
                # Whoever started it may be gone.
                live.committed.exception()
        self._halt(reason)

    # Writing ----------------------------------------------------------------------------------

    def _milliseconds(self) -> int:
        return int(self._clock() * 1000)

    def _open_batch(self) -> Batch:
        batch = self._batch
        if batch is None:
            self._at = max(self._milliseconds(), self._at)
            batch = self._batch = Batch(self._at)
            if not self._writing:
                # Everything that becomes ready in this turn of the loop shares the commit.
                self._loop.call_soon(self._flush)
        return batch

    def _append(
        self,
        live: _Live,
        key: str,
        kind: Kind,
        name: str,
        occurrence: int,
        payload: Payload,
        after: Callable[[int], None] | None = None,
    ) -> int:
        """Put an event into the next commit; returns its time, unix milliseconds."""
        batch = self._open_batch()
        batch.entries.append(Entry(live.rowid, key, kind, name, occurrence, payload, after))
        return batch.at

    def _flush(self) -> None:
        if self._batch is not None and not self._writing:
            batch, self._batch = self._batch, None
            self._writing = True
            self._writer.submit(batch)

    def _from_writer(self, function: Callable[[Any], None], argument: Any) -> None:
        # The loop can be gone when it was torn down without close().
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, argument)

    def _committed(self, batch: Batch) -> None:
        self._writing = False
        self.sequence = batch.last
        self.committed_at = batch.at / 1000
        if self._on_commit is not None:
            try:
                self._on_commit(batch.last, self.committed_at)
            except Exception:
                logger.exception("the observer of commits failed; the engine goes on")
        sequence = batch.first
        for entry in batch.entries:
            if entry.after is not None:
                entry.after(sequence)
            sequence += 1
        for call in batch.calls:
            kind, payload = cast("tuple[Kind, Payload]", call.outcome)
            call.after(kind, payload, batch.at)
        if self._batch is not None:
            if self._stopped is None:
                # After what was just made ready: it runs first and shares the next commit.
                self._loop.call_soon(self._flush)
            else:
                self._flush()
        if not self._writing:
            self._idle.set()

    # Executions -------------------------------------------------------------------------------

    def _admit(self, key: str, rowid: int, workflow: str, payload: str) -> _Live:
        definition = self.config.application.workflows.get(workflow)
        run = None
        level = self.config.durability
        if definition is not None:
            level = effective(level, definition.durability)
            run = Run(
                key=key,
                workflow=definition,
                payload=payload,
                tenant=self.config.tenant,
                lineage=self.config.lineage,
            )
        live = _Live(run, rowid, workflow, payload, level, self._loop.create_future())
        if self.config.forced_replay:
            live.history = []
        self._live[key] = live
        return live

    async def start(
        self, workflow: str, input: Mapping[str, Any], *, id: str | None = None
    ) -> Started:
        """Start an execution; committed when this returns.

        The same id with the same workflow and input gives the existing execution. Raises
        UnknownWorkflow, PayloadError, PayloadTooLarge, ExecutionConflict, EngineStopped.
        """
        self._refuse_when_stopped()
        definition = self.config.application.workflows.get(workflow)
        if definition is None:
            known = ", ".join(sorted(self.config.application.workflows))
            raise UnknownWorkflow(f"no workflow {workflow!r}; there are: {known}")
        payload = definition.codec.start(input)
        key = f"{self._random.getrandbits(64):016x}" if id is None else id
        if not (0 < len(key) <= 200 and key.isprintable() and "/" not in key):
            raise PayloadError(
                "an execution id has 1 to 200 printable characters without '/'",
                hint="Choose another id, or leave it out.",
            )
        live = self._live.get(key)
        if live is not None:
            _refuse_other(key, (live.workflow, live.payload), (workflow, payload))
            await asyncio.shield(live.committed)
            return Started(self.execution(key), False)
        stored = self._store.find(key)
        if stored is not None:
            _refuse_other(key, (stored.workflow, stored.input), (workflow, payload))
            return Started(_view(stored, self.sequence), False)
        self._rowid += 1
        live = self._admit(key, self._rowid, workflow, payload)
        self._counts[Status.RUNNING] += 1
        committed = live.committed
        at = self._append(
            live, key, Kind.STARTED, workflow, 1, payload, lambda _: _settle(committed)
        )
        run = cast(Run, live.run)
        self._record(live, Kind.STARTED, workflow, 1, payload, at)
        self._step(live, lambda: run.begin(at))
        await asyncio.shield(committed)
        return Started(self.execution(key), True)

    def _refuse_when_stopped(self) -> None:
        if self._stopped is not None:
            raise EngineStopped(str(self._stopped))
        if not self._opened:
            raise EngineStopped("the engine is not open")

    def _step(self, live: _Live, turn: Callable[[], list[Command]]) -> None:
        """Let the code run, and carry out what it did."""
        try:
            commands = turn()
        except (Divergence, DeterminismError, PayloadError) as error:
            self._stop_execution(live, error)
        else:
            self._carry_out(live, commands)

    def _carry_out(self, live: _Live, commands: list[Command]) -> None:
        run = cast(Run, live.run)
        for command in commands:
            after: Callable[[int], None] | None = None
            pending = command.pending
            if command.kind in CLOSING:
                # What was left behind in this turn must not come after the end.
                batch = self._open_batch()
                batch.calls = [call for call in batch.calls if call.execution != live.rowid]
                after = partial(self._closed, run.key, live, command.kind)
            elif pending is not None and command.kind is Kind.STEP:
                if not cast(Any, pending.activity).transactional:
                    after = partial(self._launch, live, pending)
            elif pending is not None and command.kind is Kind.TIMER:
                self._timers.add(cast(int, pending.payload), (live, pending.step))
            elif pending is not None and pending.progress.attempt is not None:
                pending.progress.attempt.cancel()
            at = self._append(
                live,
                run.key,
                command.kind,
                command.name,
                command.occurrence,
                command.payload,
                after,
            )
            self._record(live, command.kind, command.name, command.occurrence, command.payload, at)
            if command.kind is Kind.STEP and after is None and pending is not None:
                self._call(live, pending)
        if run.finished:
            for pending in run.pending.values():
                if pending.progress.attempt is not None:
                    pending.progress.attempt.cancel()
            run.drop()

    def _record(
        self, live: _Live, kind: Kind, name: str, occurrence: int, payload: Payload, at: int
    ) -> None:
        """Keep what forced replay is made from, in the order the code saw it."""
        if live.history is not None and live.run is not None:
            number = len(live.history) + 1
            live.history.append(
                Event(number, live.run.key, kind, name, occurrence, payload, at, number)
            )

    def _closed(self, key: str, live: _Live, kind: Kind, sequence: int) -> None:
        del self._live[key]
        self._counts[Status.RUNNING] -= 1
        self._counts[Status.COMPLETED if kind is Kind.COMPLETED else Status.FAILED] += 1
        live.closed.set()

    def _stop_execution(self, live: _Live, error: EngineError) -> None:
        """Stop an execution that its code cannot continue. The log has it as open."""
        key = live.run.key if live.run is not None else "?"
        logger.error("execution %s of %s is stopped: %s", key, live.workflow, error)
        live.trouble = {**describe(error), "hint": error.hint}
        if isinstance(error, Divergence):
            live.trouble["sequence"] = error.sequence
        if live.run is not None:
            live.run.finished = True
            for pending in live.run.pending.values():
                if pending.progress.attempt is not None:
                    pending.progress.attempt.cancel()
            live.run.drop()
        live.closed.set()

    # Outcomes ---------------------------------------------------------------------------------

    def _due(self, item: tuple[_Live, Step]) -> None:
        live, step = item
        run = live.run
        pending = run.pending.get(step) if run is not None else None
        if pending is not None:
            self._resolve(live, Kind.TIMER_FIRED, pending, None)

    def _resolve(self, live: _Live, kind: Kind, pending: Pending, payload: Payload) -> None:
        """A step has its outcome: log it, then tell the code."""
        run = cast(Run, live.run)
        if self._stopped is not None or run.finished:
            return
        waiting = run.pending.get(pending.step)
        if waiting is None or waiting.progress.resolved:
            return
        if live.in_transaction:
            live.deferred.append((kind, pending, payload))
            return
        waiting.progress.resolved = True
        if live.durability is not Durability.EVERY_COMMIT:
            at = self._append(live, run.key, kind, *pending.step, payload)
            self._tell(live, kind, pending.step, payload, at)
            return
        # The log's order is the order of telling, and proofs come in the log's order.
        at = self._open_batch().at
        after = partial(self._tell_proven, live, kind, pending.step, payload, at)
        self._append(live, run.key, kind, *pending.step, payload, after)

    def _tell_proven(
        self, live: _Live, kind: Kind, step: Step, payload: Payload, at: int, sequence: int
    ) -> None:
        with suppress(EngineStopped):
            self._proofs.then(sequence, lambda: self._tell(live, kind, step, payload, at))

    def _tell(self, live: _Live, kind: Kind, step: Step, payload: Payload, at: int) -> None:
        run = cast(Run, live.run)
        if self._stopped is not None or run.finished:
            return
        if live.history is not None:
            self._replace(live, run)
        self._record(live, kind, *step, payload, at)
        self._step(live, lambda: run.deliver(kind, step, payload, at))

    def _replace(self, live: _Live, run: Run) -> None:
        """Forced replay: a new coroutine takes the place of the one that waits."""
        before = dict(run.pending)
        try:
            beyond = run.replay(live.history or [])
        except EngineError as error:
            self._stop_execution(live, error)
            return
        if beyond or set(run.pending) != set(before):
            raise AssertionError(f"the replay of {run.key} does not stand where the code stood")
        for step, pending in run.pending.items():
            pending.progress = before[step].progress

    # Activities -------------------------------------------------------------------------------

    def _launch(self, live: _Live, pending: Pending, sequence: int) -> None:
        """The intent is committed: run the activity."""
        run = cast(Run, live.run)
        current = run.pending.get(pending.step)
        if self._stopped is not None or run.finished or current is None:
            return
        current.progress.sequence = sequence
        if cast(Any, current.activity).transactional:
            self._call_when_due(live, current)
            return
        task = self._loop.create_task(self._perform(live, run, current))
        current.progress.attempt = task

    async def _perform(self, live: _Live, run: Run, pending: Pending) -> None:
        activity = cast(Any, pending.activity)
        level = effective(
            self.config.durability,
            self.config.application.workflows[live.workflow].durability,
            activity.durability,
        )
        try:
            if level is not Durability.ASYNC:
                await self._proofs.wait(pending.progress.sequence)
            while True:
                wait = (pending.progress.retry_at - self._milliseconds()) / 1000
                if pending.progress.retry_at and wait > 0:
                    await asyncio.sleep(wait)
                outcome = await attempt(
                    activity,
                    cast(str, pending.payload),
                    self._info(run, pending),
                    self._threads,
                    self._may_have_effects,
                    random=self._random,
                    now=self._milliseconds,
                )
                if outcome is None:
                    await asyncio.sleep(AUTHORITY_PAUSE)
                elif outcome.kind is Kind.STEP_RETRY:
                    await self._log_retry(live, run, pending, outcome)
                else:
                    self._resolve(live, outcome.kind, pending, outcome.payload)
                    return
        except EngineStopped:
            return
        except Exception as error:
            # Not the activity's failure but ours: nobody else would ever see it.
            logger.exception("running %s of %s broke the engine", pending.name, run.key)
            self._failed(error)

    def _may_have_effects(self) -> bool:
        return self._stopped is None and self.authority()

    def _info(self, run: Run, pending: Pending) -> ActivityInfo:
        return ActivityInfo(
            execution=run.key,
            workflow=run.workflow.name,
            step=pending.name,
            occurrence=pending.occurrence,
            attempt=pending.progress.failures + 1,
            idempotency_key=idempotency_key(
                self.config.lineage, run.key, pending.name, pending.occurrence
            ),
        )

    async def _log_retry(
        self, live: _Live, run: Run, pending: Pending, outcome: AttemptOutcome
    ) -> None:
        if self._stopped is not None or run.finished:
            raise EngineStopped("nothing more is logged")
        logged: asyncio.Future[None] = self._loop.create_future()
        self._append(
            live,
            run.key,
            Kind.STEP_RETRY,
            *pending.step,
            outcome.payload,
            lambda _: _settle(logged),
        )
        pending.progress.failures += 1
        pending.progress.retry_at = outcome.retry_at
        await logged

    # Transactional activities -----------------------------------------------------------------

    def _call_when_due(self, live: _Live, pending: Pending) -> None:
        wait = (pending.progress.retry_at - self._milliseconds()) / 1000
        if pending.progress.retry_at and wait > 0:
            self._loop.call_later(wait, self._call, live, pending)
        else:
            self._call(live, pending)

    def _call(self, live: _Live, pending: Pending) -> None:
        """Hand a transactional activity to the writer, to be run in the next commit.

        Its writes go to this log only, which a later owner never reads again, so there is no
        authority to ask for.
        """
        run = cast(Run, live.run)
        if self._stopped is not None or run.finished or pending.step not in run.pending:
            return
        info = self._info(run, pending)
        activity = cast(Any, pending.activity)
        payload = cast(str, pending.payload)

        def perform(transaction: WriterTransaction) -> tuple[Kind, Payload]:
            outcome = attempt_in_transaction(
                activity, payload, info, transaction, random=self._random, now=self._milliseconds
            )
            return outcome.kind, outcome.payload

        live.in_transaction += 1
        self._open_batch().calls.append(
            Call(
                live.rowid,
                run.key,
                *pending.step,
                perform,
                partial(self._called, live, run, pending),
            )
        )

    def _called(
        self, live: _Live, run: Run, pending: Pending, kind: Kind, payload: Payload, at: int
    ) -> None:
        if kind is Kind.STEP_RETRY:
            failure = json.loads(cast(str, payload))
            current = run.pending.get(pending.step)
            if current is not None:
                current.progress.failures = failure["attempt"]
                current.progress.retry_at = failure["next"]
                self._call_when_due(live, current)
        elif live.durability is Durability.EVERY_COMMIT:
            self._tell_proven(live, kind, pending.step, payload, at, self.sequence)
        else:
            self._tell(live, kind, pending.step, payload, at)
        live.in_transaction -= 1
        while live.deferred and not live.in_transaction:
            self._resolve(live, *live.deferred.pop(0))

    # Reading ----------------------------------------------------------------------------------

    @property
    def proven(self) -> int:
        """Everything up to this sequence is proven durable."""
        return self._proofs.sequence

    @property
    def can_prove(self) -> bool:
        """Whether there is a barrier at all."""
        return self._proofs.available

    @property
    def counts(self) -> dict[str, int]:
        """Executions by status. Diverged ones count as running too: the log has them open."""
        counts = {status.value: count for status, count in self._counts.items()}
        counts["diverged"] = sum(live.trouble is not None for live in self._live.values())
        return counts

    def bookmark(self, sequence: int) -> str:
        """`epoch:sequence`."""
        return f"{self.config.epoch}:{sequence}"

    async def prove(self, sequence: int, *, within: float) -> Outcome:
        """Whether everything up to `sequence` is durable and ours, within `within` seconds."""
        if not self._proofs.available:
            raise DurabilityUnavailable("nothing here can prove that a commit is durable")
        try:
            async with asyncio.timeout(within):
                await self._proofs.wait(sequence)
        except TimeoutError:
            return Outcome.TIMED_OUT
        except EngineStopped:
            return Outcome.FENCED if self._proofs.fenced else Outcome.UNKNOWN
        return Outcome.DURABLE if self._may_have_effects() else Outcome.UNKNOWN

    def execution(self, id: str) -> ExecutionView:
        """Raises UnknownExecution, EngineStopped."""
        stored = self._reading().find(id)
        if stored is None:
            raise UnknownExecution(f"no execution {id!r}")
        return self._with_trouble(_view(stored, self.sequence))

    def executions(
        self,
        *,
        status: Status | None = None,
        workflow: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[ExecutionView]:
        """A page of executions in the order of their start, after the row number `after`."""
        if status is Status.DIVERGED:
            stuck = sorted(live.rowid for live in self._live.values() if live.trouble is not None)
            wanted = {rowid for rowid in stuck if rowid > after}
            page = self._reading().open_executions()
            rows = [
                stored
                for stored in page
                if stored.rowid in wanted and workflow in (None, stored.workflow)
            ][:limit]
        else:
            rows = self._reading().page(status=status, workflow=workflow, after=after, limit=limit)
        return [self._with_trouble(_view(stored, self.sequence)) for stored in rows]

    def events(self, id: str) -> list[Event]:
        """The committed events of an execution. Raises UnknownExecution, EngineStopped."""
        store = self._reading()
        stored = store.find(id)
        if stored is None:
            raise UnknownExecution(f"no execution {id!r}")
        head = stored.closed or store.head(stored.rowid, stored.started)
        return store.history(id, head)

    async def result(self, id: str, *, wait: float = 0) -> ExecutionView:
        """The execution once it is closed, or as it is after `wait` seconds.

        Raises UnknownExecution, EngineStopped.
        """
        live = self._live.get(id)
        if live is not None and wait > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await live.closed.wait()
            self._refuse_when_stopped()
        return self.execution(id)

    def _reading(self) -> Store:
        if not self._opened:
            raise EngineStopped("the engine is not open")
        return self._store

    def _with_trouble(self, view: ExecutionView) -> ExecutionView:
        live = self._live.get(view.id)
        if live is None or live.trouble is None:
            return view
        return ExecutionView(
            view.id,
            view.workflow,
            Status.DIVERGED,
            view.input,
            None,
            live.trouble,
            view.started_at,
            None,
            view.sequence,
            view.rowid,
        )


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _refuse_other(key: str, existing: tuple[str, Payload], asked: tuple[str, Payload]) -> None:
    if existing[0] != asked[0]:
        raise ExecutionConflict(f"execution {key!r} exists and runs workflow {existing[0]!r}")
    if existing[1] != asked[1]:
        raise ExecutionConflict(f"execution {key!r} exists with another input")


def _view(stored: Stored, newest: int) -> ExecutionView:
    outcome = None if stored.outcome is None else json.loads(str(stored.outcome))
    return ExecutionView(
        id=stored.id,
        workflow=stored.workflow,
        status=stored.status,
        input=json.loads(str(stored.input)),
        result=outcome if stored.status is Status.COMPLETED else None,
        error=outcome if stored.status is Status.FAILED else None,
        started_at=stored.started_at / 1000,
        closed_at=None if stored.closed_at is None else stored.closed_at / 1000,
        sequence=stored.closed or newest,
        rowid=stored.rowid,
    )
