"""A tenant whose log is streamed by a real sidecar to a real store, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from backup import keys, ownership, records
from backup.barrier import GroupBarrier
from backup.glance import Glance
from backup.litestream.sidecar import Sidecar
from backup.ownership import Owner, OwnerRecord
from backup.settings import StoreSettings
from backup.store import S3Store

OWNER = Owner(host="h", incarnation="one.two")


@dataclass(frozen=True, slots=True)
class Streamed:
    """A tenant's database that this process writes, its sidecar, and the barrier over both."""

    tenant: str
    connection: apsw.Connection
    sidecar: Sidecar
    barrier: GroupBarrier


@asynccontextmanager
async def streamed(settings: StoreSettings, tenant: str, folder: Path) -> AsyncIterator[Streamed]:
    """Claim a tenant, make its database in `folder`, and stream it."""
    store = S3Store(settings)
    key = keys.owner(tenant)
    first = ownership.claim(None, tenant, OWNER, authority_ended=False)
    claimed = await asyncio.to_thread(records.swap, store, key, first, None)
    active = ownership.activate(claimed.record, OWNER, 1)
    await asyncio.to_thread(records.swap, store, key, active, claimed.etag)

    owner_record = Glance(store, key, OwnerRecord)
    path = folder / "data" / "log.db"
    path.parent.mkdir(parents=True)
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute("PRAGMA synchronous=FULL").fetchall()
    connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, value BLOB)")
    sidecar = Sidecar(settings, keys.epoch(tenant, 1), path, folder)
    await sidecar.start()
    try:
        await sidecar.ready(20)
        await sidecar.sync(20)
        barrier = GroupBarrier(sidecar.sync, owner_record.read, OWNER, 1)
        try:
            yield Streamed(tenant, connection, sidecar, barrier)
        finally:
            await barrier.close()
            await owner_record.close()
    finally:
        await sidecar.stop()
        connection.close()
