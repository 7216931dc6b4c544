"""Where a tenant stands, for the gateway: who answers for it, or whether anybody will."""

from __future__ import annotations

import time
from collections.abc import Mapping

from backup.lease import LeaseState
from backup.ownership import OwnerState
from fleet.coordinator.account import Tenant
from fleet.coordinator.observe import HostWatch
from fleet.gateway.holding import Standing, Way
from node.order import NodeState


def standing_of(
    tenants: Mapping[str, Tenant], hosts: Mapping[str, HostWatch], name: str
) -> Standing:
    """Where a tenant stands by what this coordinator knows.

    A host that does not answer the coordinator is no way to a tenant: a request that is held has
    not been sent, while of one that is lost on the way nobody would know the outcome.
    """
    tenant = tenants.get(name)
    if tenant is None or tenant.wanted.deletion is not None:
        return Standing(None, 0, coming=False, why=f"{name} is deleted")
    record = tenant.owner.record if tenant.owner else None
    epoch = tenant.newest_epoch
    if record is not None and record.state is OwnerState.DAMAGED:
        return Standing(None, epoch, coming=False, why=f"{name} is damaged: {record.reason}")
    node = tenant.node
    host = hosts.get(node.host) if node else None
    if node is None or host is None or node.epoch < epoch:
        return Standing(None, epoch, coming=True, why=f"{name} is being started or moved")
    lease = host.lease.record
    if lease.state is not LeaseState.LIVE or not host.answers(time.monotonic()):
        return Standing(None, epoch, coming=True, why=f"{node.host}, which has {name}, is silent")
    if node.state is not NodeState.ACTIVE or not node.serving:
        why = f"{name} does not serve{': ' if node.detail else ''}{node.detail}"
        return Standing(None, epoch, coming=True, why=why)
    way = Way(host.address, f"/{name}", node.epoch, node.incarnation)
    return Standing(way, epoch, coming=True)
