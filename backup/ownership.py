"""Who owns a tenant: the record in the bucket and the transitions that it may take.

Pure: every function takes the record as it was read and gives the record to swap in, or raises
`NotAllowed`. The rules are those of docs/protocol.md; each is pinned by a variant in the tests
that drops it and must fail.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backup.limits import RequestLimits
from backup.records import Record

Durability = Literal["async", "before_effects", "every_commit"]


class NotAllowed(Exception):
    """This transition is not open from the record as it stands."""


class OwnerState(StrEnum):
    """Where an ownership epoch is in its life."""

    RESTORING = "restoring"
    ACTIVE = "active"
    DRAINING = "draining"
    RELEASED = "released"
    DAMAGED = "damaged"
    DELETED = "deleted"


class Parent(BaseModel):
    """The newest epoch that reached ``active``: what the next one restores."""

    model_config = ConfigDict(frozen=True)

    epoch: int


class Origin(BaseModel):
    """The past state that an epoch is made of, where that is not its parent's newest one.

    ``epoch`` and ``txid`` are its exact position, in ``tenant``'s history: the tenant's own for a
    restore in place, another's for a fork. ``sequence`` is the last log event in it. ``number``
    counts the tenant's restores, so that each is taken up once. ``mends`` is the damage over which
    it was claimed, empty for a tenant that was whole. ``asked`` is the operation that wants it, so
    that a step which is repeated is known again.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: str
    lineage: str
    epoch: int = Field(ge=1)
    txid: int = Field(ge=1)
    sequence: int = 0
    number: int = Field(default=1, ge=1)
    mends: str = ""
    asked: str = ""

    @property
    def bookmark(self) -> str:
        return f"{self.epoch}:{self.sequence}"


class Owner(BaseModel):
    """One claim to a tenant: a host and one unbroken life of a sidecar on it.

    ``incarnation`` is ``<the host agent's>.<the node's>``: the first part ties the claim to the
    lease under whose authority it was made.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    incarnation: str

    @property
    def authority(self) -> str:
        """The incarnation of the lease under which this claim was made."""
        return self.incarnation.partition(".")[0]


class Deletion(BaseModel):
    """That a tenant shall be deleted. ``number`` counts the deletions that were ever asked for
    under its name. ``asked_at`` and ``purge_after`` are unix seconds by the store's clock; until
    the latter nothing is removed. ``by`` and ``why`` are what the asker said. ``purged_at`` is when
    all of it was gone: from then on the name is free."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int = Field(ge=1)
    asked_at: float
    purge_after: float
    by: str = ""
    why: str = ""
    purged_at: float | None = None


class Tomb(BaseModel):
    """What a deletion has made of a tenant: the ``state`` that it was in, with its ``reason``, to
    be brought back to. ``erasing``: its data may be gone in part, so there is no way back.
    ``erased``: nothing of it is left, and the name may be claimed for another tenant."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: OwnerState
    reason: str = ""
    erasing: bool = False
    erased: bool = False


class OwnerRecord(Record):
    """``owner.json``. ``genesis`` without parent is the one case that may start empty.

    ``floor_txid`` is the last position of a clean hand-over, in the parent's epoch: a restore that
    ends below it is damage. ``next_wake`` is the next timer of a tenant that sleeps, in unix
    seconds.

    ``origin`` is the past state that this epoch is made of, None where it goes on from its parent.
    ``restored`` is the number of the last restore that a claim has taken up, and
    ``restore_failure`` why that one could not be carried out, empty if it was or still may be.

    ``purging`` are epochs whose data is being removed: nobody restores from them any more. With
    ``hold`` none is marked.

    ``deletion`` is the number of the last deletion that was carried out or taken back, ``tomb``
    what it has left, None but in ``deleted``; see `backup.burial`.
    """

    tenant: str
    lineage: str
    epoch: int = Field(ge=1)
    host: str
    incarnation: str
    state: OwnerState
    genesis: bool = False
    parent: Parent | None = None
    floor_txid: int = 0
    next_wake: float | None = None
    hold: bool = False
    content_failures: int = 0
    reason: str = ""
    origin: Origin | None = None
    restored: int = 0
    restore_failure: str = ""
    purging: tuple[int, ...] = ()
    deletion: int = 0
    tomb: Tomb | None = None

    @property
    def owner(self) -> Owner:
        return Owner(host=self.host, incarnation=self.incarnation)

    def held_by(self, owner: Owner, epoch: int) -> bool:
        """Whether this record still names that very claim and lets it acknowledge."""
        return (
            self.epoch == epoch
            and self.owner == owner
            and self.state in (OwnerState.ACTIVE, OwnerState.DRAINING)
        )


class Move(BaseModel):
    """That a tenant shall run on another host than at ``epoch``: on ``host``, or on any other where
    that is empty. It is carried out once the tenant has a later epoch, whoever took it.
    ``asked_at`` is in unix seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    epoch: int
    host: str = ""
    asked_at: float = 0.0


class TenantRecord(Record):
    """``tenant.json``: the wanted state, written before the creation is answered.

    ``kept`` are the older versions of the application beside it. ``release`` counts the changes of
    either: a node that has a lower one is to load its code again. ``restore`` is the past state
    that the tenant was last told to go back to; it is taken up once, see ``OwnerRecord.restored``.
    ``asleep``: it shall not run until somebody or a timer wakes it. ``move`` is the last one that
    was asked for.
    ``deletion`` is the tombstone: while it stands the tenant is stopped, and nobody is created
    under its name. ``follows`` is the number of the deletion after which this one was created, 0
    for the first of its name: what was wanted before that is wanted no more. ``limits`` are those
    of the requests to it, None for the fleet's own.
    ``sleep_after`` is after how many seconds with nothing to do it is put to sleep: 0 for never,
    None for the fleet's own.
    """

    tenant: str
    app: str
    durability: Durability = "async"
    env: dict[str, str] = Field(default_factory=dict)
    created_at: float = 0.0
    kept: tuple[str, ...] = ()
    release: int = 0
    restore: Origin | None = None
    asleep: bool = False
    move: Move | None = None
    deletion: Deletion | None = None
    follows: int = 0
    limits: RequestLimits | None = None
    sleep_after: float | None = None

    @property
    def gone(self) -> bool:
        """Whether all of the tenant was removed; the record is kept so that it can be written over
        by compare-and-swap."""
        return self.deletion is not None and self.deletion.purged_at is not None


SUPERSEDABLE = frozenset({OwnerState.RESTORING, OwnerState.RELEASED})
"""States in which nothing is being acknowledged, so that a claim needs no fence before it."""


RESTORABLE = frozenset({OwnerState.RELEASED, OwnerState.DAMAGED})
"""States over which a past state may be claimed: all of the newest epoch is in the bucket, so that
nothing is lost by leaving it, or it cannot be had anyway."""


def restore_wanted(wanted: TenantRecord, now: OwnerRecord | None) -> Origin | None:
    """The restore that the tenant was told of and that no claim has taken up yet."""
    taken_up = now.restored if now is not None else 0
    return wanted.restore if wanted.restore and wanted.restore.number > taken_up else None


def move_wanted(wanted: TenantRecord, now: OwnerRecord | None) -> Move | None:
    """The move that the tenant was told of and that no claim has carried out yet."""
    move = wanted.move
    due = move is not None and now is not None and now.epoch <= move.epoch
    return move if due and move is not None and now is not None and now.host != move.host else None


def claim(
    now: OwnerRecord | None,
    tenant: str,
    owner: Owner,
    *,
    authority_ended: bool,
    origin: Origin | None = None,
) -> OwnerRecord:
    """The next epoch, ``restoring``, for ``owner``.

    Args:
        now: the record as it stands, None for a tenant that was never owned.
        authority_ended: the lease of the owner in ``now`` is fenced, superseded or one's own.
        origin: the past state that the new epoch shall be made of. Without one it goes on from
            its parent, or from where the claim that it supersedes was to go.

    Raises:
        NotAllowed: the present owner may still be serving, or the tenant is damaged or deleted, or
            cannot be restored from where it stands.
    """
    if now is None or (now.tomb is not None and now.tomb.erased):
        return OwnerRecord(
            rev=now.rev + 1 if now is not None else 1,
            tenant=tenant,
            lineage=secrets.token_hex(8),
            epoch=now.epoch + 1 if now is not None else 1,
            host=owner.host,
            incarnation=owner.incarnation,
            state=OwnerState.RESTORING,
            genesis=origin is None,
            origin=origin,
            restored=origin.number if origin else 0,
            deletion=now.deletion if now is not None else 0,
        )
    if now.state is OwnerState.DELETED:
        raise NotAllowed(f"{tenant} is deleted")
    if now.state is OwnerState.DAMAGED and origin is None:
        raise NotAllowed(f"{tenant} is damaged ({now.reason}); repair it before it is started")
    if origin is not None:
        if now.state not in RESTORABLE:
            # Left now, an asynchronous tail of the newest epoch would be lost, and no undo had it.
            raise NotAllowed(f"{tenant} is {now.state}; release it before it is restored")
        if origin.number <= now.restored:
            raise NotAllowed(f"restore {origin.number} of {tenant} was taken up before")
    else:
        refuse_if_serving(now, authority_ended)
    return succeeding(now, owner, origin)


def refuse_if_serving(now: OwnerRecord, authority_ended: bool) -> None:
    """Raises `NotAllowed` where the present owner may still be serving."""
    settled = now.state in SUPERSEDABLE or now.state is OwnerState.DAMAGED
    if not settled and not authority_ended:
        raise NotAllowed(f"{now.tenant} is {now.state} on {now.host}, whose lease is not fenced")


def succeeding(now: OwnerRecord, owner: Owner, origin: Origin | None = None) -> OwnerRecord:
    """The record of the next epoch, ``restoring``, whatever ``now`` is; see `claim`."""
    # A record that never became active has no data of its own: its claimant's parent is copied,
    # and so is its origin. Walking further back would turn a lost prefix into a silent return to
    # older data.
    never_active = now.state in (OwnerState.RESTORING, OwnerState.DAMAGED)
    parent = now.parent if never_active else Parent(epoch=now.epoch)
    if origin is not None:
        mends = now.reason if now.state is OwnerState.DAMAGED else ""
        origin = origin.model_copy(update={"mends": mends})
    elif never_active:
        origin = now.origin
    return now.model_copy(
        update=now.succeeded_by(
            epoch=now.epoch + 1,
            host=owner.host,
            incarnation=owner.incarnation,
            state=OwnerState.RESTORING,
            genesis=now.genesis and parent is None and origin is None,
            parent=parent,
            floor_txid=now.floor_txid if never_active or now.state is OwnerState.RELEASED else 0,
            next_wake=None,
            reason="",
            content_failures=0 if now.state is OwnerState.DAMAGED else now.content_failures,
            origin=origin,
            restored=max(now.restored, origin.number if origin else 0),
            restore_failure="" if origin else now.restore_failure,
        )
    )


def _mine(now: OwnerRecord, owner: Owner, epoch: int, *states: OwnerState) -> None:
    if now.epoch != epoch or now.owner != owner:
        raise NotAllowed(
            f"{now.tenant} belongs to {now.host} at epoch {now.epoch}, not to {owner.host} "
            f"at epoch {epoch}"
        )
    if now.state not in states:
        raise NotAllowed(f"{now.tenant} is {now.state}, not {' or '.join(states)}")


def activate(now: OwnerRecord, owner: Owner, epoch: int) -> OwnerRecord:
    """From ``restoring`` to ``active``: only once the new epoch's base is seen in the bucket."""
    _mine(now, owner, epoch, OwnerState.RESTORING)
    return now.model_copy(
        update=now.succeeded_by(state=OwnerState.ACTIVE, floor_txid=0, content_failures=0)
    )


def drain(now: OwnerRecord, owner: Owner, epoch: int) -> OwnerRecord:
    """From ``active`` to ``draining``: the start of a planned stop."""
    _mine(now, owner, epoch, OwnerState.ACTIVE)
    return now.model_copy(update=now.succeeded_by(state=OwnerState.DRAINING))


def release(
    now: OwnerRecord, owner: Owner, epoch: int, floor_txid: int, next_wake: float | None
) -> OwnerRecord:
    """From ``draining`` to ``released`` at a final position that was read from the bucket."""
    _mine(now, owner, epoch, OwnerState.DRAINING)
    return now.model_copy(
        update=now.succeeded_by(
            state=OwnerState.RELEASED, floor_txid=floor_txid, next_wake=next_wake
        )
    )


MAX_CONTENT_FAILURES = 2
"""Failures caused by the content, not by a host or the store, after which no other host tries."""


def give_up(
    now: OwnerRecord, owner: Owner, epoch: int, *, content_failed: bool = False, reason: str = ""
) -> OwnerRecord:
    """End a claim that could not be completed: ``restoring`` by nobody, for anyone to supersede.

    With ``content_failed`` the failure is counted, and the last allowed one makes the tenant
    ``damaged``. A failure of the host or of the store says nothing about the content.
    """
    _mine(now, owner, epoch, OwnerState.RESTORING)
    failures = now.content_failures + content_failed
    if failures >= MAX_CONTENT_FAILURES:
        return damage(now, owner, epoch, reason)
    return now.model_copy(
        update=now.succeeded_by(host="", incarnation="", content_failures=failures, reason=reason)
    )


def damage(now: OwnerRecord, owner: Owner, epoch: int, reason: str) -> OwnerRecord:
    """From ``restoring`` to ``damaged``: the content cannot be restored, on any host.

    A past state that cannot be restored says nothing about the newest one. So a tenant that was
    whole when it was told to go back is let go on from where it was, and a damaged one is what it
    was before; only a tenant that has nothing else, a fork, is damaged by it.
    """
    _mine(now, owner, epoch, OwnerState.RESTORING)
    gone = {"host": "", "incarnation": ""}
    if now.origin is not None and now.parent is not None:
        back: dict[str, object] = {"origin": None, "restore_failure": reason, "content_failures": 0}
        if now.origin.mends:
            back |= {"state": OwnerState.DAMAGED, "reason": now.origin.mends}
        return now.model_copy(update=now.succeeded_by(**gone, **back))
    return now.model_copy(
        update=now.succeeded_by(
            state=OwnerState.DAMAGED,
            reason=reason,
            content_failures=now.content_failures + 1,
            restore_failure=reason if now.origin else now.restore_failure,
            **gone,
        )
    )


def needed(now: OwnerRecord) -> frozenset[int]:
    """The epochs without which the tenant cannot be started or go on as this record has it."""
    found = {now.epoch}
    if now.state in (OwnerState.RESTORING, OwnerState.DAMAGED, OwnerState.DELETED):
        found |= {now.parent.epoch} if now.parent is not None else set()
        found |= {now.origin.epoch} if now.origin and now.origin.tenant == now.tenant else set()
    return frozenset(found)


def mark_purging(now: OwnerRecord, epochs: Iterable[int]) -> OwnerRecord:
    """Mark epochs whose data shall be removed: before the first of it is.

    Raises:
        NotAllowed: the tenant is on hold or damaged, or needs one of them.
    """
    wanted = frozenset(epochs)
    if now.hold:
        raise NotAllowed(f"{now.tenant} is on hold; nothing of it is removed")
    if now.state is OwnerState.DELETED:
        raise NotAllowed(f"{now.tenant} is deleted; its data goes with it")
    if now.state is OwnerState.DAMAGED:
        raise NotAllowed(f"{now.tenant} is damaged; what is there may be needed to mend it")
    kept = needed(now) & wanted | {epoch for epoch in wanted if epoch > now.epoch}
    if kept:
        raise NotAllowed(f"{now.tenant} needs epoch {max(kept)}")
    marked = tuple(sorted({*now.purging, *wanted}))
    return now.model_copy(update=now.succeeded_by(purging=marked))


def unmark_purged(now: OwnerRecord, epoch: int) -> OwnerRecord:
    """An epoch's data is gone: nothing was left in a list that was taken after the last removal."""
    left = tuple(one for one in now.purging if one != epoch)
    return now.model_copy(update=now.succeeded_by(purging=left))


def set_hold(now: OwnerRecord, hold: bool) -> OwnerRecord:
    """Put a tenant on hold, or take it off. What was marked before is removed all the same.

    Raises:
        NotAllowed: its data is being removed, so that a hold would keep half of it.
    """
    if hold and now.tomb is not None and now.tomb.erasing:
        raise NotAllowed(f"{now.tenant} is being purged; it is too late to put it on hold")
    return now.model_copy(update=now.succeeded_by(hold=hold))
