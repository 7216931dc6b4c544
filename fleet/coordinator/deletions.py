"""Tenants that are deleted: stopped, kept for a while, then removed with all that they had.

Only the records in the bucket count; whichever coordinator comes next goes on from them. The
tombstone in ``tenant.json`` is what is wanted. `decide` has the tenant stopped and buried. From
then on ``owner.json`` says whether it can still be brought back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import httpx
from pydantic import ValidationError

from backup import burial, keys, receipts, records
from backup.burial import is_buried
from backup.errors import StoreError
from backup.lease import LeaseState
from backup.ownership import Deletion, NotAllowed, OwnerRecord, TenantRecord
from backup.receipts import HostRemains, Receipt
from backup.store import ObjectStore
from fleet.coordinator.asking import Asked
from fleet.coordinator.asking import asked as asker
from fleet.coordinator.picture import Bury, SeenHost
from fleet.deletion_views import DeletionWanted, ReceiptView
from fleet.issuer import CredentialIssuer, SharedIssuer
from fleet.views import DeletionPhase, DeletionView
from restore import erase
from restore.erase import Verdict

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
        self._issuer = issuer
        self._http = http
        self._headers = {"authorization": f"Bearer {token}"}
        self._grace = grace_days * DAY
        self._clock = clock
        self._buried_at: dict[tuple[str, int], float] = {}
        self._tried: dict[str, float] = {}
        self._swept: dict[str, float] = {}
        self._blocked: dict[str, str] = {}
        self._purging: set[str] = set()
        self._progress: dict[str, int] = {}
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

        def marked(wanted: TenantRecord | None) -> TenantRecord | None:
            if wanted is None or wanted.gone:
                raise NotDeleted("not_found", f"there is no tenant {name!r}", "")
            stands = wanted.deletion
            if stands is not None and (stands.number > settled or _is_of(owner, stands)):
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
                number=settled + 1,
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
            removed=self._progress.get(name, 0),
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
            await self._revoke(tenant)
        except StoreError:
            return  # it is done again before anything is removed

    async def _revoke(self, tenant: Tenant) -> str:
        await asyncio.to_thread(self._issuer.revoke, tenant.wanted.tenant)
        tenant.credentials = None
        shared = isinstance(self._issuer, SharedIssuer)
        return "shared with other tenants: still good" if shared else "revoked"

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
        verdict = await self._judge(owner, deletion, buried_at)
        if verdict.due:
            self._tried[name] = self._clock()
        if verdict.goes:
            await self._purge(name, tenant, deletion)
        elif verdict.due:
            self._block(name, verdict.reason)

    async def _judge(self, owner: OwnerRecord, deletion: Deletion, buried_at: float) -> Verdict:
        # This machine's clock may be wrong, in which case it is a little late or asks in vain.
        early = time.time() < deletion.purge_after - 60.0
        first = erase.judge(owner, deletion, time.time() if early else deletion.purge_after, (), ())
        if not first.goes:
            return first
        now, names = await asyncio.gather(
            asyncio.to_thread(erase.now_of, self._store),
            asyncio.to_thread(lambda: list(self._store.prefixes(keys.HOSTS))),
        )
        seen = self._clock()
        hosts = {name: host.seen(seen) for name, host in self._fleet.observer.hosts.items()}
        writing = writers(names, hosts, owner.tenant, buried_at)
        return erase.judge(owner, deletion, now, writing, self._readers(owner.tenant))

    def _readers(self, name: str) -> list[str]:
        found = []
        for view in self._fleet.restores.running():
            if name in (view.tenant, view.source):
                found.append(f"{view.tenant} is being restored or forked from it")
        for other, tenant in self._fleet.tenants.items():
            owner = tenant.owner.record if tenant.owner else None
            origin = tenant.wanted.restore
            taken_up = owner is not None and origin is not None and owner.restored >= origin.number
            if taken_up and owner is not None and owner.state != "restoring":
                continue
            if other != name and origin is not None and origin.tenant == name:
                found.append(f"{other} is being forked from it")
        if self._fleet.drills.running == name:
            found.append("a drill restores it")
        return found

    async def _purge(self, name: str, tenant: Tenant, deletion: Deletion) -> None:
        try:
            await asyncio.to_thread(erase.begin, self._store, name, deletion.number)
        except NotAllowed as error:
            tenant.stale = True
            owner = tenant.owner.record if tenant.owner else None
            if owner is None or owner.tomb is None or not owner.tomb.erased:
                self._block(name, str(error))
                return
        if name not in self._purging:
            self._purging.add(name)
            self._fleet.timeline.note("purge_began", f"{name} is being removed", tenant=name)
        self._blocked.pop(name, None)
        tenant.stale = True
        keys_are = await self._revoke(tenant)
        versions = await asyncio.to_thread(self._store.versioning)

        def noted(receipt: Receipt) -> None:
            self._progress[name] = receipt.total.objects

        receipt = await asyncio.to_thread(
            erase.empty,
            self._store,
            name,
            deletion,
            keys_are=keys_are,
            versions=versions,
            progress=noted,
        )
        remains = receipt.hosts or await self._remove_remains(name, receipt.epoch)
        receipt = await asyncio.to_thread(erase.finish, self._store, deletion, receipt, remains)
        gone = await asyncio.to_thread(records.read, self._store, keys.wanted(name), TenantRecord)
        if gone is None or not gone.record.gone:
            return
        self.forget(gone.record)
        total = receipt.total
        self._fleet.timeline.note(
            "tenant_purged",
            f"{name} was removed: {total.objects} objects, {total.bytes:,} bytes; its receipt is "
            f"{receipt.content[:12]}",
            tenant=name,
            number=receipt.number,
            objects=total.objects,
            bytes=total.bytes,
            content=receipt.content,
        )
        self._fleet.history.note(
            "purge",
            tenant=name,
            id=f"purge/{name}/{receipt.number}",
            asked_by=Asked(why="its grace period is over"),
            began_at=receipt.began_at,
            epoch_before=receipt.epoch or None,
            data={"objects": total.objects, "bytes": total.bytes, "receipt": receipt.content},
        )

    def forget(self, wanted: TenantRecord) -> None:
        """Note that a tenant is gone, unless it was created again since."""
        name = wanted.tenant
        known = self._fleet.tenants.get(name)
        if known is not None and known.wanted.rev > wanted.rev:
            return
        self._fleet.tenants.pop(name, None)
        self._fleet.drills.known.pop(name, None)
        self._purging.discard(name)
        self._blocked.pop(name, None)
        self._progress.pop(name, None)
        self._tried.pop(name, None)
        self.gone[name] = wanted

    async def _remove_remains(self, name: str, epoch: int) -> dict[str, HostRemains]:
        """Have every host remove what nodes of the tenant have left there. One that does not answer
        does so by itself when it is back."""
        living = {
            host: watch.address
            for host, watch in self._fleet.observer.hosts.items()
            if watch.lease.record.state is LeaseState.LIVE
        }

        async def one(address: str) -> HostRemains:
            try:
                answer = await self._http.delete(
                    f"{address}/api/remains/{name}",
                    params={"epoch": epoch},
                    headers=self._headers,
                    timeout=60.0,
                )
                answer.raise_for_status()
                return HostRemains.model_validate_json(answer.content)
            except (httpx.HTTPError, ValidationError) as error:
                return HostRemains(problem=f"not asked: {type(error).__name__}: {error}"[:300])

        found = await asyncio.gather(*(one(address) for address in living.values()))
        removed = dict(zip(living, found, strict=True))
        for host in self._fleet.observer.hosts:
            removed.setdefault(host, HostRemains(problem="its lease has ended"))
        return {
            host: one
            for host, one in removed.items()
            if one.folders or one.problem  # most have nothing to tell
        }

    async def _sweep(self, name: str) -> None:
        wanted = self.gone.get(name)
        deletion = wanted.deletion if wanted is not None else None
        if deletion is None or time.time() - (deletion.purged_at or 0.0) > SWEEP_FOR:
            return
        if self._clock() - self._swept.setdefault(name, self._clock()) < SWEEP_EVERY:
            return
        self._swept[name] = self._clock()
        late = await asyncio.to_thread(erase.sweep, self._store, name, deletion.number)
        if late is not None:
            self._fleet.timeline.note(
                "late_arrivals",
                f"something came into the prefix of {name} after it was gone, and was removed: "
                f"{late.late.objects} objects in all",
                tenant=name,
            )

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


def writers(
    names: Iterable[str], hosts: Mapping[str, SeenHost], tenant: str, buried_at: float
) -> list[str]:
    """Why hosts may still write to a tenant's prefix, by name.

    A lease that is fenced was unchanged for longer than its nodes may live. A living host must say
    itself, asked after the tenant was buried, that it has no node of it: one that was superseded
    while it restored is in no record.

    Args:
        names: of all hosts that the bucket has a lease of.
        buried_at: when the tenant was known to be buried, on the clock of ``SeenHost.nodes_at``.
    """
    found = []
    for name in sorted(names):
        host = hosts.get(name)
        if host is None:
            found.append(f"{name} is not known yet")
        elif host.lease.record.state is LeaseState.FENCED:
            continue
        elif host.nodes is None:
            found.append(f"{name} does not answer, and its lease has not ended")
        elif host.nodes_at <= buried_at:
            found.append(f"{name} was not asked yet")
        elif any(node.tenant == tenant and not node.over for node in host.nodes):
            found.append(f"{name} still has a node of it")
    return found


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


def _is_of(owner: records.Versioned[OwnerRecord] | None, deletion: Deletion) -> bool:
    return owner is not None and _is_buried_by(owner.record, deletion)


def _is_buried_by(owner: OwnerRecord, deletion: Deletion) -> bool:
    return is_buried(owner) and owner.deletion == deletion.number


def _period(seconds: float) -> str:
    return f"{seconds / DAY:.1f} days" if seconds >= DAY else f"{seconds:.0f} s"


def _date(deletion: Deletion | None) -> str:
    at = deletion.purge_after if deletion is not None else 0.0
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
