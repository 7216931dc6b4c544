"""Keeps the copy of the catalog in step with the tenants' own records."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from backup import keys, records
from backup.catalog import CatalogRecord
from backup.errors import StoreError
from backup.ownership import TenantRecord
from backup.store import ObjectStore

WRITE_EVERY = 5.0
"""Seconds between two writes of the copy."""


class CatalogCopy:
    """Writes all tenants' wanted states into one object whenever one of them has changed."""

    def __init__(self, store: ObjectStore, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            store: the place of the fleet of coordinators.
            clock: seconds, monotonic.
        """
        self._store = store
        self._clock = clock
        self._revisions: dict[str, str] | None = None
        self._at = -WRITE_EVERY

    async def keep(self, tenants: Mapping[str, TenantRecord]) -> None:
        """Write them, if anything has changed since and it was not just done. A store that does
        not answer is asked again the next time."""
        revisions = {name: one.nonce for name, one in tenants.items()}
        if revisions == self._revisions or self._clock() - self._at < WRITE_EVERY:
            return
        with contextlib.suppress(StoreError):
            await asyncio.to_thread(self._write, dict(tenants))
            self._revisions, self._at = revisions, self._clock()

    def _write(self, tenants: dict[str, TenantRecord]) -> None:
        def merged(now: CatalogRecord | None) -> CatalogRecord | None:
            if now is None:
                return CatalogRecord(tenants=tenants)
            # One whose record is lost is not in what was read: its copy is what must stay. So must
            # one whose record has become older.
            kept = dict(now.tenants)
            for name, one in tenants.items():
                if name not in kept or kept[name].rev <= one.rev:
                    kept[name] = one
            if {name: one.nonce for name, one in kept.items()} == {
                name: one.nonce for name, one in now.tenants.items()
            }:
                return None
            return now.model_copy(update=now.succeeded_by(tenants=kept))

        records.change(self._store, keys.CATALOG, CatalogRecord, merged)
