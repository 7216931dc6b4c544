"""A tenant of a fleet taken back in time and forward again, by the commands that people use."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import httpx
import pytest

from backup.lease import WATCH
from fleet.client import AsyncClient, Client, FleetError
from fleet.exporting import export_tenant
from fleet.local import LocalFleet, LocalSettings, until
from fleet.settings import Chores
from fleet.views import ForkWanted, RestoreView, RestoreWanted, TenantView
from node.engine.inspection import inspect_log

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


@pytest.mark.slow
def test_a_tenant_is_forked_and_the_source_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        settings = LocalSettings(name="test", folder=folder, hosts=2)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            env = {"MARKS": str(folder / "marks")}
            await client.create_tenant("acme", "counting", "before_effects", env)
            await serving(client, "acme")
            mark = await work(client, "acme", "one")
            await work(client, "acme", "two")
            await client.start("acme", "count", "open", {"steps": 40, "pause": 0.5}, True)

            async def forked(name: str, bookmark: str | None) -> RestoreView:
                await client.fork_tenant("acme", ForkWanted(name=name, bookmark=bookmark))

                async def ended() -> bool:
                    return (await client.fork("acme", name)).over

                assert await until(ended, 60.0)
                return await client.fork("acme", name)

            then = await forked("then", mark)
            assert (then.state, then.source) == ("done", "acme"), then
            assert await ids(client, "then") == {"one"}
            now = await forked("now", None)
            assert now.state == "done", now
            assert await ids(client, "now") == {"one", "two", "open"}

            there = await client.tenant("now")
            source = await client.tenant("acme")
            assert there.lineage != source.lineage
            assert (there.app, there.durability) == (source.app, source.durability)
            assert (source.epoch, source.serving) == (1, True)
            # What is open stands still there, and goes on here.
            listed = await fleet_get(fleet, "/now/executions/open")
            assert listed["paused"] is True
            assert await work(client, "now", "three")

            with fleet_client(fleet) as plain:
                file = folder / "now.db"
                about = await asyncio.to_thread(
                    export_tenant, plain, "now", file, lambda done, of: None
                )
                log = inspect_log(file)
                assert (log.tenant, log.sequence) == ("now", about.sequence)
                assert sum(log.executions.values()) == 4
                with pytest.raises(FleetError, match="no tenant"):
                    await asyncio.to_thread(
                        export_tenant, plain, "other", folder / "x.db", lambda done, of: None
                    )
            assert sorted(one.name for one in folder.glob("*.db*")) == ["now.db"]

            gone = await forked("never", "1:99999")
            assert (gone.state, gone.problem is not None) == ("refused", True)
            assert "never" not in {one.name for one in await client.tenants()}
            with pytest.raises(FleetError, match="already"):
                await client.fork_tenant("acme", ForkWanted(name="now"))

            # Its host is lost: it is a tenant like any other.
            host = there.host
            assert host is not None
            fleet.hosts[host].machine.kill()
            await serving(client, "now", there.epoch + 1)
            assert await ids(client, "now") == {"one", "two", "open", "three"}
            assert (await client.tenant("now")).lineage == there.lineage

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))


def fleet_client(fleet: LocalFleet) -> Client:
    return Client(fleet.address, fleet.token)


async def fleet_get(fleet: LocalFleet, path: str) -> dict[str, object]:
    headers = {"authorization": f"Bearer {fleet.token}"}
    async with httpx.AsyncClient(headers=headers) as http:
        answer = await http.get(f"{fleet.address}{path}", timeout=30.0)
    body: dict[str, object] = answer.json()
    return body


@pytest.mark.slow
def test_an_epoch_goes_once_a_later_one_was_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        chores = Chores(drill_every=0, copy_every=0, purge_every=1.0, epoch_days=0)
        settings = LocalSettings(name="test", folder=folder, hosts=2, chores=chores)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            env = {"MARKS": str(folder / "marks")}
            await client.create_tenant("acme", "counting", "before_effects", env)
            await serving(client, "acme")
            mark = await work(client, "acme", "one")
            await work(client, "acme", "two")
            await client.restore_tenant("acme", RestoreWanted(bookmark=mark))
            assert (await over(client, "acme")).state == "done"

            with fleet_client(fleet) as plain:

                async def epochs() -> dict[int, tuple[bool, str]]:
                    found = await asyncio.to_thread(plain.epochs, "acme")
                    return {one.epoch: (one.goes, one.reason) for one in found.items}

                await asyncio.sleep(8)  # a round, or two
                assert await epochs() == {
                    1: (False, "none after it was restored in a drill"),
                    2: (False, "it is the newest"),
                }

                assert (await asyncio.to_thread(plain.hold, "acme", True)).changed
                assert not (await asyncio.to_thread(plain.hold, "acme", True)).changed
                assert (await asyncio.to_thread(plain.drill, "acme")).ok
                await asyncio.sleep(8)
                assert (await epochs())[1] == (False, "the tenant is on hold")
                assert await ids(client, "acme") == {"one"}

                assert (await asyncio.to_thread(plain.hold, "acme", False)).changed

                async def gone() -> bool:
                    return set(await epochs()) == {2}

                assert await until(gone, 30.0), await epochs()
                await asyncio.sleep(3)
            kinds = [entry.kind for entry in await client.timeline()]
            assert kinds.count("epoch_purged") == 1

            # What it left cannot be had any more, and that is said; all else goes on.
            await client.restore_tenant("acme", RestoreWanted(undo=True))
            refused = await over(client, "acme")
            assert refused.state == "refused"
            assert refused.problem is not None
            assert "removed after its retention" in refused.problem.message
            later = await work(client, "acme", "three")
            await work(client, "acme", "four")
            await client.restore_tenant("acme", RestoreWanted(bookmark=later))
            done = await over(client, "acme")
            assert (done.state, done.new_epoch) == ("done", 3), done
            assert await ids(client, "acme") == {"one", "three"}

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
