"""Which coordinator is the active one: a pure decision on the records of their own small fleet.

The coordinators of a fleet are the hosts of a fleet of their own, with one tenant: the log of
operations. Whoever owns that tenant is the active one. It changes hands by the same protocol as
any tenant, and nothing brakes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backup.ownership import OwnerRecord, OwnerState, TenantRecord
from backup.records import Versioned
from fleet.coordinator.decide import floor_of
from fleet.coordinator.needs import needs_start
from fleet.coordinator.picture import Fence, SeenHost, SeenTenant

TENANT = "log"
"""The one tenant of the fleet of coordinators. That fleet has a prefix of its own, so that no user
can create it, and it is in no list of tenants."""


@dataclass(frozen=True, slots=True)
class Seats:
    """The coordinators, each as a host, and who owns their log.

    ``me`` is the host that decides, the only one whose nodes are seen. ``owner_at`` is when the
    record had been read, on the same clock as ``SeenHost.nodes_at``.
    """

    me: str
    hosts: Mapping[str, SeenHost]
    owner: Versioned[OwnerRecord] | None
    owner_at: float


@dataclass(frozen=True, slots=True)
class Take:
    """Take the log over, at the version of its record in the picture."""

    expected: str | None
    floor_txid: int
    cause: str
    from_host: str | None


def decide_seat(seats: Seats) -> Fence | Take | None:
    """What this coordinator shall do now, if anything: fence an owner that was lost, or take over.

    One whose own authority has ended does nothing.
    """
    mine = seats.hosts.get(seats.me)
    if mine is None or not mine.fit:
        return None
    record = seats.owner.record if seats.owner is not None else None
    holder = seats.hosts.get(record.host) if record is not None else None
    if record is not None and holder is not None and holder.name != seats.me and holder.lost:
        return Fence(holder.name, holder.lease)
    wanted = TenantRecord(tenant=TENANT, app="")
    need = needs_start(SeenTenant(wanted, seats.owner, seats.owner_at), seats.hosts)
    if need is None or any(not node.over for node in mine.nodes or ()):
        return None
    return Take(
        expected=seats.owner.etag if seats.owner is not None else None,
        floor_txid=floor_of(record, seats.hosts),
        cause=need.cause,
        from_host=record.host or None if record is not None else None,
    )


def is_damaged(seats: Seats) -> bool:
    """Whether the log cannot be brought back by itself."""
    return seats.owner is not None and seats.owner.record.state is OwnerState.DAMAGED
