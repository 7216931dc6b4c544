"""What the coordinator knows of one tenant, and what follows from it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from backup.errors import Denied
from backup.ownership import OwnerRecord, OwnerState, TenantRecord
from backup.records import Versioned
from backup.settings import Credentials
from fleet.coordinator.asking import Asked
from fleet.coordinator.needs import authority_over, resting
from fleet.coordinator.picture import SeenHost, SeenTenant, Start
from fleet.issuer import CredentialIssuer
from fleet.views import Recovery, RecoverySplit, TenantState
from node.order import NodeState, NodeStatus


class TenantExists(Exception):
    """A tenant of that name exists already."""


@dataclass(slots=True)
class Ordered:
    """A start that is under way. ``before``: the tenant's nodes that the host had already."""

    action: Start
    at: float
    before: frozenset[str]
    lost_since: float | None = None
    detected_at: float | None = None


@dataclass(slots=True)
class Tenant:
    """One tenant as the coordinator knows it. ``stale``: its owner record must be read again."""

    wanted: TenantRecord
    owner: Versioned[OwnerRecord] | None = None
    owner_at: float = -math.inf
    stale: bool = True
    ordered: Ordered | None = None
    node: NodeStatus | None = None
    failed_on: set[str] = field(default_factory=set)
    not_before: float = -math.inf
    recoveries: list[Recovery] = field(default_factory=list)
    credentials: Credentials | None = None
    upgrade_after: float = -math.inf
    drain_after: float = -math.inf
    rest: tuple[str, int] | None = None
    rest_at: float = -math.inf
    asked: Asked | None = None
    """Who wants its newest creation, fork or restore, where that was asked of this coordinator."""

    async def issued(self, issuer: CredentialIssuer) -> Credentials:
        """The storage key of its sidecar, issued when it is first wanted.

        Raises:
            StoreError: it could not be issued, or the tenant is deleted and gets none.
        """
        if self.wanted.deletion is not None:
            raise Denied(f"{self.wanted.tenant} is deleted; no storage key is issued for it")
        if self.credentials is None:
            self.credentials = await asyncio.to_thread(issuer.issue, self.wanted.tenant)
        return self.credentials

    def note_rest(self, node: NodeStatus, now: float) -> None:
        """Note whether its node has anything to do. For how long not is measured here, so that it
        does not hang on the clocks of hosts.

        Args:
            now: seconds, monotonic.
        """
        idle = node.serving and node.state is NodeState.ACTIVE and not node.lag.seconds
        rest = (node.incarnation, node.rest) if idle and node.rest is not None else None
        if rest is None or rest != self.rest:
            self.rest, self.rest_at = rest, now

    def seen(self, now: float = 0.0, *, requested: bool = False) -> SeenTenant:
        """This tenant in a picture for `decide`.

        Args:
            now: seconds, monotonic.
            requested: requests for it are under way.
        """
        return SeenTenant(
            wanted=self.wanted,
            owner=self.owner,
            owner_at=self.owner_at,
            ordered=self.ordered.action.host if self.ordered else None,
            failed_on=frozenset(self.failed_on),
            not_before=self.not_before,
            upgrade_after=self.upgrade_after,
            drain_after=self.drain_after,
            idle_for=now - self.rest_at if self.rest is not None else 0.0,
            next_wake=self.node.next_wake if self.node is not None else None,
            requested=requested,
        )

    def state(self, owner: SeenHost | None) -> TenantState:
        """One word for where the tenant stands; ``lost`` while its owner's authority has ended.

        Args:
            owner: the host that the record names, as it is seen.
        """
        if resting(self.wanted, self.owner.record if self.owner else None):
            return "asleep"
        if self.owner is None:
            return "pending"
        record = self.owner.record
        serving = record.state in (OwnerState.ACTIVE, OwnerState.DRAINING)
        hosts = {owner.name: owner} if owner is not None else {}
        return (
            "lost"
            if serving and authority_over(record, hosts, self.owner_at)
            else record.state.value
        )

    @property
    def newest_epoch(self) -> int:
        """The newest epoch that was seen, 0 for none."""
        recorded = self.owner.record.epoch if self.owner else 0
        return max(recorded, self.node.epoch if self.node else 0)


def recovery_of(order: Ordered, node: NodeStatus, now: float) -> Recovery | None:
    """What a take-over from a lost host took, None if no host was lost.

    Args:
        now: when the tenant was seen serving again, in unix seconds.
    """
    if order.lost_since is None or order.detected_at is None:
        return None
    total = now - order.lost_since
    detect = order.detected_at - order.lost_since
    return Recovery(
        tenant=node.tenant,
        from_host=order.action.from_host,
        to_host=node.host,
        from_epoch=order.action.from_epoch,
        epoch=node.epoch,
        cause=order.action.cause,
        at=now,
        rto_seconds=total,
        split=RecoverySplit(
            detect=detect,
            # All from the detection to the claim: the fence, waiting for a turn, the order.
            fence=max(0.0, total - detect - node.phases.total),
            **node.phases.model_dump(),
        ),
    )
