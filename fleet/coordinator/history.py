"""The record of operations: what was done, by whom, why, and how long each step took.

An operation is recorded once, when it is over, under an id of its own: whoever tells of it again,
after a crash for example, changes nothing. What cannot be written at once waits in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import apsw

from fleet.coordinator import history_log
from fleet.coordinator.asking import Asked, asked
from fleet.coordinator.history_log import Wanted
from fleet.history_views import OperationStep, OperationView, Outcome

T = TypeVar("T")
MOST_WAITING = 10_000
"""Operations that wait to be written; beyond that, the oldest are lost."""
WRITE_AGAIN = 1.0
"""Seconds before a write that failed is tried again."""


class NotRecorded(Exception):
    """The record cannot be written or read now; what was to be written still waits."""


class Records(Protocol):
    """Where the operations are kept."""

    async def append(self, operations: Sequence[OperationView]) -> None:
        """Add operations, each of them once. Raises `NotRecorded`."""

    async def read(self, wanted: Wanted) -> list[OperationView]:
        """Raises `NotRecorded`."""


class MemoryRecords:
    """`Records` of a process that nobody asks later."""

    def __init__(self) -> None:
        self._db: apsw.Connection | None = None
        self._turn = asyncio.Lock()

    async def append(self, operations: Sequence[OperationView]) -> None:
        def write(db: apsw.Connection) -> None:
            with db:
                history_log.append(db, operations)

        await self._on(write)

    async def read(self, wanted: Wanted) -> list[OperationView]:
        return await self._on(lambda db: history_log.read(db, wanted))

    async def _on(self, work: Callable[[apsw.Connection], T]) -> T:
        async with self._turn:
            try:
                return await asyncio.to_thread(lambda: work(self._open()))
            except apsw.Error as error:
                raise NotRecorded(f"the history cannot be kept: {error}") from error

    def _open(self) -> apsw.Connection:
        if self._db is None:
            db = apsw.Connection(":memory:")
            history_log.prepare(db)
            self._db = db
        return self._db


class Steps:
    """How long each step of something took."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self.taken: list[OperationStep] = []

    def over(self, name: str) -> None:
        """Note that a step is over; it began when the one before it was."""
        now = self._clock()
        self.taken.append(OperationStep(name=name, seconds=now - self._since))
        self._since = now


@dataclass(slots=True)
class Operation:
    """An operation under way: what is known of it so far. See `OperationView`."""

    id: str
    epoch_before: int | None = None
    epoch_after: int | None = None
    from_host: str | None = None
    to_host: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    steps: Steps = field(default_factory=Steps)

    def step(self, name: str) -> None:
        """Note that a step is over; it began when the one before it was."""
        self.steps.over(name)


class History:
    """Takes down what was done, and shows it."""

    def __init__(
        self, records: Records | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """
        Args:
            records: where it is kept; by default in memory only.
            clock: unix seconds.
        """
        self._records = records or MemoryRecords()
        self._clock = clock
        self._waiting: list[OperationView] = []
        self._told = asyncio.Event()
        self._writing = asyncio.Lock()
        self.lost = 0
        """Operations that could not be kept until they could be written."""

    @property
    def waiting(self) -> int:
        """Operations that are not written yet."""
        return len(self._waiting)

    def note(
        self,
        kind: str,
        *,
        tenant: str | None = None,
        id: str | None = None,
        asked_by: Asked | None = None,
        began_at: float | None = None,
        steps: Mapping[str, float] | Sequence[OperationStep] = (),
        **fields: Any,
    ) -> None:
        """Record an operation that is over; it is written soon after.

        Args:
            id: names it, so that it is recorded once; by default it is another one each time.
            asked_by: by default whoever sent the request that this task is about.
            began_at: unix seconds; by default so long ago as its steps took.
            steps: in order, with the seconds that each took.
            fields: others of `OperationView`.
        """
        if isinstance(steps, Mapping):
            steps = [OperationStep(name=name, seconds=value) for name, value in steps.items()]
        who = asked_by or asked()
        now = self._clock()
        if began_at is None:
            began_at = now - sum(step.seconds for step in steps)
        self._waiting.append(
            OperationView(
                id=id or f"{kind}/{tenant or 'fleet'}/{secrets.token_hex(8)}",
                kind=kind,
                tenant=tenant,
                began_at=began_at,
                ended_at=now,
                steps=list(steps),
                **{"by": who.by, "why": who.why, **fields},
            )
        )
        over = len(self._waiting) - MOST_WAITING
        if over > 0:
            del self._waiting[:over]
            self.lost += over
        self._told.set()

    @asynccontextmanager
    async def operation(
        self, kind: str, *, tenant: str | None = None, id: str | None = None, why: str | None = None
    ) -> AsyncIterator[Operation]:
        """Record what the block does, with its end: an error is recorded and goes on.

        Args:
            why: by default what the asker gave as the reason.
        """
        began, who = self._clock(), asked()
        under_way = Operation(id or f"{kind}/{tenant or 'fleet'}/{secrets.token_hex(8)}")

        def ended(outcome: Outcome, error: str = "") -> None:
            self.note(
                kind,
                tenant=tenant,
                id=under_way.id,
                asked_by=who if why is None else Asked(who.by, why),
                began_at=began,
                outcome=outcome,
                error=error,
                epoch_before=under_way.epoch_before,
                epoch_after=under_way.epoch_after,
                from_host=under_way.from_host,
                to_host=under_way.to_host,
                steps=under_way.steps.taken,
                data=under_way.data,
            )

        try:
            yield under_way
        except Exception as error:
            ended("failed", f"{type(error).__name__}: {error}")
            raise
        ended("done")

    async def run(self) -> None:
        """Write what was noted until cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            try:
                await self.flush()
            except NotRecorded:
                await asyncio.sleep(WRITE_AGAIN)
                self._told.set()

    async def flush(self) -> None:
        """Write all that was noted. Raises `NotRecorded`."""
        async with self._writing:
            noted = list(self._waiting)
            if noted:
                await self._records.append(noted)
                written = {id(one) for one in noted}
                self._waiting = [one for one in self._waiting if id(one) not in written]

    async def read(self, wanted: Wanted) -> list[OperationView]:
        """What was recorded, in order. Raises `NotRecorded`."""
        with contextlib.suppress(NotRecorded):
            await self.flush()
        return await self._records.read(wanted)

    async def close(self) -> None:
        """Write what still waits, if it can be written."""
        with contextlib.suppress(NotRecorded):
            await self.flush()
