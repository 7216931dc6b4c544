"""A tenant of a fleet deleted, brought back, and removed with everything, by the typed client."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from backup import keys, records
from backup.lease import WATCH
from backup.ownership import OwnerRecord
from backup.store import S3Store
from fleet.bucket_lag import look
from fleet.client import (
    AsyncClient,
    FleetError,
    FleetNotFound,
    copy_tenant,
    drill_tenant,
    hold_tenant,
    list_lag,
)
from fleet.deletion_views import DeletionWanted
from fleet.local import LocalFleet, LocalSettings, until

from .test_restore import ids, serving, work

APPS = Path(__file__).resolve().parents[1] / "apps"


async def reaches(client: AsyncClient, name: str, phase: str, seconds: float = 60.0) -> None:
    async def there() -> bool:
        return (await client.deletion(name)).phase == phase

    assert await until(there, seconds), f"never {phase}: {await client.deletion(name)}"


@pytest.mark.slow
def test_a_tenant_is_deleted_brought_back_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        settings = LocalSettings(name="test", folder=folder, hosts=2)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            store = S3Store(fleet.store_settings)
            env = {"MARKS": str(folder / "marks")}
            for name in ("a", "a-b"):
                await client.create_tenant(name, "counting", "before_effects", env)
            for name in ("a", "a-b"):
                await serving(client, name)
                await work(client, name, "one")
            await client.send(copy_tenant("a"))
            await client.send(drill_tenant("a"))
            lineage = (await client.tenant("a")).lineage

            # The bucket has what its hosts and the coordinator say of it.
            told = (await client.send(list_lag())).items
            looked = await asyncio.to_thread(look, store, told)
            assert [(one.tenant, one.finding) for one in looked] == [("a", ""), ("a-b", "")]
            assert all(one.txid and one.behind_txids is not None for one in looked)
            assert all(one.lag_bytes is not None for one in told)

            with pytest.raises(FleetNotFound):
                await client.deletion("a")
            asked = await client.delete_tenant("a", DeletionWanted(by="me", why="a test"))
            assert (asked.phase, asked.number) == ("stopping", 1)
            await reaches(client, "a", "kept")
            # It is stopped, and its name is taken still.
            with pytest.raises(FleetError) as gone:
                await client.start("a", "count", "two", {"steps": 1, "pause": 0.0}, True)
            assert (gone.value.status, gone.value.type) == (410, "tenant_deleted")
            with pytest.raises(FleetError, match="brought back"):
                await client.create_tenant("a", "counting", "async", env)
            for refused in (client.send(drill_tenant("a")), client.send(copy_tenant("a"))):
                with pytest.raises(FleetError, match="is deleted"):
                    await refused
            assert [one.name for one in await client.tenants()] == ["a-b"]
            assert [one.tenant for one in await client.deletions()] == ["a"]
            assert await client.receipts("a") == []
            # Asking again changes nothing, and nothing longer than was told.
            assert (await client.delete_tenant("a", DeletionWanted())).number == 1
            with pytest.raises(FleetError, match="longer"):
                await client.delete_tenant("a", DeletionWanted(grace_seconds=99 * 86_400))

            await client.undelete_tenant("a")
            back = await serving(client, "a", 2)
            assert (back.lineage, back.deletion) == (lineage, None)
            assert await ids(client, "a") == {"one"}
            await work(client, "a", "two")

            # Its host is lost, so that it leaves files behind; then it shall go at once.
            host = back.host
            assert host is not None
            await client.send(hold_tenant("a", True))
            with pytest.raises(FleetError, match="on hold"):
                await client.delete_tenant("a", DeletionWanted(grace_seconds=0))
            asked = await client.delete_tenant("a", DeletionWanted(grace_seconds=1))
            assert asked.number == 2
            # As if the whole machine had lost its power: its disk is there when it comes back.
            fleet.hosts[host].machine.kill()
            await reaches(client, "a", "kept", WATCH + 60.0)

            async def blocked() -> bool:
                return (await client.deletion("a")).blocked == "it is on hold"

            assert await until(blocked, 30.0), await client.deletion("a")
            assert "purge_blocked" in [entry.kind for entry in await client.timeline()]
            await client.send(hold_tenant("a", False))
            await reaches(client, "a", "purged")

            left = {entry.key for entry in store.list(keys.everything("a"))}
            assert left == {keys.wanted("a"), keys.owner("a")}
            (receipt,) = await client.receipts("a")
            assert receipt.intact
            assert (receipt.number, receipt.keys, receipt.versions) == (2, "revoked", "off")
            # It was working on its first epoch and on the one that it was brought back to.
            assert set(receipt.epochs) >= {1}
            assert {"replicas", "lineage", "copies", "drills"} <= set(receipt.kinds)
            assert receipt.hosts[host].problem
            with pytest.raises(FleetError) as gone:
                await client.tenant("a")
            assert gone.value.status == 410
            with pytest.raises(FleetError):
                await client.undelete_tenant("a")

            # The lost host comes back with its disk, and knows that the tenant is gone.
            await fleet._start_host(host, fleet.store_settings)

            async def knows() -> bool:
                try:
                    found = await client.remains(host)
                except FleetError:
                    return False
                mine = [one for one in found if one.tenant == "a"]
                return bool(mine) and all(one.goes for one in mine)

            assert await until(knows, 60.0), await client.remains(host)

            # Its neighbour has noticed nothing of all that, unless it lived on the lost host.
            await serving(client, "a-b")
            assert await ids(client, "a-b") == {"one"}

            # The name is free, for another tenant that begins with nothing.
            await client.create_tenant("a", "counting", "before_effects", env)
            again = await serving(client, "a")
            assert again.lineage != lineage
            assert await ids(client, "a") == set()
            await work(client, "a", "three")
            owner = records.read(store, keys.owner("a"), OwnerRecord)
            assert owner is not None
            assert owner.record.epoch > receipt.epoch
            assert [one.number for one in await client.receipts("a")] == [2]

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
