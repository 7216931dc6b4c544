"""Tenants that are moved, put to sleep and woken, and hosts taken out of use, on real parts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from fleet.client import (
    AsyncClient,
    FleetConflict,
    FleetError,
    FleetUnavailable,
    cordon_host,
    list_hosts,
    move_tenant,
    show_host,
    show_move,
    sleep_tenant,
    uncordon_host,
    wake_tenant,
)
from fleet.local import LocalFleet, LocalSettings, launch, until
from fleet.machine import Machine
from fleet.views import TenantView

from .test_restore import serving

APPS = Path(__file__).resolve().parents[1] / "apps"
Scenario = Callable[[LocalFleet, AsyncClient, Path], Awaitable[None]]


def play(scenario: Scenario, monkeypatch: pytest.MonkeyPatch, hosts: int = 2) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        settings = LocalSettings(name="test", folder=folder, hosts=hosts)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            await scenario(fleet, client, folder)

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))


async def create(client: AsyncClient, folder: Path, *names: str) -> None:
    for name in names:
        env = {"MARKS": str(folder / f"marks-{name}")}
        await client.create_tenant(name, "counting", "before_effects", env)
    for name in names:
        await serving(client, name)


async def begin(client: AsyncClient, tenant: str, id: str, steps: int, pause: float) -> None:
    """Start an execution, again for as long as the tenant is away."""

    async def answered() -> bool:
        with contextlib.suppress(FleetUnavailable):
            given = {"steps": steps, "pause": pause}
            return (await client.start(tenant, "count", id, given, True)).durable
        return False

    assert await until(answered, 60.0)


async def finished(client: AsyncClient, tenant: str, id: str, seconds: float = 60.0) -> None:
    async def done() -> bool:
        with contextlib.suppress(FleetError):
            return (await client.result(tenant, id, wait=5.0)).status == "completed"
        return False

    assert await until(done, seconds), f"{id} of {tenant} never finished"


async def reaches(client: AsyncClient, name: str, state: str, seconds: float = 45.0) -> TenantView:
    async def there() -> bool:
        return (await client.tenant(name)).state == state

    assert await until(there, seconds), f"never {state}: {await client.tenant(name)}"
    return await client.tenant(name)


@contextlib.asynccontextmanager
async def another_coordinator(fleet: LocalFleet) -> AsyncIterator[AsyncClient]:
    """Kill the coordinator and start another one; its client."""
    assert fleet.coordinator is not None
    fleet.coordinator.kill()
    fleet.coordinator = Machine("coordinator")
    folder = fleet.settings.folder / "coordinator"
    command = [sys.executable, "-m", "fleet.coordinator", str(folder / "settings.json")]
    fleet.address = await launch(
        fleet.coordinator, command, folder / "address", folder, "the coordinator"
    )
    async with AsyncClient(fleet.address, fleet.token) as client:

        async def knows() -> bool:
            # Nobody answers before the seat of the one that was killed is free.
            with contextlib.suppress(FleetError):
                return bool(await client.tenants()) and bool(await client.hosts())
            return False

        assert await until(knows, 60.0)
        yield client


def once_each(folder: Path, tenant: str, id: str, steps: int) -> None:
    """Every effect of an execution happened, and none twice."""
    lines = (folder / f"marks-{tenant}").read_text().splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.split()[0] == id]
    assert sorted(numbers) == list(range(steps))


@pytest.mark.slow
def test_a_tenant_is_moved_while_it_works_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(fleet: LocalFleet, client: AsyncClient, folder: Path) -> None:
        await create(client, folder, "acme")
        before = await client.tenant("acme")
        other = next(name for name in fleet.hosts if name != before.host)
        await begin(client, "acme", "job", 150, 0.02)
        assert (await client.send(show_move("acme"))).state == "none"
        with pytest.raises(FleetConflict, match="no host 'nowhere'"):
            await client.send(move_tenant("acme", "nowhere"))
        begun = await client.send(move_tenant("acme", other))
        assert (begun.state, begun.from_host, begun.wanted_host) == ("moving", before.host, other)

        async def moved() -> bool:
            return (await client.send(show_move("acme"))).state == "done"

        assert await until(moved, 45.0)
        view = await client.send(show_move("acme"))
        assert (view.to_host, view.epoch) == (other, 2)
        assert view.unavailable_seconds is not None
        assert view.unavailable_seconds > 0
        await finished(client, "acme", "job")
        once_each(folder, "acme", "job", 150)
        # It stays: nothing draws it back, and it is where it was told to be already.
        await asyncio.sleep(2.0)
        after = await client.tenant("acme")
        assert (after.host, after.epoch) == (other, 2)
        assert (await client.send(move_tenant("acme", other))).state == "done"
        # Without a host that takes tenants it is not begun.
        await client.send(cordon_host(str(before.host), False, "a test"))
        with pytest.raises(FleetConflict, match="takes no tenants now"):
            await client.send(move_tenant("acme", before.host))
        with pytest.raises(FleetConflict, match="no host but"):
            await client.send(move_tenant("acme", None))

    play(scenario, monkeypatch)


@pytest.mark.slow
def test_a_host_is_drained_under_load_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "b", "c", "d", "e", "f")

    async def scenario(fleet: LocalFleet, client: AsyncClient, folder: Path) -> None:
        await create(client, folder, *names)
        hosts = {one.name: one for one in (await client.send(list_hosts())).items}
        drained = next(name for name, one in hosts.items() if one.tenants)
        for name in names:
            await begin(client, name, "job", 100, 0.05)
        view = await client.send(cordon_host(drained, True, "new disks"))
        assert (view.cordoned, view.draining, view.why) == (True, True, "new disks")
        # The coordinator is lost in the middle of it; what is wanted is in the bucket.
        await asyncio.sleep(0.5)
        async with another_coordinator(fleet) as client:

            async def empty() -> bool:
                with contextlib.suppress(FleetError):
                    return not (await client.send(show_host(drained))).tenants
                return False

            assert await until(empty, 90.0), await client.send(show_host(drained))
            for name in names:
                await finished(client, name, "job")
                once_each(folder, name, "job", 100)
                assert (await client.tenant(name)).host != drained
            await create(client, folder, "late")
            assert (await client.tenant("late")).host != drained
            view = await client.send(uncordon_host(drained))
            assert (view.cordoned, view.draining) == (False, False)
            for name in ("later", "latest"):
                await create(client, folder, name)
            found = {(await client.tenant(name)).host for name in ("later", "latest")}
            assert drained in found

    play(scenario, monkeypatch, hosts=3)


@pytest.mark.slow
def test_a_tenant_sleeps_and_is_woken_by_a_timer_a_request_and_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(fleet: LocalFleet, client: AsyncClient, folder: Path) -> None:
        await create(client, folder, "acme")
        await begin(client, "acme", "job", 2, 12.0)
        marks = folder / "marks-acme"

        async def marked() -> bool:
            return marks.exists() and bool(marks.read_text())

        assert await until(marked, 20.0)
        asked = time.time()
        assert (await client.send(sleep_tenant("acme"))).asleep
        asleep = await reaches(client, "acme", "asleep")
        assert asleep.next_wake is not None
        assert asked < asleep.next_wake < asked + 12.5
        # No process of it is left.
        assert not [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if f"{folder}" in " ".join(process.info["cmdline"] or [])
            and "/nodes/acme/" in " ".join(process.info["cmdline"] or [])
        ]
        # The timer wakes it.
        awake = await reaches(client, "acme", "active")
        assert (awake.asleep, awake.epoch) == (False, 2)
        assert time.time() >= asleep.next_wake
        await finished(client, "acme", "job")
        once_each(folder, "acme", "job", 2)
        # A request wakes it, even after the coordinator has been lost.
        await client.send(sleep_tenant("acme"))
        asleep = await reaches(client, "acme", "asleep")
        assert asleep.next_wake is None
        async with another_coordinator(fleet) as client:
            await asyncio.sleep(3.0)
            assert (await reaches(client, "acme", "asleep")).epoch == 2
            await begin(client, "acme", "more", 1, 0.0)
            await finished(client, "acme", "more")
            # And somebody by hand.
            await client.send(sleep_tenant("acme"))
            await reaches(client, "acme", "asleep")
            await client.send(wake_tenant("acme"))
            assert (await serving(client, "acme", 4)).epoch == 4

    play(scenario, monkeypatch)
