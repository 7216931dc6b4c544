"""What to do next, from what is seen: a pure function, so that it can be simulated.

Nothing here reads a clock, a store or a random number. `decide` is called again and again; it may
be given the same picture twice, so every action must be safe to repeat (each is a compare-and-swap
on the version that is in the picture).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from backup.burial import deletion_wanted, is_buried
from backup.lease import TTL, WATCH, LeaseRecord, LeaseState
from backup.ownership import (
    RESTORABLE,
    Origin,
    OwnerRecord,
    OwnerState,
    TenantRecord,
    restore_wanted,
)
from backup.records import Versioned

BRAKE_HOSTS = 3
"""Lost hosts below which there is never a brake."""
BRAKE_SHARE = 0.3
"""Share of the hosts whose loss, if exceeded, is more likely an error of the observer's."""
STARTS_PER_HOST = 4
"""Take-overs that one host may have under way: restores compete for its disk and network."""
STARTING = frozenset({"starting", "restoring"})
"""States of a node that is still being brought up."""
SUSPECT_AFTER = 8.0
"""Seconds without a renewal after which a host gets no new tenants."""


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node as its agent tells of it. ``over``: its processes are known to be gone. ``release`` is
    that of the code which it runs."""

    tenant: str
    incarnation: str
    state: str
    over: bool
    release: int = 0


@dataclass(frozen=True, slots=True)
class SeenHost:
    """A host: its lease, for how many seconds that was seen unchanged, and its nodes.

    ``nodes`` is None while the agent does not answer; then nothing is concluded from absence.
    ``nodes_at`` and ``lease_at`` are when they were asked for, in seconds of the observer's clock.
    ``dead``: an operator or a runtime has confirmed that the machine is gone.
    """

    lease: Versioned[LeaseRecord]
    unchanged_for: float
    nodes: tuple[SeenNode, ...] | None = None
    nodes_at: float = math.inf
    dead: bool = False
    lease_at: float = math.inf

    @property
    def name(self) -> str:
        return self.lease.record.host

    @property
    def lost(self) -> bool:
        """Due to be fenced: its authority has lapsed by anybody's clock, or it is known dead."""
        live = self.lease.record.state is LeaseState.LIVE
        return live and (self.dead or self.unchanged_for >= WATCH)

    @property
    def fit(self) -> bool:
        """Whether it may be given tenants."""
        live = self.lease.record.state is LeaseState.LIVE
        return (
            live and not self.dead and self.unchanged_for < SUSPECT_AFTER and self.nodes is not None
        )


@dataclass(frozen=True, slots=True)
class SeenTenant:
    """A tenant: what is wanted, who owns it, and where an order is under way (a host's name).

    ``owner_at`` is when the record was read, on the same clock as ``SeenHost.nodes_at``.
    """

    wanted: TenantRecord
    owner: Versioned[OwnerRecord] | None = None
    owner_at: float = -math.inf
    ordered: str | None = None
    failed_on: frozenset[str] = frozenset()
    not_before: float = -math.inf
    upgrade_after: float = -math.inf
    drain_after: float = -math.inf


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a decision is made on. ``watching_for``: seconds since this coordinator began."""

    hosts: Mapping[str, SeenHost]
    tenants: Mapping[str, SeenTenant]
    watching_for: float
    now: float = 0.0
    resumed: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Fence:
    """Compare-and-swap a lost host's lease to ``fenced``, at the version that was watched."""

    host: str
    lease: Versioned[LeaseRecord]


@dataclass(frozen=True, slots=True)
class Start:
    """Order a host to take a tenant over, at the version of its record in the picture."""

    tenant: str
    host: str
    expected: str | None
    authority_ended: bool
    floor_txid: int
    cause: str
    from_host: str | None = None
    from_epoch: int = 0
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Brake:
    """Too many hosts look lost at once: fence none of them until an operator resumes."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Have a tenant's engine restarted in place with the code that is wanted now."""

    tenant: str
    host: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Have a tenant's node stop in the planned way, so that it can be started otherwise."""

    tenant: str
    host: str
    cause: str


@dataclass(frozen=True, slots=True)
class Bury:
    """Take a tenant that shall be deleted from whoever has it, at the version in the picture."""

    tenant: str
    owner: Versioned[OwnerRecord] | None
    number: int


Action = Fence | Start | Brake | Upgrade | Drain | Bury


def decide(picture: Picture) -> list[Action]:
    """The actions that the picture calls for, most urgent first."""
    return [
        *_fences(picture),
        *_burials(picture),
        *_starts(picture),
        *_drains(picture),
        *_upgrades(picture),
    ]


def _burials(picture: Picture) -> Iterable[Bury]:
    """Of tenants that shall be deleted and that nobody runs. One that serves is stopped first, with
    a final sync, and one whose host is lost is buried once that is fenced."""
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        deletion = deletion_wanted(tenant.wanted, tenant.owner.record if tenant.owner else None)
        if deletion is None:
            continue
        damaged = tenant.owner is not None and tenant.owner.record.state is OwnerState.DAMAGED
        if damaged or _nobody_runs(tenant, picture.hosts) is not None:
            yield Bury(name, tenant.owner, deletion.number)


def _drains(picture: Picture) -> Iterable[Drain]:
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        owner = tenant.owner.record if tenant.owner else None
        if owner is None or owner.state is not OwnerState.ACTIVE:
            continue
        host = picture.hosts.get(owner.host)
        cause = "delete" if deletion_wanted(tenant.wanted, owner) is not None else None
        if cause is None and restore_wanted(tenant.wanted, owner) is not None:
            cause = "restore"
        if picture.now < tenant.drain_after or cause is None:
            continue
        for node in (host.nodes or ()) if host is not None and host.fit else ():
            if node.incarnation == owner.incarnation and node.state == "active":
                yield Drain(name, owner.host, cause)


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


def _starts(picture: Picture) -> Iterable[Start]:
    starting: Counter[str] = Counter()
    carrying: Counter[str] = Counter()
    for tenant in picture.tenants.values():
        if tenant.ordered is not None:
            starting[tenant.ordered] += 1
            carrying[tenant.ordered] += 1
    for host in picture.hosts.values():
        for node in host.nodes or ():
            if not node.over and _ordered_to(picture, node.tenant) != host.name:
                carrying[host.name] += 1
                # Ordered by an earlier coordinator, or given up by this one too soon.
                starting[host.name] += node.state in STARTING
    for name in sorted(picture.tenants):
        tenant = picture.tenants[name]
        if tenant.ordered is not None or picture.now < tenant.not_before:
            continue
        need = needs_start(tenant, picture.hosts)
        if need is None:
            continue
        # Where it ran last, its files may hold an asynchronous tail that the bucket does not have.
        last = tenant.owner.record.host if tenant.owner else ""
        target = place(picture.hosts, carrying, starting, tenant.failed_on, last)
        if target is None:
            continue
        starting[target] += 1
        carrying[target] += 1
        owner = tenant.owner
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


def _ordered_to(picture: Picture, tenant: str) -> str | None:
    seen = picture.tenants.get(tenant)
    return seen.ordered if seen is not None else None


@dataclass(frozen=True, slots=True)
class Need:
    """Why a tenant must be started, and whether its last owner's authority has ended."""

    cause: str
    authority_ended: bool
    origin: Origin | None = None


def needs_start(tenant: SeenTenant, hosts: Mapping[str, SeenHost]) -> Need | None:
    """Whether a tenant has nobody who runs it, by the protocol's rules.

    Absence of evidence is not enough: an owner is gone only if its lease was fenced or replaced, or
    if its own agent, alive, says that the node is over.
    """
    if tenant.wanted.deletion is not None:
        return None
    return _nobody_runs(tenant, hosts)


def _nobody_runs(tenant: SeenTenant, hosts: Mapping[str, SeenHost]) -> Need | None:
    erased = tenant.owner is not None and tenant.owner.record.tomb is not None
    if tenant.owner is None or (erased and not is_buried(tenant.owner.record)):
        past = restore_wanted(tenant.wanted, None)
        return Need("forked" if past else "created", authority_ended=True, origin=past)
    record = tenant.owner.record
    past = restore_wanted(tenant.wanted, record)
    if past is not None and record.state in RESTORABLE:
        return Need("restored", authority_ended=True, origin=past)
    if record.state in (OwnerState.DAMAGED, OwnerState.DELETED):
        return None
    if record.state is OwnerState.RELEASED:
        return Need("released", authority_ended=True)
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


def place(
    hosts: Mapping[str, SeenHost],
    carrying: Mapping[str, int],
    starting: Mapping[str, int],
    avoid: frozenset[str],
    prefer: str = "",
) -> str | None:
    """The host for one more node: ``prefer``, or the one that carries least, by name among equals.

    Hosts on which this tenant's start has just failed come last. None if every fit host has its
    hands full, which passes.
    """
    fit = [
        name for name, host in hosts.items() if host.fit and starting.get(name, 0) < STARTS_PER_HOST
    ]
    return min(
        fit,
        key=lambda name: (name in avoid, name != prefer, carrying.get(name, 0), name),
        default=None,
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
