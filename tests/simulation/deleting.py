"""People who delete tenants, bring some of them back, and create others under names that are free;
and the coordinator's part in it, around the real decisions (`burial`, `purging.writers`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from backup import burial
from backup.burial import is_buried
from backup.errors import Precondition, StoreError
from backup.ownership import Deletion, NotAllowed, OwnerRecord, TenantRecord
from backup.records import Versioned
from fleet.coordinator.picture import Bury, Drain, SeenTenant
from fleet.coordinator.purging import writers
from tests.simulation.world import Step

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator, Known
    from tests.simulation.fleet_run import Fleet

FROM, UNTIL = 12.0, 60.0
"""Virtual seconds between which tenants are deleted."""
GRACE = 30.0
"""Seconds at most for which one is kept."""
DRAIN_AGAIN = 5.0
"""Seconds before a node that has not stopped is told again."""


class People:
    """Whoever asks for deletions, and the catalog that they write to."""

    def __init__(self, fleet: Fleet):
        self._fleet = fleet
        self._world = fleet.world
        rng = self._world.rng
        for name in fleet.tenants:
            if rng.random() < 0.8:
                self._world.later(rng.uniform(FROM, UNTIL), self._delete(name))

    def _delete(self, name: str) -> Callable[[], None]:
        def ask() -> None:
            wanted, rng = self._fleet.catalog.get(name), self._world.rng
            if wanted is None or wanted.deletion is not None:
                return
            owner = self._fleet.bucket.owners.get(name)
            number = (owner.record.deletion if owner is not None else 0) + 1
            now = self._world.now
            deletion = Deletion(
                number=number, asked_at=now, purge_after=now + rng.uniform(0.0, GRACE)
            )
            self._write(wanted.model_copy(update={"deletion": deletion}), "is deleted")
            self._fleet.checks.seen["deletion"] += 1
            if rng.random() < 0.5:
                self._world.later(rng.uniform(0.2, GRACE), self._bring_back(name, number))

        return ask

    def _write(self, wanted: TenantRecord, words: str) -> None:
        self._fleet.catalog[wanted.tenant] = wanted
        self._world.say(wanted.tenant, words)
        # One coordinator was asked; others read it some time.
        self._world.rng.choice(self._fleet.coordinators).told(wanted)

    def _bring_back(self, name: str, number: int) -> Callable[[], None]:
        def ask() -> None:
            coordinator = self._fleet.coordinators[-1]
            self._world.spawn(coordinator, self._unbury(coordinator, name, number))

        return ask

    def _unbury(self, coordinator: Coordinator, name: str, number: int) -> Step[None]:
        """`Deletions.take_back`; a coordinator that dies in the middle leaves the tombstone."""
        bucket = self._fleet.bucket
        while True:
            try:
                found = yield from bucket.owner(coordinator, name)
                now = found.record if found is not None else None
                wanted = burial.unbury(now, name, number)
                if wanted is not now:
                    etag = found.etag if found is not None else None
                    yield from bucket.swap_owner(coordinator, wanted, etag)
            except Precondition:
                continue
            except (NotAllowed, StoreError):
                return
            break
        self.cleared(name, number)

    def cleared(self, name: str, number: int) -> None:
        """Take the tombstone away of a deletion that was taken back."""
        wanted = self._fleet.catalog[name]
        if wanted.deletion is not None and wanted.deletion.number == number and not wanted.gone:
            self._fleet.checks.seen["brought back"] += 1
            self._write(wanted.model_copy(update={"deletion": None}), "is brought back")

    def freed(self, name: str, number: int) -> None:
        """All of a tenant is gone: its name is free, and may be used again."""
        wanted, rng = self._fleet.catalog[name], self._world.rng
        if wanted.deletion is None or wanted.deletion.number != number or wanted.gone:
            return
        self._fleet.checks.seen["purged"] += 1
        purged = wanted.deletion.model_copy(update={"purged_at": self._world.now})
        self._write(TenantRecord(tenant=name, app="", deletion=purged), "is gone")
        if rng.random() < 0.6:
            again = TenantRecord(tenant=name, app="again", follows=number)

            def create() -> None:
                self._fleet.checks.seen["created again"] += 1
                self._write(again, "is created again")

            self._world.later(rng.uniform(0.1, 8.0), create)


class Undertaker:
    """A coordinator's part: `Deletions`, step by step."""

    def __init__(self, coordinator: Coordinator, people: People | None):
        self._its = coordinator
        self._people = people
        self._buried_at: dict[tuple[str, int], float] = {}
        self._at_work: set[str] = set()

    def asked(self, tenants: dict[str, SeenTenant]) -> dict[str, SeenTenant]:
        """What the twin sees that takes any record of the catalog for one of the name's present
        tenant."""
        if self._its.rules.created_after:
            return tenants
        return {
            name: replace(
                tenant,
                wanted=tenant.wanted.model_copy(
                    update={"follows": tenant.owner.record.deletion if tenant.owner else 0}
                ),
            )
            for name, tenant in tenants.items()
        }

    def more(self, tenants: dict[str, Known]) -> list[Bury]:
        """What the broken twins decide beside the real decisions."""
        rules, found = self._its.rules, []
        for name, tenant in tenants.items():
            deletion = tenant.wanted.deletion
            owner = tenant.owner.record if tenant.owner is not None else None
            if deletion is None or tenant.stale or tenant.wanted.gone or owner is None:
                continue
            if is_buried(owner) or owner.tomb is not None:
                continue
            if not rules.bury_as_a_claim and deletion.number > owner.deletion:
                found.append(Bury(name, tenant.owner, deletion.number))
            if not rules.settled_once and deletion.number <= owner.deletion and not owner.host:
                found.append(Bury(name, tenant.owner, owner.deletion + 1))
        return found

    def bury(self, action: Bury, tenant: Known) -> Step[None]:
        """`Deletions.bury`."""
        its, before = self._its, action.owner.record if action.owner is not None else None
        tenant.stale = True
        try:
            wanted = burial.bury(before, action.tenant, action.number, authority_ended=True)
            etag = action.owner.etag if action.owner is not None else None
            yield from its.bucket.swap_owner(its, wanted, etag)
        except (NotAllowed, StoreError):
            return
        its.checks.seen["buried"] += 1

    def drain(self, action: Drain, tenant: Known) -> Step[None]:
        """Have a node stopped in the planned way. It may not hear of it."""
        its = self._its
        tenant.drain_after = its.now() + DRAIN_AGAIN
        host = its.hosts[action.host]
        yield its.world.rng.uniform(0.005, 0.1)
        if host.answers(its.name) and host.agent is not None:
            node = host.agent.nodes.get(action.tenant)
            if node is not None and not node.over:
                node.drain()

    def look_after(self, tenants: dict[str, Known]) -> None:
        """Begin what is due."""
        for name, tenant in tenants.items():
            deletion, owner = tenant.wanted.deletion, tenant.owner
            if deletion is None or tenant.stale or owner is None or tenant.wanted.gone:
                continue
            record = owner.record
            if record.deletion != deletion.number:
                continue
            if record.tomb is None and self._people is not None:
                self._people.cleared(name, deletion.number)
                tenant.stale = True
                continue
            self._buried_at.setdefault((name, deletion.number), self._its.now())
            # The store's clock: this one's own may run as it likes.
            if self._its.world.now >= deletion.purge_after and name not in self._at_work:
                self._at_work.add(name)
                self._its.world.spawn(self._its, self._purge(name, deletion.number))

    def _purge(self, name: str, number: int) -> Step[None]:
        try:
            yield from self._erase(name, number)
        except (NotAllowed, StoreError):
            yield self._its.lasting(1.0)
        finally:
            self._at_work.discard(name)

    def _erase(self, name: str, number: int) -> Step[None]:
        its = self._its
        found = yield from its.bucket.owner(its, name)
        if found is None or found.record.deletion != number or found.record.tomb is None:
            return
        if not found.record.tomb.erased:
            if not found.record.tomb.erasing:
                blocked = self._blocked(name, number)
                if blocked:
                    its.world.say(its.name, f"waits to remove {name}: {blocked[0]}")
                    yield its.lasting(2.0)
                    return
                marked = burial.begin_erasing(found.record, number)
                found = yield from its.bucket.swap_owner(its, marked, found.etag)
            found = yield from self._remove(name, number, found)
            yield from its.bucket.swap_owner(
                its, burial.end_erasing(found.record, number), found.etag
            )
        if self._people is not None:
            self._people.freed(name, number)

    def _remove(
        self, name: str, number: int, found: Versioned[OwnerRecord]
    ) -> Step[Versioned[OwnerRecord]]:
        its = self._its
        while True:
            yield its.world.rng.uniform(0.01, 0.2)
            mark = yield from its.bucket.owner(its, name)
            if mark is None or mark.record.tomb is None or mark.record.deletion != number:
                raise NotAllowed("it is not marked any more")
            left = sorted(
                (epoch, file)
                for (tenant, epoch), prefix in its.bucket.prefixes.items()
                for file in prefix.files
                if tenant == name and epoch <= mark.record.epoch
            )
            if not left:
                return mark
            for epoch, file in left[:3]:
                its.bucket.prefix(name, epoch).files.discard(file)

    def _blocked(self, name: str, number: int) -> list[str]:
        seen = self._its.seen_hosts()
        return writers(self._its.bucket.leases, seen, name, self._buried_at[name, number])
