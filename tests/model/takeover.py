"""Taking over: claim, list, restore, base, active."""

from __future__ import annotations

from collections.abc import Iterator

from restore.plan import Plan
from tests.model.bucket import (
    changed,
    claimed,
    files_of,
    planned,
    put,
    rows_of,
    swap_lease,
    swap_owner,
)
from tests.model.search import Broken
from tests.model.world import (
    Claim,
    Config,
    File,
    Node,
    Order,
    Rows,
    World,
    Write,
    nodes_of,
    spend,
    with_machine,
    with_node,
    without_node,
)

Steps = Iterator[tuple[str, World]]

RELISTS = 2
"""How often a list that shows something missing is taken again."""


def taking(world: World, config: Config, order: Order) -> Steps:
    machine = world.machines[order.machine]
    ready = machine.incarnation and machine.left and not machine.paused
    lease = world.leases[config.leases[order.machine]]
    holds = lease is not None and lease.incarnation == machine.incarnation and not lease.fenced
    if not ready or not holds or nodes_of(world, order.machine):
        return
    world = _renewed(world._replace(orders=world.orders - {order}), config, order.machine)
    number = world.numbers + 1
    node = Node(
        number=number,
        machine=order.machine,
        incarnation=machine.incarnation,
        phase="starting",
        epoch=0,
        parent=0,
        etag=0,
        floor=order.floor,
        expected=order.expected,
        ended=order.ended,
    )
    world = world._replace(numbers=number, nodes=(*world.nodes, node))
    if config.rules.list_after_claim:
        yield from claiming(world, config, node)
    else:
        source = world.owner.epoch if world.owner is not None else 0
        yield f"take n{number}", with_node(world, node, listed=files_of(world, source))


def _renewed(world: World, config: Config, index: int) -> World:
    """An idle machine renews in time, which is not shown before it has something to lose."""
    host, machine = config.leases[index], world.machines[index]
    lease = world.leases[host]
    if lease is None or machine.etag != lease.etag or machine.sent >= 0:
        return world
    after = swap_lease(world, config, host, lease.etag, lease)
    assert after is not None
    return with_machine(after, index, etag=lease.etag + 1)


def claiming(world: World, config: Config, node: Node) -> Steps:
    """Claim at once. What could come between an order's arrival and its claim could as well have
    come before the arrival."""
    now = world.owner
    etag = now.etag if now is not None else 0
    name = f"n{node.number} on m{node.machine}"
    if config.rules.swaps and config.rules.claim_decided_version and etag != node.expected:
        yield f"superseded {name}", without_node(world, node)
        return
    wanted = claimed(now, node.machine, node.incarnation, node.number, node.ended)
    if wanted is None:
        yield f"superseded {name}", without_node(world, node)
        return
    wanted = _twisted(config, now, wanted)
    floor = max(node.floor, wanted.floor) if config.rules.floor_of_release else node.floor
    after = swap_owner(world, config, etag, wanted)
    assert after is not None
    assert after.owner is not None
    yield (
        f"claim {name}",
        with_node(
            after,
            node,
            phase="claimed" if node.listed is None else "listing",
            epoch=wanted.epoch,
            parent=wanted.parent,
            etag=after.owner.etag,
            floor=floor,
        ),
    )
    if world.budget.late_records:
        # It never hears of its claim, and ends; the claim may land.
        flight = Write("owner", 0, etag, wanted, -1)
        sent = spend(world._replace(flights=world.flights | {flight}), "late_records")
        yield f"lose-claim {name}", without_node(sent, node)


def _twisted(config: Config, now: Claim | None, wanted: Claim) -> Claim:
    """What the broken twins make of a claim."""
    rules = config.rules
    if now is None:
        return wanted
    if not rules.fresh_epoch:
        wanted = wanted._replace(epoch=now.epoch)
    if now.tomb is not None and not rules.epoch_outlives_erasure:
        wanted = wanted._replace(epoch=1)
    never_active = now.state == "restoring"
    if never_active and not rules.keep_parent:
        wanted = wanted._replace(parent=now.epoch - 1)
    if never_active and not rules.only_active_parents:
        wanted = wanted._replace(parent=now.epoch)
    return wanted


def listing(world: World, config: Config, node: Node) -> Steps:
    """First half of a list; the second, and what comes of it, is another step."""
    if not node.parent:
        known = range(1, node.epoch)
        foreign = any(file.epoch not in known for file in world.files)
        if foreign and config.rules.empty_is_made_sure_of:
            yield f"damage n{node.number}", _damaged(world, config, node)
        else:
            yield f"empty n{node.number}", with_node(world, node, phase="restored")
        return
    for name, after, part in _part(world, node, low=config.rules.levels_upwards):
        yield f"list{name} n{node.number}", with_node(after, node, phase="listing", listed=part)


def _part(world: World, node: Node, low: bool) -> Iterator[tuple[str, World, frozenset[File]]]:
    there = frozenset(file for file in files_of(world, node.parent) if (file.level == 0) is low)
    yield "", world, there
    if world.budget.lies and there:
        last = max(file.high for file in files_of(world, node.parent))
        short = frozenset(file for file in there if file.high != last)
        if short != there:
            yield "-short", spend(world, "lies")._replace(lied=True), short


def restoring(world: World, config: Config, node: Node) -> Steps:
    rules = config.rules
    assert node.listed is not None
    for name, after, part in _part(world, node, low=not rules.levels_upwards):
        files = node.listed | part if rules.list_after_claim else node.listed
        found = planned(files)
        missing = _missing(config, found, node.floor)
        if missing is None:
            rows = rows_of(files, found.reachable)
            yield f"restore{name} n{node.number}", _restored(after, config, node, rows)
        elif rules.relist and node.relists < RELISTS:
            again = {"phase": "claimed", "listed": None, "relists": node.relists + 1}
            yield f"relist{name} n{node.number}", with_node(after, node, **again)
        elif not rules.no_walking_back and node.parent > 1:
            back = {"phase": "claimed", "listed": None, "parent": node.parent - 1, "floor": 0}
            yield f"walk-back n{node.number}", with_node(after, node, **back)
        else:
            yield f"damage n{node.number}", _damaged(after, config, node)


def _missing(config: Config, found: Plan, floor: int) -> str | None:
    if not config.rules.gap_check and not found.empty:
        return None
    return found.missing(floor)


def _damaged(world: World, config: Config, node: Node) -> World:
    now = world.owner
    if now is not None and now.etag == node.etag:
        after = swap_owner(world, config, node.etag, changed(now, "damaged", node.epoch))
        assert after is not None
        world = after
    return without_node(world, node)


def _restored(world: World, config: Config, node: Node, rows: Rows) -> World:
    disk = world.machines[node.machine].disk
    if disk is not None and disk.epoch == node.parent:
        goes_on = disk.rows[: len(rows)] == rows
        if goes_on or not config.rules.tail_goes_on:
            rows = disk.rows
    if disk is not None and not config.rules.fresh_folder:
        rows += disk.rows[-1:]
    if node.parent == world.active and rows != world.history[: len(rows)]:
        raise Broken("history", f"{rows} is restored, but history is {world.history}")
    floored = _floored(world, node.parent)
    if not floored <= set(rows):
        raise Broken("floor", f"{rows} is restored, but {set(floored)} was known to be there")
    handed = world.owner is not None and world.owner.node == node.number
    if handed and node.parent == world.active and not set(world.handed) <= set(rows):
        raise Broken("handed over", f"{rows} is restored of {world.handed}, that was released")
    return with_node(world, node, phase="restored", rows=rows, base=len(rows), listed=None)


def _floored(world: World, epoch: int) -> frozenset[int]:
    """What a lease says is in the bucket, if it is the epoch that is restored."""
    txid = max(
        (lease.txid for lease in world.leases if lease is not None and lease.epoch == epoch),
        default=0,
    )
    files = files_of(world, epoch)
    return frozenset(rows_of(files, min(txid, planned(files).reachable)))


def basing(world: World, config: Config, node: Node) -> Steps:
    file = File(node.epoch, 0, 1, 1, (node.rows,))
    yield f"base n{node.number}", with_node(put(world, file), node, phase="based", uploaded=1)
    if not config.rules.base_before_active:
        yield from activating(world, config, node)


def activating(world: World, config: Config, node: Node) -> Steps:
    now = world.owner
    name = f"n{node.number}"
    if now is None or (config.rules.swaps and now.etag != node.etag):
        yield f"superseded {name}", without_node(world, node)
        return
    mine = now.node == node.number
    wanted = changed(now, "active", node.epoch) if mine else _stolen(now, node)
    after = swap_owner(world, config, node.etag, wanted)
    assert after is not None
    assert after.owner is not None
    uploaded = max(node.uploaded, 1)
    served = with_node(after, node, phase="active", etag=after.owner.etag, uploaded=uploaded)
    yield f"activate {name}", served
    if world.budget.late_records:
        flight = Write("owner", 0, node.etag, wanted, -1)
        sent = spend(world._replace(flights=world.flights | {flight}), "late_records")
        yield f"lose-activation {name}", without_node(sent, node)


def _stolen(now: Claim, node: Node) -> Claim:
    """What a store that keeps no conditions lets through: a record that is somebody else's now."""
    mine = now._replace(machine=node.machine, incarnation=node.incarnation, node=node.number)
    return mine._replace(epoch=node.epoch, parent=node.parent, state="active", floor=0)
