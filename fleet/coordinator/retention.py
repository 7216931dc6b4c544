"""Epochs of the fleet's tenants that are kept no longer: looked for, marked, removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from backup import keys, ownership
from backup.ownership import NotAllowed, restore_wanted
from backup.store import ObjectStore
from fleet.coordinator.account import Tenant
from fleet.coordinator.timeline import TimelineLog
from fleet.views import EpochView, RestoreView
from restore import purge
from restore.purge import Purged

DAY = 86_400.0


class NotHeld(Exception):
    """The tenant cannot be put on hold, or be taken off it; the message says why."""


class Epochs:
    """Looks after the epochs of tenants, one tenant at a time."""

    def __init__(
        self,
        store: ObjectStore,
        tenants: Mapping[str, Tenant],
        restores: Callable[[], list[RestoreView]],
        timeline: TimelineLog,
        *,
        days: float,
        clock: Callable[[], float] = time.time,
    ):
        """
        Args:
            restores: those under way, whether they are recorded or not.
            days: for which an epoch stays after its successor began.
            clock: unix seconds.
        """
        self._store = store
        self._tenants = tenants
        self._restores = restores
        self._timeline = timeline
        self._period = days * DAY
        self._clock = clock
        self._looked_at: dict[str, float] = {}
        self._turn = asyncio.Lock()
        self.purged = 0
        """Epochs that were removed since this coordinator began."""

    async def looked_at(self, name: str) -> float | None:
        """When a tenant's epochs were last looked at, in unix seconds; None for not yet."""
        return self._looked_at.get(name)

    async def of(self, name: str) -> list[EpochView]:
        """The epochs of a tenant that are in the bucket, oldest first, and what becomes of each.

        Raises `StoreError`.
        """
        verdicts = await asyncio.to_thread(
            purge.look, self._store, name, self._wanted(name), self._clock(), self._period
        )
        sizes = await asyncio.to_thread(
            lambda: [self._size(name, verdict.epoch) for verdict in verdicts]
        )
        return [
            EpochView(
                tenant=name,
                epoch=verdict.epoch,
                goes=verdict.goes,
                reason=verdict.reason,
                objects=objects,
                bytes=size,
            )
            for verdict, (objects, size) in zip(verdicts, sizes, strict=True)
        ]

    def _size(self, name: str, epoch: int) -> tuple[int, int]:
        sizes = [entry.size for entry in self._store.list(keys.epoch(name, epoch))]
        return len(sizes), sum(sizes)

    async def tidy(self, name: str) -> list[Purged]:
        """Remove what may go of a tenant's epochs; goes on with what an earlier round has left.

        Raises `StoreError`; the next round goes on from there.
        """
        async with self._turn:
            if self._is_read(name):
                return []
            wanted, period = self._wanted(name), self._period
            verdicts = await asyncio.to_thread(
                purge.look, self._store, name, wanted, self._clock(), period
            )
            going = [verdict for verdict in verdicts if verdict.goes]
            # A restore may have begun while the bucket was read.
            if going and not self._is_read(name):
                await self._mark(name, [verdict.epoch for verdict in going])
            done = []
            for verdict in going:
                gone = await asyncio.to_thread(
                    purge.purge, self._store, name, verdict.epoch, self._clock()
                )
                if gone is not None:
                    done.append(gone)
                    self._note(gone)
            self._looked_at[name] = self._clock()
        return done

    async def _mark(self, name: str, epochs: list[int]) -> None:
        if await asyncio.to_thread(purge.mark, self._store, name, epochs) is not None:
            self._tenants[name].stale = True

    def _note(self, gone: Purged) -> None:
        self.purged += 1
        self._tenants[gone.tenant].stale = True
        self._timeline.note(
            "epoch_purged",
            f"epoch {gone.epoch} of {gone.tenant} was removed: {gone.objects} objects, "
            f"{gone.bytes:,} bytes",
            tenant=gone.tenant,
            epoch=gone.epoch,
            objects=gone.objects,
            bytes=gone.bytes,
        )
        self._timeline.history.note(
            "purge_epoch",
            tenant=gone.tenant,
            id=f"purge_epoch/{gone.tenant}/{gone.epoch}",
            epoch_before=gone.epoch,
            data={"objects": gone.objects, "bytes": gone.bytes},
        )

    def _is_read(self, name: str) -> bool:
        """Whether a restore that is not recorded yet may be reading any of its epochs."""
        return any(
            view.state == "rehearsing" and name in (view.tenant, view.source)
            for view in self._restores()
        )

    def _wanted(self, name: str) -> frozenset[int]:
        """The epochs that restores and forks which are recorded are going to read."""
        found = set()
        for tenant in self._tenants.values():
            owner = tenant.owner.record if tenant.owner else None
            origin = restore_wanted(tenant.wanted, owner)
            if origin is None and owner is not None and owner.state == "restoring":
                origin = owner.origin
            if origin is not None and origin.tenant == name:
                found.add(origin.epoch)
        return frozenset(found)

    async def hold(self, name: str, hold: bool) -> bool:
        """Put a tenant on hold, so that no epoch of it is removed, or take it off; whether that
        changed anything.

        Raises:
            NotHeld: it was never started.
            StoreError: it is not known whether it is.
        """
        changed = False

        def decide(now: ownership.OwnerRecord) -> ownership.OwnerRecord | None:
            nonlocal changed
            changed = now.hold != hold
            return ownership.set_hold(now, hold) if changed else None

        try:
            await asyncio.to_thread(purge.change, self._store, name, decide)
        except NotAllowed as error:
            raise NotHeld(str(error)) from error
        self._tenants[name].stale = True
        if changed:
            kind, words = ("held", "on") if hold else ("unheld", "off")
            self._timeline.note(kind, f"{name} was put {words} hold", tenant=name)
            self._timeline.history.note("hold" if hold else "unhold", tenant=name)
        return changed
