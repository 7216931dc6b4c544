"""Which tenants that have nothing to do are put to sleep, and when. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from backup.ownership import OwnerState, TenantRecord, move_wanted, restore_wanted
from fleet.coordinator.picture import Picture, SeenTenant, Sleep, Sleeping

STOPS_PER_HOST = 4
"""Nodes that one host stops at once because they shall sleep: each is a last upload and a look at
the bucket, and nobody waits for it."""


def sleeps(picture: Picture) -> Iterable[Sleep]:
    """Those whose time has come, as many as their hosts stop at once."""
    stopping = Counter(
        tenant.owner.record.host
        for tenant in picture.tenants.values()
        if tenant.owner is not None
        and tenant.wanted.asleep
        and tenant.owner.record.state in (OwnerState.ACTIVE, OwnerState.DRAINING)
    )
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        if tenant.owner is None or not may_sleep(tenant, picture.sleeping, picture.wall):
            continue
        owner = tenant.owner.record
        host = picture.hosts.get(owner.host)
        runs = host is not None and host.fit and not host.draining
        if runs and stopping[owner.host] < STOPS_PER_HOST:
            stopping[owner.host] += 1
            yield Sleep(name)


def may_sleep(tenant: SeenTenant, sleeping: Sleeping, wall: float) -> bool:
    """Whether a tenant has had nothing to do for long enough, and nothing is wanted of it.

    Args:
        wall: unix seconds.
    """
    after = idle_seconds(tenant.wanted, sleeping.after)
    owner = tenant.owner.record if tenant.owner is not None else None
    if owner is None or owner.state is not OwnerState.ACTIVE or tenant.ordered is not None:
        return False
    wanted = tenant.wanted
    if wanted.asleep or wanted.deletion is not None or tenant.requested or after <= 0:
        return False
    if move_wanted(wanted, owner) is not None or restore_wanted(wanted, owner) is not None:
        return False
    if tenant.next_wake is not None and tenant.next_wake - wall < sleeping.least:
        return False
    return tenant.idle_for >= after


def idle_seconds(wanted: TenantRecord, general: float) -> float:
    """After how many seconds with nothing to do a tenant is put to sleep; 0 for never."""
    return general if wanted.sleep_after is None else wanted.sleep_after
