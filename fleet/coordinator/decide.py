"""What to do next, from what is seen: a pure function, so that it can be simulated.

Nothing here reads a clock, a store or a random number. `decide` is called again and again; it may
be given the same picture twice, so every action must be safe to repeat (each is a compare-and-swap
on the version that is in the picture).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from backup.burial import deletion_wanted
from backup.lease import TTL, LeaseState
from backup.ownership import OwnerRecord, OwnerState
from fleet.coordinator.drains import drains
from fleet.coordinator.idleness import sleeps
from fleet.coordinator.needs import due, needs_start, nobody_runs
from fleet.coordinator.picture import (
    Action,
    Brake,
    Bury,
    Fence,
    Picture,
    SeenHost,
    Start,
    Upgrade,
    Wake,
)
from fleet.coordinator.placement import Load, choice, place

BRAKE_HOSTS = 3
"""Lost hosts below which there is never a brake."""
BRAKE_SHARE = 0.3
"""Share of the hosts whose loss, if exceeded, is more likely an error of the observer's."""


def decide(picture: Picture) -> list[Action]:
    """The actions that the picture calls for, most urgent first."""
    load = Load.of(picture)
    return [
        *_fences(picture),
        *_burials(picture),
        *_wakes(picture),
        *_starts(picture, load),
        *drains(picture, load),
        *_upgrades(picture),
        *sleeps(picture),
    ]


def _wakes(picture: Picture) -> Iterable[Wake]:
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        if due(tenant.wanted, tenant.owner.record if tenant.owner else None, picture.wall):
            yield Wake(name, "timer")


def _burials(picture: Picture) -> Iterable[Bury]:
    """Of tenants that shall be deleted and that nobody runs. One that serves is stopped first, with
    a final sync, and one whose host is lost is buried once that is fenced."""
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        deletion = deletion_wanted(tenant.wanted, tenant.owner.record if tenant.owner else None)
        if deletion is None:
            continue
        damaged = tenant.owner is not None and tenant.owner.record.state is OwnerState.DAMAGED
        if damaged or nobody_runs(tenant, picture.hosts) is not None:
            yield Bury(name, tenant.owner, deletion.number)


def _upgrades(picture: Picture) -> Iterable[Upgrade]:
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        owner = tenant.owner.record if tenant.owner else None
        if owner is None or picture.now < tenant.upgrade_after:
            continue
        host = picture.hosts.get(owner.host)
        for node in (host.nodes or ()) if host is not None and host.fit else ():
            mine = node.incarnation == owner.incarnation and node.state == "active"
            if mine and node.release < tenant.wanted.release:
                yield Upgrade(name, owner.host)


def _fences(picture: Picture) -> Iterable[Action]:
    # A coordinator that has just begun has not watched anything long enough, except that its
    # watches begin with it; a full TTL keeps its own slow start from looking like their silence.
    lost = [
        host
        for host in picture.hosts.values()
        if host.lost and (host.dead or picture.watching_for >= TTL)
    ]
    if braked(lost, picture.hosts.values()):
        held = tuple(sorted(host.name for host in lost if host.name not in picture.resumed))
        if held:
            yield Brake(held)
        lost = [host for host in lost if host.name in picture.resumed]
    for host in sorted(lost, key=lambda each: each.name):
        yield Fence(host.name, host.lease)


def braked(lost: Iterable[SeenHost], hosts: Iterable[SeenHost]) -> bool:
    """Whether so many hosts are lost at once that an operator should look first.

    Hosts whose lease was ended before are not counted: their loss has been dealt with.
    """
    count = sum(1 for _ in lost)
    living = sum(1 for host in hosts if host.lease.record.state is LeaseState.LIVE)
    return count >= BRAKE_HOSTS and count > BRAKE_SHARE * living


def _starts(picture: Picture, load: Load) -> Iterable[Start]:
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        if tenant.ordered is not None or picture.now < tenant.not_before:
            continue
        need = needs_start(tenant, picture.hosts)
        if need is None:
            continue
        if load.full:
            # Nobody after this one finds room either; the next turn looks again.
            break
        owner = tenant.owner
        target = place(picture.hosts, load, choice(tenant, picture.hosts), tenant.failed_on)
        if target is None:
            continue
        load.give(target)
        yield Start(
            tenant=name,
            host=target,
            expected=owner.etag if owner else None,
            authority_ended=need.authority_ended,
            floor_txid=floor_of(owner.record if owner else None, picture.hosts),
            cause=need.cause,
            from_host=(owner.record.host or None) if owner else None,
            from_epoch=_data_epoch(owner.record) if owner else 0,
            origin=need.origin,
        )


def _data_epoch(record: OwnerRecord) -> int:
    """The epoch whose data a take-over of this record restores; 0 at genesis."""
    if record.state is OwnerState.RESTORING:
        return record.parent.epoch if record.parent else 0
    return record.epoch


def floor_of(record: OwnerRecord | None, hosts: Mapping[str, SeenHost]) -> int:
    """What the lost host said was proven of the very epoch that will be restored."""
    if record is None:
        return 0
    source = _data_epoch(record)
    best = 0
    for host in hosts.values():
        text = host.lease.record.proven.get(record.tenant, "")
        epoch, _, txid = text.partition(":")
        if epoch.isdigit() and txid.isdigit() and int(epoch) == source:
            best = max(best, int(txid))
    return best
