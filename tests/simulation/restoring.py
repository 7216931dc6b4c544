"""People who take tenants back to past states, in place; and a coordinator that is broken in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from backup.ownership import Origin, OwnerState, restore_wanted
from fleet.coordinator.picture import Picture, Start
from tests.simulation.rules import Rules

if TYPE_CHECKING:
    from tests.simulation.fleet_run import Fleet

FROM, UNTIL = 12.0, 70.0
"""Virtual seconds between which tenants are told to go back."""
MOST = 3
"""Restores of one tenant."""


class Historians:
    """Whoever asks for restores. Each chooses a state that is in the bucket when they ask."""

    def __init__(self, fleet: Fleet):
        self._fleet = fleet
        rng = fleet.world.rng
        for name in fleet.tenants:
            for _ in range(rng.randint(0, MOST)):
                fleet.world.later(rng.uniform(FROM, UNTIL), self._ask(name))

    def _ask(self, name: str) -> Callable[[], None]:
        def ask() -> None:
            fleet, rng = self._fleet, self._fleet.world.rng
            wanted, owner = fleet.catalog.get(name), fleet.bucket.owners.get(name)
            if wanted is None or owner is None or restore_wanted(wanted, owner.record):
                return
            states = [
                (epoch, file.high)
                for epoch in fleet.checks.history_of(name)
                for file in fleet.bucket.prefix(name, epoch).files
            ]
            if not states:
                return
            epoch, txid = rng.choice(sorted(states))
            number = wanted.restore.number + 1 if wanted.restore is not None else 1
            origin = Origin(
                tenant=name, lineage=owner.record.lineage, epoch=epoch, txid=txid, number=number
            )
            fleet.catalog[name] = wanted.model_copy(update={"restore": origin})
            fleet.world.say(name, f"shall go back to {epoch}:{txid}")
            fleet.checks.seen["restore asked"] += 1
            rng.choice(fleet.coordinators).told(fleet.catalog[name])

        return ask


def hasty(rules: Rules, picture: Picture) -> list[Start]:
    """The twin that does not stop a tenant before it takes it back."""
    if rules.restore_after_release:
        return []
    found = []
    fit = sorted(name for name, host in picture.hosts.items() if host.fit)
    for name, tenant in picture.tenants.items():
        owner = tenant.owner
        if owner is None or owner.record.state is not OwnerState.ACTIVE or not fit:
            continue
        origin = restore_wanted(tenant.wanted, owner.record)
        if origin is not None and tenant.ordered is None:
            start = Start(name, fit[0], owner.etag, True, 0, "restored", origin=origin)
            found.append(replace(start, from_epoch=owner.record.epoch))
    return found
