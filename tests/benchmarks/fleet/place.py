"""A fleet on this machine to be measured: its tenants created, its hosts lost and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from fleet.agent.api import NodeList
from fleet.client import AsyncClient, FleetError
from fleet.local import LocalFleet, LocalSettings, until
from fleet.settings import Chores
from fleet.views import TenantView
from node.order import NodeStatus

APP = "tests.benchmarks.fleet.app"
LOOK_EVERY = 0.02
"""Seconds between two looks at something that is measured."""
PATIENCE = 300.0
"""Seconds after which something that is measured is taken for broken."""
NO_CHORES = Chores(drill_every=0, copy_every=0, purge_every=0)
"""Nothing happens of its own accord while something is measured."""


class Stuck(Exception):
    """What was to be measured did not happen; the message says what."""


@dataclass(frozen=True)
class Place:
    """A running fleet, and a client of it."""

    fleet: LocalFleet
    client: AsyncClient

    async def create(self, names: Iterable[str], at_once: int = 8) -> None:
        """Create tenants, some at a time; they need not serve yet."""
        turns = asyncio.Semaphore(at_once)

        async def one(name: str) -> None:
            async with turns:
                await self.client.create_tenant(name, APP, "async")

        await asyncio.gather(*(one(name) for name in names))

    async def serving(self, names: Collection[str], above: int = 0) -> list[TenantView]:
        """Wait until all of these serve in an epoch above the one given. Raises `Stuck`."""
        wanted, found = set(names), list[TenantView]()
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            self.fleet.raise_if_ended()
            with contextlib.suppress(FleetError):
                found = [
                    view
                    for view in await self.client.tenants()
                    if view.name in wanted and view.serving and view.epoch > above
                ]
            if len(found) == len(wanted):
                return found
            await asyncio.sleep(LOOK_EVERY)
        missing = sorted(wanted - {view.name for view in found})
        raise Stuck(f"{len(missing)} tenants do not serve: {', '.join(missing[:5])}")

    async def run(self, tenant: str, workflow: str, **values: object) -> None:
        """Run one execution to its end, from the moment at which the tenant can be reached."""
        started = None
        ends = time.monotonic() + PATIENCE
        while started is None and time.monotonic() < ends:
            with contextlib.suppress(FleetError):
                started = await self.client.start(tenant, workflow, None, values)
            if started is None:
                await asyncio.sleep(LOOK_EVERY)
        if started is None:
            raise Stuck(f"{tenant} takes no start")
        outcome = await self.client.result(tenant, started.id, wait=60)
        if outcome.status != "completed":
            raise Stuck(f"an execution of {tenant} is {outcome.status}: {outcome.error}")

    async def lose(self, host: str) -> float:
        """Kill a whole host and remove its files; when that was, in UNIX seconds."""
        lost = self.fleet.hosts[host]
        await asyncio.to_thread(lost.machine.freeze)
        at = time.time()
        await asyncio.to_thread(lost.machine.kill)
        await asyncio.to_thread(shutil.rmtree, lost.data)
        return at

    async def nodes(self, host: str) -> list[NodeStatus]:
        """What a host's agent says of its nodes."""
        address = self.fleet.hosts[host].address
        headers = {"authorization": f"Bearer {self.fleet.token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
            answer = await http.get(f"{address}/api/nodes", headers=headers)
            return NodeList.model_validate_json(answer.content).nodes

    async def quiet(self, names: Collection[str]) -> None:
        """Wait until all that these tenants have committed is in the bucket. Raises `Stuck`."""

        async def proven() -> bool:
            lags = {view.name: view.lag_seconds for view in await self.client.tenants()}
            return all(lags.get(name) == 0.0 for name in names)

        if not await until(proven, PATIENCE):
            raise Stuck("the replicas do not catch up")


@asynccontextmanager
async def place(hosts: int) -> AsyncIterator[Place]:
    """A new fleet with an embedded store, of which nothing is left at the end.

    It is in /var/tmp: on a disk, as a rule, and a short path, which unix sockets need.
    """
    with TemporaryDirectory(prefix="litefleet-", dir="/var/tmp") as name:
        settings = LocalSettings(name="bench", folder=Path(name), hosts=hosts, chores=NO_CHORES)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            yield Place(fleet, client)
