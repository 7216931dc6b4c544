"""Hosts that operators take out of use: recorded in the bucket, carried out by `decide`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from backup import hosts, keys, records
from backup.errors import StoreError
from backup.hosts import HostRecord
from backup.store import ObjectStore

if TYPE_CHECKING:
    from fleet.coordinator.coordinator import Coordinator


class Cordons:
    """What is wanted of each host that anything was ever wanted of."""

    def __init__(self, fleet: Coordinator, store: ObjectStore) -> None:
        self._fleet = fleet
        self._store = store
        self.known: dict[str, HostRecord] = {}

    async def read(self) -> None:
        """Read those of all hosts. One that cannot be read stays as it was known.

        Raises:
            StoreError: the list of hosts could not be read.
        """
        names = await asyncio.to_thread(lambda: list(self._store.prefixes(keys.HOSTS)))
        for name in names:
            try:
                found = await asyncio.to_thread(
                    records.read, self._store, keys.host(name), HostRecord
                )
            except StoreError:
                continue
            self._learn(name, found.record if found is not None else None)

    async def cordon(self, name: str, *, drain: bool, why: str = "") -> HostRecord:
        """Give a host no more tenants, and with ``drain`` have those that it has moved to others.
        Raises `StoreError`."""
        found: HostRecord | None = await asyncio.to_thread(
            records.change,
            self._store,
            keys.host(name),
            HostRecord,
            lambda now: hosts.cordon(now, name, drain=drain, at=time.time(), why=why),
        )
        assert found is not None
        self._learn(name, found)
        what = "is drained" if found.draining else "is cordoned"
        self._fleet.timeline.note(
            "host_drained" if drain else "host_cordoned",
            f"{name} {what}{f': {found.why}' if found.why else ''}",
            host=name,
        )
        self._fleet.history.note(
            "drain_host" if drain else "cordon", from_host=name, data={"why": found.why}
        )
        self._fleet.wake()
        return found

    async def uncordon(self, name: str) -> HostRecord:
        """Give a host tenants again. Raises `StoreError`."""
        found: HostRecord | None = await asyncio.to_thread(
            records.change,
            self._store,
            keys.host(name),
            HostRecord,
            lambda now: hosts.uncordon(now, at=time.time()),
        )
        before = self.known.get(name)
        self._learn(name, found)
        if before is not None and before.cordoned:
            self._fleet.timeline.note("host_uncordoned", f"{name} takes tenants", host=name)
            self._fleet.history.note("uncordon", to_host=name)
        self._fleet.wake()
        return HostRecord(host=name) if found is None else found

    def _learn(self, name: str, record: HostRecord | None) -> None:
        known = self.known.get(name)
        if record is not None and (known is None or record.rev >= known.rev):
            self.known[name] = record
