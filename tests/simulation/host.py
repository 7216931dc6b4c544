"""A host: its agent, which holds the lease, and the nodes that it starts."""

from __future__ import annotations

from collections.abc import Callable

from backup import lease as leases
from backup.errors import Precondition, StoreError
from backup.lease import Authority, LeaseRecord, LeaseState, Watch
from backup.records import Versioned
from fleet.agent.authority import JOIN_PAUSE, RENEW_PATIENCE, next_renewal
from fleet.coordinator.picture import SeenNode
from tests.simulation.bucket import Bucket
from tests.simulation.checks import Checks
from tests.simulation.node import Node, Order
from tests.simulation.rules import Rules
from tests.simulation.world import Domain, Process, Step, World


class LeaseLost(Exception):
    """The agent's incarnation has ended."""


class Refused(Exception):
    """The agent does not take this order."""


class Host(Domain):
    """The machine. What it runs dies or freezes with it."""

    def __init__(
        self, world: World, bucket: Bucket, checks: Checks, rules: Rules, name: str, rate: float
    ):
        super().__init__(world, name, rate)
        self.bucket = bucket
        self.checks = checks
        self.rules = rules
        self.unlinked: set[str] = set()
        """Coordinators' machines that cannot reach it."""
        self.agent: Agent | None = None
        self.known_dead = False
        """Whether somebody has told that the machine is gone."""
        self.everything: list[Node] = []
        """All nodes that were ever started here, by any agent."""

    def boot(self) -> None:
        """Start an agent; an earlier one is gone, its nodes are not."""
        self.agent = Agent(self)

    def boot_if_down(self) -> None:
        if self.agent is None:
            self.boot()

    def crash_agent(self) -> None:
        if self.agent is not None:
            self.agent.process.stop()
            self.agent = None

    def answers(self, coordinator: str) -> bool:
        return (
            self.agent is not None
            and not self.dead
            and not self.frozen
            and coordinator not in self.unlinked
        )


class Agent:
    """One life of a host agent: `fleet.agent.agent` and `fleet.agent.authority`, step by step."""

    def __init__(self, host: Host):
        self.host = host
        self.rules = host.rules
        self.nodes: dict[str, Node] = {}
        self.authority = Authority(-1.0)
        self.joined = False
        self.leaving = False
        self._mine: set[str] = set()
        self._lease: Versioned[LeaseRecord] | None = None
        self.process: Process = host.world.spawn(host, self._run())

    @property
    def incarnation(self) -> str:
        return self._lease.record.incarnation if self._lease is not None and self.joined else ""

    # -- what a coordinator asks ----------------------------------------------------------------

    def listed(self) -> tuple[str, tuple[SeenNode, ...]]:
        """The answer to a question about the nodes."""
        nodes = tuple(
            SeenNode(node.tenant, node.incarnation, node.state, node.told_over)
            for node in self.nodes.values()
        )
        return self.incarnation, nodes

    def start(self, order: Order) -> None:
        """Raises `Refused`."""
        host = self.host
        if not self.joined or self.leaving or not self.authority.alive(host.now()):
            raise Refused("no lease at present")
        earlier = self.nodes.get(order.action.tenant)
        if earlier is not None and not earlier.over:
            raise Refused("it has a node here already")
        name = f"{self.incarnation}.n{next(host.world.number)}"
        node = Node(host, order, name, self.authority.deadline)
        self.nodes[order.action.tenant] = node
        host.everything.append(node)
        node.begin()
        host.checks.starting(host.name, host.everything)

    # -- its life -------------------------------------------------------------------------------

    def _run(self) -> Step[None]:
        host = self.host
        yield host.world.rng.uniform(0.0, 1.0)
        while True:
            try:
                yield from self._join()
            except StoreError:
                yield host.lasting(1.0)
                continue
            self.joined = True
            try:
                yield from self._renew_until_lost()
            except LeaseLost as why:
                host.world.say(host.name, f"stops its nodes: {why}")
            self.joined = False
            for node in self.nodes.values():
                node.kill("its host lost the lease")

    def _join(self) -> Step[None]:
        host, bucket = self.host, self.host.bucket
        incarnation = f"{host.name}i{next(host.world.number)}"
        watch: Watch | None = None
        while True:
            found = yield from bucket.lease(host, host.name)
            if found is not None and not self._open(found.record):
                watch = watch or Watch(found.etag, host.now())
                watch.seen(found.etag, host.now())
                if not watch.lapsed(host.now()):
                    yield host.lasting(JOIN_PAUSE)
                    continue
            record = LeaseRecord(
                host=host.name,
                incarnation=incarnation,
                rev=found.record.rev + 1 if found else 1,
            )
            sent = host.now()
            try:
                written = yield from bucket.swap_lease(host, record, found.etag if found else None)
            except Precondition:
                continue
            self._lease = written
            self._mine.add(incarnation)
            self.authority = Authority.granted(sent)
            if self.authority.alive(host.now()):
                return

    def _open(self, record: LeaseRecord) -> bool:
        ended = record.state is LeaseState.FENCED or record.incarnation in self._mine
        return ended or not self.rules.join_watches

    def _renew_until_lost(self) -> Step[None]:
        failed = False
        while True:
            yield self.host.lasting(next_renewal(failed))
            if self.leaving:
                yield from self._leave()
            try:
                yield from self._renew()
                failed = False
            except StoreError:
                failed = True

    def _renew(self) -> Step[None]:
        host, authority, current = self.host, self.authority, self._lease
        assert current is not None
        sent = host.now()
        host.spring("renewal")
        alive: Callable[[], bool] = lambda: authority.alive(host.now())  # noqa: E731
        if not alive():
            raise LeaseLost("the deadline passed without a renewal")
        proven = {
            node.tenant: f"{node.epoch}:{node.proven}"
            for node in self.nodes.values()
            if node.proven
        }
        record = current.record.model_copy(update=current.record.succeeded_by(proven=proven))
        try:
            self._lease = yield from host.bucket.swap_lease(
                host, record, current.etag, may_send=alive, patience=RENEW_PATIENCE
            )
        except Precondition:
            yield from self._adopt_changes(current)
            return
        if not self.rules.deadline_from_sending:
            authority.deadline = host.now() + leases.SELF_FENCE_AFTER
        elif not authority.renewed(sent, host.now()):
            raise LeaseLost("the renewal came back after the deadline")
        for node in self.nodes.values():
            node.extend(authority.deadline)

    def _adopt_changes(self, current: Versioned[LeaseRecord]) -> Step[None]:
        found = yield from self.host.bucket.lease(self.host, self.host.name)
        assert found is not None
        if found.record.state is LeaseState.FENCED:
            raise LeaseLost("the lease was fenced")
        if found.record.incarnation != current.record.incarnation:
            raise LeaseLost("another agent holds the lease")
        self._lease = found

    def _leave(self) -> Step[None]:
        """A planned stop: drain all nodes, give the lease back, and come back as somebody new."""
        host = self.host
        for node in self.nodes.values():
            node.drain()
        until = host.now() + 20.0
        while host.now() < until and any(not node.over for node in self.nodes.values()):
            yield host.lasting(0.5)
        for node in self.nodes.values():
            node.kill("it was not released in time")
        self.joined = False
        self.leaving = False
        if self._lease is not None:
            try:
                yield from host.bucket.swap_lease(
                    host, leases.fenced(self._lease.record), self._lease.etag, patience=2.0
                )
            except StoreError:
                host.world.say(host.name, "could not give its lease back")
        raise LeaseLost("it left")
