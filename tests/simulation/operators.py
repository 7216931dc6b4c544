"""What operators want of a fleet in some of the seeds: tenants moved, asleep, hosts out of use.

Their dice are their own, so that the other seeds stay the days that they were.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from backup import hosts as wanted_hosts
from backup.ownership import Move

if TYPE_CHECKING:
    from tests.simulation.fleet_run import Fleet

EVERY = 4
"""One seed in so many has operators."""
UNTIL = 70.0
"""Seconds from which they leave the fleet alone."""
SLACK = 45.0
"""Seconds by which a tenant may wake too late: as long as a coordinator's absence and a start."""


class Operators:
    """The people, and the timers in the logs of the tenants."""

    def __init__(self, fleet: Fleet, seed: int, *, at_work: bool) -> None:
        self._fleet = fleet
        self._rng = random.Random(f"operators of {seed}")
        self.at_work = at_work and seed % EVERY == EVERY - 1
        self.timers: dict[str, float] = {}
        """When time alone makes something happen next in a tenant's log."""
        if not self.at_work:
            return
        at = 5.0
        while (at := at + self._rng.uniform(1.0, 9.0)) < UNTIL:
            fleet.world.later(at, self._act)

    def fire(self, tenant: str) -> None:
        """A node of the tenant is at work: timers that are due fire, and new ones are set."""
        if not self.at_work:
            return
        due = self.timers.get(tenant)
        if due is None or due <= self._fleet.world.now:
            self.timers.pop(tenant, None)
            if self._fleet.world.now < UNTIL and self._rng.random() < 0.3:
                self.timers[tenant] = self._fleet.world.now + self._rng.uniform(2.0, 50.0)

    def overslept(self, tenant: str) -> bool:
        """Whether its timer should have woken it long ago."""
        due = self.timers.get(tenant)
        return due is not None and due + SLACK < self._fleet.world.now

    def leave(self) -> None:
        """At the end some host takes tenants again."""
        fleet = self._fleet
        living = [name for name, host in fleet.hosts.items() if not host.dead]
        in_use = [name for name in living if not self._cordoned(name)]
        if not in_use:
            for name in living:
                fleet.wanted_of_hosts.pop(name, None)

    def _cordoned(self, name: str) -> bool:
        record = self._fleet.wanted_of_hosts.get(name)
        return record is not None and record.cordoned

    def _act(self) -> None:
        fleet, rng = self._fleet, self._rng
        if not fleet.catalog:
            return
        tenant, host = rng.choice(sorted(fleet.catalog)), rng.choice(sorted(fleet.hosts))
        kind = rng.choice(("sleep", "sleep", "wake", "move", "move", "drain", "cordon", "uncordon"))
        fleet.world.say("operator", f"{kind} {tenant} {host}")
        fleet.checks.seen[f"operator: {kind}"] += 1
        now, record = fleet.catalog[tenant], fleet.wanted_of_hosts.get(host)
        if kind in ("sleep", "wake"):
            fleet.want(tenant, now.model_copy(update={"asleep": kind == "sleep"}))
        elif kind == "move":
            owner = fleet.bucket.owners.get(tenant)
            if owner is not None:
                move = Move(epoch=owner.record.epoch, host=rng.choice((host, "")))
                fleet.want(tenant, now.model_copy(update={"move": move}))
        elif kind == "uncordon":
            changed = wanted_hosts.uncordon(record, at=0.0)
            if changed is not None:
                fleet.wanted_of_hosts[host] = changed
        else:
            fleet.wanted_of_hosts[host] = wanted_hosts.cordon(
                record, host, drain=kind == "drain", at=0.0, why=""
            )
