"""How far each tenant's replica is, by the bucket alone: a check of what nodes say of themselves.

A node's lag comes from its own proofs. This asks nobody: it lists what is there, and holds it
against what hosts have written into their leases and, where there is a coordinator to ask, against
what it was told. What was called replicated and is not there is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pydantic import Field

from backup import keys, records
from backup.lease import LeaseRecord
from backup.lineage import newest_epoch
from backup.ownership import OwnerRecord, TenantRecord
from backup.store import ObjectStore
from fleet.views import LagView, View
from restore.plan import LEVELS, parse, plan

AT_ONCE = 8
"""Tenants that are looked at at the same time."""


class BucketLagView(View):
    """A tenant's replica as the bucket has it. `finding` says what is not as it must be; empty
    where nothing is wrong."""

    tenant: str
    state: str = Field(description="as `owner.json` has it; `pending` without one")
    epoch: int = Field(description="the one that holds the newest state, 0 for none")
    txid: int = Field(description="the newest position that the bucket leads to, without a gap")
    files: int
    bytes: int
    newest_at: float | None = Field(description="when the newest file was uploaded, UNIX seconds")
    age_seconds: float | None = Field(description="since then, by the store's clock")
    proven_txid: int | None = Field(description="what hosts say in their leases that is there")
    said_txid: int | None = Field(
        default=None, description="the log's own newest position, as told"
    )
    behind_txids: int | None = Field(default=None, description="`said_txid` less `txid`")
    finding: str = ""


def look(
    store: ObjectStore,
    told: Iterable[LagView] = (),
    tenants: Iterable[str] | None = None,
    progress: Callable[[str], None] = lambda tenant: None,
) -> list[BucketLagView]:
    """Look at every tenant's replica, or at those of some, by name.

    Args:
        told: what the coordinator was told, asked for *before* this: a replica only grows.

    Raises:
        StoreError: the bucket could not be read.
    """
    said = {view.tenant: view for view in told}
    proven = _proven(store)
    now = store.date().timestamp()
    names = sorted(tenants if tenants is not None else store.prefixes(keys.TENANTS))

    def one(name: str) -> BucketLagView | None:
        progress(name)
        return look_at(store, name, proven, said.get(name), now)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [view for view in pool.map(one, names) if view is not None]


def look_at(
    store: ObjectStore,
    name: str,
    proven: Mapping[tuple[str, int], int],
    told: LagView | None,
    now: float,
) -> BucketLagView | None:
    """One tenant's replica; None for a name whose tenant is gone.

    Args:
        proven: the highest position by tenant and epoch that any lease names.
        now: unix seconds by the store's clock.

    Raises:
        StoreError: the bucket could not be read.
    """
    wanted = records.read(store, keys.wanted(name), TenantRecord)
    if wanted is None or wanted.record.gone:
        return None
    found = records.read(store, keys.owner(name), OwnerRecord)
    owner = found.record if found is not None else None
    epoch = newest_epoch(owner) if owner is not None else None
    if owner is None or epoch is None:
        return _nothing(name, owner)
    claimed = max(proven.get((name, epoch), 0), owner.floor_txid)
    if told is not None and told.epoch == epoch:
        claimed = max(claimed, told.replicated_txid or 0)
    view = _listed(store, name, epoch, now)
    if view.finding or view.txid < claimed:
        # Files move upwards while they are listed, so what is missing is looked for again.
        view = _listed(store, name, epoch, now)
    if not view.finding and view.txid < claimed:
        view.finding = f"{claimed} was said to be in the bucket, which ends at {view.txid}"
    view.state = owner.state.value
    view.proven_txid = proven.get((name, epoch))
    if told is not None and told.epoch == epoch and told.txid:
        view.said_txid = told.txid
        view.behind_txids = max(0, told.txid - view.txid)
    return view


def _nothing(name: str, owner: OwnerRecord | None) -> BucketLagView:
    return BucketLagView(
        tenant=name,
        state=owner.state.value if owner is not None else "pending",
        epoch=0,
        txid=0,
        files=0,
        bytes=0,
        newest_at=None,
        age_seconds=None,
        proven_txid=None,
    )


def _listed(store: ObjectStore, name: str, epoch: int, now: float) -> BucketLagView:
    prefix, entries = keys.epoch(name, epoch), []
    for level in LEVELS:
        entries += list(store.list(f"{prefix}{level:04d}/"))
    found = plan(parse(prefix, entries))
    newest = max((entry.modified.timestamp() for entry in entries), default=None)
    return BucketLagView(
        tenant=name,
        state="",
        epoch=epoch,
        txid=found.reachable,
        files=len(found.files),
        bytes=found.bytes,
        newest_at=newest,
        age_seconds=max(0.0, now - newest) if newest is not None else None,
        proven_txid=None,
        finding=found.missing(0) or "",
    )


def _proven(store: ObjectStore) -> dict[tuple[str, int], int]:
    best: dict[tuple[str, int], int] = {}
    for host in store.prefixes(keys.HOSTS):
        lease = records.read(store, keys.lease(host), LeaseRecord)
        for tenant, text in (lease.record.proven if lease is not None else {}).items():
            epoch, _, txid = text.partition(":")
            if epoch.isdigit() and txid.isdigit():
                place = (tenant, int(epoch))
                best[place] = max(best.get(place, 0), int(txid))
    return best
