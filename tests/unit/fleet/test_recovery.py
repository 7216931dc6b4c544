"""Records that are lost, made anew from what else is in the bucket."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from backup import burial, keys, lineage, ownership, records
from backup.catalog import CatalogRecord
from backup.lease import LeaseRecord
from backup.lineage import EpochRecord
from backup.memory import MemoryStore
from backup.ownership import Origin, Owner, OwnerRecord, OwnerState, TenantRecord
from fleet.coordinator.catalog import CatalogCopy
from fleet.coordinator.observe import Observer
from fleet.coordinator.seating import TENANT
from fleet.recovering import look, write
from fleet.recovery import Finding
from tests.erasing import bury, fill, remove

A = Owner(host="a", incarnation="l.n")


class Bucket:
    """A fleet with one tenant that has had two epochs, as a coordinator has seen it."""

    def __init__(self, *, copied: bool = True, app: str = "shop.orders") -> None:
        self.store = MemoryStore()
        self.coordinators = MemoryStore()
        origin = Origin(tenant="t", lineage="l", epoch=1, txid=3, number=4)
        self.wanted = TenantRecord(
            tenant="t", app="shop.orders", env={"A": "b"}, rev=3, restore=origin
        )
        records.swap(self.store, keys.wanted("t"), self.wanted, None)
        self.owner = epochs(self.store, "t", app)
        epochs(self.coordinators, TENANT, "own")
        if copied:
            copy = CatalogCopy(self.coordinators)
            asyncio.run(copy.keep({"t": self.wanted}))

    def lose(self, *names: str) -> None:
        for name in names:
            self.store.delete(keys.wanted("t") if name == "wanted" else keys.owner("t"))

    def look(self, **more: object) -> Finding:
        found = look(self.store, self.coordinators, **more)  # type: ignore[arg-type]
        assert [one.tenant for one in found] == ["t", TENANT]
        return found[0]

    def read(self) -> tuple[TenantRecord | None, OwnerRecord | None]:
        wanted = records.read(self.store, keys.wanted("t"), TenantRecord)
        owner = records.read(self.store, keys.owner("t"), OwnerRecord)
        return wanted.record if wanted else None, owner.record if owner else None


def epochs(store: MemoryStore, tenant: str, app: str) -> OwnerRecord:
    record: OwnerRecord | None = None
    for epoch in (1, 2):
        record = ownership.claim(record, tenant, A, authority_ended=True)
        record = ownership.activate(record, A, epoch)
        for n in (1, 2):
            store.put(f"{keys.epoch(tenant, epoch)}0000/{n:016x}-{n:016x}.ltx", b"x")
        lineage.write(
            store,
            EpochRecord(
                tenant=tenant,
                lineage=record.lineage,
                epoch=epoch,
                parent=epoch - 1 or None,
                host="a",
                began_at=float(epoch),
                app=app,
                durability="before_effects",
            ),
        )
    assert record is not None
    records.swap(store, keys.owner(tenant), record, None)
    return record


def test_a_fleet_that_is_whole_is_left_alone() -> None:
    bucket = Bucket()
    found = bucket.look()
    assert (found.state, found.wanted, found.owner) == ("whole", None, None)
    assert write(bucket.store, found) == "nothing to write"


def test_a_wanted_state_comes_back_from_the_copy() -> None:
    bucket = Bucket()
    bucket.lose("wanted")
    found = bucket.look()
    assert (found.state, found.owner) == ("missing", None)
    assert write(bucket.store, found) == "wrote tenant.json"
    wanted, _ = bucket.read()
    assert wanted is not None
    assert wanted.model_dump(exclude={"rev", "nonce"}) == bucket.wanted.model_dump(
        exclude={"rev", "nonce"}
    )
    assert wanted.rev == bucket.wanted.rev + 1
    assert bucket.look().state == "whole"


def test_without_a_copy_it_is_doubtful() -> None:
    bucket = Bucket(copied=False)
    bucket.lose("wanted")
    found = bucket.look()
    assert found.state == "doubtful"
    assert found.wanted is not None
    assert (found.wanted.app, found.wanted.durability) == ("shop.orders", "before_effects")
    assert any("environment" in doubt for doubt in found.doubts)


def test_an_application_that_nobody_knows_must_be_named() -> None:
    bucket = Bucket(copied=False, app="")
    bucket.lose("wanted")
    assert bucket.look().state == "lost"
    found = bucket.look(given={"t": "shop.orders"})
    assert found.state == "doubtful"
    assert found.wanted is not None
    assert found.wanted.app == "shop.orders"


def test_an_owner_comes_back_from_the_epochs() -> None:
    bucket = Bucket()
    # Claimed by somebody who has never begun to write.
    bucket.store.put(f"{keys.epoch('t', 3)}0000/{1:016x}-{1:016x}.ltx", b"x")
    bucket.lose("owner")
    found = bucket.look()
    assert (found.state, found.wanted) == ("missing", None)
    write(bucket.store, found)
    _, owner = bucket.read()
    assert owner is not None
    assert (owner.state, owner.host, owner.epoch) == (OwnerState.RESTORING, "", 4)
    assert owner.parent is not None
    assert (owner.parent.epoch, owner.floor_txid, owner.lineage) == (2, 2, bucket.owner.lineage)
    # Nothing is removed before somebody has looked, and no old restore is carried out again.
    assert (owner.hold, owner.restored, owner.genesis) == (True, 4, False)
    next_one = ownership.claim(owner, "t", A, authority_ended=True)
    assert (next_one.epoch, next_one.parent) == (5, owner.parent)


def test_both_come_back_and_the_owner_is_written_first() -> None:
    bucket = Bucket()
    bucket.lose("wanted", "owner")
    assert write(bucket.store, bucket.look()) == "wrote owner.json and tenant.json"
    assert bucket.look().state == "whole"


def test_an_owner_with_a_gap_behind_it_is_doubtful() -> None:
    bucket = Bucket()
    bucket.store.put(f"{keys.epoch('t', 2)}0000/{9:016x}-{9:016x}.ltx", b"x")
    bucket.lose("owner")
    found = bucket.look()
    assert found.state == "doubtful"
    assert any("transaction 3 is missing" in doubt for doubt in found.doubts)


def test_a_host_that_may_run_it_is_named() -> None:
    bucket = Bucket()
    lease = LeaseRecord(host="a", incarnation="l", proven={"t": "2:2"})
    records.swap(bucket.store, keys.lease("a"), lease, None)
    assert bucket.look().state == "whole"
    bucket.lose("owner")
    found = bucket.look()
    assert found.state == "doubtful"
    assert any("a may run it" in doubt for doubt in found.doubts)


@pytest.mark.parametrize("what", ["wanted", "owner"])
def test_a_record_that_cannot_be_read_is_written_over(what: str) -> None:
    bucket = Bucket()
    key = keys.wanted("t") if what == "wanted" else keys.owner("t")
    bucket.store.put(key, b"{}")
    found = bucket.look()
    assert found.state == "missing"
    assert any("cannot be read" in words for words in found.found)
    write(bucket.store, found)
    assert bucket.look().state == "whole"


def test_records_of_an_older_bucket_are_known_by_what_came_after_them() -> None:
    bucket = Bucket()
    old = bucket.wanted.model_copy(update={"rev": 1, "app": "older"})
    bucket.store.put(keys.wanted("t"), old.model_dump_json().encode())
    first = bucket.owner.model_copy(update={"epoch": 1, "parent": None})
    bucket.store.put(keys.owner("t"), first.model_dump_json().encode())
    found = bucket.look()
    assert found.wanted is not None
    assert found.wanted.app == "shop.orders"
    assert found.owner is not None
    assert found.owner.epoch == 3


def test_what_has_changed_meanwhile_is_not_written_over() -> None:
    bucket = Bucket()
    bucket.lose("wanted")
    found = bucket.look()
    records.swap(bucket.store, keys.wanted("t"), TenantRecord(tenant="t", app="new"), None)
    assert "changed meanwhile" in write(bucket.store, found)
    wanted, _ = bucket.read()
    assert wanted is not None
    assert wanted.app == "new"


def test_a_tenant_that_only_the_copy_knows_would_begin_empty() -> None:
    bucket = Bucket()
    copy = CatalogRecord(tenants={"gone": TenantRecord(tenant="gone", app="x")})
    asyncio.run(CatalogCopy(bucket.coordinators).keep(copy.tenants))
    found = look(bucket.store, bucket.coordinators)
    assert [(one.tenant, one.state) for one in found] == [
        ("gone", "doubtful"),
        ("t", "whole"),
        (TENANT, "whole"),
    ]


def test_the_coordinators_log_is_looked_at_too() -> None:
    bucket = Bucket()
    bucket.coordinators.delete(keys.owner(TENANT))
    *_, own = look(bucket.store, bucket.coordinators)
    assert (own.state, own.wanted) == ("missing", None)
    assert own.owner is not None
    assert write(bucket.coordinators, own) == "wrote owner.json"


def test_the_copy_is_written_when_something_has_changed_and_keeps_what_is_lost() -> None:
    store, now = MemoryStore(), [100.0]
    copy = CatalogCopy(store, lambda: now[0])

    def kept() -> dict[str, int]:
        found = records.read(store, keys.CATALOG, CatalogRecord)
        return {name: one.rev for name, one in found.record.tenants.items()} if found else {}

    one = TenantRecord(tenant="one", app="x")
    two = TenantRecord(tenant="two", app="x")
    asyncio.run(copy.keep({"one": one, "two": two}))
    assert kept() == {"one": 1, "two": 1}
    newer = one.model_copy(update=one.succeeded_by())
    asyncio.run(copy.keep({"one": newer}))
    assert kept() == {"one": 1, "two": 1}
    now[0] += 60.0
    asyncio.run(copy.keep({"one": newer}))
    assert kept() == {"one": 2, "two": 1}


def test_a_coordinator_goes_on_without_a_tenant_whose_record_is_damaged() -> None:
    bucket = Bucket()
    bucket.store.put(keys.wanted("bad"), b"{}")

    async def whole() -> None:
        async with httpx.AsyncClient() as http:
            observer = Observer(bucket.store, http, "token")
            assert set(await observer.read_catalog(without=())) == {"t"}
            assert "bad" in observer.unreadable

    asyncio.run(whole())


# -- tenants that were deleted -------------------------------------------------------------------


def removed(tenant: str = "a") -> MemoryStore:
    """A bucket with a tenant that was deleted and is gone, and one beside it."""
    store = MemoryStore()
    for name in (tenant, "a-b"):
        fill(store, name)
    bury(store, tenant)
    remove(store, tenant)
    return store


@pytest.mark.parametrize("lost", [["wanted"], ["owner"], ["wanted", "owner"]])
def test_a_tenant_that_was_removed_is_not_brought_to_life(lost: list[str]) -> None:
    store = removed()
    before = records.read(store, keys.owner("a"), OwnerRecord)
    assert before is not None
    for name in lost:
        store.delete(keys.wanted("a") if name == "wanted" else keys.owner("a"))
    if len(lost) == 2:
        # With both records nothing of it is left but its receipt, and nobody looks for it.
        assert "a" not in [one.tenant for one in look(store, MemoryStore())]
        return
    (found,) = look(store, MemoryStore(), tenants=["a"])
    assert found.state == "missing", found
    write(store, found)
    wanted = records.read(store, keys.wanted("a"), TenantRecord)
    owner = records.read(store, keys.owner("a"), OwnerRecord)
    assert wanted is not None
    assert wanted.record.gone
    assert owner is not None
    assert owner.record.tomb is not None
    assert owner.record.tomb.erased
    # Whoever has the name next begins with an epoch that was never used, and nobody else begins.
    assert (owner.record.epoch, owner.record.deletion) == (before.record.epoch, 1)
    follows = TenantRecord(tenant="a", app="app", follows=1)
    assert burial.may_begin(follows, owner.record)
    assert not burial.may_begin(TenantRecord(tenant="a", app="app"), owner.record)


def test_an_owner_made_anew_knows_of_deletions_before_it() -> None:
    store = removed()
    found = records.read(store, keys.owner("a"), OwnerRecord)
    assert found is not None
    record = ownership.claim(found.record, "a", A, authority_ended=True)
    about = EpochRecord(
        tenant="a", lineage=record.lineage, epoch=record.epoch, host="a", began_at=9.0, app="app"
    )
    lineage.write(store, about)
    store.put(f"{keys.epoch('a', record.epoch)}0000/{1:016x}-{1:016x}.ltx", b"x")
    again = TenantRecord(tenant="a", app="app", follows=1)
    records.change(store, keys.wanted("a"), TenantRecord, lambda now: again)
    store.delete(keys.owner("a"))
    (remade,) = look(store, MemoryStore(), tenants=["a"])
    assert remade.owner is not None
    assert (remade.owner.deletion, remade.owner.hold) == (1, True)
    assert remade.owner.epoch > record.epoch
