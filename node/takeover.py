"""Taking a tenant over: the protocol's steps 1 to 5, by the host that will run it.

Step 0, the fence of the lost host's lease, is the coordinator's and has happened before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backup import keys, lineage, ownership, records
from backup.errors import Precondition, StoreError
from backup.lineage import EpochRecord
from backup.litestream.sidecar import Sidecar, SidecarFailed
from backup.ownership import NotAllowed, Origin, Owner, OwnerRecord, OwnerState
from backup.records import Versioned
from backup.store import ObjectStore
from node.order import NodeOrder, Phases
from restore import verify
from restore.errors import Damaged, RestoreFailed
from restore.fetch import fetch
from restore.plan import base_is_there, list_epoch

BASE_TIMEOUT = 30.0
"""Seconds for the first upload of a new epoch to appear in the bucket, however small it is."""
BASE_RATE = 4 << 20
"""Bytes of the database a second that it may take besides: a slow disk or store is no failure, and
a tenant that is given up for it would be fetched again and given up again."""


def base_patience(size: int) -> float:
    """Seconds for the base of a database of ``size`` bytes to get to the bucket."""
    return BASE_TIMEOUT + size / BASE_RATE


class Superseded(Exception):
    """Another claim came first, or the order was made on an older record. Nothing was changed."""


class TakeoverFailed(Exception):
    """The claim was made and given up again; the message says why."""


@dataclass(slots=True)
class Claim:
    """A claim that was written: the record as it stands, and the claimant."""

    current: Versioned[OwnerRecord]
    owner: Owner

    @property
    def record(self) -> OwnerRecord:
        return self.current.record


class Takeover:
    """One take-over of one tenant, phase by phase, each timed."""

    def __init__(
        self,
        order: NodeOrder,
        store: ObjectStore,
        check_log: Callable[[Path, OwnerRecord], object],
        adopt_tail: Callable[[Path, Path, OwnerRecord], str],
        part_log: Callable[[Path, OwnerRecord, Origin], str],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ):
        """
        Args:
            check_log: reads a restored log's own invariants and whose it is; raises `Damaged`.
            adopt_tail: puts a local log in the restored one's place if it goes on from it.
            part_log: makes another tenant's log this one's; raises `Damaged`.
            say: told what was done about a local or another's log.
            wall_clock: unix seconds, for the history that people go back in.
        """
        self._order = order
        self._store = store
        self._check_log = check_log
        self._adopt_tail = adopt_tail
        self._part_log = part_log
        self._say = say
        self._clock = clock
        self._wall_clock = wall_clock
        self._owner = Owner(host=order.host, incarnation=order.incarnation)
        self._parent_txid = 0
        self.phases = Phases()

    async def claim(self) -> Claim:
        """Step 1: compare-and-swap ``owner.json`` to the next epoch, ``restoring``.

        Raises:
            Superseded: the record is not the one on which the order was made.
            StoreError: the store did not settle the write.
        """
        began = self._clock()
        key = keys.owner(self._order.tenant)
        now = await asyncio.to_thread(records.read, self._store, key, OwnerRecord)
        if (now.etag if now else None) != self._order.expected:
            raise Superseded(f"{self._order.tenant} has changed hands since the order was made")
        try:
            wanted = ownership.claim(
                now.record if now else None,
                self._order.tenant,
                self._owner,
                authority_ended=self._order.authority_ended,
                origin=self._order.origin,
            )
            written = await asyncio.to_thread(
                records.swap, self._store, key, wanted, now.etag if now else None
            )
        except (NotAllowed, Precondition) as error:
            raise Superseded(str(error)) from error
        self.phases = self.phases.model_copy(update={"claim": self._clock() - began})
        return Claim(written, self._owner)

    async def bring(self, claim: Claim, database: Path) -> None:
        """Steps 2 and 3: list, restore and verify the parent's newest state at ``database``, or
        the past state that the claim is for.

        At genesis there is nothing to bring, and that is made sure of.

        Raises:
            Damaged: the bucket does not lead to what must be there.
            RestoreFailed, StoreError: it could not be done here and now.
        """
        record = claim.record
        database.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        if record.parent is None:
            await self._make_sure_there_is_nothing(record)
        if record.origin is not None:
            await self._bring_past(record, record.origin, database)
            return
        if record.parent is None:
            return
        fetched_from = record.parent.epoch
        began = self._clock()
        floor = max(record.floor_txid, self._order.floor_txid)
        restored = await fetch(
            self._store,
            self._order.store.reached_with(self._order.sidecar),
            record.tenant,
            fetched_from,
            floor,
            database,
        )
        fetched = self._clock()
        self._parent_txid = restored.txid
        await asyncio.to_thread(verify.integrity, database)
        tail = self._order.tail
        if tail is not None and tail.epoch == fetched_from:
            self._say(await asyncio.to_thread(self._adopt_tail, tail.database, database, record))
        else:
            await asyncio.to_thread(self._check_log, database, record)
        self.phases = self.phases.model_copy(
            update={"fetch": fetched - began, "verify": self._clock() - fetched}
        )

    async def _bring_past(self, record: OwnerRecord, origin: Origin, database: Path) -> None:
        """Restore exactly the state that was asked for; no tail of a later one belongs to it."""
        began = self._clock()
        await asyncio.to_thread(self._refuse_removed, record, origin)
        if record.parent is not None:
            # Where the tenant's history leaves the parent: what is beyond it is no part of it.
            left = await asyncio.to_thread(
                list_epoch, self._store, record.tenant, record.parent.epoch
            )
            self._parent_txid = max(left.highest, record.floor_txid)
        store = self._order.store
        if origin.tenant == record.tenant:
            store = store.reached_with(self._order.sidecar)
        await fetch(self._store, store, origin.tenant, origin.epoch, 0, database, txid=origin.txid)
        fetched = self._clock()
        await asyncio.to_thread(verify.integrity, database)
        if origin.tenant != record.tenant:
            self._say(await asyncio.to_thread(self._part_log, database, record, origin))
        await asyncio.to_thread(self._check_log, database, record)
        self.phases = self.phases.model_copy(
            update={"fetch": fetched - began, "verify": self._clock() - fetched}
        )

    def _refuse_removed(self, record: OwnerRecord, origin: Origin) -> None:
        """What is marked may be half gone."""
        if origin.tenant == record.tenant:
            source: OwnerRecord | None = record
        else:
            found = records.read(self._store, keys.owner(origin.tenant), OwnerRecord)
            source = found.record if found else None
        if source is None or origin.epoch in source.purging:
            raise Damaged(
                f"the data of epoch {origin.epoch} of {origin.tenant} is being removed: its "
                "retention period is over"
            )

    async def _make_sure_there_is_nothing(self, record: OwnerRecord) -> None:
        if not record.genesis and record.origin is None:
            raise Damaged(f"{record.tenant} has no parent epoch and is not new")
        # Epochs before this one never became active, so nothing in them was acknowledged. But a
        # record that was lost and made anew would start at epoch 1 over somebody's data.
        known = range(1, record.epoch)
        names = await asyncio.to_thread(
            lambda: list(self._store.prefixes(keys.epochs(record.tenant)))
        )
        foreign = [name for name in names if not name.isdigit() or int(name) not in known]
        if foreign:
            raise Damaged(
                f"{record.tenant} is new by its record, but the bucket holds epochs "
                f"{', '.join(sorted(foreign))}; nothing was started"
            )

    async def await_base(self, claim: Claim, sidecar: Sidecar, size: int = 0) -> None:
        """Step 4: the new epoch's base is durable once a list of its prefix shows it.

        A 200 from ``/sync`` is not evidence.

        Args:
            size: bytes of the database.

        Raises:
            SidecarFailed: it did not appear in time; that says nothing about the content.
            StoreError: the store could not be listed.
        """
        patience = base_patience(size)
        await sidecar.ready(patience)
        until = self._clock() + patience
        while True:
            if await asyncio.to_thread(
                base_is_there, self._store, claim.record.tenant, claim.record.epoch
            ):
                return
            if self._clock() >= until:
                raise SidecarFailed(
                    f"the base of epoch {claim.record.epoch} of {claim.record.tenant} did not "
                    f"reach the bucket within {patience:.0f} s: {sidecar.last_words()}"
                )
            await asyncio.sleep(0.02)

    async def activate(self, claim: Claim) -> Claim:
        """Step 5: compare-and-swap to ``active``, with where the epoch came from written before.

        Raises:
            Superseded: another claim came in between.
            StoreError: the store did not settle a write.
        """
        record = claim.record
        await asyncio.to_thread(
            lineage.write,
            self._store,
            EpochRecord(
                tenant=record.tenant,
                lineage=record.lineage,
                epoch=record.epoch,
                parent=record.parent.epoch if record.parent else None,
                parent_txid=self._parent_txid,
                host=record.host,
                began_at=self._wall_clock(),
                origin=record.origin,
                app=self._order.app,
                durability=self._order.durability,
            ),
        )
        return await transition(
            self._store,
            claim,
            lambda record: ownership.activate(record, claim.owner, record.epoch),
        )

    async def give_up(self, claim: Claim, error: Exception) -> bool:
        """End the claim, so that it does not keep the tenant from another host; whether the tenant
        is damaged now.

        The tenant is damaged at once if the bucket is, and after repeated failures of its content.
        A store that does not answer leaves the claim as it is: a ``restoring`` record may be
        superseded by anyone.
        """
        epoch, reason = claim.record.epoch, str(error)

        def ending(record: OwnerRecord) -> OwnerRecord:
            if isinstance(error, Damaged):
                return ownership.damage(record, claim.owner, epoch, reason)
            return ownership.give_up(
                record,
                claim.owner,
                epoch,
                content_failed=isinstance(error, RestoreFailed),
                reason=reason,
            )

        try:
            ended = await transition(self._store, claim, ending)
        except (Superseded, StoreError):
            return False
        return ended.record.state is OwnerState.DAMAGED


async def transition(
    store: ObjectStore, claim: Claim, change: Callable[[OwnerRecord], OwnerRecord]
) -> Claim:
    """Swap a claim's record for what ``change`` makes of it, which must refuse another's.

    Others may change what is not the claim's (a hold, a mark of what may be removed) meanwhile:
    then it is read and decided again.

    Raises:
        Superseded: the record is no longer this claim's.
        StoreError: the store did not settle the write.
    """
    key, current = keys.owner(claim.record.tenant), claim.current
    while True:
        try:
            wanted = change(current.record)
            written = await asyncio.to_thread(records.swap, store, key, wanted, current.etag)
        except NotAllowed as error:
            raise Superseded(f"{claim.record.tenant}: {error}") from error
        except Precondition as error:
            now = await asyncio.to_thread(records.read, store, key, OwnerRecord)
            if now is None or now.etag == current.etag:
                raise Superseded(f"{claim.record.tenant}: {error}") from error
            current = now
        else:
            return Claim(written, claim.owner)


FAILURES = (Damaged, RestoreFailed, SidecarFailed, StoreError, TimeoutError, OSError)
"""What can end a take-over after its claim; all of them are given up with a reason."""
