"""What a fleet did is on record: who wanted it, how long it took, and after its coordinator too."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import pytest

from backup.lease import WATCH
from fleet.client import AsyncClient, FleetError, drill_tenant
from fleet.history_views import OperationView
from fleet.local import LocalFleet, LocalSettings, launch, until
from fleet.machine import Machine
from fleet.settings import Chores
from fleet.views import RestoreWanted

APPS = Path(__file__).resolve().parents[1] / "apps"


async def restart_coordinator(fleet: LocalFleet) -> None:
    """Lose the coordinator, and start it again on its folder."""
    assert fleet.coordinator is not None
    await asyncio.to_thread(fleet.coordinator.kill)
    fleet.coordinator = Machine("coordinator")
    folder = fleet.settings.folder / "coordinator"
    command = [sys.executable, "-m", "fleet.coordinator", str(folder / "settings.json")]
    fleet.address = await launch(
        fleet.coordinator, command, folder / "address", folder, "the coordinator"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_history_of_a_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def recorded(client: AsyncClient, kind: str, seconds: float = 60.0) -> OperationView:
        found: list[OperationView] = []

        async def there() -> bool:
            nonlocal found
            found = await client.history("acme", kind=kind)
            return bool(found)

        assert await until(there, seconds), f"no {kind} in {await client.history()}"
        return found[-1]

    async def whole(folder: Path) -> None:
        chores = Chores(drill_every=0, copy_every=0)
        settings = LocalSettings(name="test", folder=folder, hosts=2, chores=chores)
        async with LocalFleet(settings) as fleet:
            asking = AsyncClient(fleet.address, fleet.token, by="ada@laptop", why="ticket 7")
            async with asking as client:
                env = {"MARKS": str(folder / "marks")}
                await client.create_tenant("acme", "counting", "before_effects", env)
                made = await recorded(client, "provision")
                assert (made.by, made.why, made.epoch_after) == ("ada@laptop", "ticket 7", 1)
                started = await client.start("acme", "count", "one", {"steps": 1, "pause": 0.0})
                drill = await client.send(drill_tenant("acme"))
                assert drill.ok
                drilled = await recorded(client, "drill")
                assert (drilled.outcome, drilled.by) == ("done", "ada@laptop")
                await client.restore_tenant("acme", RestoreWanted(bookmark="1:99999"))
                refused = await recorded(client, "restore")
                assert refused.outcome == "refused"
                assert "99999" in refused.error
                await client.restore_tenant("acme", RestoreWanted(bookmark=started.bookmark))

                async def restored() -> bool:
                    done = await client.history("acme", kind="restore")
                    return done[-1].outcome == "done"

                assert await until(restored, 60.0)
                restore = await recorded(client, "restore")
                assert (restore.by, restore.epoch_before, restore.epoch_after) == (
                    "ada@laptop",
                    1,
                    2,
                )
                host = restore.to_host
                assert host is not None
                fleet.hosts[host].machine.kill()
                failover = await recorded(client, "failover", WATCH + 60.0)
                assert (failover.by, failover.why) == ("coordinator", "host lost")
                assert failover.from_host == host != failover.to_host
                assert (failover.epoch_before, failover.epoch_after) == (2, 3)
                assert [step.name for step in failover.steps][:2] == ["detect", "fence"]
                before = await client.history()
                assert [one.kind for one in before].count("fence") == 1

            await restart_coordinator(fleet)
            async with fleet.client() as client:
                after: list[OperationView] = []

                async def back() -> bool:
                    nonlocal after
                    try:
                        after = await client.history(limit=len(before))
                    except FleetError:
                        return False
                    return bool(after)

                assert await until(back, 60.0)
                assert after == before

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
