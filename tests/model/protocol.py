"""All that can happen next in a state, and what must hold after it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.bucket import files_of, landed
from tests.model.coordinator import coordinator_steps
from tests.model.deletion import deletion_steps, nothing_is_left
from tests.model.machines import machine_steps, tick
from tests.model.nodes import node_steps
from tests.model.rules import ALL
from tests.model.search import Broken
from tests.model.world import Budget, Config, File, World, beginning, spend, with_machine

Steps = Iterator[tuple[str, World]]


def steps(world: World, config: Config) -> Steps:
    """Every step from ``world``. Raises `Broken` at the first that breaks an invariant."""
    for name, after in _all(world, config):
        if config.clocks:
            _one_engine(after, name)
        nothing_is_left(after, config, name)
        yield name, _renumbered(after, config)


SERVED = ("join m0", "join m1", "order m0", "claim n1", "empty n1", "base n1", "activate n1")
"""From empty to a tenant that is served by the first machine, with the second one ready."""


def served(config: Config) -> World:
    """Where most of what is explored begins: a tenant is served, and all of the budget is left."""
    spent = Budget(orders=1, joins=2)
    world = beginning(config._replace(budget=spent, rules=ALL))
    for wanted in SERVED:
        following = dict(steps(world, config._replace(rules=ALL)))
        (world,) = (after for name, after in following.items() if name.startswith(wanted))
    return world._replace(budget=config.budget)


def _all(world: World, config: Config) -> Steps:
    yield from machine_steps(world, config)
    yield from coordinator_steps(world, config)
    yield from deletion_steps(world, config)
    yield from node_steps(world, config)
    yield from _landing(world, config)
    yield from _storing(world)
    if config.clocks and (later := tick(world, config)) != world:
        yield "tick", later


def _renumbered(world: World, config: Config) -> World:
    """The same state with the versions of each lease counted anew. Nobody compares more than
    whether two are equal, and renewals would count for ever."""
    for host, lease in enumerate(world.leases):
        if lease is None:
            continue
        now = world.owner
        owns = now is not None and now.machine >= 0 and config.leases[now.machine] == host
        # A tenant that is deleted is nobody's; then any host may have to be watched.
        owns = owns or (now is not None and now.state == "deleted")
        if (lease.fenced or not owns) and world.watches[host] != (0, 0):
            watches = list(world.watches)
            watches[host] = (0, 0)
            world = world._replace(watches=tuple(watches))
        members = [index for index, of in enumerate(config.leases) if of == host]
        named = {lease.etag, world.watches[host][0]}
        for index in members:
            named |= {world.machines[index].etag, world.machines[index].watched}
        flights = [write for write in world.flights if (write.kind, write.key) == ("lease", host)]
        named |= {write.expected for write in flights}
        anew = {etag: number for number, etag in enumerate(sorted(named | {0}))}
        if all(etag == number for etag, number in anew.items()):
            continue
        leases, watches = list(world.leases), list(world.watches)
        leases[host] = lease._replace(etag=anew[lease.etag])
        watches[host] = (anew[watches[host][0]], watches[host][1])
        moved = frozenset(write._replace(expected=anew[write.expected]) for write in flights)
        world = world._replace(
            leases=tuple(leases),
            watches=tuple(watches),
            flights=(world.flights - frozenset(flights)) | moved,
        )
        for index in members:
            machine = world.machines[index]
            world = with_machine(
                world, index, etag=anew[machine.etag], watched=anew[machine.watched]
            )
    return world


def _one_engine(world: World, name: str) -> None:
    """No two engines may have effects. One that stands still has none."""
    serving = [
        node
        for node in world.nodes
        if node.phase == "active" and not world.machines[node.machine].paused
    ]
    if len(serving) > 1:
        told = " and ".join(f"n{node.number} at epoch {node.epoch}" for node in serving)
        raise Broken("one engine", f"{told} serve after {name}")


def _landing(world: World, config: Config) -> Steps:
    for write in world.flights:
        after, through = landed(world, config, write)
        if write.sender >= 0:
            after = with_machine(after, write.sender, landed="yes" if through else "no")
        yield f"land {write.kind}", after


def _storing(world: World) -> Steps:
    """Litestream's compaction, and what the store itself may lose."""
    for epoch in sorted({file.epoch for file in world.files}):
        low = sorted(file for file in files_of(world, epoch) if file.level == 0)
        high = [file for file in files_of(world, epoch) if file.level == 1]
        compacted = max((file.high for file in high), default=0)
        new = [file for file in low if file.low > compacted]
        whole = [file.low - compacted for file in new] == list(range(1, len(new) + 1))
        if world.budget.compactions and whole and new:
            rows = tuple(file.rows[0] for file in new)
            merged = File(epoch, 1, compacted + 1, new[-1].high, rows)
            after = spend(world, "compactions")._replace(files=world.files | {merged})
            yield f"compact e{epoch}", after
        covered = frozenset(file for file in low for one in high if file.high <= one.high)
        if covered:
            yield f"expire e{epoch}", world._replace(files=world.files - covered)
        if world.budget.lost_files and epoch == world.active:
            bases = frozenset(file for file in (*low, *high) if file.low == 1)
            after = spend(world, "lost_files")._replace(files=world.files - bases, wounded=True)
            yield f"lose e{epoch}", after
    if world.budget.lost_records and world.owner is not None:
        yield "lose-record", spend(world, "lost_records")._replace(owner=None, wounded=True)
