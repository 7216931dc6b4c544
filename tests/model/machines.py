"""Machines and their leases: joining, renewing, the deadline, pauses and crashes. And time."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.bucket import credited, lapsed, swap_lease
from tests.model.world import (
    DEADLINE,
    WATCHED,
    Config,
    Lease,
    Machine,
    World,
    Write,
    nodes_of,
    spend,
    with_machine,
    without_node,
)

Steps = Iterator[tuple[str, World]]


def machine_steps(world: World, config: Config) -> Steps:
    """All that machines can do next, and that can be done to them."""
    for index, machine in enumerate(world.machines):
        if machine.paused:
            yield f"resume m{index}", _resumed(world, config, index)
            continue
        if machine.incarnation:
            yield from _renewing(world, config, index, machine)
        elif world.budget.joins:
            yield from _joining(world, config, index, machine)
        if world.budget.pauses and nodes_of(world, index):
            yield f"pause m{index}", spend(with_machine(world, index, paused=True), "pauses")
        if world.budget.crashes and machine.incarnation:
            yield from _crashing(world, index)


def tick(world: World, config: Config) -> World:
    """Four seconds later."""
    machines = []
    for index, machine in enumerate(world.machines):
        waits = machine.sent >= 0
        watches = not machine.incarnation and machine.watched
        machines.append(
            machine._replace(
                # Without a node there is nothing that a deadline could end: it renews in time.
                left=max(machine.left - (bool(nodes_of(world, index)) or waits), 0),
                sent=min(machine.sent + 1, DEADLINE) if waits else -1,
                watched_for=min(machine.watched_for + 1, WATCHED) if watches else 0,
            )
        )
    watches_after = tuple(
        (etag, min(age + 1, WATCHED) if etag else 0) for etag, age in world.watches
    )
    before = world.machines
    world = world._replace(machines=tuple(machines), watches=watches_after)
    for index, machine in enumerate(before):
        ends = machine.incarnation and machine.left == 1 and not machine.paused
        if ends and config.rules.own_deadlines:
            world = lost(world, index)
    return world


def lost(world: World, index: int) -> World:
    """A machine has no authority any more: its nodes are killed; its agent may join anew."""
    for node in nodes_of(world, index):
        world = without_node(world, node)
    return _unheard(with_machine(world, index, incarnation=0, left=0), index)


def _unheard(world: World, index: int) -> World:
    """A machine does not wait for an answer any more; what it has sent is still on its way."""
    flights = frozenset(
        write._replace(sender=-1) if write.sender == index else write for write in world.flights
    )
    return with_machine(world._replace(flights=flights), index, sent=-1, landed="")


def _resumed(world: World, config: Config, index: int) -> World:
    world = with_machine(world, index, paused=False)
    if config.rules.deadline_first and world.machines[index].left == 0:
        return lost(world, index)
    return world


def _crashing(world: World, index: int) -> Steps:
    # What knew which incarnations were its own is gone with the memory.
    after = with_machine(lost(spend(world, "crashes"), index), index, mine=frozenset())
    yield f"crash m{index}", after
    disk = after.machines[index].disk
    if disk is not None and len(disk.rows) > disk.base and world.budget.rollbacks:
        older = disk._replace(rows=disk.rows[:-1])
        yield f"rollback m{index}", spend(with_machine(after, index, disk=older), "rollbacks")


# -- the lease ---------------------------------------------------------------------------------


def _joining(world: World, config: Config, index: int, machine: Machine) -> Steps:
    host = config.leases[index]
    lease = world.leases[host]
    if lease is not None and not lease.fenced and lease.incarnation not in machine.mine:
        if machine.watched != lease.etag:
            seen = with_machine(world, index, watched=lease.etag, watched_for=0)
            yield f"watch m{index}", seen
        silent = machine.watched == lease.etag and lapsed(machine.watched_for)
        if config.rules.join_watches and config.clocks and not silent:
            return
    incarnation = world.incarnations + 1
    etag = lease.etag if lease is not None else 0
    wanted = Lease(incarnation, False, 0, 0, 0)
    after = swap_lease(spend(world, "joins"), config, host, etag, wanted)
    assert after is not None
    yield (
        f"join m{index}",
        with_machine(
            after._replace(incarnations=incarnation),
            index,
            incarnation=incarnation,
            etag=etag + 1,
            left=DEADLINE,
            watched=0,
            watched_for=0,
            mine=machine.mine | {incarnation},
        ),
    )


def _renewal(world: World, index: int, machine: Machine) -> Lease:
    proven = max(
        ((node.epoch, node.proven) for node in nodes_of(world, index) if node.proven),
        default=(0, 0),
    )
    return Lease(machine.incarnation, False, *proven, 0)


def _renewing(world: World, config: Config, index: int, machine: Machine) -> Steps:
    if machine.sent >= 0:
        if machine.landed:
            yield f"answer m{index}", _answered(world, config, index, machine)
        else:
            yield f"abandon m{index}", _unheard(world, index)
        return
    if not machine.left:
        # Only a machine of a broken twin gets here: it has no authority and does not know it yet.
        yield f"notice m{index}", lost(world, index)
        if config.rules.deadline_first:
            return
    host, wanted = config.leases[index], _renewal(world, index, machine)
    lease = world.leases[host]
    assert lease is not None
    if not nodes_of(world, index) and lease.incarnation == machine.incarnation:
        if lease.fenced:
            yield f"refused m{index}", lost(world, index)
        return
    after = swap_lease(world, config, host, machine.etag, wanted)
    if after is None:
        yield f"refused m{index}", _refused(world, config, index, machine)
    else:
        etag = after.leases[host].etag  # type: ignore[union-attr]
        yield f"renew m{index}", with_machine(after, index, etag=etag, left=DEADLINE)
    if world.budget.slow_renewals:
        write = Write("lease", host, machine.etag, wanted, index)
        sent = world._replace(flights=world.flights | {write})
        yield f"send m{index}", spend(with_machine(sent, index, sent=0), "slow_renewals")


def _answered(world: World, config: Config, index: int, machine: Machine) -> World:
    world = with_machine(world, index, sent=-1, landed="")
    if machine.landed == "no":
        return _refused(world, config, index, machine)
    left = credited(machine.left, machine.sent) if config.rules.counted_from_sending else DEADLINE
    if left is None:
        return lost(world, index)
    return with_machine(world, index, left=left, etag=machine.etag + 1)


def _refused(world: World, config: Config, index: int, machine: Machine) -> World:
    """Somebody else has written the lease."""
    host = config.leases[index]
    found = world.leases[host]
    assert found is not None
    if found.incarnation != machine.incarnation:
        return lost(world, index)
    if not found.fenced:
        # Its own, written late. The deadline stays where it is.
        return with_machine(world, index, etag=found.etag)
    return lost(world, index)
