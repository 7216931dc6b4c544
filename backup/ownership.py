"""Who owns a tenant: the record in the bucket and the transitions that it may take.

Pure: every function takes the record as it was read and gives the record to swap in, or raises
`NotAllowed`. The rules are those of docs/protocol.md; each is pinned by a variant in the tests
that drops it and must fail.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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


class OwnerRecord(Record):
    """``owner.json``. ``genesis`` without parent is the one case that may start empty.

    ``floor_txid`` is the last position of a clean hand-over, in the parent's epoch: a restore that
    ends below it is damage. ``next_wake`` is the next timer of a tenant that sleeps, in unix
    seconds.
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


class TenantRecord(Record):
    """``tenant.json``: the wanted state, written before the creation is answered.

    ``kept`` are the older versions of the application beside it. ``release`` counts the changes of
    either: a node that has a lower one is to load its code again.
    """

    tenant: str
    app: str
    durability: Durability = "async"
    env: dict[str, str] = Field(default_factory=dict)
    created_at: float = 0.0
    kept: tuple[str, ...] = ()
    release: int = 0


SUPERSEDABLE = frozenset({OwnerState.RESTORING, OwnerState.RELEASED})
"""States in which nothing is being acknowledged, so that a claim needs no fence before it."""


def claim(
    now: OwnerRecord | None, tenant: str, owner: Owner, *, authority_ended: bool
) -> OwnerRecord:
    """The next epoch, ``restoring``, for ``owner``.

    Args:
        now: the record as it stands, None for a tenant that was never owned.
        authority_ended: the lease of the owner in ``now`` is fenced, superseded or one's own.

    Raises:
        NotAllowed: the present owner may still be serving, or the tenant is damaged or deleted.
    """
    if now is None:
        return OwnerRecord(
            tenant=tenant,
            lineage=secrets.token_hex(8),
            epoch=1,
            host=owner.host,
            incarnation=owner.incarnation,
            state=OwnerState.RESTORING,
            genesis=True,
        )
    if now.state is OwnerState.DAMAGED:
        raise NotAllowed(f"{tenant} is damaged ({now.reason}); repair it before it is started")
    if now.state is OwnerState.DELETED:
        raise NotAllowed(f"{tenant} is deleted")
    if now.state not in SUPERSEDABLE and not authority_ended:
        raise NotAllowed(f"{tenant} is {now.state} on {now.host}, whose lease is not fenced")
    # A record that never became active has no data of its own: its claimant's parent is copied.
    # Walking further back would turn a lost prefix into a silent return to older data.
    never_active = now.state is OwnerState.RESTORING
    parent = now.parent if never_active else Parent(epoch=now.epoch)
    return now.model_copy(
        update=now.succeeded_by(
            epoch=now.epoch + 1,
            host=owner.host,
            incarnation=owner.incarnation,
            state=OwnerState.RESTORING,
            genesis=now.genesis and parent is None,
            parent=parent,
            floor_txid=now.floor_txid if never_active or now.state is OwnerState.RELEASED else 0,
            next_wake=None,
            reason="",
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
    """From ``restoring`` to ``damaged``: the content cannot be restored, on any host."""
    _mine(now, owner, epoch, OwnerState.RESTORING)
    return now.model_copy(
        update=now.succeeded_by(
            state=OwnerState.DAMAGED,
            reason=reason,
            host="",
            incarnation="",
            content_failures=now.content_failures + 1,
        )
    )
