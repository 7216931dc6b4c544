"""A fleet that has lost coordinator, host and records of its tenants, back from the bucket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backup import keys, records
from backup.catalog import CatalogRecord
from backup.settings import StoreSettings
from backup.store import S3Store
from fleet.client import AsyncClient, FleetError
from fleet.local import LocalFleet, LocalSettings, launch, until
from fleet.machine import Machine
from fleet.settings import Chores

NAMES = ("acme", "birch", "cedar")
NOTHING: dict[str, Any] = {"found": [], "doubts": []} | dict.fromkeys(
    ("wanted", "owner", "written")
)
WHOLE = [{"tenant": name, "state": "whole", **NOTHING} for name in (*NAMES, "log")]
ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "tests" / "apps"


def recover(settings: StoreSettings, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the command as a user does; its exit code and what it found."""
    own = settings.credentials
    command = ["recover", "--s3", settings.endpoint, "--bucket", settings.bucket, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fleet", *command, "--name", settings.prefix, *words],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LITEFLEET_S3_ACCESS_KEY_ID": own.access_key_id,
            "LITEFLEET_S3_SECRET_ACCESS_KEY": own.secret_access_key.get_secret_value(),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["items"]


async def finished(client: AsyncClient, name: str) -> set[str]:
    try:
        return {one.id for one in await client.executions(name, "completed")}
    except FleetError:
        return set()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_catalog_comes_back_from_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        chores = Chores(drill_every=0, copy_every=0)
        settings = LocalSettings(name="test", folder=folder, hosts=1, chores=chores)
        async with LocalFleet(settings) as fleet:
            store = S3Store(fleet.store_settings)
            coordinators = S3Store(fleet.store_settings.of_coordinators)
            async with fleet.client() as client:
                env = {"MARKS": str(folder / "marks")}
                for name in NAMES:
                    await client.create_tenant(name, "counting", "before_effects", env)
                for name in NAMES:
                    # The gateway answers as soon as it is there.
                    assert await until(partial(served, client, name), 60.0)
                    await client.start(name, "count", "one", {"steps": 1, "pause": 0.0}, True)
                    assert await until(partial(has_one, client, name), 30.0)

            async def copied() -> bool:
                found = records.read(coordinators, keys.CATALOG, CatalogRecord)
                return found is not None and set(found.record.tenants) == set(NAMES)

            assert await until(copied, 60.0)
            assert await asyncio.to_thread(recover, fleet.store_settings) == (0, WHOLE)

            # The coordinator and the host are lost with their disks, and records in the bucket too.
            assert fleet.coordinator is not None
            await asyncio.to_thread(fleet.coordinator.kill)
            await asyncio.to_thread(fleet.hosts["host-1"].machine.kill)
            own = folder / "coordinator"
            shutil.rmtree(own / "data")
            shutil.rmtree(fleet.hosts["host-1"].data)
            store.delete(keys.wanted("acme"))
            store.delete(keys.owner("birch"))
            store.put(keys.wanted("cedar"), b"not a record")
            store.delete(keys.owner("cedar"))
            coordinators.delete(keys.owner("log"))

            code, found = await asyncio.to_thread(recover, fleet.store_settings)
            states = {one["tenant"]: one["state"] for one in found}
            # The lost host's lease still looks alive, and names those whose owner is lost.
            assert code == 1
            assert states["acme"] == "missing"
            assert states["birch"] in ("missing", "doubtful")
            assert states["log"] == "missing"
            assert not any(one["written"] for one in found)
            code, found = await asyncio.to_thread(
                recover, fleet.store_settings, "--apply", "--doubtful"
            )
            assert code == 0, found
            assert {one["tenant"] for one in found if one["written"]} == {*NAMES, "log"}
            assert await asyncio.to_thread(recover, fleet.store_settings) == (0, WHOLE)

            fleet.coordinator = Machine("coordinator")
            command = [sys.executable, "-m", "fleet.coordinator", str(own / "settings.json")]
            fleet.address = await launch(fleet.coordinator, command, own / "address", own, "it")
            await fleet.add_host("host-2")
            async with fleet.client() as client:
                for name in NAMES:
                    assert await until(partial(has_one, client, name), 120.0)
                history = [one.kind for one in await client.history("acme")]
                assert history[0] == "provision"

    async def served(client: AsyncClient, name: str) -> bool:
        return (await client.tenant(name)).serving

    async def has_one(client: AsyncClient, name: str) -> bool:
        return await finished(client, name) == {"one"}

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
