"""All of a deleted tenant removed: judged by who may still write or read, then carried out.

What is removed from the bucket, and in which order, is `restore.erase`'s; here are the hosts, the
storage keys, and what people are told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import httpx
from pydantic import ValidationError

from backup import keys, records
from backup.lease import LeaseRecord, LeaseState
from backup.ownership import Deletion, OwnerRecord, TenantRecord
from backup.receipts import HostRemains, Receipt
from backup.store import ObjectStore
from fleet.coordinator.asking import Asked
from fleet.coordinator.picture import SeenHost
from fleet.issuer import CredentialIssuer, SharedIssuer
from restore import erase
from restore.erase import Verdict

if TYPE_CHECKING:
    from fleet.coordinator.account import Tenant
    from fleet.coordinator.coordinator import Coordinator

REMAINS_TIMEOUT = 60.0
"""Seconds for a host to remove what nodes have left there."""


class Purging:
    """Removes tenants for `Deletions`."""

    def __init__(
        self,
        fleet: Coordinator,
        store: ObjectStore,
        issuer: CredentialIssuer,
        http: httpx.AsyncClient,
        token: str,
        clock: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._issuer = issuer
        self._http = http
        self._headers = {"authorization": f"Bearer {token}"}
        self._clock = clock

    async def revoke(self, tenant: Tenant) -> str:
        """Make the storage keys of its sidecar void; what became of them, in words. Raises
        `StoreError`."""
        await asyncio.to_thread(self._issuer.revoke, tenant.wanted.tenant)
        tenant.credentials = None
        shared = isinstance(self._issuer, SharedIssuer)
        return "shared with other tenants: still good" if shared else "revoked"

    async def judge(self, owner: OwnerRecord, deletion: Deletion, buried_at: float) -> Verdict:
        """Whether the data of a tenant that is buried may go. Raises `StoreError`."""
        # This machine's clock may be wrong, in which case it is a little late or asks in vain.
        early = time.time() < deletion.purge_after - 60.0
        first = erase.judge(owner, deletion, time.time() if early else deletion.purge_after, (), ())
        if not first.goes:
            return first
        now, names = await asyncio.gather(
            asyncio.to_thread(erase.now_of, self._store),
            asyncio.to_thread(self._hosts),
        )
        seen = self._clock()
        hosts = {name: host.seen(seen) for name, host in self._fleet.observer.hosts.items()}
        writing = writers(names, hosts, owner.tenant, buried_at)
        return erase.judge(owner, deletion, now, writing, self._readers(owner.tenant))

    def _readers(self, name: str) -> list[str]:
        found = []
        for view in self._fleet.restores.running():
            if name in (view.tenant, view.source):
                found.append(f"{view.tenant} is being restored or forked from it")
        for other, tenant in self._fleet.tenants.items():
            owner = tenant.owner.record if tenant.owner else None
            origin = tenant.wanted.restore
            taken_up = owner is not None and origin is not None and owner.restored >= origin.number
            if taken_up and owner is not None and owner.state != "restoring":
                continue
            if other != name and origin is not None and origin.tenant == name:
                found.append(f"{other} is being forked from it")
        if self._fleet.drills.running == name:
            found.append("a drill restores it")
        return found

    def _hosts(self) -> list[str]:
        """All hosts that the bucket has a lease of. Raises `StoreError`."""
        return [
            name
            for name in self._store.prefixes(keys.HOSTS)
            if name in self._fleet.observer.hosts
            or records.read(self._store, keys.lease(name), LeaseRecord) is not None
        ]

    async def purge(
        self, tenant: Tenant, deletion: Deletion, progress: Callable[[Receipt], None]
    ) -> TenantRecord | None:
        """Remove all of a tenant that is marked, or go on with that; the catalog's entry of the
        name that is free then, None where somebody else has it.

        Raises `StoreError`.
        """
        name = tenant.wanted.tenant
        keys_are = await self.revoke(tenant)
        versions = await asyncio.to_thread(self._store.versioning)
        receipt = await asyncio.to_thread(
            erase.empty,
            self._store,
            name,
            deletion,
            keys_are=keys_are,
            versions=versions,
            progress=progress,
        )
        remains = receipt.hosts or await self._remove_remains(name, receipt.epoch)
        receipt = await asyncio.to_thread(erase.finish, self._store, deletion, receipt, remains)
        gone = await asyncio.to_thread(records.read, self._store, keys.wanted(name), TenantRecord)
        if gone is None or not gone.record.gone:
            return None
        self._tell(receipt)
        return gone.record

    def _tell(self, receipt: Receipt) -> None:
        name = receipt.tenant
        total = receipt.total
        self._fleet.timeline.note(
            "tenant_purged",
            f"{name} was removed: {total.objects} objects, {total.bytes:,} bytes; its receipt is "
            f"{receipt.content[:12]}",
            tenant=name,
            number=receipt.number,
            objects=total.objects,
            bytes=total.bytes,
            content=receipt.content,
        )
        self._fleet.history.note(
            "purge",
            tenant=name,
            id=f"purge/{name}/{receipt.number}",
            asked_by=Asked(why="its grace period is over"),
            began_at=receipt.began_at,
            epoch_before=receipt.epoch or None,
            data={"objects": total.objects, "bytes": total.bytes, "receipt": receipt.content},
        )

    async def _remove_remains(self, name: str, epoch: int) -> dict[str, HostRemains]:
        """Have every host remove what nodes of the tenant have left there. One that does not answer
        does so by itself when it is back."""
        living = {
            host: watch.address
            for host, watch in self._fleet.observer.hosts.items()
            if watch.lease.record.state is LeaseState.LIVE
        }

        async def one(address: str) -> HostRemains:
            try:
                answer = await self._http.delete(
                    f"{address}/api/remains/{name}",
                    params={"epoch": epoch},
                    headers=self._headers,
                    timeout=REMAINS_TIMEOUT,
                )
                answer.raise_for_status()
                return HostRemains.model_validate_json(answer.content)
            except (httpx.HTTPError, ValidationError) as error:
                return HostRemains(problem=f"not asked: {type(error).__name__}: {error}"[:300])

        found = await asyncio.gather(*(one(address) for address in living.values()))
        removed = dict(zip(living, found, strict=True))
        for host in self._fleet.observer.hosts:
            removed.setdefault(host, HostRemains(problem="its lease has ended"))
        return {
            host: one
            for host, one in removed.items()
            if one.folders or one.problem  # most have nothing to tell
        }

    async def sweep(self, name: str, number: int) -> None:
        """Look again whether anything has come into the prefix of a tenant that is gone. Raises
        `StoreError`."""
        late = await asyncio.to_thread(erase.sweep, self._store, name, number)
        if late is not None:
            self._fleet.timeline.note(
                "late_arrivals",
                f"something came into the prefix of {name} after it was gone, and was removed: "
                f"{late.late.objects} objects in all",
                tenant=name,
            )


def writers(
    names: Iterable[str], hosts: Mapping[str, SeenHost], tenant: str, buried_at: float
) -> list[str]:
    """Why hosts may still write to a tenant's prefix, by name.

    A lease that is fenced was unchanged for longer than its nodes may live. A living host must say
    itself, asked after the tenant was buried, that it has no node of it: one that was superseded
    while it restored is in no record.

    Args:
        names: of all hosts that the bucket has a lease of.
        buried_at: when the tenant was known to be buried, on the clock of ``SeenHost.nodes_at``.
    """
    found = []
    for name in sorted(names):
        host = hosts.get(name)
        if host is None:
            found.append(f"{name} is not known yet")
        elif host.lease.record.state is LeaseState.FENCED:
            continue
        elif host.nodes is None:
            found.append(f"{name} does not answer, and its lease has not ended")
        elif host.nodes_at <= buried_at:
            found.append(f"{name} was not asked yet")
        elif any(node.tenant == tenant and not node.over for node in host.nodes):
            found.append(f"{name} still has a node of it")
    return found
