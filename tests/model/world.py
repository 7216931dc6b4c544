"""One state of the model: the bucket, two machines, what is under way, and what faults are left.

All of it is immutable and compares by value. Time goes in ticks of four seconds; what counts them
stops counting where more makes no difference, so that there are finitely many states.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from backup import lease as leases
from tests.model.rules import ALL, Rules

TICK = 4.0
"""Seconds."""
DEADLINE = int(leases.SELF_FENCE_AFTER / TICK)
WATCHED = int(leases.WATCH / TICK)
Rows = tuple[int, ...]
"""A log: the numbers of its commits, in their order."""


class Lease(NamedTuple):
    """`LeaseRecord`; ``etag`` counts the writes. ``epoch`` and ``txid`` are what it has proven."""

    incarnation: int
    fenced: bool
    epoch: int
    txid: int
    etag: int


class Grave(NamedTuple):
    """`Tomb`."""

    state: str
    erasing: bool
    erased: bool


class Claim(NamedTuple):
    """`OwnerRecord`; ``node`` and ``incarnation`` are the two parts of its incarnation."""

    epoch: int
    machine: int
    incarnation: int
    node: int
    state: str
    parent: int
    floor: int
    genesis: bool
    etag: int
    deletion: int = 0
    tomb: Grave | None = None


class File(NamedTuple):
    """An LTX file in an epoch's prefix, with the commits that its transactions hold. The first
    transaction is the base: all that was restored."""

    epoch: int
    level: int
    low: int
    high: int
    rows: tuple[Rows, ...]


class Write(NamedTuple):
    """A write that nobody waits for any more, or not yet: it may land at any time or never.

    ``sender`` is the machine that waits for it, -1 for none.
    """

    kind: Literal["lease", "owner", "file"]
    key: int
    expected: int
    value: Any
    sender: int


class Order(NamedTuple):
    """`NodeOrder`: what a coordinator decided, on the way to a machine."""

    machine: int
    expected: int
    ended: bool
    floor: int


class Disk(NamedTuple):
    """What the last node of a machine has left there."""

    epoch: int
    rows: Rows
    base: int
    uploaded: int


class Machine(NamedTuple):
    """A machine with one agent. ``left`` are the ticks to the deadline of its nodes.

    ``sent`` are the ticks since a renewal was sent that has no answer yet, -1 for none; ``landed``
    is that renewal's fate: "" on its way, "yes" or "no".
    """

    incarnation: int = 0
    etag: int = 0
    left: int = 0
    sent: int = -1
    landed: str = ""
    paused: bool = False
    watched: int = 0
    """The version of the lease that it watches before it joins."""
    watched_for: int = 0
    mine: frozenset[int] = frozenset()
    disk: Disk | None = None


class Node(NamedTuple):
    """A node from its claim to its end. ``base`` is how many rows its base has.

    ``proving`` is the position that a round under way covers, -1 for none.
    """

    number: int
    machine: int
    incarnation: int
    phase: str
    epoch: int
    parent: int
    etag: int
    floor: int
    rows: Rows = ()
    base: int = 0
    uploaded: int = 0
    listed: frozenset[File] | None = None
    relists: int = 0
    proving: int = -1
    confirmed: bool = False
    proven: int = 0
    expected: int = 0
    ended: bool = False

    @property
    def txid(self) -> int:
        """The position of its log: the base, and one for each commit after it."""
        return 1 + len(self.rows) - self.base


class Budget(NamedTuple):
    """How often each thing may still happen."""

    commits: int = 0
    orders: int = 0
    joins: int = 1
    slow_renewals: int = 0
    pauses: int = 0
    deaths: int = 0
    """Nodes that end by themselves, on a living machine."""
    crashes: int = 0
    """Machines that start anew, with their disk."""
    rollbacks: int = 0
    """Crashes after which the last commit is not on the disk."""
    late_files: int = 0
    late_records: int = 0
    compactions: int = 0
    lies: int = 0
    """Lists that leave the last file out."""
    drains: int = 0
    lost_files: int = 0
    """Bases that the store itself loses."""
    lost_records: int = 0
    burials: int = 0
    erasures: int = 0
    """Deleted tenants that are removed."""
    stalls: int = 0
    """Removers that are stopped with the mark read, and go on whenever they wake."""


class Config(NamedTuple):
    """What is explored: under which rules, with which faults.

    ``leases`` gives each machine's host: two machines of one host are a machine and its clone.
    Without ``clocks`` nobody knows how much time has passed, so anybody may be taken for silent at
    any moment; that two engines serve for a while cannot be helped then, but nothing may be lost.
    """

    budget: Budget
    rules: Rules = ALL
    leases: tuple[int, ...] = (0, 1)
    clocks: bool = True


class World(NamedTuple):
    """A state. What is after ``budget`` nobody in the fleet knows; the invariants need it."""

    machines: tuple[Machine, ...]
    leases: tuple[Lease | None, ...]
    owner: Claim | None
    files: frozenset[File]
    nodes: tuple[Node, ...]
    flights: frozenset[Write]
    orders: frozenset[Order]
    watches: tuple[tuple[int, int], ...]
    """The coordinator's: the version of each lease, and for how many ticks it has been that."""
    glance: Any
    """What the coordinators of two broken twins remember."""
    budget: Budget
    incarnations: int
    numbers: int
    commits: int
    acked: frozenset[int]
    active: int
    """The newest epoch that became active."""
    begun: Rows
    """What that epoch began with."""
    history: Rows
    """All that was committed in it."""
    handed: Rows
    """All that was committed before the release that its successor is to take over from."""
    lied: bool
    wounded: bool
    """The store itself has lost something."""
    written_off: int = 0
    """The newest epoch of a tenant that is being removed, or was."""
    removing: bool = False
    """What the twin that removes without a mark remembers."""
    stalled: int = 0
    """The epoch up to which somebody will remove who was stopped; 0 for nobody."""


def beginning(config: Config) -> World:
    """Machines that have just been started, and an empty bucket."""
    hosts = len(set(config.leases))
    return World(
        machines=tuple(Machine() for _ in config.leases),
        leases=(None,) * hosts,
        owner=None,
        files=frozenset(),
        nodes=(),
        flights=frozenset(),
        orders=frozenset(),
        watches=((0, 0),) * hosts,
        glance=None,
        budget=config.budget,
        incarnations=0,
        numbers=0,
        commits=0,
        acked=frozenset(),
        active=0,
        begun=(),
        history=(),
        handed=(),
        lied=False,
        wounded=False,
    )


def spend(world: World, name: str) -> World:
    """The world with one ``name`` fewer in its budget."""
    return world._replace(budget=world.budget._replace(**{name: getattr(world.budget, name) - 1}))


def with_machine(world: World, index: int, **changes: Any) -> World:
    """The world with one machine changed."""
    machines = list(world.machines)
    machines[index] = machines[index]._replace(**changes)
    return world._replace(machines=tuple(machines))


def with_node(world: World, node: Node, **changes: Any) -> World:
    """The world with one node changed."""
    changed = node._replace(**changes)
    return world._replace(
        nodes=tuple(changed if each.number == node.number else each for each in world.nodes)
    )


def without_node(world: World, node: Node) -> World:
    """The world without a node, whose files stay on its machine's disk."""
    world = world._replace(nodes=tuple(e for e in world.nodes if e.number != node.number))
    if node.phase not in ("active", "draining", "stopped", "unclear"):
        return world
    disk = Disk(node.epoch, node.rows, node.base, node.uploaded)
    return with_machine(world, node.machine, disk=disk)


def nodes_of(world: World, machine: int) -> tuple[Node, ...]:
    """The nodes that run on a machine."""
    return tuple(node for node in world.nodes if node.machine == machine)
