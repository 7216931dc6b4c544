"""Tenants that are deleted: stopped, kept for a while, then removed with all that they had.

Only the records in the bucket count; whichever coordinator comes next goes on from them. The
tombstone in ``tenant.json`` is what is wanted. `decide` has the tenant stopped and buried. From
then on ``owner.json`` says whether it can still be brought back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx

from backup import burial, keys, receipts, records
from backup.burial import is_buried
from backup.errors import StoreError
from backup.ownership import Deletion, NotAllowed, OwnerRecord, TenantRecord
from backup.receipts import Receipt
from backup.store import ObjectStore
from fleet.coordinator.asking import Asked
from fleet.coordinator.asking import asked as asker
from fleet.coordinator.picture import Bury
from fleet.coordinator.purging import Purging
from fleet.deletion_views import DeletionWanted, ReceiptView
from fleet.issuer import CredentialIssuer
from fleet.views import DeletionPhase, DeletionView
from restore import erase

if TYPE_CHECKING:
    from fleet.coordinator.account import Tenant
    from fleet.coordinator.coordinator import Coordinator

LOOK_EVERY = 1.0
"""Seconds between two looks for tenants whose time has come."""
RETRY_EVERY = 5.0
"""Seconds before one that could not be purged is tried again."""
SWEEP_EVERY = 3_600.0
"""Seconds between two looks at the prefix of a tenant that is gone."""
SWEEP_FOR = 7 * 86_400.0
"""Seconds for which it is looked at."""
DAY = 86_400.0


class NotDeleted(Exception):
    """What was asked about a deletion cannot be; ``type`` and ``hint`` say more."""

    def __init__(self, type: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.type, self.hint = type, hint


class Deletions:
    """Carries out the deletions of a fleet's tenants, one purge at a time."""

    def __init__(
        self,
        fleet: Coordinator,
        store: ObjectStore,
        issuer: CredentialIssuer,
        http: httpx.AsyncClient,
        token: str,
        *,
        grace_days: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            grace_days: how long a tenant is kept if the asker does not say.
            clock: seconds; the same as that of what is seen of hosts and records.
        """
        self._fleet = fleet
        self._store = store
        self._grace = grace_days * DAY
        self._clock = clock
        self._buried_at: dict[tuple[str, int], float] = {}
        self._tried: dict[str, float] = {}
        self._swept: dict[str, float] = {}
        self._blocked: dict[str, str] = {}
        self._under_way: dict[str, int] = {}
        self._purging = Purging(fleet, store, issuer, http, token, clock)
        self.gone: dict[str, TenantRecord] = {}
        """Names whose tenant was removed, and that are free."""

    # -- what callers of the API ask ------------------------------------------------------------

    async def ask(self, name: str, asked: DeletionWanted) -> DeletionView:
        """Set up a tombstone, or bring the end of the grace period of one that stands forward.

        Raises:
            NotDeleted: it is on hold and shall go at once, or its grace period would be longer.
            StoreError: nothing is known of the outcome; asking again tells.
        """
        grace = self._grace if asked.grace_seconds is None else asked.grace_seconds
        owner, now = await asyncio.gather(
            asyncio.to_thread(records.read, self._store, keys.owner(name), OwnerRecord),
            asyncio.to_thread(erase.now_of, self._store),
        )
        if owner is not None and owner.record.hold and grace == 0:
            raise NotDeleted(
                "on_hold",
                f"{name} is on hold, so it cannot be removed at once; nothing was changed.",
                f"Take it off with `litefleet tenant unhold {name}`, or give it a --grace.",
            )
        settled = owner.record.deletion if owner is not None else 0
        # Records that were made anew may not know of deletions whose receipts are there still.
        last = max([settled, *(one.number for one in await self.receipts(name))])

        def marked(wanted: TenantRecord | None) -> TenantRecord | None:
            if wanted is None or wanted.gone:
                raise NotDeleted("not_found", f"there is no tenant {name!r}", "")
            stands = wanted.deletion
            if stands is not None and not _taken_back(owner, stands):
                if now + grace >= stands.purge_after:
                    if asked.grace_seconds is None or now + grace < stands.purge_after + 60.0:
                        return None
                    raise NotDeleted(
                        "shorter_only",
                        f"{name} is deleted already, and would be kept for longer than it was told "
                        "to be.",
                        f"Bring it back with `litefleet tenant undelete {name}` and delete it "
                        f"again, or keep it with `litefleet tenant hold {name}`.",
                    )
                sooner = stands.model_copy(update={"purge_after": now + grace})
                return wanted.model_copy(update=wanted.succeeded_by(deletion=sooner))
            deletion = Deletion(
                number=last + 1,
                asked_at=now,
                purge_after=now + grace,
                by=asked.by or asker().by,
                why=asked.why or asker().why,
            )
            return wanted.model_copy(update=wanted.succeeded_by(deletion=deletion))

        before = self._fleet.tenants[name].wanted.deletion
        wanted = await asyncio.to_thread(
            records.change, self._store, keys.wanted(name), TenantRecord, marked
        )
        assert wanted is not None
        assert wanted.deletion is not None
        tenant = self._fleet.tenants[name]
        tenant.wanted, tenant.stale = wanted, True
        if before is None or before.number != wanted.deletion.number:
            by = f" by {asked.by}" if asked.by else ""
            self._fleet.timeline.note(
                "deletion_wanted",
                f"{name} shall be deleted{by}, and be kept for {_period(grace)}",
                tenant=name,
                number=wanted.deletion.number,
                by=asked.by,
                why=asked.why,
            )
            self._fleet.history.note(
                "delete",
                tenant=name,
                id=f"delete/{name}/{wanted.deletion.number}",
                asked_by=Asked(asked.by or asker().by, asked.why or asker().why),
                epoch_before=tenant.newest_epoch or None,
                data={"purge_after": wanted.deletion.purge_after},
            )
        self._fleet.wake()
        return self.view(name, tenant)

    async def take_back(self, name: str) -> None:
        """Bring a tenant back that was deleted, with everything.

        Raises:
            NotDeleted: it is not deleted, or its data is being removed.
            StoreError: nothing is known of the outcome; asking again tells.
        """
        tenant = self._fleet.tenants[name]
        deletion = tenant.wanted.deletion
        if deletion is None:
            raise NotDeleted("not_deleted", f"{name} is not deleted.", "")
        number = deletion.number

        def back(now: OwnerRecord | None) -> OwnerRecord | None:
            after = burial.unbury(now, name, number)
            return None if after is now else after

        try:
            # It decides. Were the tombstone taken away first, a purge could begin behind it.
            await asyncio.to_thread(
                records.change, self._store, keys.owner(name), OwnerRecord, back
            )
        except NotAllowed as error:
            raise NotDeleted(
                "too_late",
                f"{error}.",
                f"What is removed is in `litefleet tenant receipt {name}`.",
            ) from error
        await self._forget(name, number)
        self._fleet.timeline.note("undeleted", f"{name} was brought back", tenant=name)
        self._fleet.history.note("undelete", tenant=name, id=f"undelete/{name}/{number}")
        self._fleet.wake()

    async def _forget(self, name: str, number: int) -> None:
        """Take away the tombstone of a deletion that was taken back."""

        def cleared(now: TenantRecord | None) -> TenantRecord | None:
            if now is None or now.deletion is None or now.deletion.number != number or now.gone:
                return None
            return now.model_copy(update=now.succeeded_by(deletion=None))

        wanted = await asyncio.to_thread(
            records.change, self._store, keys.wanted(name), TenantRecord, cleared
        )
        tenant = self._fleet.tenants.get(name)
        if tenant is not None and wanted is not None:
            tenant.wanted, tenant.stale = wanted, True

    async def receipts(self, name: str) -> list[Receipt]:
        """What deletions under this name have removed, oldest first. Raises `StoreError`."""
        return await asyncio.to_thread(receipts.read_all, self._store, name)

    def views(self) -> list[DeletionView]:
        """The deletions that are known, of tenants that are gone as well, by name."""
        standing = {
            name: self.view(name, tenant)
            for name, tenant in self._fleet.tenants.items()
            if tenant.wanted.deletion is not None
        }
        gone = {name: _gone(wanted) for name, wanted in self.gone.items()}
        return [one for _, one in sorted({**gone, **standing}.items())]

    def view(self, name: str, tenant: Tenant) -> DeletionView:
        """The deletion of a tenant that has a tombstone."""
        deletion = tenant.wanted.deletion
        assert deletion is not None
        owner = tenant.owner.record if tenant.owner else None
        phase: DeletionPhase = "stopping"
        if owner is not None and _is_buried_by(owner, deletion):
            phase = "purging" if owner.tomb is not None and owner.tomb.erasing else "kept"
        return DeletionView(
            tenant=name,
            number=deletion.number,
            phase=phase,
            asked_at=deletion.asked_at,
            purge_after=deletion.purge_after,
            by=deletion.by,
            why=deletion.why,
            hold=owner.hold if owner is not None else False,
            blocked=self._blocked.get(name, ""),
            removed=self._under_way.get(name, 0),
        )

    # -- what the coordinator's loop does -------------------------------------------------------

    async def bury(self, action: Bury) -> None:
        """Write that nobody has the tenant any more, and make the keys of its sidecar void."""
        name, number = action.tenant, action.number
        tenant = self._fleet.tenants[name]
        before = action.owner.record if action.owner else None
        try:
            buried = burial.bury(before, name, number, authority_ended=True)
            etag = action.owner.etag if action.owner else None
            tenant.owner = await asyncio.to_thread(
                records.swap, self._store, keys.owner(name), buried, etag
            )
        except (NotAllowed, StoreError):
            return  # it has changed since it was looked at: the next look tells
        finally:
            tenant.stale = True
        tenant.ordered = None
        self._fleet.timeline.note(
            "tenant_buried",
            f"{name} is stopped; it can be brought back until {_date(tenant.wanted.deletion)}",
            tenant=name,
            epoch=buried.epoch,
        )
        try:
            await self._purging.revoke(tenant)
        except StoreError:
            return  # it is done again before anything is removed

    async def run(self) -> None:
        """Carry out what is due until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for name in list(self._fleet.tenants):
                try:
                    await self.look_after(name)
                except StoreError as error:
                    self._block(name, f"the store does not answer: {error}")
            for name in list(self.gone):
                try:
                    await self._sweep(name)
                except StoreError:
                    continue

    async def look_after(self, name: str) -> None:
        """Do the next thing for one tenant, if there is one to do. Raises `StoreError`."""
        tenant = self._fleet.tenants.get(name)
        deletion = tenant.wanted.deletion if tenant is not None else None
        if tenant is None or deletion is None or tenant.stale or tenant.owner is None:
            return
        owner = tenant.owner.record
        if owner.deletion == deletion.number and owner.tomb is None:
            await self._forget(name, deletion.number)  # whoever took it back did not get to it
            return
        if not _is_buried_by(owner, deletion):
            if owner.deletion == deletion.number:  # all is gone, but for the catalog's entry
                await self._purge(name, tenant, deletion)
            return
        buried_at = self._buried_at.setdefault((name, deletion.number), self._clock())
        if self._clock() - self._tried.get(name, -RETRY_EVERY) < RETRY_EVERY:
            return
        verdict = await self._purging.judge(owner, deletion, buried_at)
        if verdict.due:
            self._tried[name] = self._clock()
        if verdict.goes:
            await self._purge(name, tenant, deletion)
        elif verdict.due:
            self._block(name, verdict.reason)

    async def _purge(self, name: str, tenant: Tenant, deletion: Deletion) -> None:
        try:
            await asyncio.to_thread(erase.begin, self._store, name, deletion.number)
        except NotAllowed as error:
            tenant.stale = True
            owner = tenant.owner.record if tenant.owner else None
            if owner is None or owner.tomb is None or not owner.tomb.erased:
                self._block(name, str(error))
                return
        if name not in self._under_way:
            self._under_way[name] = 0
            self._fleet.timeline.note("purge_began", f"{name} is being removed", tenant=name)
        self._blocked.pop(name, None)
        tenant.stale = True

        def noted(receipt: Receipt) -> None:
            self._under_way[name] = receipt.total.objects

        gone = await self._purging.purge(tenant, deletion, noted)
        if gone is not None:
            self.forget(gone)

    def forget(self, wanted: TenantRecord) -> None:
        """Note that a tenant is gone, unless it was created again since."""
        name = wanted.tenant
        known = self._fleet.tenants.get(name)
        if known is not None and known.wanted.rev > wanted.rev:
            return
        self._fleet.tenants.pop(name, None)
        self._fleet.drills.known.pop(name, None)
        self._under_way.pop(name, None)
        self._blocked.pop(name, None)
        self._tried.pop(name, None)
        self.gone[name] = wanted

    async def _sweep(self, name: str) -> None:
        deletion = self.gone[name].deletion
        if deletion is None or time.time() - (deletion.purged_at or 0.0) > SWEEP_FOR:
            return
        if self._clock() - self._swept.setdefault(name, self._clock()) >= SWEEP_EVERY:
            self._swept[name] = self._clock()
            await self._purging.sweep(name, deletion.number)

    def _block(self, name: str, reason: str) -> None:
        if self._blocked.get(name) == reason:
            return
        self._blocked[name] = reason
        self._fleet.timeline.note(
            "purge_blocked",
            f"{name} is not removed, though its time has come: {reason}",
            tenant=name,
            reason=reason,
        )


def shown(receipt: Receipt) -> ReceiptView:
    """A receipt as the API shows it."""
    told = receipt.model_dump()
    return ReceiptView.model_validate(
        {**told, "total": receipt.total.model_dump(), "intact": receipt.intact}
    )


def _gone(wanted: TenantRecord) -> DeletionView:
    assert wanted.deletion is not None
    return DeletionView(
        tenant=wanted.tenant, phase="purged", **wanted.deletion.model_dump(mode="json")
    )


def _taken_back(owner: records.Versioned[OwnerRecord] | None, deletion: Deletion) -> bool:
    """Whether a tombstone stands only because whoever took it back did not get to it."""
    record = owner.record if owner is not None else None
    return record is not None and record.tomb is None and record.deletion >= deletion.number


def _is_buried_by(owner: OwnerRecord, deletion: Deletion) -> bool:
    return is_buried(owner) and owner.deletion == deletion.number


def _period(seconds: float) -> str:
    return f"{seconds / DAY:.1f} days" if seconds >= DAY else f"{seconds:.0f} s"


def _date(deletion: Deletion | None) -> str:
    at = deletion.purge_after if deletion is not None else 0.0
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
