"""What the history says of the starts that the coordinator orders."""

from __future__ import annotations

from typing import Any, Final

from fleet.coordinator.account import Ordered, Tenant
from fleet.coordinator.asking import Asked
from fleet.coordinator.history import History
from fleet.views import Recovery
from node.order import NodeStatus

KINDS: Final = {
    "created": "provision",
    "forked": "fork",
    "restored": "restore",
    "host_lost": "failover",
    "node_lost": "restart",
    "given_up": "restart",
    "released": "start",
    "moved": "move",
}
"""The kind of a start in the history, by the cause for which `decide` ordered it."""


def note_started(
    history: History,
    tenant: Tenant,
    order: Ordered,
    node: NodeStatus,
    recovery: Recovery | None,
    now: float,
) -> None:
    """Record that a tenant serves again.

    Args:
        recovery: where a host was lost, what that took.
        now: seconds, on the clock of ``order.at``.
    """
    action = order.action
    if action.origin is not None and action.origin.asked:
        return  # the operation that wanted it records it, with all that came before
    taken = now - order.at
    steps: dict[str, float] = {"order": max(0.0, taken - node.phases.total)}
    if recovery is not None:
        steps = {"detect": recovery.split.detect, "fence": recovery.split.fence}
    steps |= node.phases.model_dump()
    history.note(
        KINDS.get(action.cause, action.cause),
        tenant=node.tenant,
        # An epoch is begun once, so whoever tells of it tells of the same start.
        id=f"start/{node.tenant}/{node.epoch}",
        asked_by=_asker(tenant, action.cause),
        steps=steps,
        epoch_before=action.from_epoch or None,
        epoch_after=node.epoch,
        from_host=action.from_host,
        to_host=node.host,
        data=_origin(order),
    )


def note_failed(history: History, tenant: Tenant, order: Ordered, why: str, now: float) -> None:
    """Record that a host could not start a tenant; it is tried again."""
    action = order.action
    history.note(
        KINDS.get(action.cause, action.cause),
        tenant=action.tenant,
        asked_by=_asker(tenant, action.cause),
        steps={"order": max(0.0, now - order.at)},
        epoch_before=action.from_epoch or None,
        from_host=action.from_host,
        to_host=action.host,
        outcome="failed",
        error=why,
        data=_origin(order),
    )


def _asker(tenant: Tenant, cause: str) -> Asked:
    by_people = cause in ("created", "forked", "restored", "moved")
    who = tenant.asked if by_people and tenant.asked is not None else Asked()
    return who if who.why else Asked(who.by, cause.replace("_", " "))


def _origin(order: Ordered) -> dict[str, Any]:
    origin = order.action.origin
    return {"origin": f"{origin.tenant} {origin.bookmark}"} if origin is not None else {}
