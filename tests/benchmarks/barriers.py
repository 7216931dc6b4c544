"""Steps that wait for their intent to be proven, on a real store, sidecar and owner's record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from backup import keys, ownership, records
from backup.barrier import GroupBarrier
from backup.glance import Glance
from backup.litestream.sidecar import Sidecar
from backup.ownership import Owner, OwnerRecord
from backup.settings import StoreSettings
from backup.store import S3Store
from node.engine.durability import Outcome, Proof
from tests.benchmarks.far_store import far_store
from tests.benchmarks.workloads import engine

TENANT = "t"


class BarrierHere:
    """The supervisor's barrier without its socket: the engine's side and the bucket's in one."""

    def __init__(self, barrier: GroupBarrier) -> None:
        self._barrier = barrier

    async def prove(self, sequence: int) -> Proof:
        result = await self._barrier.prove()
        return Proof(Outcome(result.outcome.value), f"1:{sequence}")


async def measure(folder: Path, *, writers: int, steps: int, latency: float) -> dict[str, Any]:
    """Barriers a second: steps whose intent was proven before they ran, by a store whose every
    answer takes `latency` seconds longer."""
    async with (
        far_store(folder / "store", latency) as settings,
        _barrier(folder, settings) as barrier,
        engine(folder / "log.db", barrier=BarrierHere(barrier)) as running,
    ):

        async def write() -> None:
            started = await running.start("proving", {"steps": steps})
            view = await running.result(started.view.id, wait=600)
            if view.status != "completed":
                raise RuntimeError(f"a measured workflow ended as {view.status}: {view.error}")

        rounds, begun = barrier.rounds, time.perf_counter()
        await asyncio.gather(*(write() for _ in range(writers)))
        seconds = time.perf_counter() - begun
    return {
        "barriers_per_second": writers * steps / seconds,
        "rounds_per_second": (barrier.rounds - rounds) / seconds,
    }


@asynccontextmanager
async def _barrier(folder: Path, settings: StoreSettings) -> AsyncIterator[GroupBarrier]:
    """A claim to a tenant, a sidecar on its log, and the barrier over both."""
    path = folder / "log.db"
    async with engine(path):
        pass  # makes the log
    store = S3Store(settings)
    owner = Owner(host="h", incarnation="one.two")
    claimed = await asyncio.to_thread(
        records.swap,
        store,
        keys.owner(TENANT),
        ownership.claim(None, TENANT, owner, authority_ended=False),
        None,
    )
    active = ownership.activate(claimed.record, owner, 1)
    await asyncio.to_thread(records.swap, store, keys.owner(TENANT), active, claimed.etag)

    owner_record = Glance(store, keys.owner(TENANT), OwnerRecord)
    sidecar = Sidecar(settings, keys.epoch(TENANT, 1), path, folder)
    await sidecar.start()
    try:
        await sidecar.ready(20)
        barrier = GroupBarrier(sidecar.sync, owner_record.read, owner, 1)
        try:
            yield barrier
        finally:
            await barrier.close()
            await owner_record.close()
    finally:
        await sidecar.stop()
