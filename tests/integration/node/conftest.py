"""A host without an agent: nodes started, extended and killed by the test itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from backup import keys, records
from backup.guards import GuardSettings
from backup.lease import boottime
from backup.ownership import Origin, OwnerRecord
from backup.records import Versioned
from backup.settings import StoreSettings
from backup.store import S3Store
from node.nursery import Nursery
from node.order import ENDED, NodeOrder, NodeStatus, Tail
from node.remote import RemoteNode

APPS = Path(__file__).parent.parent.parent / "apps"
ROOT = APPS.parent.parent


@dataclass
class TestNode:
    """One node: its supervisor as the agent would hold it, and its engine's HTTP."""

    __test__ = False

    name: str
    folder: Path
    sockets: Path
    pid: int
    remote: RemoteNode
    order: NodeOrder

    async def status(self) -> NodeStatus:
        return await self.remote.status()

    async def until(
        self, met: Callable[[NodeStatus], bool], what: str, seconds: float = 30.0
    ) -> NodeStatus:
        """Wait for a status that meets the condition."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        status = await self.remote.status()
        while not met(status):
            if loop.time() > until:
                pytest.fail(f"never {what}; last seen: {status}")
            status = await self.remote.status(after=status.version, wait=0.05)
        return status

    async def serving(self) -> NodeStatus:
        status = await self.until(
            lambda status: status.serving or status.state in ENDED, "served or ended"
        )
        assert status.serving, f"{status.state}: {status.detail}"
        return status

    async def ended(self) -> NodeStatus:
        return await self.until(lambda status: status.state in ENDED, "ended")

    @contextlib.asynccontextmanager
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        # Without TLS there is no list of authorities to read, which takes longer than a request.
        transport = httpx.AsyncHTTPTransport(uds=str(self.sockets / "engine.sock"), verify=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://node", timeout=30.0
        ) as client:
            yield client

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        async with self.http() as client:
            return await client.request(method, path, **more)

    async def begin(self, id: str, steps: int, pause: float = 0.0, **more: Any) -> httpx.Response:
        body = {"workflow": "count", "id": id, "input": {"steps": steps, "pause": pause}, **more}
        return await self.call("POST", "/executions", json=body)

    async def result(self, id: str, wait: float = 20.0) -> Any:
        answer = await self.call("GET", f"/executions/{id}/result", params={"wait": wait})
        body = answer.json()
        assert body["status"] == "completed", body
        return body["result"]

    def kill_all(self, status: NodeStatus) -> None:
        """SIGKILL every process of the node at once, as the loss of its machine would."""
        for pid in status.pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        for pid in status.pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class TestHost:
    """Starts nodes in a folder of the test's, on the test's prefix of the real store."""

    __test__ = False

    settings: StoreSettings
    data: Path
    marks: Path
    nursery: Nursery
    guards: GuardSettings = field(default_factory=GuardSettings)
    nodes: list[TestNode] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)

    @property
    def store(self) -> S3Store:
        return S3Store(self.settings)

    def owner(self, tenant: str = "t") -> Versioned[OwnerRecord] | None:
        return records.read(self.store, keys.owner(tenant), OwnerRecord)

    def effects(self) -> list[str]:
        """The lines that the tenants' code has written outside."""
        return self.marks.read_text().splitlines() if self.marks.exists() else []

    async def start(
        self,
        tenant: str = "t",
        *,
        durability: str = "async",
        authority_ended: bool = True,
        floor_txid: int = 0,
        lives_for: float = 120.0,
        tail: Tail | None = None,
        app: str = "counting",
        expected: str | None = None,
        env: Mapping[str, str] | None = None,
        origin: Origin | None = None,
    ) -> TestNode:
        """Order a node on the record as it stands now."""
        name = secrets.token_hex(4)
        folder, sockets = self.data / "n" / name, self.data / "s" / name
        folder.mkdir(parents=True, mode=0o700)
        sockets.mkdir(parents=True, mode=0o700)
        now = self.owner(tenant)
        order = NodeOrder.model_validate(
            {
                "tenant": tenant,
                "app": app,
                "durability": durability,
                "env": {"MARKS": str(self.marks), **(env or {})},
                "host": "h",
                "incarnation": f"lease.{name}",
                "expected": expected or (now.etag if now else None),
                "authority_ended": authority_ended,
                "floor_txid": floor_txid,
                "deadline": boottime() + lives_for,
                "store": self.settings,
                "sidecar": self.settings.credentials,
                "tail": tail,
                "guards": self.guards,
                "origin": origin,
            }
        )
        pid = await self.nursery.spawn(sockets, folder / "supervisor.log")
        remote = await RemoteNode.connect(sockets)
        await remote.start(order, folder)
        node = TestNode(name, folder, sockets, pid, remote, order)
        self.nodes.append(node)
        return node

    async def close(self) -> None:
        for node in self.nodes:
            with contextlib.suppress(Exception):
                status = await asyncio.wait_for(node.remote.status(), 1.0)
                self.pids.update(status.pids.values())
                node.kill_all(status)
            with contextlib.suppress(ProcessLookupError):
                os.kill(node.pid, signal.SIGKILL)
        await self.nursery.stop()


@dataclass
class FaultyHost(TestHost):
    """A host whose nodes reach the store through a proxy, and whose test does not: the proxy lives
    in the test's own loop."""

    near: StoreSettings | None = None

    @property
    def store(self) -> S3Store:
        assert self.near is not None
        return S3Store(self.near)


Scenario = Callable[[TestHost], Awaitable[None]]


@pytest.fixture
def on_host(store_settings: StoreSettings, tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a coroutine function with a fresh `TestHost` and clears everything away after it."""

    def run(scenario: Scenario) -> None:
        asyncio.run(_run(scenario, store_settings, tmp_path))

    return run


async def _run(scenario: Scenario, settings: StoreSettings, folder: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{APPS}"}
    nursery = await Nursery.start(folder / "nursery.log", environment)
    host = TestHost(settings, folder, folder / "marks", nursery)
    try:
        await scenario(host)
    finally:
        await host.close()


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that nobody reaped has)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def all_gone(pids: list[int], seconds: float = 10.0) -> None:
    """Wait until processes have ended."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not all(gone(pid) for pid in pids):
        assert loop.time() < until, f"still there: {[pid for pid in pids if not gone(pid)]}"
        await asyncio.sleep(0.01)
