"""A node's life, from its order to its end."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.bucket import (
    swap_owner,
)
from tests.model.serving import active, draining, proving, stopped, uploading
from tests.model.takeover import activating, basing, claiming, listing, restoring, taking
from tests.model.world import (
    Config,
    Node,
    World,
    nodes_of,
    spend,
    without_node,
)

Steps = Iterator[tuple[str, World]]

SERVING = ("active", "draining", "stopped")


def node_steps(world: World, config: Config) -> Steps:
    """All that nodes can do next, on the machines that run."""
    for order in world.orders:
        yield from taking(world, config, order)
    for node in world.nodes:
        if world.machines[node.machine].paused:
            continue
        yield from _PHASES[node.phase](world, config, node)
        if node.phase in SERVING:
            yield from uploading(world, config, node)
            yield from proving(world, config, node)
        if world.budget.deaths:
            yield f"die n{node.number}", without_node(spend(world, "deaths"), node)
    if not config.rules.new_epoch_after_crash:
        yield from _going_on(world, config)


def _going_on(world: World, config: Config) -> Steps:
    """The twin that goes on with its disk, in its old epoch."""
    now = world.owner
    if now is None or now.state != "active" or nodes_of(world, now.machine):
        return
    machine = world.machines[now.machine]
    if not (machine.incarnation and machine.left and machine.disk) or machine.paused:
        return
    disk = machine.disk
    if disk.epoch != now.epoch or machine.incarnation == now.incarnation:
        return
    number = world.numbers + 1
    mine = now._replace(incarnation=machine.incarnation, node=number)
    after = swap_owner(world, config, now.etag, mine)
    assert after is not None
    assert after.owner is not None
    node = Node(
        number=number,
        machine=now.machine,
        incarnation=machine.incarnation,
        phase="active",
        epoch=now.epoch,
        parent=now.parent,
        etag=after.owner.etag,
        floor=0,
        rows=disk.rows,
        base=disk.base,
        uploaded=min(disk.uploaded, 1 + len(disk.rows) - disk.base),
    )
    yield f"go-on n{number}", after._replace(numbers=number, nodes=(*after.nodes, node))


_PHASES = {
    "starting": claiming,
    "claimed": listing,
    "listing": restoring,
    "restored": basing,
    "based": activating,
    "active": active,
    "draining": draining,
    "stopped": stopped,
}
