"""One seed: a fleet, its faults, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from backup.hosts import HostRecord
from backup.ownership import OwnerState, TenantRecord
from tests.simulation import faults
from tests.simulation.bucket import Bucket
from tests.simulation.checks import Checks
from tests.simulation.coordinator import Coordinator
from tests.simulation.deleting import People
from tests.simulation.faults import Fault
from tests.simulation.host import Host
from tests.simulation.operators import Operators
from tests.simulation.restoring import Historians
from tests.simulation.rules import ALL, Rules
from tests.simulation.world import Domain, Violation, World

SETTLED_WITHIN = 150.0
"""Virtual seconds after the last fault within which every tenant must be served again."""
RATES = 0.08
"""How far a clock's rate may be from one; 16 s of watching cover 12 s of living up to 0.14."""
SHOWN = 400
"""Lines of a failed seed's account that are shown, the last ones."""


@dataclass(slots=True)
class Run:
    """A seed's outcome. ``violation`` is None if all held."""

    seed: int
    faults: list[Fault]
    violation: Violation | None
    account: list[tuple[float, str, str]]
    seen: Counter[str]
    ended_at: float

    def report(self) -> str:
        """The schedule, to be read from top to bottom."""
        lines = [f"seed {self.seed}: {self.violation}", "faults:"]
        lines += [f"  {fault}" for fault in self.faults]
        lines += ["what happened:"]
        told = self.account[-SHOWN:]
        if len(told) < len(self.account):
            lines += [f"  ... {len(self.account) - len(told)} lines before"]
        lines += [f"  {at:8.3f} {who:>10}  {text}" for at, who, text in told]
        return "\n".join(lines)


class Fleet:
    """The actors of one seed, and the hand that breaks and mends them."""

    def __init__(self, seed: int, rules: Rules, deleting: bool = False, restoring: bool = False):
        self.world = world = World(seed)
        rng = world.rng
        self.rules = rules
        self.bucket = Bucket(world)
        self.checks = Checks(world, self.bucket)
        crowded = rng.random() < 0.1
        names = [f"h{n}" for n in range(3 if crowded else rng.randint(3, 5))]
        self.hosts = {
            name: Host(world, self.bucket, self.checks, rules, name, self._rate()) for name in names
        }
        self.catalog: dict[str, TenantRecord] = {}
        self.wanted_of_hosts: dict[str, HostRecord] = {}
        self.tenants = [
            f"t{n}" for n in range(rng.randint(9, 12) if crowded else rng.randint(1, 3))
        ]
        self.faults = faults.draw(rng, names, spared=names[0])
        for host in self.hosts.values():
            host.boot()
        for name in self.tenants:
            world.later(rng.uniform(0.0, 12.0 if crowded else 3.0), self._creation(name))
        self.operators = self.checks.operators = Operators(
            self, seed, at_work=not (deleting or restoring)
        )
        self.people = People(self) if deleting else None
        if restoring:
            Historians(self)
        self.checks.catalog = self.catalog
        self.coordinators = [self._coordinator("c0")]
        # Deletions are where two of them, with catalogs of different age, can hurt most.
        if rng.random() < (0.7 if deleting else 0.25):
            world.later(rng.uniform(0.0, 40.0), self._second)
        for fault in self.faults:
            world.later(fault.at, self._happening(fault))
        world.later(faults.HEALED, self._heal)

    def _rate(self) -> float:
        return 1.0 + self.world.rng.uniform(-RATES, RATES)

    def _coordinator(self, name: str) -> Coordinator:
        return Coordinator(
            self.world,
            self.bucket,
            self.checks,
            self.rules,
            name,
            self._rate(),
            self.hosts,
            self.catalog,
            self.wanted_of_hosts,
            self.people,
        )

    def want(self, tenant: str, wanted: TenantRecord) -> None:
        """Somebody has changed what is wanted of a tenant, through one of the coordinators."""
        self.catalog[tenant] = wanted
        for coordinator in self.coordinators[:1]:
            coordinator.learn(tenant, wanted)

    def _second(self) -> None:
        self.world.say("c1", "comes up beside c0")
        self.coordinators.append(self._coordinator("c1"))

    def _creation(self, name: str) -> Callable[[], None]:
        def create() -> None:
            self.catalog[name] = TenantRecord(tenant=name, app="app")

        return create

    def _happening(self, fault: Fault) -> Callable[[], None]:
        def happen() -> None:
            self.world.say(fault.whom or "fleet", f"FAULT {fault.kind} ({fault.lasting:.1f} s)")
            self.checks.seen[f"fault: {fault.kind}"] += 1
            if fault.whom:
                self._break_host(fault, self.hosts[fault.whom])
            else:
                self._break_fleet(fault)

        return happen

    def _break_host(self, fault: Fault, host: Host) -> None:
        later, rng = self.world.later, self.world.rng
        if fault.kind == "kill":
            host.dead = True
            if rng.random() < 0.3:
                later(rng.uniform(0.5, 6.0), lambda: setattr(host, "known_dead", True))
        elif fault.kind == "freeze":
            self._hold(host, fault.lasting)
        elif fault.kind == "cut from store":
            self._cut(host, fault.lasting)
        elif fault.kind == "cut from coordinators":
            host.unlinked.update(("c0", "c1") if rng.random() < 0.6 else ("c0",))
            later(fault.lasting, host.unlinked.clear)
        elif fault.kind == "restart agent":
            host.crash_agent()
            later(min(fault.lasting, 8.0), host.boot_if_down)
        elif fault.kind == "leave" and host.agent is not None:
            host.agent.leaving = True
        elif fault.kind == "clock runs wild":
            host.trusted = False
            host.run_at(rng.choice((0.1, 0.3, 0.6, 3.0)))
        elif fault.kind.startswith("kill at restore"):
            host.traps["restore"] = lambda: setattr(host, "dead", True)
            coordinator = self.coordinators[0]
            coordinator.traps["fence"] = lambda: self._cut(coordinator, 13.0)
            later(0.1, self._move_all)
        elif fault.kind == "kill when active":
            host.traps["active"] = lambda: setattr(host, "dead", True)
        elif fault.kind == "caught renewing":
            # Its renewal lands, but it hears of that only when half of its life is over.
            host.traps["renewal"] = lambda: later(0.07, lambda: self._hold_and_cut(host))
        elif " at " in fault.kind:
            self._set_trap(fault, host)
            if fault.kind == "cut at release":
                self._move(host)
        elif fault.kind == "stumble":
            self._move(host)

    def _move(self, host: Host) -> None:
        """Drain its nodes, as in a planned move; the agent stays."""
        for node in host.agent.nodes.values() if host.agent is not None else ():
            node.drain()

    def _move_all(self) -> None:
        for host in self.hosts.values():
            self._move(host)

    def _set_trap(self, fault: Fault, host: Host) -> None:
        what, _, step = fault.kind.removeprefix("slow clock, ").partition(" at ")
        act = self._hold if what == "freeze" else self._cut

        def spring() -> None:
            if fault.kind.startswith("slow clock"):
                host.trusted = False
                host.run_at(0.1)
            act(host, fault.lasting)

        host.traps[step] = spring

    def _cut(self, domain: Domain, lasting: float) -> None:
        domain.cut_off = True
        self.world.later(lasting, lambda: setattr(domain, "cut_off", False))

    def _hold(self, domain: Domain, lasting: float) -> None:
        domain.freeze()
        self.world.later(lasting, domain.thaw)

    def _hold_and_cut(self, domain: Domain) -> None:
        self._hold(domain, 9.0)
        self._cut(domain, 30.0)

    def _break_fleet(self, fault: Fault) -> None:
        world, later = self.world, self.world.later
        if fault.kind == "store fails at times":
            self.bucket.faulty = world.rng.choice((0.15, 0.3, 0.5))
            later(fault.lasting, lambda: setattr(self.bucket, "faulty", 0.0))
        elif fault.kind == "lists lie":
            self.bucket.lying_lists = True
        elif fault.kind == "fetches fail":
            self.bucket.failing_fetches = 0.8
            later(fault.lasting, lambda: setattr(self.bucket, "failing_fetches", 0.0))
            self._move_all()
        elif fault.kind == "store away":
            for domain in (*self.hosts.values(), *self.coordinators):
                self._cut(domain, fault.lasting * world.rng.uniform(0.7, 1.0))
        elif fault.kind == "restart coordinator":
            self.coordinators[0].dead = True
            later(min(fault.lasting, 10.0), self._restart_coordinator)
        elif fault.kind == "freeze coordinator":
            self._hold(self.coordinators[0], fault.lasting)
        elif fault.kind == "cut coordinator from store":
            self._cut(self.coordinators[0], fault.lasting)
        elif fault.kind == "lose a file":
            self._lose_a_file()

    def _restart_coordinator(self) -> None:
        if self.coordinators[0].dead:
            self.coordinators[0] = self._coordinator("c0")

    def _lose_a_file(self) -> None:
        """The store loses a file in the middle of an epoch: the one damage that is real."""
        tenant = self.world.rng.choice(self.tenants)
        found = self.bucket.owners.get(tenant)
        if found is None or found.record.state is not OwnerState.ACTIVE:
            return
        prefix = self.bucket.prefix(tenant, found.record.epoch)
        middle = sorted(prefix.files)[:-1]
        if middle:
            prefix.files.discard(self.world.rng.choice(middle))
            prefix.lost = True

    def _heal(self) -> None:
        self.world.say("fleet", "HEALED")
        self.world.calm = True
        self.operators.leave()
        self.bucket.faulty = 0.0
        self.bucket.failing_fetches = 0.0
        self.bucket.lying_lists = False
        self._restart_coordinator()
        for domain in (*self.hosts.values(), *self.coordinators):
            domain.cut_off = False
            domain.traps.clear()
            if domain.frozen:
                domain.thaw()
            if not domain.trusted:
                domain.run_at(1.0)
        for host in self.hosts.values():
            host.unlinked.clear()
            host.boot_if_down()

    def unsettled(self) -> list[str]:
        """The tenants that are not as they are wanted."""
        return self.checks.unsettled(self.tenants, self.catalog, self.wanted_of_hosts)

    def settled(self) -> bool:
        return self.world.calm and len(self.catalog) == len(self.tenants) and not self.unsettled()


def run(seed: int, rules: Rules = ALL, deleting: bool = False, restoring: bool = False) -> Run:
    """Run one seed to its end or to the first violation; with ``deleting``, tenants are deleted in
    it as well, with ``restoring``, they are taken back to past states."""
    fleet = Fleet(seed, rules, deleting, restoring)
    violation = None
    try:
        fleet.world.run(faults.HEALED + SETTLED_WITHIN, fleet.settled)
        if not fleet.settled():
            waiting = ", ".join(
                fleet.checks.unsettled(fleet.tenants, fleet.catalog, fleet.wanted_of_hosts)
            )
            raise Violation("settles", f"{waiting} not served {SETTLED_WITHIN:.0f} s after healing")
        fleet.checks.bucket_holds_all()
    except Violation as caught:
        violation = caught
    return Run(
        seed,
        fleet.faults,
        violation,
        fleet.world.account,
        fleet.checks.seen,
        fleet.world.now,
    )
