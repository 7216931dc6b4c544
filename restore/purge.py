"""Removing epochs: marked in ``owner.json`` first, then in small batches, then looked at again.

Whatever dies in between, the mark stays and whoever comes next goes on. Until it is gone, an epoch
that is marked is one that nobody restores from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from backup import keys, lineage, ownership, records
from backup.ownership import NotAllowed, OwnerRecord
from backup.store import ObjectStore
from restore import drill
from restore.retention import Verdict, judge_epochs

BATCH = 500
"""Objects that are removed between two looks at the mark."""


@dataclass(frozen=True, slots=True)
class Purged:
    """An epoch whose data is gone: objects and bytes that were removed now."""

    tenant: str
    epoch: int
    objects: int
    bytes: int


def look(
    store: ObjectStore, tenant: str, wanted: frozenset[int], now: float, period: float
) -> list[Verdict]:
    """What becomes of each epoch of a tenant that is in the bucket; see `judge_epochs`.

    Raises `StoreError`.
    """
    found = records.read(store, keys.owner(tenant), OwnerRecord)
    if found is None:
        return []
    owner = found.record
    names = store.prefixes(keys.epochs(tenant))
    present = {int(name) for name in names if name.isdigit()} | set(owner.purging)
    verdicts = judge_epochs(
        owner,
        lineage.read(store, owner),
        present,
        drill.read(store, tenant).drills,
        wanted,
        now,
        period,
    )
    # Some stores go on showing a folder of which everything was removed.
    return [
        one
        for one in verdicts
        if not one.goes or one.epoch in owner.purging or not _is_empty(store, tenant, one.epoch)
    ]


def _is_empty(store: ObjectStore, tenant: str, epoch: int) -> bool:
    return next(iter(store.list(keys.epoch(tenant, epoch))), None) is None


def mark(store: ObjectStore, tenant: str, epochs: Iterable[int]) -> OwnerRecord | None:
    """Mark epochs whose data shall be removed; None if the tenant needs one of them by now.

    Raises `StoreError`.
    """
    wanted = frozenset(epochs)

    def marked(now: OwnerRecord) -> OwnerRecord | None:
        if wanted <= set(now.purging):
            return None
        return ownership.mark_purging(now, wanted)

    try:
        return change(store, tenant, marked)
    except NotAllowed:
        return None


def purge(
    store: ObjectStore,
    tenant: str,
    epoch: int,
    now: float,
    progress: Callable[[int], None] = lambda objects: None,
) -> Purged | None:
    """Remove the data of an epoch that is marked; None where it is not. To be repeated after
    whatever stopped it. ``progress`` is told of the objects that were removed so far.

    Raises `StoreError`.
    """
    prefix, objects, size = keys.epoch(tenant, epoch), 0, 0
    while True:
        # Before each batch: a record that was put back by hand must stop it.
        found = records.read(store, keys.owner(tenant), OwnerRecord)
        if found is None or epoch not in found.record.purging:
            return None
        batch = list(islice(store.list(prefix), BATCH))
        if not batch:
            break
        for entry in batch:
            store.delete(entry.key)
            objects, size = objects + 1, size + entry.size
        progress(objects)
    # The list that ended the loop began after the last removal, and was empty.
    lineage.note_purged(store, tenant, epoch, now)
    change(store, tenant, lambda record: ownership.unmark_purged(record, epoch))
    return Purged(tenant, epoch, objects, size)


def change(
    store: ObjectStore, tenant: str, decide: Callable[[OwnerRecord], OwnerRecord | None]
) -> OwnerRecord:
    """Swap a tenant's ``owner.json`` for what ``decide`` makes of it as it is then; None leaves
    it.

    Raises:
        NotAllowed: from ``decide``, or there is no such record.
        StoreError: the store did not settle the write.
    """

    def decided(now: OwnerRecord | None) -> OwnerRecord | None:
        if now is None:
            raise NotAllowed(f"{tenant} was never started: it has no ownership record")
        return decide(now)

    record = records.change(store, keys.owner(tenant), OwnerRecord, decided)
    assert record is not None
    return record
