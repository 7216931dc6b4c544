"""The engine: executions of one application on one log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Final, Self

from node.engine import collection, guard
from node.engine.application import Application
from node.engine.commits import Commits
from node.engine.durability import Barrier, Durability, Outcome, Proofs, effective
from node.engine.errors import (
    DurabilityUnavailable,
    EngineStopped,
    ExecutionConflict,
    PayloadError,
    UnknownExecution,
    UnknownWorkflow,
)
from node.engine.events import STATUS_CODES, Event, Kind, Payload, Status
from node.engine.executor import Executor
from node.engine.live import Live
from node.engine.schema import connect
from node.engine.store import Store, Stored
from node.engine.views import ExecutionView, Started, stored_of, view_of

logger = logging.getLogger(__name__)

#: Executions replayed in one go while an engine opens, before the loop may do other things.
REPLAYS_AT_ONCE: Final = 50


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
        self._barrier = barrier
        self._clock = clock
        self._random = random or SystemRandom()
        self._on_commit = on_commit
        self._on_fenced = on_fenced
        self._on_failed = on_failed
        self._counts = dict.fromkeys(STATUS_CODES.values(), 0)
        self._opened = False
        self._stopped: EngineStopped | None = None

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
            self._commits = Commits(
                connect(config.path),
                store.tail,
                names=store.names(),
                heads=dict(heads),
                now=self._now,
                on_commit=self._on_commit,
                on_failed=self._failed,
            )
        except BaseException:
            store.close()
            raise
        self._store = store
        self._proofs = Proofs(
            self._barrier, committed=lambda: self._commits.sequence, on_fenced=self._fenced
        )
        self._executor = Executor(
            application=config.application,
            tenant=config.tenant,
            lineage=config.lineage,
            floor=config.durability,
            threads=config.threads,
            forced_replay=config.forced_replay,
            commits=self._commits,
            proofs=self._proofs,
            authority=self.authority,
            random=self._random,
            now=self._now,
            on_closed=self._closed,
            on_broken=self._failed,
        )
        self._rowid = store.last_rowid()
        for code, count in store.counts().items():
            self._counts[STATUS_CODES[code]] = count
        self._opened = True
        with collection.paused():
            for number, stored in enumerate(store.open_executions(), 1):
                self._executor.restore(stored, store.history(stored.id, heads[stored.rowid]))
                if number % REPLAYS_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _refuse_unprovable(self) -> None:
        if self._barrier is not None:
            return
        floor, application = self.config.durability, self.config.application
        levels = {"the engine's floor": floor}
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
        await self._proofs.close()
        self._store.close()

    def _stop(self, reason: EngineStopped) -> None:
        self._stopped = self._stopped or reason
        self._executor.stop()
        self._proofs.stop()

    def _abandon(self, reason: EngineStopped) -> None:
        """Stop without committing what is not with the writer yet."""
        self._commits.abandon()
        self._executor.refuse_uncommitted(reason)
        self._stop(reason)

    def _fenced(self) -> None:
        logger.critical("another owner has this tenant; the engine stops")
        self._abandon(EngineStopped("the engine is fenced: another owner has this tenant"))
        if self._on_fenced is not None:
            self._on_fenced()

    def _failed(self, error: BaseException) -> None:
        self._abandon(EngineStopped(f"the engine failed: {error}"))
        if self._on_failed is not None:
            self._on_failed(error)

    def _closed(self, live: Live, kind: Kind) -> None:
        self._counts[Status.RUNNING] -= 1
        self._counts[Status.COMPLETED if kind is Kind.COMPLETED else Status.FAILED] += 1

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _refuse_when_stopped(self) -> None:
        if self._stopped is not None:
            raise EngineStopped(str(self._stopped))
        if not self._opened:
            raise EngineStopped("the engine is not open")

    # Executions -------------------------------------------------------------------------------

    async def start(
        self, workflow: str, input: Mapping[str, object], *, id: str | None = None
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
        live = self._executor.live.get(key)
        unknown = live is not None or self._commits.lacks(key)
        stored = None if unknown else self._store.find(key)
        created = live is None and stored is None
        if stored is not None:
            _refuse_other(key, (stored.workflow, stored.input), (workflow, payload))
            return Started(self._view(stored), False)
        if live is None:
            self._rowid += 1
            self._counts[Status.RUNNING] += 1
            live = self._executor.begin(key, self._rowid, workflow, payload)
        _refuse_other(key, (live.workflow, live.payload), (workflow, payload))
        await asyncio.shield(live.committed)
        return Started(self._view(stored_of(live)), created)

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
            if live.ending is not None:
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

    # Reading ----------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """The newest committed event."""
        return self._commits.sequence

    @property
    def committed_at(self) -> float | None:
        """When, in unix seconds; None before the first."""
        return self._commits.committed_at

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
        stopped = (live.trouble is not None for live in self._executor.live.values())
        return {**counts, Status.DIVERGED.value: sum(stopped)}

    def bookmark(self, sequence: int) -> str:
        """`epoch:sequence`."""
        return f"{self.config.epoch}:{sequence}"

    def execution(self, id: str) -> ExecutionView:
        """Raises UnknownExecution, EngineStopped."""
        return self._view(self._find(id))

    def executions(
        self,
        *,
        status: Status | None = None,
        workflow: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[ExecutionView]:
        """A page of executions in the order of their start, after the row number `after`."""
        store = self._reading()
        if status is not Status.DIVERGED:
            found = store.page(status=status, workflow=workflow, after=after, limit=limit)
            return [self._view(stored) for stored in found]
        stopped = [live for live in self._executor.live.values() if live.trouble is not None]
        wanted = sorted(
            (live.rowid, live.key)
            for live in stopped
            if live.rowid > after and workflow in (None, live.workflow)
        )
        return [self.execution(key) for _, key in wanted[:limit]]

    def events(self, id: str) -> list[Event]:
        """The committed events of an execution. Raises UnknownExecution, EngineStopped."""
        stored = self._find(id)
        head = stored.closed or self._store.head(stored.rowid, stored.started)
        return self._store.history(id, head)

    def _find(self, id: str) -> Stored:
        stored = self._reading().find(id)
        if stored is None:
            raise UnknownExecution(f"no execution {id!r}")
        return stored

    def _reading(self) -> Store:
        if not self._opened:
            raise EngineStopped("the engine is not open")
        return self._store

    def _view(self, stored: Stored) -> ExecutionView:
        return view_of(stored, self._executor.live.get(stored.id), self.sequence)


def _refuse_other(key: str, existing: tuple[str, Payload], asked: tuple[str, Payload]) -> None:
    if existing[0] != asked[0]:
        raise ExecutionConflict(f"execution {key!r} exists and runs workflow {existing[0]!r}")
    if existing[1] != asked[1]:
        raise ExecutionConflict(f"execution {key!r} exists with another input")
