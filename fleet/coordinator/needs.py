"""Whether a tenant has nobody who runs it, and whether it should: the protocol's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backup.burial import may_begin
from backup.lease import LeaseState
from backup.ownership import (
    RESTORABLE,
    Origin,
    OwnerRecord,
    OwnerState,
    TenantRecord,
    move_wanted,
    restore_wanted,
)
from fleet.coordinator.picture import SeenHost, SeenTenant


@dataclass(frozen=True, slots=True)
class Need:
    """Why a tenant must be started, and whether its last owner's authority has ended."""

    cause: str
    authority_ended: bool
    origin: Origin | None = None


def needs_start(tenant: SeenTenant, hosts: Mapping[str, SeenHost]) -> Need | None:
    """Whether a tenant that shall run has nobody who runs it."""
    owner = tenant.owner.record if tenant.owner is not None else None
    if tenant.wanted.deletion is not None or resting(tenant.wanted, owner):
        return None
    return nobody_runs(tenant, hosts)


def resting(wanted: TenantRecord, owner: OwnerRecord | None) -> bool:
    """Whether a tenant sleeps: it shall, nobody owns it, and nothing has to be done with it.

    One whose host was lost is started first: only its log tells when it must wake.
    """
    if not wanted.asleep or wanted.deletion is not None:
        return False
    stopped = owner is None or owner.state is OwnerState.RELEASED
    return stopped and restore_wanted(wanted, owner) is None


def due(wanted: TenantRecord, owner: OwnerRecord | None, wall: float) -> bool:
    """Whether the time has come for which a tenant slept. ``wall``: unix seconds."""
    wake = owner.next_wake if owner is not None else None
    return resting(wanted, owner) and wake is not None and wake <= wall


def nobody_runs(tenant: SeenTenant, hosts: Mapping[str, SeenHost]) -> Need | None:
    """Whether a tenant has nobody who runs it, by the protocol's rules.

    Absence of evidence is not enough: an owner is gone only if its lease was fenced or replaced, or
    if its own agent, alive, says that the node is over.
    """
    if may_begin(tenant.wanted, tenant.owner.record if tenant.owner is not None else None):
        past = restore_wanted(tenant.wanted, None)
        return Need("forked" if past else "created", authority_ended=True, origin=past)
    assert tenant.owner is not None
    record = tenant.owner.record
    past = restore_wanted(tenant.wanted, record)
    if past is not None and record.state in RESTORABLE:
        return Need("restored", authority_ended=True, origin=past)
    if record.state in (OwnerState.DAMAGED, OwnerState.DELETED):
        return None
    if record.state is OwnerState.RELEASED:
        left = hosts.get(record.host)
        away = left is not None and left.draining
        moved = away or move_wanted(tenant.wanted, record) is not None
        return Need("moved" if moved else "released", authority_ended=True)
    if not record.host:
        return Need("given_up", authority_ended=True)
    if authority_over(record, hosts, tenant.owner_at):
        return Need("host_lost", authority_ended=True)
    host = hosts.get(record.host)
    if host is None or host.nodes is None or host.nodes_at <= tenant.owner_at:
        # A node is in its agent's list before it claims anything. So a list that was asked for
        # after the record was read, and lacks the owner, shows that it is gone; an older list may
        # only not have it yet, and acting on that would cut off a healthy tenant.
        return None
    mine = [node for node in host.nodes if node.incarnation == record.incarnation]
    if mine and not mine[0].over:
        return None
    return Need("node_lost", authority_ended=True)


def authority_over(record: OwnerRecord, hosts: Mapping[str, SeenHost], recorded_at: float) -> bool:
    """Whether the lease under which the record was written has ended for good.

    Args:
        recorded_at: when the record had been read, on the same clock as ``SeenHost.lease_at``.
    """
    host = hosts.get(record.host)
    if host is None:
        # Leases are never deleted; one that is not in the picture may only not be read yet.
        return False
    lease = host.lease.record
    if lease.incarnation == record.owner.authority:
        return lease.state is LeaseState.FENCED
    # Another incarnation: the owner's successor, or its predecessor if the lease was read before
    # the owner wrote its own. Only a lease that was asked for after the record can tell.
    return host.lease_at > recorded_at
