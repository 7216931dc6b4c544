"""The client outside the fleet: starts executions over HTTP, keeps every answer, and never
trusts one that it was not given.

It does what a careful client does: ids of its own, so that a repeated start is the
same start; a repeat after every 503; and a new start for an execution that was
acknowledged as *not* durable and is gone after a loss.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.client import AsyncClient, FleetNotFound, FleetUnavailable, FleetUnreachable
from fleet.demo.facts import Acknowledgement, Completion
from fleet.views import Bookmark, Durability

AT_ONCE = 8
"""Starts of one tenant that wait for their answer at the same time."""
SWEEP_EVERY = 0.5
"""Seconds between two looks at a tenant's executions."""
LONGEST_PAUSE = 1.0
"""Seconds: a client of a demo does not wait longer before it repeats a request."""
FIRST_WAVE = 0.7
"""The share of the executions that are started at once; the others follow one by one, so that
some starts meet the loss."""


@dataclass(frozen=True, slots=True)
class Start:
    """One execution to start, `after` seconds into the load."""

    tenant: str
    execution: str
    workflow: str
    input: Mapping[str, Any]
    durable: bool
    after: float


@dataclass(slots=True)
class Progress:
    """What the client knows of one tenant so far."""

    planned: int
    acknowledged: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    """Seen as completed or failed in a list."""
    finished: set[str] = field(default_factory=set)
    """Their result was read as well."""


def plan_starts(
    tenants: Mapping[str, Durability],
    inputs: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    workflow: str,
    span: float,
    seed: int,
) -> list[Start]:
    """Every document once for every tenant, in an order and at moments drawn from `seed`.

    Starts for tenants under `async` ask for durability every other time; all
    others always do. `span`: seconds over which the later starts are spread.
    """
    chance = random.Random(seed)
    starts = []
    for tenant, durability in tenants.items():
        order = list(range(len(inputs)))
        chance.shuffle(order)
        first = int(len(order) * FIRST_WAVE)
        for place, index in enumerate(order):
            starts.append(
                Start(
                    tenant=tenant,
                    execution=f"{tenant}-{names[index]}",
                    workflow=workflow,
                    input=inputs[index],
                    durable=durability != "async" or place % 2 == 1,
                    after=0.0 if place < first else chance.uniform(0.0, span),
                )
            )
    return starts


class Load:
    """Starts what is planned and follows it until everything is finished and stays so."""

    def __init__(
        self,
        clients: Mapping[str, AsyncClient],
        starts: Sequence[Start],
        clock: Callable[[], float] = time.time,
        sweep_every: float = SWEEP_EVERY,
    ) -> None:
        """`clients`: one for each tenant. A pool of connections is searched for every request, so
        several small ones cost far less than a large one. `sweep_every`: seconds."""
        self._sweep_every = sweep_every
        self._clients = clients
        self._clock = clock
        self._starts: dict[str, list[Start]] = {}
        for start in starts:
            self._starts.setdefault(start.tenant, []).append(start)
        self.progress = {name: Progress(len(some)) for name, some in self._starts.items()}
        self.acknowledged: dict[str, list[Acknowledgement]] = {name: [] for name in self._starts}
        self.completions: dict[str, list[Completion]] = {name: [] for name in self._starts}
        self.answer_seconds: dict[str, list[float]] = {"durable": [], "async": []}
        """How long each acknowledged start took, of those that needed no repeat."""
        self.retries = 0
        self.restarted = 0
        self.strange: list[str] = []
        """Answers that no careful client can make sense of; each is a finding."""
        self._calm = asyncio.Event()

    @property
    def planned(self) -> int:
        return sum(one.planned for one in self.progress.values())

    @property
    def finished(self) -> int:
        return sum(len(one.finished) for one in self.progress.values())

    @property
    def over(self) -> int:
        """Executions that are done by their status, whether or not their result was read yet."""
        return sum(len(one.over) for one in self.progress.values())

    def settle(self) -> None:
        """Nothing will be destroyed any more: what is finished from now on stays finished."""
        self._calm.set()

    async def run(self) -> None:
        """Start everything and return once all of it is finished, after `settle`."""
        async with asyncio.TaskGroup() as tasks:
            for tenant in self._starts:
                tasks.create_task(self._start_all(tenant))
                tasks.create_task(self._follow(tenant))

    async def _start_all(self, tenant: str) -> None:
        begun = asyncio.get_running_loop().time()
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(start: Start) -> None:
            try:
                await self._start(start)
            finally:
                gate.release()

        async with asyncio.TaskGroup() as tasks:
            for start in sorted(self._starts[tenant], key=lambda start: start.after):
                left = begun + start.after - asyncio.get_running_loop().time()
                if left > 0:
                    await asyncio.sleep(left)
                await gate.acquire()
                tasks.create_task(one(start))

    async def _start(self, start: Start) -> None:
        repeated = False
        while True:
            begun = time.monotonic()
            try:
                answer = await self._clients[start.tenant].start(
                    start.tenant, start.workflow, start.execution, start.input, start.durable
                )
            except FleetUnavailable as error:
                await self._pause(error.retry_after)
                repeated = True
                continue
            except FleetUnreachable:
                await self._pause(LONGEST_PAUSE)
                repeated = True
                continue
            break
        if not repeated:
            kind = "durable" if start.durable else "async"
            self.answer_seconds[kind].append(time.monotonic() - begun)
        if start.durable and not answer.durable:
            self.strange.append(
                f"{start.execution}: a start that asked for durability was answered without it"
            )
        self.acknowledged[start.tenant].append(
            Acknowledgement(
                execution=start.execution,
                durable=answer.durable,
                bookmark=Bookmark.parse(answer.bookmark),
                at=self._clock(),
            )
        )
        self.progress[start.tenant].acknowledged.add(start.execution)

    async def _pause(self, seconds: float) -> None:
        self.retries += 1
        await asyncio.sleep(min(seconds, LONGEST_PAUSE) * random.uniform(0.5, 1.0))

    async def _follow(self, tenant: str) -> None:
        progress = self.progress[tenant]
        orders = {start.execution: start for start in self._starts[tenant]}
        while True:
            calm = self._calm.is_set()
            known = set(progress.acknowledged)
            try:
                seen = {
                    one.id: one.status for one in await self._clients[tenant].executions(tenant)
                }
                await self._restart(tenant, [orders[id] for id in known - seen.keys()])
                over = {id for id, status in seen.items() if status != "running"}
                # A loss under `async` may take a result back: then it is open again.
                progress.over = over & known
                progress.finished &= over
                await self._collect_all(tenant, sorted(progress.over - progress.finished))
            except FleetUnavailable as error:
                await self._pause(error.retry_after)
                continue
            except FleetUnreachable:
                await self._pause(LONGEST_PAUSE)
                continue
            if calm and len(progress.finished) == progress.planned:
                return
            await asyncio.sleep(self._sweep_every)

    async def _restart(self, tenant: str, missing: Sequence[Start]) -> None:
        """Start again what was acknowledged before the list was asked for and is not in it."""
        for start in missing:
            self.restarted += 1
            self.progress[tenant].acknowledged.discard(start.execution)
            await self._start(start)

    async def _collect_all(self, tenant: str, ids: Sequence[str]) -> None:
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            await asyncio.gather(*(self._collect(tenant, id) for id in some))

    async def _collect(self, tenant: str, id: str) -> None:
        try:
            outcome = await self._clients[tenant].result(tenant, id)
        except FleetNotFound:
            # Lost between the list and this request; the next look starts it again.
            return
        if outcome.status == "running" or outcome.bookmark is None:
            return
        self.completions[tenant].append(
            Completion(
                execution=id,
                durable=outcome.durable,
                bookmark=Bookmark.parse(outcome.bookmark),
                status=outcome.status,
                result=outcome.result,
                at=self._clock(),
            )
        )
        self.progress[tenant].finished.add(id)
