"""Which nodes are to be stopped in the planned way, and when."""

from __future__ import annotations

from collections.abc import Iterable

from backup.burial import deletion_wanted
from backup.ownership import OwnerRecord, OwnerState, move_wanted, restore_wanted
from fleet.coordinator.needs import resting
from fleet.coordinator.picture import Drain, Picture, SeenHost, SeenTenant
from fleet.coordinator.placement import Choice, Load, place


def drains(picture: Picture, load: Load) -> Iterable[Drain]:
    """Nodes that are to stop because of what is wanted of their tenant or of their host.

    What stops only to go on elsewhere is not stopped before there is room for it, so that nobody
    waits in between: those that are between two hosts already come first.
    """
    moving = False
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        owner = tenant.owner.record if tenant.owner is not None else None
        if owner is None or owner.state is not OwnerState.ACTIVE:
            continue
        host = picture.hosts.get(owner.host)
        if host is None or not host.fit or picture.now < tenant.drain_after:
            continue
        cause = _cause(tenant, owner, host)
        if cause is None or not _runs(host, owner):
            continue
        if cause in ("move", "host_drained"):
            if not moving:
                moving = True
                _reserve(picture, load)
            target = place(picture.hosts, load, _elsewhere(tenant, owner, picture), frozenset())
            if target is None:
                continue
            load.give(target)
        yield Drain(name, owner.host, cause)


def _cause(tenant: SeenTenant, owner: OwnerRecord, host: SeenHost) -> str | None:
    if deletion_wanted(tenant.wanted, owner) is not None:
        return "delete"
    if restore_wanted(tenant.wanted, owner) is not None:
        return "restore"
    if tenant.wanted.asleep:
        return "sleep"
    if move_wanted(tenant.wanted, owner) is not None:
        return "move"
    return "host_drained" if host.draining else None


def _runs(host: SeenHost, owner: OwnerRecord) -> bool:
    return any(
        node.incarnation == owner.incarnation and node.state == "active"
        for node in host.nodes or ()
    )


def _elsewhere(tenant: SeenTenant, owner: OwnerRecord, picture: Picture) -> Choice:
    among = {name for name, host in picture.hosts.items() if host.open and name != owner.host}
    move = move_wanted(tenant.wanted, owner)
    return Choice({move.host} if move is not None and move.host in among else among)


def _reserve(picture: Picture, load: Load) -> None:
    """Keep room for those that were stopped, or told to stop, and that no host has been given."""
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        owner = tenant.owner.record if tenant.owner is not None else None
        if owner is None or tenant.ordered is not None or resting(tenant.wanted, owner):
            continue
        told = owner.state is OwnerState.ACTIVE and picture.now < tenant.drain_after
        if told or owner.state in (OwnerState.DRAINING, OwnerState.RELEASED):
            target = place(picture.hosts, load, _elsewhere(tenant, owner, picture), frozenset())
            if target is not None:
                load.give(target)
