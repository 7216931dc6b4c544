"""A tenant of a fleet taken back in time and forward again, by the commands that people use."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from backup.lease import WATCH
from fleet.client import AsyncClient, FleetError
from fleet.local import LocalFleet, LocalSettings, until
from fleet.views import RestoreView, RestoreWanted, TenantView

APPS = Path(__file__).resolve().parents[1] / "apps"


async def serving(client: AsyncClient, name: str, epoch: int = 1) -> TenantView:
    async def there() -> bool:
        tenant = await client.tenant(name)
        return tenant.serving and tenant.state == "active" and tenant.epoch >= epoch

    assert await until(there, 60.0), f"epoch {epoch} never served: {await client.tenant(name)}"
    return await client.tenant(name)


async def over(client: AsyncClient, name: str) -> RestoreView:
    async def ended() -> bool:
        return (await client.restore(name)).over

    assert await until(ended, 90.0), f"never over: {await client.restore(name)}"
    return await client.restore(name)


async def ids(client: AsyncClient, name: str) -> set[str]:
    return {one.id for one in await client.executions(name)}


async def work(client: AsyncClient, name: str, id: str) -> str:
    """Run an execution to its end; the bookmark of its start."""
    started = await client.start(name, "count", id, {"steps": 2, "pause": 0.0}, True)
    outcome = await client.result(name, id, wait=20.0)
    assert outcome.status == "completed"
    await asyncio.sleep(1.5)
    return started.bookmark


@pytest.mark.slow
def test_a_tenant_goes_back_and_forth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        settings = LocalSettings(name="test", folder=folder, hosts=2)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            env = {"MARKS": str(folder / "marks")}
            await client.create_tenant("acme", "counting", "before_effects", env)
            await serving(client, "acme")
            with pytest.raises(FleetError, match="never restored"):
                await client.restore("acme")
            mark = await work(client, "acme", "one")
            await work(client, "acme", "two")

            # A rehearsal changes nothing.
            await client.restore_tenant("acme", RestoreWanted(bookmark=mark, check=True))
            found = await over(client, "acme")
            assert (found.state, found.new_epoch) == ("done", None)
            assert await ids(client, "acme") == {"one", "two"}
            assert (await client.tenant("acme")).epoch == 1

            # A moment that there is not stops nobody.
            await client.restore_tenant("acme", RestoreWanted(bookmark="1:99999"))
            refused = await over(client, "acme")
            assert refused.state == "refused"
            assert refused.problem is not None
            assert "99999" in refused.problem.message
            assert (await client.tenant("acme")).serving

            await client.restore_tenant("acme", RestoreWanted(bookmark=mark))
            with pytest.raises(FleetError, match="already"):
                await client.restore_tenant("acme", RestoreWanted(undo=True))
            done = await over(client, "acme")
            assert (done.state, done.left, done.new_epoch) == ("done", 1, 2), done
            assert await ids(client, "acme") == {"one"}
            await work(client, "acme", "three")

            await client.restore_tenant("acme", RestoreWanted(undo=True))
            undone = await over(client, "acme")
            assert (undone.state, undone.new_epoch) == ("done", 3), undone
            assert await ids(client, "acme") == {"one", "two"}

            # Its host is lost in the middle of a restore: it is brought back, and then restored.
            host = (await client.tenant("acme")).host
            assert host is not None
            await client.restore_tenant("acme", RestoreWanted(undo=True))

            async def wanted() -> bool:
                return (await client.restore("acme")).state != "rehearsing"

            assert await until(wanted, 30.0)
            fleet.hosts[host].machine.kill()
            assert await until(lambda: restored(client), WATCH + 60.0)
            assert await ids(client, "acme") == {"one", "three"}
            words = [entry.kind for entry in await client.timeline()]
            assert words.count("restore_wanted") == 3

    async def restored(client: AsyncClient) -> bool:
        try:
            view = await client.restore("acme")
            return view.state == "done" and (await client.tenant("acme")).serving
        except FleetError:
            return False

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
