"""A node on real parts behind a faulty store, under load, and what must be true in the end.

Everything acknowledged as durable is written down. In the end the machine is lost, whatever state
the fault has left it in, a fresh one takes over from the bucket alone, and the ledger is compared.
Then the same is done once more on a copy of the bucket that has been robbed: the broken twin, with
the same ledger, in which something must be found missing.
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

from backup.ownership import OwnerState
from backup.settings import StoreSettings
from backup.store import S3Store
from node.engine.inspection import committed_at, inspect_log
from node.engine.schema import connect
from node.nursery import Nursery
from node.order import ENDED, NodeStatus, Tail
from restore.errors import Damaged
from restore.moment import Now, restore
from tests.faults.ledger import STEPS, End, Ledger, commits_a_second, end_of, wrong_rows
from tests.faults.robbery import robbed
from tests.faulty_store import FaultyStore, Policy, healthy
from tests.integration.node.conftest import APPS, ROOT, FaultyHost, TestHost, TestNode

WRITERS = 4
"""Clients that start one execution after the other, each waiting for its acknowledgement."""
CHURNERS = 4
"""Clients that have an execution commit step after step, and wait for nothing."""
CHURNED = 100
"""Steps of each of those."""
RATE = 500
"""Commits a second that they come to together, where the machine allows it."""


@dataclass
class Verdict:
    """What was found in the end."""

    acknowledged: int
    lost: list[str] = field(default_factory=list)
    """Executions that were acknowledged as durable and are not there, or not with their results."""
    wrong_rows: list[str] = field(default_factory=list)
    """Executions whose rows, in the file itself, are not those of the ledger."""
    lost_events: int = 0
    """Committed events that the bucket did not have: the asynchronous tail."""
    rpo: float = 0.0
    """Seconds of commits that these were."""
    rto: float = 0.0
    """Seconds from the next machine's start to its serving, or refusing to."""
    refused: str = ""
    """Why the next machine serves nothing, where it does not."""
    rate: float = 0.0
    """Commits in a second of the lost machine's log, on the average."""
    twin: str = ""
    """How the broken twin was noticed; empty if none was made."""


class Lab:
    """One run of one case."""

    def __init__(self, host: FaultyHost, proxy: FaultyStore, near: StoreSettings, twin: bool):
        """
        Args:
            near: the way to the store past the proxy.
            twin: whether the broken twin is made as well.
        """
        self.host = host
        self.proxy = proxy
        self.near = near
        self.ledger = Ledger()
        self.ended: End | None = None
        """The end of the log of the machine that was lost."""
        self.spoiled_at: int | None = None
        """The transaction that a fault has damaged: the twin loses it and all after it."""
        self._twin = twin
        self._clients: list[asyncio.Task[None]] = []
        self._count = 0
        self._rate = 0.0

    @property
    def node(self) -> TestNode:
        return self.host.nodes[-1]

    @property
    def proven(self) -> int:
        """What is known to be proven of the epoch that the next take-over restores."""
        return self.ledger.proven.get(self.epoch, 0)

    @property
    def epoch(self) -> int:
        """The epoch that the next take-over restores."""
        owner = self.host.owner()
        if owner is None:
            return 0
        parent = owner.record.parent
        restoring = owner.record.state is OwnerState.RESTORING
        return (parent.epoch if parent else 0) if restoring else owner.record.epoch

    @property
    def log(self) -> Path:
        """The newest node's own file."""
        return self.node.folder / "data" / "log.db"

    async def start(self) -> None:
        """A node that serves, and clients that keep it busy."""
        await self.host.start(lives_for=1800.0, app="booking")
        await self.node.serving()
        self.load()
        await self.acknowledged(10)

    def load(self) -> None:
        """Let the clients come."""
        self._clients = [asyncio.create_task(self._write()) for _ in range(WRITERS)]
        self._clients += [asyncio.create_task(self._churn()) for _ in range(CHURNERS)]

    async def acknowledged(self, more: int, seconds: float = 120.0) -> None:
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
        """Commits that nobody waits for: one a step, no more of them than the rate allows."""
        while True:
            self._count += 1
            name, began = f"churn-{self._count}", time.monotonic()
            with contextlib.suppress(httpx.HTTPError):
                await self.node.begin(name, steps=CHURNED, ack="async")
                await self.node.call("GET", f"/executions/{name}/result", params={"wait": 5})
            await asyncio.sleep(max(0.02, began + CHURNED * CHURNERS / RATE - time.monotonic()))

    async def rest(self) -> None:
        """Let the clients go."""
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._clients = []

    async def lose_the_machine(self) -> None:
        """SIGKILL everything of the newest node; no next one ever looks at its files again."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.status(), 2.0)
        pids = dict((await _last_words(self.node)).pids)
        pids["node"] = self.node.pid
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        end = await asyncio.to_thread(end_of, self.log)
        if end is not None and (self.ended is None or end.sequence >= self.ended.sequence):
            self.ended = end
            self._rate = await asyncio.to_thread(commits_a_second, self.log) or self._rate

    async def restarted(self) -> None:
        """Start the node anew on the same host, with the files that the last one has left. Nothing
        that it had committed may be lost then, asynchronous or not."""
        end = await asyncio.to_thread(end_of, self.log)
        assert end is not None, f"{self.log} cannot be read"
        before = await asyncio.to_thread(lambda: self.epoch)
        tail = Tail(epoch=before, database=self.log)
        await self.host.start(lives_for=1800.0, app="booking", floor_txid=self.proven, tail=tail)
        await self.node.serving()
        found = self._found_at_opening()
        assert found == end.sequence, f"it goes on from {found}, and its disk had {end.sequence}"

    async def judge(self, *, meanwhile: Policy = healthy) -> Verdict:
        """Lose the machine, take over from the bucket alone, and compare.

        Args:
            meanwhile: what the store does during the take-over.
        """
        await self.lose_the_machine()
        await self.rest()
        store, epoch = S3Store(self.near), await asyncio.to_thread(lambda: self.epoch)
        twin: FaultyHost | None = None
        if self._twin:
            prefix = f"{self.near.prefix}-twin"
            near = self.near.model_copy(update={"prefix": prefix})
            await asyncio.to_thread(robbed, store, S3Store(near), epoch, self.spoiled_at)
            folder = self.host.data.parent / "twin"
            folder.mkdir()
            twin = FaultyHost(near, folder, folder / "marks", self.host.nursery, near=near)
        self.proxy.policy = meanwhile
        found = await self._compared(self.host, self.proven)
        self.proxy.policy = healthy
        if twin is not None:
            found.twin = await self._noticed(twin)
        return found

    async def _noticed(self, twin: FaultyHost) -> str:
        """How the same comparison notices that the twin's bucket was robbed."""
        try:
            seen = await self._compared(twin, 0)
        finally:
            await close_nodes(twin)
        if seen.refused:
            return f"refused: {seen.refused[:160]}"
        if not seen.lost or (self.ledger.results and not seen.wrong_rows):
            return ""
        return f"{len(seen.lost)} lost, {len(seen.wrong_rows)} with wrong rows"

    async def _compared(self, host: FaultyHost, floor: int) -> Verdict:
        found = Verdict(len(self.ledger.acknowledged), rate=self._rate)
        began = time.monotonic()
        node = await host.start(lives_for=600.0, floor_txid=floor, app="booking")
        status = await node.until(
            lambda status: status.serving or status.state in ENDED, "served or ended", 300.0
        )
        found.rto = time.monotonic() - began
        if not status.serving:
            found.refused = f"{status.state}: {status.detail}"
            return found
        if self.ended is not None:
            recovered = self._found_at_opening(node)
            found.lost_events, found.rpo = await asyncio.to_thread(self.ended.beyond, recovered)
        names = list(self.ledger.acknowledged)
        found.lost = [name for name in names if not await self._is_right(node, name)]
        into = host.data / f"judged-{time.monotonic_ns()}"
        assert host.near is not None
        log = await restore(host.near, "t", Now(), into, inspect_log, committed_at)
        if log.checked.tenant != "t":
            raise Damaged(f"what was restored is {log.checked.tenant}'s")
        found.wrong_rows = sorted(
            await asyncio.to_thread(wrong_rows, log.fetched.database, self.ledger)
        )
        return found

    async def _is_right(self, node: TestNode, name: str) -> bool:
        answer = await node.call("GET", f"/executions/{name}/result", params={"wait": 20})
        if answer.status_code != 200:
            return False
        body = answer.json()
        return bool(body["status"] == "completed" and body["result"] == STEPS)

    def _found_at_opening(self, node: TestNode | None = None) -> int:
        """The newest event that a node's engine found in the log that was restored."""
        path = (node or self.node).folder / "data" / "log.db"
        with closing(connect(path, read_only=True)) as db:
            rows = db.execute("SELECT sequence FROM litefleet_life ORDER BY id DESC LIMIT 1")
            return int(cast(int, rows.fetchall()[0][0]))


async def _last_words(node: TestNode) -> NodeStatus:
    try:
        return await asyncio.wait_for(node.status(), 2.0)
    except Exception:
        return NodeStatus(tenant="t")


async def close_nodes(host: TestHost) -> None:
    """End a host's nodes, and not what they were started by."""
    for node in host.nodes:
        with contextlib.suppress(Exception):
            node.kill_all(await asyncio.wait_for(node.remote.status(), 1.0))
        with contextlib.suppress(ProcessLookupError):
            os.kill(node.pid, 9)


@asynccontextmanager
async def lab(
    near: StoreSettings, folder: Path, *, twin: bool = False, more: dict[str, str] | None = None
) -> AsyncIterator[Lab]:
    """A lab on a prefix of its own of a real store, in a folder of its own.

    Args:
        more: for the environment of every process of the nodes but the sidecar.
    """
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{APPS}", **(more or {})}
    data = folder / "host"
    data.mkdir(parents=True, exist_ok=True)
    async with FaultyStore(near) as proxy:
        nursery = await Nursery.start(folder / "nursery.log", environment)
        host = FaultyHost(proxy.settings, data, data / "marks", nursery, near=near)
        made = Lab(host, proxy, near, twin)
        try:
            yield made
        finally:
            await made.rest()
            await host.close()
