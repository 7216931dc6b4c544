"""What the coordinator sees, and what it may do about it: the words in which `decide` is told and
answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from backup.lease import WATCH, LeaseRecord, LeaseState
from backup.ownership import Origin, OwnerRecord, TenantRecord
from backup.records import Versioned

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
    ``dead``: an operator or a runtime has confirmed that the machine is gone. ``cordoned`` and
    ``draining`` are what operators want of it, see `backup.hosts`.
    """

    lease: Versioned[LeaseRecord]
    unchanged_for: float
    nodes: tuple[SeenNode, ...] | None = None
    nodes_at: float = math.inf
    dead: bool = False
    lease_at: float = math.inf
    cordoned: bool = False
    draining: bool = False

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

    @property
    def open(self) -> bool:
        """Whether it may be given tenants that it does not have."""
        return self.fit and not (self.cordoned or self.draining)


@dataclass(frozen=True, slots=True)
class SeenTenant:
    """A tenant: what is wanted, who owns it, and where an order is under way (a host's name).

    ``owner_at`` is when the record was read, on the same clock as ``SeenHost.nodes_at``.
    ``idle_for`` is for how many seconds its node was seen to have nothing to do, and ``next_wake``
    when that will have something by time alone, in unix seconds. ``requested``: requests for it
    are under way at the gateway.
    """

    wanted: TenantRecord
    owner: Versioned[OwnerRecord] | None = None
    owner_at: float = -math.inf
    ordered: str | None = None
    failed_on: frozenset[str] = frozenset()
    not_before: float = -math.inf
    upgrade_after: float = -math.inf
    drain_after: float = -math.inf
    idle_for: float = 0.0
    next_wake: float | None = None
    requested: bool = False


@dataclass(frozen=True, slots=True)
class Sleeping:
    """Which tenants are put to sleep: those that had nothing to do for ``after`` seconds (0: none),
    and will not have by time alone within ``least``."""

    after: float = 0.0
    least: float = 60.0


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a decision is made on. ``watching_for``: seconds since this coordinator began.
    ``wall``: unix seconds, for the timers of tenants that sleep."""

    hosts: Mapping[str, SeenHost]
    tenants: Mapping[str, SeenTenant]
    watching_for: float
    now: float = 0.0
    wall: float = 0.0
    resumed: frozenset[str] = field(default_factory=frozenset)
    sleeping: Sleeping = Sleeping()


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


@dataclass(frozen=True, slots=True)
class Wake:
    """Have a tenant that sleeps wanted awake: the time has come that it slept for."""

    tenant: str
    cause: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Have a tenant that has nothing to do wanted asleep."""

    tenant: str


Action = Fence | Start | Brake | Upgrade | Drain | Bury | Wake | Sleep
