"""The quarantine of a host is looked through now and then: what is superseded goes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from backup import keys, lineage, receipts, records
from backup.errors import StoreError
from backup.ownership import OwnerRecord
from backup.store import ObjectStore
from fleet.agent import remains
from fleet.agent.remains import Kept
from fleet.remains_views import RemainsView
from restore import drill
from restore.retention import judge_remains

LOOK_EVERY = 3_600.0
"""Seconds between two looks through the quarantine."""
FIRST_LOOK = 60.0
"""Seconds before the first one."""
DAY = 86_400.0


class Tidying:
    """Judges and removes what nodes have left on this host."""

    def __init__(
        self,
        store: ObjectStore,
        data: Path,
        days: float | None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            days: for which what is superseded stays; None for ever, but for tenants that are gone.
            clock: unix seconds.
        """
        self._store = store
        self._data = data
        self._period = float("inf") if days is None else days * DAY
        self._say = say
        self._clock = clock

    def look(self) -> list[RemainsView]:
        """What is in the quarantine, and what becomes of it. Raises `StoreError`."""
        return [self._view(kept) for kept in remains.quarantined(self._data)]

    def tidy(self) -> list[RemainsView]:
        """Remove what may go; what was removed. Raises `StoreError`; the next time goes on."""
        remains.finish_removals(self._data)
        removed = []
        for kept in remains.quarantined(self._data):
            view = self._view(kept)
            if view.goes:
                remains.take_away(kept)
                removed.append(view)
                self._say(f"removed {view.folder}, {view.bytes:,} bytes: {view.reason}")
        return removed

    def _view(self, kept: Kept) -> RemainsView:
        goes, reason = self._judge(kept)
        return RemainsView(
            folder=kept.folder.name,
            tenant=kept.tenant,
            epoch=kept.epoch,
            put_away_at=kept.put_away_at,
            bytes=kept.size(),
            goes=goes,
            reason=reason,
        )

    def _judge(self, kept: Kept) -> tuple[bool, str]:
        found = records.read(self._store, keys.owner(kept.tenant), OwnerRecord)
        owner = found.record if found is not None else None
        gone = 0
        if owner is not None and owner.deletion:
            done = receipts.read_all(self._store, kept.tenant)
            gone = max((one.epoch for one in done if one.purged_at is not None), default=0)
        return judge_remains(
            kept.epoch,
            kept.empty,
            self._clock() - kept.put_away_at,
            owner,
            lineage.read(self._store, owner) if owner is not None else (),
            drill.read(self._store, kept.tenant).drills,
            gone,
            self._period,
        )

    async def run(self) -> None:
        """Look and remove until cancelled."""
        await asyncio.sleep(FIRST_LOOK)
        while True:
            with contextlib.suppress(StoreError):
                await asyncio.to_thread(self.tidy)
            await asyncio.sleep(LOOK_EVERY)
