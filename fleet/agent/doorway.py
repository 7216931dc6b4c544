"""A host's way in to every tenant of the fleet: its own, and by way of their hosts the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from backup import keys, records
from backup.errors import StoreError
from backup.lease import LeaseRecord, LeaseState
from backup.limits import RequestLimits
from backup.ownership import OwnerRecord, OwnerState, TenantRecord
from backup.store import ObjectStore
from fleet.agent.nodes import Nodes
from fleet.gateway.gate import Gate
from fleet.gateway.holding import Standing, Way
from fleet.proxy import PASSED_HEADER
from fleet.settings import GatewaySettings

FRESH = 30.0
"""Seconds for which what was read of a tenant is gone by, while its host answers."""
LOOK_EVERY = 0.5
"""Seconds between two looks at the records of a tenant for which requests are held."""
MOST_KNOWN = 10_000
"""Tenants of which something is remembered."""


class NoTenant(Exception):
    """There is no tenant of that name, or it is deleted."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the records said of a tenant. ``address`` is where its owner's agent answers."""

    at: float
    wanted: TenantRecord
    owner: OwnerRecord | None = None
    address: str = ""


class Doorway:
    """Lets requests in to tenants, wherever they run."""

    def __init__(
        self,
        store: ObjectStore,
        nodes: Nodes,
        host: str,
        token: str,
        settings: GatewaySettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._nodes = nodes
        self._host = host
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._elsewhere = (("authorization", f"Bearer {token}"), (PASSED_HEADER, "1"))
        self.gate = Gate(settings, self._standing, self._follow, clock)

    @property
    def sought(self) -> list[str]:
        """The tenants that sleep and for which requests are held here."""
        return sorted(
            name
            for name in self.gate.held
            if (known := self._known.get(name)) is not None and known.wanted.asleep
        )

    async def pass_on(self, request: Request, tenant: str, path: str) -> Response:
        """Answer a request for a tenant. Raises `NoTenant`, `StoreError`."""
        limits = await self._limits(tenant)
        return await self.gate.pass_on(request, tenant, path, limits)

    async def close(self) -> None:
        for task in self._followed.values():
            task.cancel()
        await asyncio.gather(*self._followed.values(), return_exceptions=True)

    async def _limits(self, tenant: str) -> RequestLimits | None:
        known = self._known.get(tenant)
        if known is None or self._clock() - known.at > FRESH:
            try:
                known = await self._read(tenant)
            except StoreError:
                # One that runs here, or is known, is served without: that is what matters then.
                if known is None and self._local(tenant) is None:
                    raise
        return known.wanted.limits if known is not None else None

    async def _read(self, tenant: str) -> Known:
        """Read where a tenant runs. Raises `NoTenant`, `StoreError`."""
        found = await asyncio.to_thread(self._records, tenant)
        if found is None:
            self._known.pop(tenant, None)
            raise NoTenant(f"there is no tenant {tenant!r}")
        while len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[tenant] = found
        return found

    def _records(self, tenant: str) -> Known | None:
        wanted = records.read(self._store, keys.wanted(tenant), TenantRecord)
        if wanted is None or wanted.record.deletion is not None:
            return None
        owner = records.read(self._store, keys.owner(tenant), OwnerRecord)
        address = ""
        if owner is not None and owner.record.state is OwnerState.ACTIVE:
            lease = records.read(self._store, keys.lease(owner.record.host), LeaseRecord)
            mine = lease is not None and lease.record.incarnation == owner.record.owner.authority
            if lease is not None and mine and lease.record.state is LeaseState.LIVE:
                address = lease.record.load.address
        return Known(self._clock(), wanted.record, owner.record if owner else None, address)

    def _local(self, tenant: str) -> Way | None:
        node = self._nodes.live(tenant)
        if node is None or not node.status.serving:
            return None
        return Way(f"unix:{node.status.api_socket}", "", node.status.epoch, node.status.incarnation)

    def _standing(self, tenant: str) -> Standing:
        known = self._known.get(tenant)
        owner = known.owner if known is not None else None
        way = self._local(tenant)
        if way is not None:
            return Standing(way, max(way.epoch, owner.epoch if owner else 0), coming=True)
        epoch = owner.epoch if owner is not None else 0
        if owner is not None and owner.state is OwnerState.DAMAGED:
            return Standing(None, epoch, coming=False, why=f"{tenant} is damaged: {owner.reason}")
        if owner is None or known is None or not known.address or owner.host == self._host:
            return Standing(None, epoch, coming=True, why=f"{tenant} is being started or moved")
        way = Way(known.address, f"/{tenant}", epoch, owner.incarnation, self._elsewhere)
        return Standing(way, epoch, coming=True)

    def _follow(self, tenant: str) -> None:
        if tenant not in self._followed:
            task = self._followed[tenant] = asyncio.create_task(self._follow_while_held(tenant))
            task.add_done_callback(lambda _: self._followed.pop(tenant, None))

    async def _follow_while_held(self, tenant: str) -> None:
        told = False
        while tenant in self.gate.held:
            try:
                known = await self._read(tenant)
            except (NoTenant, StoreError):
                known = None
            if known is not None and known.wanted.asleep and not told:
                told = True
                self._nodes.note_change()  # the coordinator asks for changes, and wakes it
            self.gate.look()
            await asyncio.sleep(LOOK_EVERY)
