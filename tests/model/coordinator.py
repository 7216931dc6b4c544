"""The coordinator: watches leases, fences, and orders whatever the rules allow, in any order.

It has no plan of its own, so whatever a real one decides within the rules is among its steps, and
so is what two coordinators decide at once. That `decide` keeps to the rules is for the simulation.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.bucket import SUPERSEDABLE, lapsed, swap_lease
from tests.model.world import Claim, Config, Order, World, spend

Steps = Iterator[tuple[str, World]]

SHORT_WATCH = 2
"""Ticks with which the twin that watches for too short a time is content."""


def coordinator_steps(world: World, config: Config) -> Steps:
    """All that a coordinator can do next."""
    if not world.budget.orders:
        return
    # What becomes of a host that does not own the tenant changes nothing for it.
    hosts = {config.leases[world.owner.machine]} if world.owner and world.owner.machine >= 0 else ()
    if world.owner is not None and world.owner.state == "deleted":
        # Before anything of it is removed, whoever may still write must have ended.
        hosts = {config.leases[node.machine] for node in world.nodes}
    for host in sorted(hosts):
        lease = world.leases[host]
        assert lease is not None
        etag, age = world.watches[host]
        if etag != lease.etag and config.clocks:
            yield f"look h{host}", _watching(world, host, lease.etag)
        if lease.fenced or not (_silent(config, age) or not config.clocks):
            continue
        watched = etag == lease.etag or not config.clocks
        if watched or not config.rules.fence_what_was_watched:
            fenced = swap_lease(world, config, host, lease.etag, lease._replace(fenced=True))
            assert fenced is not None
            yield f"fence h{host}", fenced
    yield from _glancing(world, config)
    yield from _ordering(world, config)


def _watching(world: World, host: int, etag: int) -> World:
    watches = list(world.watches)
    watches[host] = (etag, 0)
    return world._replace(watches=tuple(watches))


def _silent(config: Config, age: int) -> bool:
    return lapsed(age) if config.rules.watch_outlasts_deadline else age >= SHORT_WATCH


def _ordering(world: World, config: Config) -> Steps:
    owner = world.owner
    anew = owner is None or (owner.tomb is not None and owner.tomb.erased)
    over = anew or (owner is not None and owner.machine < 0) or _over(world, config, owner)
    claimable = owner is not None and (over or owner.state in SUPERSEDABLE)
    if not anew and (owner is None or owner.state in ("damaged", "deleted") or not claimable):
        return
    order = Order(
        machine=0,
        expected=owner.etag if owner is not None else 0,
        ended=over,
        floor=_floor(world, owner) if owner is not None and config.rules.floor_of_lease else 0,
    )
    for index, machine in enumerate(world.machines):
        if machine.incarnation:
            sent = world.orders | {order._replace(machine=index)}
            yield f"order m{index}", spend(world._replace(orders=sent), "orders")


def _over(world: World, config: Config, owner: Claim | None) -> bool:
    return owner is None or ended(world, config, owner)


def ended(world: World, config: Config, owner: Claim) -> bool:
    """Whether the owner is known not to serve any more, by what is read now."""
    host = config.leases[owner.machine]
    leases, nodes = world.leases, frozenset(node.number for node in world.nodes)
    if not config.rules.newer_lease and world.glance is not None:
        leases = world.glance
    if not config.rules.newer_node_list and world.glance is not None:
        nodes = world.glance
    lease = leases[host]
    if lease is not None and (lease.fenced or lease.incarnation != owner.incarnation):
        return True
    if not config.rules.fence_before_claim and lapsed(world.watches[host][1]):
        return True
    agent = world.machines[owner.machine]
    answers = agent.incarnation == owner.incarnation and not agent.paused and agent.left > 0
    return answers and owner.node not in nodes


def _floor(world: World, owner: Claim) -> int:
    source = owner.parent if owner.state == "restoring" else owner.epoch
    return max(
        (lease.txid for lease in world.leases if lease is not None and lease.epoch == source),
        default=0,
    )


def _glancing(world: World, config: Config) -> Steps:
    """The twins that go by what was seen before the owner was read see it now."""
    seen: object = None
    if not config.rules.newer_lease:
        seen = world.leases
    elif not config.rules.newer_node_list:
        seen = frozenset(node.number for node in world.nodes)
    if seen != world.glance:
        yield "glance", world._replace(glance=seen)
