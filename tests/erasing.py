"""A deleted tenant beside others whose names begin like its own, in any store; and its removal."""

from __future__ import annotations

from backup import burial, keys, lineage, ownership, records
from backup.copies import Copy
from backup.lineage import EpochRecord
from backup.ownership import Deletion, Owner, OwnerRecord, TenantRecord
from backup.receipts import HostRemains, Receipt
from backup.store import ObjectStore
from restore import erase
from restore.drill import Drill, note

A = Owner(host="a", incarnation="l.n")
DELETION = Deletion(number=1, asked_at=10.0, purge_after=20.0, by="somebody", why="they left")
NEIGHBOURS = ("a-b", "ab", "b")
EPOCHS = (1, 2)
HOSTS = {"host-1": HostRemains(folders=2, bytes=7)}


def fill(store: ObjectStore, tenant: str) -> OwnerRecord:
    """Everything that a tenant can have, in two epochs."""
    record: OwnerRecord | None = None
    for epoch in EPOCHS:
        record = ownership.claim(record, tenant, A, authority_ended=True)
        record = ownership.activate(record, A, epoch)
        for number in range(3):
            store.put(f"{keys.epoch(tenant, epoch)}0000/{number}.ltx", b"x" * epoch)
        about = EpochRecord(
            tenant=tenant,
            lineage=record.lineage,
            epoch=epoch,
            parent=epoch - 1 or None,
            host="a",
            began_at=1.0,
        )
        lineage.write(store, about)
        copy = Copy(
            tenant=tenant,
            lineage=record.lineage,
            epoch=epoch,
            sequence=5,
            chain="",
            made_at=1.0,
            sha256="",
            size=1,
            packed=1,
        )
        store.put(copy.object, b"copy")
        store.put(keys.copy_record(tenant, copy.name), copy.model_dump_json().encode())
    assert record is not None
    note(store, Drill(tenant=tenant, began_at=1.0, ok=True, lineage=record.lineage, epoch=2))
    store.put(f"{keys.everything(tenant)}left-by-somebody/x", b"?")
    records.swap(store, keys.owner(tenant), record, None)
    env = {"SECRET": "of the tenant"}
    wanted = TenantRecord(tenant=tenant, app="app", env=env)
    records.swap(store, keys.wanted(tenant), wanted, None)
    return record


def bury(store: ObjectStore, tenant: str, deletion: Deletion = DELETION) -> None:
    """Set up its tombstone, and bury it."""
    records.change(
        store,
        keys.wanted(tenant),
        TenantRecord,
        lambda now: now and now.model_copy(update=now.succeeded_by(deletion=deletion)),
    )
    records.change(
        store,
        keys.owner(tenant),
        OwnerRecord,
        lambda now: burial.bury(now, tenant, deletion.number, authority_ended=True),
    )


def remove(store: ObjectStore, tenant: str = "a", deletion: Deletion = DELETION) -> Receipt:
    """All steps of a removal, from whatever the bucket holds."""
    found = records.read(store, keys.owner(tenant), OwnerRecord)
    assert found is not None
    assert found.record.tomb is not None
    if not found.record.tomb.erased:
        erase.begin(store, tenant, deletion.number)
    receipt = erase.empty(store, tenant, deletion, keys_are="revoked", versions="off")
    return erase.finish(store, deletion, receipt, HOSTS)


def contents(store: ObjectStore, tenant: str) -> dict[str, bytes]:
    """All that a tenant has in the bucket."""
    return {entry.key: store.get(entry.key).body for entry in store.list(keys.everything(tenant))}


def check_gone(store: ObjectStore, receipt: Receipt) -> None:
    """Nothing of tenant ``a`` is left but two records without anything of it, and the receipt tells
    of all that was there."""
    assert set(contents(store, "a")) == {keys.owner("a"), keys.wanted("a")}
    assert not any(b"of the tenant" in body for body in contents(store, "a").values())
    found = records.read(store, keys.owner("a"), OwnerRecord)
    wanted = records.read(store, keys.wanted("a"), TenantRecord)
    kept = records.read(store, keys.receipt("a", 1), Receipt)
    assert found is not None
    assert found.record.tomb is not None
    assert found.record.tomb.erased
    assert wanted is not None
    assert wanted.record.gone
    assert kept is not None
    assert kept.record == receipt
    assert receipt.intact
    assert {kind: (one.objects, one.bytes) for kind, one in receipt.kinds.items()} == {
        "replicas": (6, 9),
        "lineage": (2, receipt.kinds["lineage"].bytes),
        "copies": (4, receipt.kinds["copies"].bytes),
        "drills": (1, receipt.kinds["drills"].bytes),
        "other": (1, 1),
    }
    assert {epoch: (one.objects, one.bytes) for epoch, one in receipt.epochs.items()} == {
        1: (3, 3),
        2: (3, 6),
    }
    assert receipt.hosts == HOSTS
    assert (receipt.by, receipt.why, receipt.epoch) == ("somebody", "they left", 3)
