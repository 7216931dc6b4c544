"""A node on real parts behind a faulty store, under load, and what must be true in the end.

Everything acknowledged as durable is written down. In the end the machine is lost, whatever state
the fault has left it in, a fresh one takes over from the bucket alone, and the ledger is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx

from backup import keys
from backup.ownership import OwnerState
from backup.settings import StoreSettings
from backup.store import S3Store
from node.engine.inspection import committed_at, inspect_log
from node.engine.schema import connect
from node.nursery import Nursery
from node.order import ENDED, NodeStatus
from restore.moment import Now, restore
from restore.plan import list_epoch
from tests.faulty_store import FaultyStore, Policy, healthy
from tests.integration.node.conftest import APPS, ROOT, TestHost, TestNode

STEPS = 3
"""Steps of an execution whose start is acknowledged: a start alone would show little."""
WRITERS = 4
"""Clients that start one execution after the other, each waiting for its acknowledgement."""


@dataclass
class Ledger:
    """What the outside was told. Times are in seconds of the monotonic clock."""

    acknowledged: dict[str, float] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)
    """Executions whose result was given as durable."""
    unknown: int = 0
    """Starts that were answered with anything else than durable."""
    committed: int = 0
    """The newest event that a node told of before its end."""
    proven: dict[int, int] = field(default_factory=dict)
    """The newest position of each epoch that a node told was proven: what leases would have."""


@dataclass
class Verdict:
    """What was found in the end."""

    acknowledged: int
    lost: list[str] = field(default_factory=list)
    """Executions that were acknowledged as durable and are not there, or not with their results."""
    lost_events: int = 0
    """Committed events that the bucket did not have: the asynchronous tail."""
    rto: float = 0.0
    """Seconds from the loss of the machine to the next one serving, or refusing to."""
    refused: str = ""
    """Why the next machine serves nothing, where it does not."""


@dataclass
class FaultyHost(TestHost):
    """A host whose nodes reach the store through a proxy, and whose test does not: the proxy lives
    in the test's own loop."""

    near: StoreSettings | None = None

    @property
    def store(self) -> S3Store:
        assert self.near is not None
        return S3Store(self.near)


class Lab:
    """One run of one case."""

    def __init__(self, host: TestHost, proxy: FaultyStore, near: StoreSettings) -> None:
        self.host = host
        self.proxy = proxy
        self.near = near
        self.ledger = Ledger()
        self._writers: list[asyncio.Task[None]] = []
        self._count = 0

    @property
    def node(self) -> TestNode:
        return self.host.nodes[-1]

    @property
    def proven(self) -> int:
        """What is known to be proven of the epoch that the next take-over restores."""
        owner = self.host.owner()
        if owner is None:
            return 0
        parent = owner.record.parent
        restoring = owner.record.state is OwnerState.RESTORING
        epoch = (parent.epoch if parent else 0) if restoring else owner.record.epoch
        return self.ledger.proven.get(epoch, 0)

    async def start(self) -> None:
        """A node that serves, and clients that keep it busy."""
        await self.host.start(lives_for=900.0)
        await self.node.serving()
        self._writers = [asyncio.create_task(self._write()) for _ in range(WRITERS)]
        self._writers.append(asyncio.create_task(self._churn()))
        await self.acknowledged(10)

    async def acknowledged(self, more: int, seconds: float = 60.0) -> None:
        """Wait until so many more starts have been acknowledged as durable."""
        until = time.monotonic() + seconds
        wanted = len(self.ledger.acknowledged) + more
        while len(self.ledger.acknowledged) < wanted:
            if time.monotonic() > until:
                status = await self.status()
                raise AssertionError(
                    f"no more acknowledgements within {seconds:.0f} s: {status.state}, "
                    f"{status.detail or status.incidents[-2:]}"
                )
            await asyncio.sleep(0.02)

    async def status(self) -> NodeStatus:
        status = await self.node.status()
        self.ledger.committed = max(self.ledger.committed, status.lag.sequence)
        proven = self.ledger.proven
        proven[status.epoch] = max(proven.get(status.epoch, 0), status.lag.replicated_txid)
        return status

    async def _write(self) -> None:
        while True:
            self._count += 1
            name = f"job-{self._count}"
            try:
                answer = await self.node.begin(name, steps=STEPS)
                if answer.status_code == 201 and answer.json()["durable"]:
                    self.ledger.acknowledged[name] = time.monotonic()
                    await self._result(name)
                else:
                    self.ledger.unknown += 1
                    await asyncio.sleep(0.05)
            except (httpx.HTTPError, KeyError):
                self.ledger.unknown += 1
                await asyncio.sleep(0.05)

    async def _result(self, name: str) -> None:
        answer = await self.node.call("GET", f"/executions/{name}/result", params={"wait": 5})
        body = answer.json()
        if answer.status_code == 200 and body.get("durable") and body["status"] == "completed":
            self.ledger.results.add(name)

    async def _churn(self) -> None:
        """Commits that nobody waits for."""
        while True:
            self._count += 1
            with contextlib.suppress(httpx.HTTPError):
                await self.node.begin(f"churn-{self._count}", steps=20, ack="async")
            await asyncio.sleep(0.1)

    async def rest(self) -> None:
        """Let the clients go."""
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        self._writers = []

    async def lose_the_machine(self) -> None:
        """SIGKILL everything of the newest node; its files are never looked at again."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.status(), 2.0)
        pids = dict((await _last_words(self.node)).pids)
        pids["node"] = self.node.pid
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    async def judge(self, *, meanwhile: Policy = healthy, floor: bool = True) -> Verdict:
        """Lose the machine, take over from the bucket alone, and compare.

        Args:
            meanwhile: what the store does during the take-over.
            floor: whether what the lost host had said was proven is known, as its lease tells.
        """
        await self.rest()
        await self.lose_the_machine()
        self.proxy.policy = meanwhile
        lost_at = time.monotonic()
        await self.host.start(lives_for=300.0, floor_txid=self.proven if floor else 0)
        status = await self.node.until(
            lambda status: status.serving or status.state in ENDED, "served or ended", 90.0
        )
        self.proxy.policy = healthy
        found = Verdict(len(self.ledger.acknowledged), rto=time.monotonic() - lost_at)
        if not status.serving:
            found.refused = f"{status.state}: {status.detail}"
            return found
        found.lost = [name for name in self.ledger.acknowledged if not await self._is_right(name)]
        found.lost_events = max(0, self.ledger.committed - self._found_at_opening())
        log = await restore(
            self.near,
            "t",
            Now(),
            self.host.data / f"judged-{time.monotonic_ns()}",
            inspect_log,
            committed_at,
        )
        assert log.checked.tenant == "t"
        return found

    async def _is_right(self, name: str) -> bool:
        answer = await self.node.call("GET", f"/executions/{name}/result", params={"wait": 20})
        if answer.status_code != 200:
            return False
        body = answer.json()
        return bool(body["status"] == "completed" and body["result"] == STEPS)

    def _found_at_opening(self) -> int:
        """The newest event that the newest node's engine found in the log that was restored."""
        with closing(connect(self.node.folder / "data" / "log.db", read_only=True)) as db:
            rows = db.execute("SELECT sequence FROM litefleet_life ORDER BY id DESC LIMIT 1")
            return int(cast(int, rows.fetchall()[0][0]))

    def forge(self, share: float = 0.6) -> None:
        """Take the newest part of the chain out of the bucket: the broken twin of every case."""
        store = S3Store(self.near)
        epoch = max(int(name) for name in store.prefixes(keys.epochs("t")))
        cut = int(list_epoch(store, "t", epoch).reachable * (1 - share))
        for file in list_epoch(store, "t", epoch).files:
            if file.high > cut:
                store.delete(keys.epoch("t", epoch) + file.name)


async def _last_words(node: TestNode) -> NodeStatus:
    try:
        return await asyncio.wait_for(node.status(), 2.0)
    except Exception:
        return NodeStatus(tenant="t")


@asynccontextmanager
async def lab(near: StoreSettings, folder: Path) -> AsyncIterator[Lab]:
    """A lab on a prefix of its own of a real store, in a folder of its own."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{APPS}"}
    folder.mkdir(parents=True, exist_ok=True)
    async with FaultyStore(near) as proxy:
        nursery = await Nursery.start(folder / "nursery.log", environment)
        host = FaultyHost(proxy.settings, folder, folder / "marks", nursery, near=near)
        made = Lab(host, proxy, near)
        try:
            yield made
        finally:
            await made.rest()
            await host.close()
