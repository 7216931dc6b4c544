"""Where a tenant's next node is to run: pure, and quick for thousands of tenants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from backup.ownership import move_wanted
from fleet.coordinator.picture import Picture, SeenHost, SeenTenant

STARTS_PER_HOST = 4
"""Take-overs that one host may have under way: restores compete for its disk and network."""
STARTING = frozenset({"starting", "restoring"})
"""States of a node that is still being brought up."""


@dataclass(slots=True)
class Load:
    """What each host carries, and how many starts it has under way; with what is being decided."""

    carrying: Counter[str]
    starting: Counter[str]
    room: int

    @staticmethod
    def of(picture: Picture) -> Load:
        """As the picture has it."""
        starting: Counter[str] = Counter()
        carrying: Counter[str] = Counter()
        ordered: dict[str, str] = {}
        for name, tenant in picture.tenants.items():
            if tenant.ordered is not None:
                ordered[name] = tenant.ordered
                starting[tenant.ordered] += 1
                carrying[tenant.ordered] += 1
        for host in picture.hosts.values():
            for node in host.nodes or ():
                if not node.over and ordered.get(node.tenant) != host.name:
                    carrying[host.name] += 1
                    # Ordered by an earlier coordinator, or given up by this one too soon.
                    starting[host.name] += node.state in STARTING
        room = sum(
            max(0, STARTS_PER_HOST - starting[name])
            for name, host in picture.hosts.items()
            if host.fit
        )
        return Load(carrying, starting, room)

    @property
    def full(self) -> bool:
        """Whether every host has its hands full."""
        return self.room <= 0

    def give(self, host: str) -> None:
        """One more start is decided on."""
        self.starting[host] += 1
        self.carrying[host] += 1
        self.room -= 1

    def free(self, host: str) -> bool:
        """Whether a host may be given one more start."""
        return self.starting[host] < STARTS_PER_HOST


@dataclass(frozen=True, slots=True)
class Choice:
    """The hosts that a tenant may go to, and where it had rather be."""

    among: Collection[str]
    prefer: str = ""


def choice(tenant: SeenTenant, hosts: Mapping[str, SeenHost]) -> Choice:
    """Where a tenant that has nobody may be started.

    Not on a host that is cordoned, unless it ran there last: that is nothing new, and where it ran
    last, its files may hold an asynchronous tail that the bucket does not have. One that is being
    moved goes where it was told to, if that takes tenants, and else anywhere but back; back only
    where no other host is left.
    """
    owner = tenant.owner.record if tenant.owner is not None else None
    last = owner.host if owner is not None else ""
    among = {name for name, host in hosts.items() if host.open}
    move = move_wanted(tenant.wanted, owner)
    if move is not None:
        if move.host in among:
            return Choice({move.host})
        return Choice(among - {last} or among)
    if last in hosts and hosts[last].fit and not hosts[last].draining:
        among.add(last)
    return Choice(among, last)


def place(
    hosts: Mapping[str, SeenHost], load: Load, choice: Choice, avoid: frozenset[str]
) -> str | None:
    """The host for one more node: the preferred one, or the one that carries least, by name among
    equals.

    Hosts on which this tenant's start has just failed come last. None if every host that may have
    it has its hands full, which passes.
    """
    free = (name for name in choice.among if hosts[name].fit and load.free(name))
    return min(
        free,
        key=lambda name: (
            name in avoid,
            name != choice.prefer,
            load.carrying[name],
            name,
        ),
        default=None,
    )
