"""Removing all of a deleted tenant from the bucket: judged, marked, removed, looked at again.

The mark is in ``owner.json``, from which the tenant cannot be brought back any more. Whatever dies
in between, whoever comes next goes on from what the bucket holds. Two records of the tenant stay:
``owner.json``, so that its epochs are never used again, and a ``tenant.json`` that says that it is
gone, so that it can be written over by compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import islice

from backup import burial, keys, receipts, records
from backup.errors import StoreError
from backup.ownership import Deletion, NotAllowed, OwnerRecord, TenantRecord
from backup.receipts import HostRemains, Receipt
from backup.store import Entry, ObjectStore

BATCH = 500
"""Objects that are removed between two looks at the mark."""


class NotErased(StoreError):
    """The tenant is not, or not any more, one whose data is to be removed; nothing more was."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a buried tenant's data may go, and why not."""

    goes: bool
    reason: str = ""
    due: bool = True
    """Whether its grace period is over, so that ``reason`` is something to look after."""


def judge(
    owner: OwnerRecord,
    deletion: Deletion,
    now: float,
    writers: Sequence[str],
    readers: Sequence[str],
) -> Verdict:
    """Say whether the data of a buried tenant may go.

    Args:
        now: unix seconds by the store's clock.
        writers: why somebody may still write to its prefix, each a sentence.
        readers: why somebody may be reading it, each a sentence.
    """
    if not burial.is_buried(owner):
        return Verdict(False, "it is not stopped yet", due=False)
    if owner.tomb is not None and owner.tomb.erasing:
        return Verdict(True)
    if now < deletion.purge_after:
        days = (deletion.purge_after - now) / 86_400
        return Verdict(False, f"it can be brought back for {days:.1f} more days", due=False)
    if owner.hold:
        return Verdict(False, "it is on hold")
    for reason in (*writers, *readers):
        return Verdict(False, reason)
    return Verdict(True)


def now_of(store: ObjectStore) -> float:
    """The store's clock, in unix seconds. Raises `StoreError`."""
    return store.date().astimezone(UTC).timestamp()


def begin(store: ObjectStore, tenant: str, number: int) -> OwnerRecord:
    """Mark that all of a buried tenant's data is removed: from here on there is no way back.

    Raises:
        NotAllowed: it is on hold, or was brought back.
        StoreError: the write was not settled.
    """

    def marked(now: OwnerRecord | None) -> OwnerRecord | None:
        if now is None:
            raise NotAllowed(f"{tenant} has no ownership record")
        after = burial.begin_erasing(now, number)
        return None if after is now else after

    record = records.change(store, keys.owner(tenant), OwnerRecord, marked)
    assert record is not None
    return record


def empty(
    store: ObjectStore,
    tenant: str,
    deletion: Deletion,
    *,
    keys_are: str,
    versions: str,
    progress: Callable[[Receipt], None] = lambda receipt: None,
) -> Receipt:
    """Remove everything of a tenant that is marked from the bucket. To be repeated after whatever
    stopped it.

    Args:
        keys_are: what became of the storage keys of its sidecar, which must be no good by now.
        versions: whether the bucket keeps what is removed.
        progress: told of the receipt after each batch.

    Raises:
        NotErased: it is not marked for this deletion.
        StoreError: the store did not do it.
    """
    owner = _marked(store, tenant, deletion)
    receipt = _receipt(store, owner, deletion, keys_are, versions)
    while True:
        owner = _marked(store, tenant, deletion)
        if owner.tomb is not None and owner.tomb.erased:
            return receipt  # somebody else has ended it
        batch = list(islice(_removable(store, owner), BATCH))
        if not batch:
            # The list began after the last removal, and showed nothing.
            return receipt
        covering = receipt.covering(batch)
        if covering is not None:
            receipt = _write(store, covering)
        for entry in batch:
            store.delete(entry.key)
        progress(receipt)


def _removable(store: ObjectStore, owner: OwnerRecord) -> Iterator[Entry]:
    """What there is of a tenant, but the two records that stay, and what says by its name that it
    is of a later epoch.

    Whoever is created under the name begins with an epoch above the one in the record. So nothing
    of it is ever removed, however long whoever reads this list was stopped for.
    """
    stay = (keys.wanted(owner.tenant), keys.owner(owner.tenant))
    for entry in store.list(keys.everything(owner.tenant)):
        epoch = receipts.kind_of(owner.tenant, entry.key)[1]
        if entry.key not in stay and (epoch is None or epoch <= owner.epoch):
            yield entry


def finish(
    store: ObjectStore, deletion: Deletion, receipt: Receipt, hosts: Mapping[str, HostRemains]
) -> Receipt:
    """Seal the receipt of a tenant of which the bucket holds nothing more, and free its name. To be
    repeated, after `empty`, after whatever stopped it.

    Raises:
        NotErased: it is not marked for this deletion, or something of it is left.
        StoreError: the store did not do it.
    """
    tenant = receipt.tenant
    owner = _marked(store, tenant, deletion)
    if owner.tomb is not None and not owner.tomb.erased:
        for left in _left(store, tenant):
            raise NotErased(f"{left.key} is still there")
        if receipt.purged_at is None or not receipt.intact:
            at = now_of(store) if receipt.purged_at is None else receipt.purged_at
            told = {**receipt.hosts, **hosts}
            changes = {"purged_at": at, "hosts": told, "batch": ()}
            receipt = _write(store, receipt.model_copy(update=changes).sealed())
        records.change(
            store, keys.owner(tenant), OwnerRecord, lambda now: _ended(now, tenant, deletion)
        )
    else:
        # Whoever has ended it knows more than what was read before.
        ended = receipts.read(store, tenant, deletion.number)
        if ended is None or ended.purged_at is None:
            raise NotErased(f"{tenant} is gone, and its receipt is not there")
        receipt = ended
    # The catalog's entry goes last: whoever goes on after a crash finds the tenant by it.
    records.change(
        store, keys.wanted(tenant), TenantRecord, lambda now: _freed(now, receipt, deletion)
    )
    return receipt


def _left(store: ObjectStore, tenant: str) -> Iterator[Entry]:
    stay = (keys.wanted(tenant), keys.owner(tenant))
    return (entry for entry in store.list(keys.everything(tenant)) if entry.key not in stay)


def _ended(now: OwnerRecord | None, tenant: str, deletion: Deletion) -> OwnerRecord | None:
    if now is None:
        raise NotErased(f"the ownership record of {tenant} is gone")
    if now.deletion == deletion.number and now.tomb is not None and now.tomb.erased:
        return None
    try:
        return burial.end_erasing(now, deletion.number)
    except NotAllowed as error:
        raise NotErased(str(error)) from error


def _freed(now: TenantRecord | None, receipt: Receipt, deletion: Deletion) -> TenantRecord | None:
    if now is None or now.gone:
        return None
    if now.deletion is None or now.deletion.number != deletion.number:
        raise NotErased(f"{receipt.tenant} is another tenant by now")
    # Its environment may hold secrets: nothing of it stays.
    gone = TenantRecord(tenant=now.tenant, app="", created_at=now.created_at)
    purged = now.deletion.model_copy(update={"purged_at": receipt.purged_at})
    return gone.model_copy(update=now.succeeded_by(deletion=purged))


def _marked(store: ObjectStore, tenant: str, deletion: Deletion) -> OwnerRecord:
    """The tenant's record, if it is marked. A record that was put back by hand must stop it."""
    found = records.read(store, keys.owner(tenant), OwnerRecord)
    owner = found.record if found is not None else None
    if (
        owner is None
        or owner.tomb is None
        or not owner.tomb.erasing
        or owner.deletion != deletion.number
    ):
        raise NotErased(f"{tenant} is not marked to be removed by deletion {deletion.number}")
    return owner


def _receipt(
    store: ObjectStore, owner: OwnerRecord, deletion: Deletion, keys_are: str, versions: str
) -> Receipt:
    def begun(now: Receipt | None) -> Receipt | None:
        if now is not None:
            return None
        return Receipt(
            tenant=owner.tenant,
            number=deletion.number,
            lineage=owner.lineage,
            epoch=owner.epoch,
            asked_at=deletion.asked_at,
            purge_after=deletion.purge_after,
            by=deletion.by,
            why=deletion.why,
            began_at=now_of(store),
            keys=keys_are,
            versions=versions,
        )

    key = keys.receipt(owner.tenant, deletion.number)
    receipt = records.change(store, key, Receipt, begun)
    assert receipt is not None
    return receipt


def _write(store: ObjectStore, receipt: Receipt) -> Receipt:
    """Write the next state of a receipt. Somebody else's in between stops this one: of two that
    remove, one counts."""
    key = keys.receipt(receipt.tenant, receipt.number)
    found = records.read(store, key, Receipt)
    if found is None or found.record.rev != receipt.rev - 1:
        raise NotErased(f"somebody else is removing {receipt.tenant}")
    return records.swap(store, key, receipt, found.etag).record


def sweep(store: ObjectStore, tenant: str, number: int) -> Receipt | None:
    """Look again whether anything has come into the prefix of a tenant that is gone: a node that
    was paused for hours may still send what it had begun to. It is removed, and told of in the
    receipt; None where there was nothing.

    Raises `StoreError`.
    """
    owner = records.read(store, keys.owner(tenant), OwnerRecord)
    wanted = records.read(store, keys.wanted(tenant), TenantRecord)
    receipt = receipts.read(store, tenant, number)
    if (
        receipt is None
        or owner is None
        or owner.record.deletion != number
        or owner.record.tomb is None
        or not owner.record.tomb.erased
        or wanted is None
        or not wanted.record.gone
    ):
        return None
    batch = list(islice(_removable(store, owner.record), BATCH))
    late = receipt.late
    # Only what says by its name that it is of the past: somebody may be created here meanwhile.
    old = [one for one in batch if receipts.kind_of(tenant, one.key)[1] is not None]
    for entry in old:
        late = late.and_(entry.size)
    if not old:
        return None
    receipt = _write(store, receipt.model_copy(update={"late": late}).sealed())
    for entry in old:
        store.delete(entry.key)
    return receipt
