"""Where each epoch of a tenant came from: one record an epoch, written once and kept.

``owner.json`` names only the newest epoch and its parent. To go back in time one must know which
epoch was the tenant's at that time, and up to which position its child took it over: what a zombie
uploaded after that is in the parent's prefix too, and was never part of the tenant's history.
"""

from __future__ import annotations

from pydantic import Field

from backup import keys, records
from backup.ownership import Durability, Origin, OwnerRecord, OwnerState
from backup.records import Record
from backup.store import ObjectStore

_HAS_STATE = frozenset({OwnerState.ACTIVE, OwnerState.DRAINING, OwnerState.RELEASED})


class EpochRecord(Record):
    """``lineage/<epoch>.json``, written before the epoch becomes ``active``.

    ``parent`` is the epoch that it was restored from, up to ``parent_txid`` (of the parent's
    prefix); None and 0 for the first one. ``began_at`` is in unix seconds, by the host's clock.
    An epoch whose claim failed after this was written is nobody's parent. ``origin`` is the past
    state that it was made of, None where it goes on from its parent's end. ``purged_at`` is when
    its data was removed, in unix seconds; its record stays. ``app`` and
    ``durability`` are what it began with, so that they are known if the wanted state is lost.
    """

    tenant: str
    lineage: str
    epoch: int = Field(ge=1)
    parent: int | None = None
    parent_txid: int = 0
    host: str
    began_at: float
    origin: Origin | None = None
    purged_at: float | None = None
    app: str = ""
    durability: Durability = "async"


def newest_epoch(owner: OwnerRecord) -> int | None:
    """The epoch that holds the newest state of a tenant; None for one that never was active."""
    if owner.state in _HAS_STATE:
        return owner.epoch
    return owner.parent.epoch if owner.parent is not None else None


def write(store: ObjectStore, record: EpochRecord) -> None:
    """Write the record of a new epoch.

    Raises:
        Precondition: the epoch has one already.
        StoreError: the write was not settled.
    """
    records.swap(store, keys.lineage(record.tenant, record.epoch), record, None)


def read(store: ObjectStore, owner: OwnerRecord) -> list[EpochRecord]:
    """The epochs of a tenant's history, newest first, as far back as they are recorded.

    Raises:
        StoreError: one could not be read.
    """
    found: list[EpochRecord] = []
    epoch = newest_epoch(owner)
    while epoch is not None:
        record = records.read(store, keys.lineage(owner.tenant, epoch), EpochRecord)
        if record is None:
            break
        found.append(record.record)
        epoch = record.record.parent
    return found


def note_purged(store: ObjectStore, tenant: str, epoch: int, at: float) -> None:
    """Note that an epoch's data is gone. One that never became active has no record to note it in.

    Raises:
        StoreError: the write was not settled; it can be repeated.
    """
    key = keys.lineage(tenant, epoch)
    found = records.read(store, key, EpochRecord)
    if found is None or found.record.purged_at is not None:
        return
    noted = found.record.model_copy(update=found.record.succeeded_by(purged_at=at))
    records.swap(store, key, noted, found.etag)
