"""What the fleet does when a part of a host, or the coordinator, is lost and not the whole host."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest

from backup.lease import SELF_FENCE_AFTER, WATCH
from fleet.client import AsyncClient, FleetError
from fleet.local import LocalFleet, LocalSettings, launch, until
from fleet.machine import Machine
from fleet.runtimes.process import started_at
from fleet.views import TenantView
from node.order import NodeStatus

APPS = Path(__file__).resolve().parents[1] / "apps"


class Observed:
    """A running fleet of two hosts with one tenant, and what an outsider can see of it."""

    def __init__(self, fleet: LocalFleet, client: AsyncClient, marks: Path):
        self.fleet = fleet
        self.client = client
        self.marks = marks

    async def tenant(self) -> TenantView:
        return await self.client.tenant("acme")

    async def serving(self, epoch: int = 1) -> TenantView:
        async def there() -> bool:
            tenant = await self.tenant()
            return tenant.serving and tenant.state == "active" and tenant.epoch >= epoch

        assert await until(there, 45.0), f"epoch {epoch} never served: {await self.tenant()}"
        return await self.tenant()

    async def node(self) -> NodeStatus:
        """What the tenant's agent says of its node, asked past the coordinator."""
        tenant = await self.tenant()
        assert tenant.host is not None
        host = self.fleet.hosts[tenant.host]
        headers = {"authorization": f"Bearer {self.fleet.token}"}
        async with httpx.AsyncClient(headers=headers) as http:
            answer = await http.get(f"{host.address}/api/nodes")
        nodes = [NodeStatus.model_validate(node) for node in answer.json()["nodes"]]
        return next(node for node in nodes if node.epoch == tenant.epoch)

    async def begin(self, id: str, steps: int, pause: float = 0.0, durable: bool = True) -> bool:
        """Start an execution; whether it was answered as durable."""
        given = {"steps": steps, "pause": pause}
        return (await self.client.start("acme", "count", id, given, durable)).durable

    async def finished(self, id: str) -> object:
        found: object = None

        async def done() -> bool:
            nonlocal found
            try:
                outcome = await self.client.result("acme", id, wait=5.0)
            except FleetError:
                return False
            found = outcome.result
            return outcome.status == "completed"

        assert await until(done, 60.0), f"{id} never finished"
        return found

    def effects(self) -> int:
        return len(self.marks.read_text().splitlines()) if self.marks.exists() else 0


Scenario = Callable[[Observed], Awaitable[None]]


def play(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a scenario on a fresh fleet; nothing of it may be left afterwards."""
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        settings = LocalSettings(name="test", folder=folder, hosts=2)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            marks = folder / "marks"
            await client.create_tenant("acme", "counting", "async", {"MARKS": str(marks)})
            seen = Observed(fleet, client, marks)
            await seen.serving()
            await scenario(seen)

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
    assert not [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if folder in " ".join(process.info["cmdline"] or [])
    ]


async def gone(pids: list[int], seconds: float) -> bool:
    async def ended() -> bool:
        return not any(psutil.pid_exists(pid) for pid in pids)

    return await until(ended, seconds)


@pytest.mark.slow
def test_an_agent_that_dies_takes_its_nodes_with_it_before_they_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody extends the nodes any more: they end by their own watchdogs, and only then move."""

    async def scenario(seen: Observed) -> None:
        before = await seen.serving()
        node = await seen.node()
        assert await seen.begin("job", steps=400, pause=0.05)
        assert before.host is not None
        os.kill(seen.fleet.hosts[before.host].machine.pid, signal.SIGKILL)
        # The engine works on without its agent, up to its deadline and not beyond.
        marks = seen.effects()
        await asyncio.sleep(2.0)
        assert seen.effects() > marks
        assert (await seen.tenant()).epoch == 1
        assert await gone([node.pids["engine"], node.pids["sidecar"]], SELF_FENCE_AFTER + 1.0)
        assert (await seen.tenant()).epoch == 1
        after = await seen.serving(epoch=2)
        assert after.host != before.host
        assert await seen.finished("job") == 400

    play(scenario, monkeypatch)


@pytest.mark.slow
def test_a_supervisor_that_dies_is_replaced_on_its_host_with_its_tail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(seen: Observed) -> None:
        before = await seen.serving()
        node = await seen.node()
        assert await seen.begin("proven", steps=1)
        # From here on nothing is uploaded: what follows is on this disk only.
        os.kill(node.pids["sidecar"], signal.SIGSTOP)
        assert not await seen.begin("tail", steps=3, durable=False)
        assert await until(lambda: _at_least(seen, 4), 10.0)
        os.kill(node.pids["supervisor"], signal.SIGKILL)
        after = await seen.serving(epoch=2)
        assert after.host == before.host
        assert await seen.finished("tail") == 3
        assert await seen.finished("proven") == 1

    play(scenario, monkeypatch)


async def _at_least(seen: Observed, effects: int) -> bool:
    return seen.effects() >= effects


@pytest.mark.slow
def test_the_fleet_works_on_without_its_coordinator_and_a_new_one_finds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(seen: Observed) -> None:
        fleet = seen.fleet
        before = await seen.serving()
        node = await seen.node()
        assert await seen.begin("job", steps=30, pause=0.05)
        assert fleet.coordinator is not None
        fleet.coordinator.kill()
        fleet.coordinator = Machine("coordinator")
        marks = seen.effects()
        await asyncio.sleep(1.0)
        assert seen.effects() > marks
        folder = fleet.settings.folder / "coordinator"
        command = [sys.executable, "-m", "fleet.coordinator", str(folder / "settings.json")]
        address = await launch(
            fleet.coordinator, command, folder / "address", folder, "the coordinator"
        )
        fleet.address = address
        async with AsyncClient(address, fleet.token) as client:
            seen.client = client

            async def known() -> bool:
                try:
                    return (await client.tenant("acme")).serving
                except FleetError:
                    return False

            assert await until(known, 20.0)
            assert await seen.finished("job") == 30
            # A full look at the leases later, nothing has been taken from anybody.
            await asyncio.sleep(WATCH + 1.0)
            after = await client.tenant("acme")
            assert (after.epoch, after.host) == (before.epoch, before.host)
            assert (await seen.node()).pids == node.pids
            kinds = {entry.kind for entry in await client.timeline()}
            assert not kinds & {"lease_fenced", "takeover_ordered"}

    play(scenario, monkeypatch)


async def another_agent(fleet: LocalFleet, name: str) -> Machine:
    """Start an agent on a host whose agent has ended; the machine on which its nodes run on."""
    host = fleet.hosts[name]
    before, host.machine = host.machine, Machine(name)
    folder = fleet.settings.folder / name
    command = [sys.executable, "-m", "fleet.agent", str(folder / "settings.json")]
    host.address = await launch(host.machine, command, folder / "address", folder, name)
    return before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_an_agent_that_is_started_again_in_time_goes_on_with_its_nodes(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash, and after an upgrade, for which it steps aside."""

    async def scenario(seen: Observed) -> None:
        before = await seen.serving()
        node = await seen.node()
        assert before.host is not None
        incarnation = (await seen.fleet.host_views())[before.host].incarnation
        assert await seen.begin("job", steps=400, pause=0.05)
        agent = seen.fleet.hosts[before.host].machine.pid
        os.kill(agent, number)
        assert await gone([agent], 10.0)
        earlier = await another_agent(seen.fleet, before.host)
        try:
            # A full deadline after the old agent's last word, and it was never needed.
            await asyncio.sleep(SELF_FENCE_AFTER + 1.0)
            assert (await seen.node()).pids == node.pids
            assert (await seen.node()).engine_restarts == 0
            assert (await seen.fleet.host_views())[before.host].incarnation == incarnation
            after = await seen.serving()
            assert (after.host, after.epoch) == (before.host, 1)
            assert await seen.finished("job") == 400
            assert seen.effects() == 400
        finally:
            earlier.kill()

    play(scenario, monkeypatch)


@pytest.mark.slow
def test_a_node_that_does_not_answer_the_new_agent_is_ended_and_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(seen: Observed) -> None:
        before = await seen.serving()
        node = await seen.node()
        assert before.host is not None
        assert await seen.begin("job", steps=200, pause=0.02)
        os.kill(node.pids["supervisor"], signal.SIGSTOP)
        agent = seen.fleet.hosts[before.host].machine.pid
        os.kill(agent, signal.SIGKILL)
        assert await gone([agent], 10.0)
        earlier = await another_agent(seen.fleet, before.host)
        try:
            after = await seen.serving(epoch=2)
            assert not any(started_at(pid) for pid in node.pids.values())
            assert after.host == before.host
            assert await seen.finished("job") == 200
        finally:
            earlier.kill()

    play(scenario, monkeypatch)


@pytest.mark.slow
def test_a_second_agent_on_one_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(seen: Observed) -> None:
        before = await seen.serving()
        assert before.host is not None
        settings = seen.fleet.settings.folder / before.host / "settings.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fleet.agent", str(settings)),
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert b"another agent runs on" in errors
        assert (await seen.serving()).epoch == 1

    play(scenario, monkeypatch)
