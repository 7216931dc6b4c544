"""A coordinator: `fleet.coordinator.coordinator` and `.observe` step by step, around `decide`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from backup.errors import Precondition, StoreError
from backup.hosts import HostRecord
from backup.lease import WATCH, LeaseRecord, LeaseState, Watch, fenced
from backup.ownership import OwnerRecord, TenantRecord
from backup.records import Versioned
from fleet.coordinator.coordinator import CATALOG_EVERY, ORDER_TIMEOUT, RETRY_AFTER
from fleet.coordinator.decide import decide
from fleet.coordinator.lifecycle import TELL_AGAIN
from fleet.coordinator.observe import SILENT_AFTER
from fleet.coordinator.picture import (
    Action,
    Brake,
    Bury,
    Drain,
    Fence,
    Picture,
    SeenHost,
    SeenNode,
    SeenTenant,
    Start,
    Wake,
)
from tests.simulation.bucket import Bucket
from tests.simulation.checks import Checks
from tests.simulation.deleting import People, Undertaker
from tests.simulation.host import Host, Refused
from tests.simulation.node import Order
from tests.simulation.restoring import hasty
from tests.simulation.rules import Rules
from tests.simulation.world import Domain, Step, World

TICK = 1.0
"""Seconds between two turns; less often than the real one's, which changes no order of events."""
OPERATOR = 12.0
"""Seconds that a brake lasts before somebody comes and looks."""
SHORT_WATCH = 8.0
"""What the twin that watches for too short a time is content with."""


@dataclass(slots=True)
class Watched:
    """A host as this coordinator has seen it."""

    lease: Versioned[LeaseRecord]
    watch: Watch
    lease_at: float
    nodes: tuple[SeenNode, ...] = ()
    nodes_incarnation: str = ""
    nodes_at: float = -1.0
    answered_at: float = -math.inf


@dataclass(slots=True)
class Ordered:
    """A start that is under way. ``before``: the tenant's nodes that the host had already."""

    order: Order
    at: float
    before: frozenset[str]

    @property
    def action(self) -> Start:
        return self.order.action


@dataclass(slots=True)
class Known:
    """A tenant as this coordinator knows it."""

    wanted: TenantRecord
    owner: Versioned[OwnerRecord] | None = None
    owner_at: float = -math.inf
    stale: bool = True
    told: dict[str, tuple[str, str]] = field(default_factory=dict)
    ordered: Ordered | None = None
    failed_on: set[str] = field(default_factory=set)
    not_before: float = -math.inf
    drain_after: float = -math.inf


class Coordinator(Domain):
    """One life of a coordinator, on a machine of its own."""

    def __init__(
        self,
        world: World,
        bucket: Bucket,
        checks: Checks,
        rules: Rules,
        name: str,
        rate: float,
        hosts: dict[str, Host],
        catalog: dict[str, TenantRecord],
        wanted_of_hosts: Mapping[str, HostRecord],
        people: People | None = None,
    ):
        super().__init__(world, name, rate)
        self.bucket = bucket
        self.checks = checks
        self.rules = rules
        self.hosts = hosts
        self._catalog = catalog
        self._wanted_of_hosts = wanted_of_hosts
        self._undertaker = Undertaker(self, people)
        self._life = f"{name}.{next(world.number)}"
        self._began = self.now()
        self._catalog_at = -math.inf
        self._watched: dict[str, Watched] = {}
        self._tenants: dict[str, Known] = {}
        self._resumed: set[str] = set()
        self._braked: tuple[str, ...] = ()
        self._braked_at = math.inf
        world.spawn(self, self._run())

    def told(self, wanted: TenantRecord) -> None:
        """Somebody asks this coordinator to change a tenant; if it lives, it knows at once."""
        known = self._tenants.get(wanted.tenant)
        if known is not None and not self.dead:
            known.wanted, known.stale = wanted, True

    # -- looking --------------------------------------------------------------------------------

    def _run(self) -> Step[None]:
        while True:
            try:
                yield from self._turn()
            except StoreError:
                self.world.say(self.name, "the store does not answer")
            yield self.lasting(TICK * self.world.rng.uniform(0.5, 1.2))

    def _turn(self) -> Step[None]:
        yield from self._look_at_leases()
        if self.now() - self._catalog_at > CATALOG_EVERY or len(self._tenants) < len(self._catalog):
            for name, wanted in self._catalog.items():
                known = self._tenants.setdefault(name, Known(wanted))
                known.wanted, known.stale = wanted, True
            self._catalog_at = self.now()
        self._follow_nodes()
        for tenant in self._tenants.values():
            if tenant.stale:
                try:
                    found = yield from self.bucket.owner(self, tenant.wanted.tenant)
                except StoreError:
                    continue
                tenant.owner, tenant.owner_at, tenant.stale = found, self.now(), False
        for action in self._decide():
            if isinstance(action, Fence):
                yield from self._fence(action)
            elif isinstance(action, Start):
                self._begin(action)
            elif isinstance(action, Bury):
                yield from self._undertaker.bury(action, self._tenants[action.tenant])
            elif isinstance(action, Drain) and action.cause == "delete":
                self.world.spawn(self, self._undertaker.drain(action, self._tenants[action.tenant]))
            elif isinstance(action, Drain):
                self._drain(action)
            elif isinstance(action, Wake) and self.rules.sleepers_wake_in_time:
                self._wake(action)
        self._undertaker.look_after(self._tenants)

    def learn(self, tenant: str, wanted: TenantRecord) -> None:
        """What is wanted of a tenant was changed through this coordinator."""
        if tenant in self._tenants:
            self._tenants[tenant].wanted = wanted

    def _look_at_leases(self) -> Step[None]:
        for name in self.hosts:
            asked = self.now()
            if self.cut_off or self.bucket.faulty or self.world.rng.random() < 0.2:
                try:
                    found = yield from self.bucket.lease(self, name)
                except StoreError:
                    continue
            else:
                # Read at once: most steps between two leases are of no interest to anybody.
                found = self.bucket.leases.get(name)
            if found is not None:
                self._note(name, found, asked)
        yield 0.01

    def _note(self, name: str, lease: Versioned[LeaseRecord], asked: float) -> None:
        known = self._watched.get(name)
        if known is None:
            self._watched[name] = Watched(lease, Watch(lease.etag, self.now()), asked)
            self.world.spawn(self, self._poll(name))
        else:
            known.lease_at = asked
            known.watch.seen(lease.etag, self.now())
            known.lease = lease

    def _poll(self, name: str) -> Step[None]:
        """Ask one agent for its nodes, again and again."""
        host, known, rng = self.hosts[name], self._watched[name], self.world.rng
        while True:
            asked = self.now()
            yield rng.uniform(0.005, 0.05)
            if host.answers(self.name) and host.agent is not None:
                incarnation, nodes = host.agent.listed()
                yield rng.uniform(0.005, 0.05) if rng.random() < 0.9 else rng.uniform(0.1, 2.4)
                known.nodes, known.nodes_incarnation = nodes, incarnation
                known.nodes_at, known.answered_at = asked, self.now()
            yield self.lasting(rng.uniform(0.6, 1.4))

    def _follow_nodes(self) -> None:
        for name, host in self._watched.items():
            if host.lease.record.state is LeaseState.LIVE:
                for node in host.nodes:
                    if node.tenant in self._tenants:
                        self._follow(name, self._tenants[node.tenant], node)
        for tenant in self._tenants.values():
            self._expire_order(tenant)

    def _follow(self, host: str, tenant: Known, node: SeenNode) -> None:
        if tenant.told.get(host) != (node.incarnation, node.state):
            tenant.told[host] = (node.incarnation, node.state)
            tenant.stale = True
        order = tenant.ordered
        if order is None or order.action.host != host or node.incarnation in order.before:
            return
        if node.over:
            self._failed(order.action, tenant)
        elif node.state == "active":
            tenant.ordered = None
            tenant.stale = True
            tenant.failed_on.clear()

    def _expire_order(self, tenant: Known) -> None:
        order = tenant.ordered
        if order is None:
            return
        host = self._watched[order.action.host]
        ended = host.lease.record.state is LeaseState.FENCED
        if ended and self.rules.orders_end_with_the_lease:
            self._failed(order.action, tenant)
            return
        there = any(node.tenant == order.action.tenant and not node.over for node in host.nodes)
        if self.now() - order.at >= ORDER_TIMEOUT and not there:
            self._failed(order.action, tenant)

    # -- deciding -------------------------------------------------------------------------------

    def _picture(self) -> Picture:
        now = self.now()
        return Picture(
            hosts=self.seen_hosts(),
            tenants={
                name: SeenTenant(
                    wanted=tenant.wanted,
                    owner=tenant.owner,
                    owner_at=tenant.owner_at,
                    ordered=tenant.ordered.action.host if tenant.ordered else None,
                    failed_on=frozenset(tenant.failed_on),
                    not_before=tenant.not_before,
                    drain_after=tenant.drain_after,
                )
                for name, tenant in self._tenants.items()
                if not tenant.stale or tenant.ordered is not None
            },
            watching_for=now - self._began,
            now=now,
            wall=self.world.now,
            resumed=frozenset(self._resumed),
        )

    def seen_hosts(self) -> dict[str, SeenHost]:
        """The hosts as they are for this coordinator now."""
        now = self.now()
        return {name: self._seen(name, host, now) for name, host in self._watched.items()}

    def _seen(self, name: str, host: Watched, now: float) -> SeenHost:
        answers = (
            now - host.answered_at < SILENT_AFTER
            and host.nodes_incarnation == host.lease.record.incarnation
        )
        silent = host.watch.unchanged_for(now)
        wanted = self._wanted_of_hosts.get(name)
        if not self.rules.watch_outlasts_deadline:
            silent *= WATCH / SHORT_WATCH
        return SeenHost(
            lease=host.lease,
            unchanged_for=silent,
            nodes=host.nodes if answers else None,
            nodes_at=host.nodes_at if self.rules.newer_node_list else math.inf,
            lease_at=host.lease_at if self.rules.newer_lease else math.inf,
            # Whoever says so has seen the machine gone; that a host is silent is not enough.
            dead=self.hosts[name].dead and self.hosts[name].known_dead,
            cordoned=wanted is not None and wanted.cordoned,
            draining=wanted is not None and wanted.draining,
        )

    def _decide(self) -> list[Action]:
        picture = self._picture()
        if not self.rules.fence_before_claim:
            hosts = {
                name: replace(host, lease=Versioned(fenced(host.lease.record), host.lease.etag))
                if host.lost
                else host
                for name, host in picture.hosts.items()
            }
            picture = replace(picture, hosts=hosts)
        if not self.rules.brake:
            picture = replace(picture, resumed=frozenset(picture.hosts))
        if not self.rules.sleepers_are_left:
            picture = self._changed(picture, lambda one: {"asleep": False})
        if not self.rules.moves_are_carried_out_once:
            picture = self._changed(
                picture,
                lambda one: (
                    {"move": one.wanted.move.model_copy(update={"epoch": 10**6})}
                    if one.wanted.move is not None
                    else {}
                ),
            )
        picture = replace(picture, tenants=self._undertaker.asked(dict(picture.tenants)))
        actions = decide(picture)
        if not self.rules.room_before_drain:
            actions = [*actions, *self._leaving(picture)]
        if not self.rules.lost_sleepers_are_restored:
            actions = [one for one in actions if not self._sleeps(one)]
        if not self.rules.pacing:
            actions = self._unpaced(picture, actions)
        actions = [*self._undertaker.more(self._tenants), *hasty(self.rules, picture), *actions]
        known = {name: tenant.wanted for name, tenant in self._tenants.items()}
        self.checks.decided(picture, actions, frozenset(self._resumed), known)
        self._heed([action for action in actions if isinstance(action, Brake)])
        return actions

    def _changed(
        self, picture: Picture, change: Callable[[SeenTenant], dict[str, object]]
    ) -> Picture:
        tenants = {
            name: replace(one, wanted=one.wanted.model_copy(update=change(one)))
            for name, one in picture.tenants.items()
        }
        return replace(picture, tenants=tenants)

    def _leaving(self, picture: Picture) -> list[Action]:
        """All that a host out of use runs, at once."""
        return [
            Drain(node.tenant, host.name, "host_drained")
            for host in picture.hosts.values()
            if host.draining
            for node in host.nodes or ()
            if node.state == "active" and node.tenant in self._tenants
        ]

    def _sleeps(self, action: Action) -> bool:
        return isinstance(action, Start) and self._tenants[action.tenant].wanted.asleep

    def _unpaced(self, picture: Picture, actions: list[Action]) -> list[Action]:
        """Ask again without what was decided, until nothing is left to decide."""
        tenants = dict(picture.tenants)
        more = actions
        while starts := [action for action in more if isinstance(action, Start)]:
            for start in starts:
                del tenants[start.tenant]
            more = decide(replace(picture, tenants=tenants))
            actions = actions + [action for action in more if isinstance(action, Start)]
        return actions

    def _heed(self, brakes: list[Brake]) -> None:
        """An operator looks at a brake after a while and confirms what it holds."""
        held = brakes[0].hosts if brakes else ()
        if held != self._braked:
            self._braked, self._braked_at = held, self.now()
            if held:
                self.checks.seen["brake"] += 1
                self.world.say(self.name, f"brakes for {', '.join(held)}")
        if held and self.now() - self._braked_at >= OPERATOR:
            self._resumed.update(held)
            self.world.say(self.name, f"an operator confirms the loss of {', '.join(held)}")

    # -- acting ---------------------------------------------------------------------------------

    def _fence(self, action: Fence) -> Step[None]:
        self.world.say(self.name, f"fences {action.host}")
        known = self._watched[action.host]
        self.spring("fence")
        try:
            written = yield from self.bucket.swap_lease(
                self,
                fenced(action.lease.record),
                action.lease.etag,
                blindly=not self.rules.fence_what_was_watched,
            )
        except Precondition:
            return
        self.checks.seen["fenced"] += 1
        known.watch.seen(written.etag, self.now())
        known.lease = written
        self._resumed.discard(action.host)
        for tenant in self._tenants.values():
            if tenant.owner is not None and tenant.owner.record.host == action.host:
                tenant.stale = True
            if tenant.ordered is not None and tenant.ordered.action.host == action.host:
                tenant.ordered = None
                tenant.stale = True

    def _drain(self, action: Drain) -> None:
        self.world.say(self.name, f"has {action.host} stop {action.tenant} ({action.cause})")
        self.checks.seen[f"drain: {action.cause}"] += 1
        self._tenants[action.tenant].drain_after = self.now() + TELL_AGAIN
        host = self.hosts[action.host]
        if host.answers(self.name) and host.agent is not None:
            node = host.agent.nodes.get(action.tenant)
            if node is not None:
                node.drain()

    def _wake(self, action: Wake) -> None:
        self.world.say(self.name, f"wakes {action.tenant}")
        self.checks.seen["wake"] += 1
        awake = self._catalog[action.tenant].model_copy(update={"asleep": False})
        self._catalog[action.tenant] = awake
        self.learn(action.tenant, awake)

    def _begin(self, action: Start) -> None:
        tenant, host = self._tenants[action.tenant], self._watched[action.host]
        self.world.say(self.name, f"orders {action.tenant} to {action.host} ({action.cause})")
        self.checks.seen[action.cause] += 1
        before = frozenset(node.incarnation for node in host.nodes if node.tenant == action.tenant)
        tenant.ordered = Ordered(Order(action, self._life), self.now(), before)
        self.world.spawn(self, self._order(tenant.ordered.order, tenant))

    def _order(self, order: Order, tenant: Known) -> Step[None]:
        """Send the order; it may arrive late, and the answer never."""
        rng, host = self.world.rng, self.hosts[order.action.host]
        answers: list[bool] = []
        strange = not self.world.calm and rng.random() < 0.12
        self.world.spawn(
            host, self._deliver(order, host, rng.uniform(0.0, 20.0) if strange else 0.02, answers)
        )
        until = self.now() + (rng.uniform(0.1, 10.0) if strange else 10.0)
        while not answers and self.now() < until:
            yield self.lasting(0.2)
        if not (answers and answers[0]):
            self._failed(order.action, tenant)

    def _deliver(self, order: Order, host: Host, after: float, answers: list[bool]) -> Step[None]:
        yield after
        if self.name in host.unlinked or host.agent is None:
            return
        try:
            host.agent.start(order)
            answers.append(True)
        except Refused:
            answers.append(False)

    def _failed(self, action: Start, tenant: Known) -> None:
        if tenant.ordered is None or tenant.ordered.action is not action:
            return
        self.world.say(self.name, f"{action.host} did not start {action.tenant}")
        tenant.ordered.order.given_up = True
        tenant.ordered = None
        tenant.stale = True
        tenant.failed_on.add(action.host)
        tenant.not_before = self.now() + RETRY_AFTER
