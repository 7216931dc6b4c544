"""What the coordinator sees: leases and records from the bucket, nodes from the agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import httpx
from pydantic import ValidationError

from backup import keys, records
from backup.errors import StoreError
from backup.hosts import HostRecord
from backup.lease import LeaseRecord, LeaseState, Watch
from backup.ownership import OwnerRecord, TenantRecord
from backup.records import BadRecord, Versioned
from backup.store import ObjectStore
from fleet.agent.api import NodeList
from fleet.coordinator.picture import SeenHost, SeenNode
from node.order import ENDED, NodeStatus

AGENT_WAIT = 1.0
"""Seconds for which an agent holds a question about its nodes open while nothing changes."""
SILENT_AFTER = 3.0
"""Seconds after the last answer from which an agent counts as not answering."""


@dataclass(slots=True)
class HostWatch:
    """One host as this coordinator has watched it."""

    lease: Versioned[LeaseRecord]
    watch: Watch
    changed_at: float
    lease_at: float
    nodes: list[NodeStatus] = field(default_factory=list)
    nodes_incarnation: str = ""
    nodes_at: float = -1.0
    answered_at: float = -1.0
    version: int = -1
    poller: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return self.lease.record.load.address

    def answers(self, now: float) -> bool:
        """Whether what its agent says of its nodes is what is."""
        return (
            self.answered_at >= 0
            and now - self.answered_at < SILENT_AFTER
            and self.nodes_incarnation == self.lease.record.incarnation
        )

    def seen(self, now: float, wanted: HostRecord | None = None) -> SeenHost:
        """This host in a picture for `decide`; ``wanted`` is what operators want of it."""
        answers = self.answers(now)
        nodes = tuple(
            SeenNode(node.tenant, node.incarnation, node.state, node.state in ENDED, node.release)
            for node in self.nodes
        )
        return SeenHost(
            lease=self.lease,
            unchanged_for=self.watch.unchanged_for(now),
            nodes=nodes if answers else None,
            nodes_at=self.nodes_at,
            lease_at=self.lease_at,
            cordoned=wanted is not None and wanted.cordoned,
            draining=wanted is not None and wanted.draining,
        )


class Observer:
    """Keeps `HostWatch`es up to date and reads records when asked."""

    def __init__(
        self,
        store: ObjectStore,
        http: httpx.AsyncClient,
        token: str,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[str], None] = lambda host: None,
        on_sought: Callable[[str], None] = lambda tenant: None,
    ):
        """
        Args:
            clock: seconds, monotonic; only ever compared with itself.
            on_change: told of a host when its agent's nodes have changed.
            on_sought: told of a tenant when it sleeps and an agent holds requests for it.
        """
        self._store = store
        self._http = http
        self._headers = {"authorization": f"Bearer {token}"}
        self._clock = clock
        self._on_change = on_change
        self._on_sought = on_sought
        self.hosts: dict[str, HostWatch] = {}
        self.unreadable: dict[str, str] = {}
        """Tenants whose wanted state does not read as one, and why."""

    def quiet_host(self, tenant: str) -> HostWatch | None:
        """The fit host to try a tenant's backup on: rather where the tenant is not, as its host's
        loss would ask for, and where little runs. None if no host is fit."""
        now = self._clock()
        return min(
            (host for host in self.hosts.values() if host.seen(now).fit),
            key=lambda host: (any(n.tenant == tenant for n in host.nodes), len(host.nodes)),
            default=None,
        )

    async def look_at_leases(self) -> list[str]:
        """Read every host's lease; the names of hosts that were not known before.

        A read that fails leaves what was seen before as it is: silence of the store says nothing
        about a host.

        Raises:
            StoreError: the list of hosts could not be read.
        """
        names = await asyncio.to_thread(lambda: list(self._store.prefixes(keys.HOSTS)))
        asked = self._clock()
        found = await asyncio.gather(*(self._read_lease(name) for name in names))
        new = []
        for name, lease in zip(names, found, strict=True):
            if lease is None:
                continue
            now = self._clock()
            known = self.hosts.get(name)
            if known is None:
                self.hosts[name] = HostWatch(lease, Watch(lease.etag, now), time.time(), asked)
                new.append(name)
            else:
                self._note(known, lease, now)
                known.lease_at = asked
            self._keep_polling(name)
        return new

    def _note(self, known: HostWatch, lease: Versioned[LeaseRecord], now: float) -> None:
        if lease.etag != known.watch.etag:
            known.changed_at = time.time()
        known.watch.seen(lease.etag, now)
        known.lease = lease

    def wrote_lease(self, name: str, lease: Versioned[LeaseRecord]) -> None:
        """Note a lease that this coordinator has written itself."""
        self._note(self.hosts[name], lease, self._clock())

    async def _read_lease(self, name: str) -> Versioned[LeaseRecord] | None:
        try:
            return await asyncio.to_thread(records.read, self._store, keys.lease(name), LeaseRecord)
        except StoreError:
            return None

    async def read_owner(self, tenant: str) -> tuple[Versioned[OwnerRecord] | None, float]:
        """The tenant's ownership record, and when it had been read. Raises `StoreError`."""
        record = await asyncio.to_thread(records.read, self._store, keys.owner(tenant), OwnerRecord)
        return record, self._clock()

    async def read_catalog(self, without: Collection[str]) -> dict[str, TenantRecord]:
        """Every tenant's wanted state, but that of those ``without`` which it is asked for. One
        that does not read as a record is left out, and in `unreadable`. Raises `StoreError`."""
        listed = await asyncio.to_thread(lambda: list(self._store.prefixes(keys.TENANTS)))
        names = [name for name in listed if name not in without]
        found = await asyncio.gather(
            *(asyncio.to_thread(self._read_wanted, name) for name in names)
        )
        return {
            name: record.record
            for name, record in zip(names, found, strict=True)
            if record is not None
        }

    def _read_wanted(self, name: str) -> Versioned[TenantRecord] | None:
        try:
            found = records.read(self._store, keys.wanted(name), TenantRecord)
        except BadRecord as error:
            # The others must not wait until somebody has mended it.
            self.unreadable[name] = str(error)
            return None
        self.unreadable.pop(name, None)
        return found

    def _keep_polling(self, name: str) -> None:
        known = self.hosts[name]
        living = known.lease.record.state is LeaseState.LIVE
        if living and (known.poller is None or known.poller.done()):
            known.poller = asyncio.create_task(self._poll(name))

    async def _poll(self, name: str) -> None:
        """Follow one agent's nodes for as long as its lease lives."""
        known = self.hosts[name]
        while known.lease.record.state is LeaseState.LIVE:
            asked = self._clock()
            after = known.version
            try:
                answer = await self._http.get(
                    f"{known.address}/api/nodes",
                    params={"after": after, "wait": AGENT_WAIT},
                    headers=self._headers,
                    timeout=AGENT_WAIT + 1.5,
                )
                answer.raise_for_status()
                listed = NodeList.model_validate_json(answer.content)
            except (httpx.HTTPError, ValidationError):
                known.version = -1
                await asyncio.sleep(0.25)
                continue
            known.nodes = listed.nodes
            known.nodes_incarnation = listed.incarnation
            # When it was asked for, though the answer is newer: the careful side.
            known.nodes_at = asked
            known.answered_at = self._clock()
            known.version = listed.version
            self._on_change(name)
            for tenant in listed.sought:
                self._on_sought(tenant)

    async def close(self) -> None:
        pollers = [host.poller for host in self.hosts.values() if host.poller is not None]
        for poller in pollers:
            poller.cancel()
        await asyncio.gather(*pollers, return_exceptions=True)
