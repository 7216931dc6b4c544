"""A tenant's newest state, from the bucket alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from backup import keys, records
from backup.ownership import OwnerRecord, OwnerState
from backup.settings import StoreSettings
from backup.store import ObjectStore, S3Store
from restore import verify
from restore.errors import RestoreFailed
from restore.fetch import Fetched, fetch

T = TypeVar("T")

_HOLDS_DATA = frozenset({OwnerState.ACTIVE, OwnerState.DRAINING, OwnerState.RELEASED})


@dataclass(frozen=True, slots=True)
class Latest(Generic[T]):
    """What was restored: from which epoch, to where, and what the caller's check says of it."""

    owner: OwnerRecord
    epoch: int
    fetched: Fetched
    checked: T


async def restore_latest(
    settings: StoreSettings,
    tenant: str,
    into: Path,
    check: Callable[[Path], T],
    store: ObjectStore | None = None,
) -> Latest[T]:
    """Restore the newest state of ``tenant`` to ``into/log.db`` and verify it.

    Reads only; the tenant may be live meanwhile. ``check`` reads the log's own invariants and
    raises where they do not hold.

    Raises:
        RestoreFailed: the tenant has no state yet, or Litestream failed.
        Damaged: the bucket's state is not whole.
        StoreError: the store could not be read.
    """
    store = store or S3Store(settings)
    found = await asyncio.to_thread(records.read, store, keys.owner(tenant), OwnerRecord)
    if found is None:
        raise RestoreFailed(f"{tenant} was never started: it has no ownership record")
    owner = found.record
    if owner.state in _HOLDS_DATA:
        epoch = owner.epoch
    elif owner.parent is not None:
        epoch = owner.parent.epoch
    else:
        raise RestoreFailed(f"{tenant} never became active: there is nothing to restore")
    floor = owner.floor_txid if owner.state is not OwnerState.ACTIVE else 0
    fetched = await fetch(store, settings, tenant, epoch, floor, into / "log.db")
    await asyncio.to_thread(verify.integrity, fetched.database)
    return Latest(owner, epoch, fetched, await asyncio.to_thread(check, fetched.database))
