"""Keeping the host's lease: joining, renewing, and knowing when it is lost.

A lost lease is not mourned here: the caller stops everything and joins again under a new
incarnation.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from backup import keys, records
from backup.errors import Precondition, StoreError
from backup.lease import (
    MAX_SKEW,
    RENEW_EVERY,
    Authority,
    LeaseRecord,
    LeaseState,
    Load,
    Watch,
    boottime,
    fenced,
)
from backup.records import Versioned
from backup.store import ObjectStore

JOIN_PAUSE = 0.5
"""Seconds between two looks at another one's lease."""
RENEW_PATIENCE = 3.0
"""Seconds for which one renewal is repeated before the deadline is looked at again."""


class LeaseLost(Exception):
    """This incarnation's authority has ended, for good; the message says how."""


class ClockSkewed(Exception):
    """This host's clock differs from the store's by more than it may."""


class LeaseKeeper:
    """One host's lease through its incarnations."""

    def __init__(
        self,
        store: ObjectStore,
        host: str,
        load: Callable[[], Load],
        proven: Callable[[], dict[str, str]],
        say: Callable[[str], None] = lambda text: None,
        *,
        clock: Callable[[], float] = boottime,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        """
        Args:
            load: what the host says of itself at each renewal.
            proven: for each tenant here, the ``epoch:txid`` proven in the bucket.
            say: told what is being waited for.
            clock: seconds, suspended time included; the lease's deadlines are on it.
            today: the host's idea of the time, to be compared with the store's.
        """
        self._store = store
        self._host = host
        self._load = load
        self._proven = proven
        self._say = say
        self._clock = clock
        self._today = today
        self._sleep = sleep
        self._mine: set[str] = set()
        self._lease: Versioned[LeaseRecord] | None = None
        self.authority: Authority | None = None

    @property
    def incarnation(self) -> str:
        assert self._lease is not None
        return self._lease.record.incarnation

    @property
    def revoked(self) -> dict[str, int]:
        """Tenants that must be stopped, at these epochs, before the next renewal."""
        return dict(self._lease.record.revoked) if self._lease is not None else {}

    async def join(self) -> None:
        """Take the host's lease under a new incarnation.

        A lease that another agent holds is taken only after it was seen unchanged for as long as
        it takes anybody to be sure that its nodes are dead.

        Raises:
            ClockSkewed: this host must not own anything.
            StoreError: the store refuses this host for good.
        """
        await self._check_clock()
        incarnation = secrets.token_hex(8)
        watch: Watch | None = None
        while True:
            found = await self._read()
            if found is not None and not self._open(found.record):
                if watch is None:
                    watch = Watch(found.etag, self._clock())
                    self._say(
                        f"another agent holds the lease of {self._host}; waiting for it to end"
                    )
                watch.seen(found.etag, self._clock())
                if not watch.lapsed(self._clock()):
                    await self._sleep(JOIN_PAUSE)
                    continue
            lease = LeaseRecord(
                host=self._host,
                incarnation=incarnation,
                load=self._load(),
                rev=found.record.rev + 1 if found else 1,
            )
            sent = self._clock()
            try:
                written = await asyncio.to_thread(
                    records.swap,
                    self._store,
                    keys.lease(self._host),
                    lease,
                    found.etag if found else None,
                )
            except Precondition:
                continue
            self._lease = written
            self._mine.add(incarnation)
            self.authority = Authority.granted(sent)
            if not self.authority.alive(self._clock()):
                continue
            return

    async def resume(self, incarnation: str, deadline: float) -> bool:
        """Go on with a lease that an earlier agent of this host has held; whether it can be.

        Nothing is written: the next renewal does that. The store is asked until the deadline.

        Args:
            incarnation: that lease's.
            deadline: that of its last renewal, on this boot's clock.
        """
        authority = Authority(deadline)
        while authority.alive(self._clock()):
            try:
                found = await self._read()
            except StoreError as error:
                self._say(f"the lease cannot be read yet: {error}")
                await self._sleep(JOIN_PAUSE)
                continue
            if found is None or found.record.state is LeaseState.FENCED:
                return False
            if found.record.incarnation != incarnation or not authority.alive(self._clock()):
                return False
            self._lease = found
            self._mine.add(incarnation)
            self.authority = authority
            return True
        return False

    def _open(self, lease: LeaseRecord) -> bool:
        return lease.state is LeaseState.FENCED or lease.incarnation in self._mine

    async def _read(self) -> Versioned[LeaseRecord] | None:
        return await asyncio.to_thread(
            records.read, self._store, keys.lease(self._host), LeaseRecord
        )

    async def renew(self) -> float:
        """Renew once and return the new deadline (boot-time clock, seconds).

        A store that does not answer is not a loss: the old deadline stands, and the caller tries
        again until it has passed.

        Raises:
            LeaseLost: the deadline has passed, or the lease is fenced or another one's.
            StoreError: this try failed.
        """
        assert self._lease is not None
        assert self.authority is not None
        authority = self.authority
        # Before anything else: a process that was paused past its deadline must not renew.
        sent = self._clock()
        if not authority.alive(sent):
            raise LeaseLost("the deadline passed without a renewal")
        current = self._lease
        lease = current.record.model_copy(
            update=current.record.succeeded_by(proven=self._proven(), load=self._load())
        )
        try:
            written = await asyncio.to_thread(
                records.swap,
                self._store,
                keys.lease(self._host),
                lease,
                current.etag,
                may_send=lambda: authority.alive(self._clock()),
                patience=RENEW_PATIENCE,
            )
        except Precondition:
            await self._adopt_changes(authority)
            return authority.deadline
        if not authority.renewed(sent, self._clock()):
            raise LeaseLost("the renewal came back after the deadline")
        self._lease = written
        return authority.deadline

    async def _adopt_changes(self, authority: Authority) -> None:
        """Somebody else wrote the lease: a fence, a new holder, or a revocation of one tenant."""
        found = await self._read()
        if found is None:
            raise LeaseLost("the lease record is gone")
        if found.record.state is LeaseState.FENCED:
            raise LeaseLost("the lease was fenced")
        assert self._lease is not None
        if found.record.incarnation != self._lease.record.incarnation:
            raise LeaseLost("another agent holds the lease")
        # The deadline is not extended: the revoked tenant must stop before the next renewal.
        self._lease = found

    async def resign(self) -> None:
        """End this incarnation by one's own fence, after all nodes are stopped: no one has to wait.

        A store that does not answer is left alone; the lease then lapses.
        """
        if self._lease is None:
            return
        try:
            await asyncio.to_thread(
                records.swap,
                self._store,
                keys.lease(self._host),
                fenced(self._lease.record),
                self._lease.etag,
                patience=2.0,
            )
        except StoreError:
            return

    async def _check_clock(self) -> None:
        before = self._today()
        theirs = await asyncio.to_thread(self._store.date)
        after = self._today()
        skew = clock_skew(before, theirs, after)
        if skew > MAX_SKEW:
            raise ClockSkewed(
                f"the clock of {self._host} differs from the store's by {skew:.1f} s (at most "
                f"{MAX_SKEW:.0f}); set it, for example with an NTP service, and start again"
            )


def clock_skew(before: datetime, theirs: datetime, after: datetime) -> float:
    """Seconds by which ``theirs`` lies outside of the time in which it was asked for.

    ``theirs`` has whole seconds, so up to one second early is no skew.
    """
    early = (before - theirs).total_seconds() - 1.0
    late = (theirs - after).total_seconds()
    return max(0.0, early, late)


def next_renewal(failed: bool) -> float:
    """Seconds to wait before the next renewal: soon after a failure, for the deadline is near."""
    return 0.5 if failed else RENEW_EVERY
