"""The coordinator is a tenant of its own fleet: its log is in the bucket, and another one takes
over when it is lost, by the protocol that holds for every tenant."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from backup.lease import WATCH
from fleet.client import AsyncClient, FleetError
from fleet.history_views import OperationView
from fleet.local import LocalFleet, LocalSettings, launch, until
from fleet.machine import Machine
from fleet.settings import Chores
from fleet.views import CoordinatorView, RestoreWanted

APPS = Path(__file__).resolve().parents[1] / "apps"
TAKEN = WATCH + 30.0
"""Seconds within which another coordinator has taken over, on a machine with much else to do."""


async def active(client: AsyncClient, but: str = "") -> CoordinatorView:
    """The active coordinator, once there is one that is not ``but``."""
    found: list[CoordinatorView] = []

    async def there() -> bool:
        nonlocal found
        try:
            found = [one for one in await client.coordinators() if one.active and one.name != but]
        except FleetError:
            return False
        return bool(found) and await answers(client)

    assert await until(there, TAKEN), f"nobody but {but!r} is active"
    return found[0]


async def answers(client: AsyncClient) -> bool:
    try:
        await client.tenants()
    except FleetError:
        return False
    return True


async def provisioned(client: AsyncClient, folder: Path, name: str) -> None:
    """Create a tenant, and wait until it serves and that is on record."""
    env = {"MARKS": str(folder / "marks")}
    await client.create_tenant(name, "counting", "before_effects", env)

    async def recorded() -> bool:
        try:
            return bool(await client.history(name, kind="provision"))
        except FleetError:
            return False

    assert await until(recorded, 60.0), f"the provision of {name} is not on record"


def play(
    scenario: Callable[[LocalFleet, AsyncClient, Path], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
    coordinators: int = 1,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        chores = Chores(drill_every=0, copy_every=0)
        wanted = LocalSettings(
            name="test", folder=folder, hosts=1, coordinators=coordinators, chores=chores
        )
        async with LocalFleet(wanted) as fleet, fleet.client() as client:
            await scenario(fleet, client, folder)

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["killed", "frozen", "stopped"])
def test_another_coordinator_takes_over(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(fleet: LocalFleet, client: AsyncClient, folder: Path) -> None:
        first = await active(client)
        await provisioned(client, folder, "one")
        before = await client.history()
        # Whoever waits answers as well, by passing on.
        for one in fleet.address.split(","):
            async with AsyncClient(one, fleet.token) as direct:
                assert [tenant.name for tenant in await direct.tenants()] == ["one"]
        lost: Machine = fleet.coordinators[first.name]
        if how == "killed":
            await asyncio.to_thread(lost.kill)
        elif how == "frozen":
            await asyncio.to_thread(lost.freeze)
        else:
            assert await asyncio.to_thread(lost.terminate)
        second = await active(client, but=first.name)
        assert second.epoch > first.epoch
        await provisioned(client, folder, "two")
        assert (await client.history(limit=len(before))) == before
        if how == "frozen":
            await asyncio.to_thread(lost.thaw)

            async def steps_back() -> bool:
                views = await client.coordinators()
                acting = [one.name for one in views if one.active]
                return acting == [second.name] and len(views) == 2

            assert await until(steps_back, TAKEN), await client.coordinators()
            address = fleet.address.split(",")[int(first.name == "coordinator-2")]
            async with AsyncClient(address, fleet.token) as direct:
                assert {tenant.name for tenant in await direct.tenants()} == {"one", "two"}
                views = await direct.coordinators()
                assert [one.name for one in views if one.active] == [second.name]

    play(scenario, monkeypatch, coordinators=2)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_was_asked_for_goes_on_under_the_next_coordinator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(fleet: LocalFleet, client: AsyncClient, folder: Path) -> None:
        await active(client)
        await provisioned(client, folder, "one")
        started = await client.start("one", "count", "a", {"steps": 1, "pause": 0.0}, True)
        await asyncio.sleep(1.5)
        await client.restore_tenant("one", RestoreWanted(bookmark=started.bookmark))
        assert fleet.coordinator is not None
        await asyncio.to_thread(fleet.coordinator.kill)
        fleet.coordinator = Machine("coordinator")
        own = fleet.settings.folder / "coordinator"
        command = [sys.executable, "-m", "fleet.coordinator", str(own / "settings.json")]
        fleet.address = await launch(fleet.coordinator, command, own / "address", own, "it")
        asking = AsyncClient(fleet.address, fleet.token)
        async with asking as later:
            found: list[OperationView] = []

            async def recorded() -> bool:
                nonlocal found
                try:
                    found = await later.history("one", kind="restore")
                except FleetError:
                    return False
                # A try of a host's that failed is an operation of its own.
                found = [one for one in found if one.id.startswith("restore/") and one.steps[1:]]
                return bool(found)

            assert await until(recorded, 120.0)
            [done] = found
            assert (done.outcome, done.epoch_after) == ("done", 2), done
            assert [step.name for step in done.steps] == ["rehearse", "want", "follow"]
            assert (await later.restore("one")).state == "done"

    play(scenario, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_coordinator_without_its_disk_has_its_log_from_the_bucket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(fleet: LocalFleet, client: AsyncClient, folder: Path) -> None:

        first = await active(client)
        await provisioned(client, folder, "one")
        before = await client.history()
        assert fleet.coordinator is not None
        await asyncio.to_thread(fleet.coordinator.kill)
        own = fleet.settings.folder / "coordinator"
        shutil.rmtree(own / "data")
        fleet.coordinator = Machine("coordinator")
        command = [sys.executable, "-m", "fleet.coordinator", str(own / "settings.json")]
        fleet.address = await launch(fleet.coordinator, command, own / "address", own, "it")
        async with fleet.client() as later:
            second = await active(later)
            assert second.epoch > first.epoch

            async def there() -> bool:
                try:
                    return await later.history(limit=len(before)) == before
                except FleetError:
                    return False

            assert await until(there, 60.0)

    play(scenario, monkeypatch)
