"""Deleting tenants, the coordinator's part: who is buried, who may still write, what is asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from backup import burial, keys, ownership, receipts, records
from backup.lease import LeaseRecord
from backup.memory import MemoryStore
from backup.ownership import Deletion, OwnerRecord, OwnerState, TenantRecord
from backup.receipts import Receipt
from backup.records import Versioned
from backup.store import ObjectStore
from fleet.agent import remains
from fleet.coordinator.account import Tenant
from fleet.coordinator.decide import decide
from fleet.coordinator.deletions import Deletions, NotDeleted
from fleet.coordinator.picture import Bury, Drain, SeenHost, SeenTenant
from fleet.coordinator.purging import writers
from fleet.coordinator.timeline import TimelineLog
from fleet.deletion_views import DeletionWanted
from restore import erase
from tests.erasing import contents, fill
from tests.killed_store import Killed, KilledStore
from tests.unit.fleet.test_decide import host, node, owned, picture

DELETION = Deletion(number=1, asked_at=1.0, purge_after=2.0)


def deleted(record: OwnerRecord | None, **more: object) -> SeenTenant:
    wanted = TenantRecord(tenant="t", app="app", deletion=DELETION)
    owner = Versioned(record, "e-owner") if record else None
    return SeenTenant(wanted, owner, 5.0, **more)  # type: ignore[arg-type]


def kinds(hosts: list[SeenHost], tenant: SeenTenant) -> list[type]:
    return [type(action) for action in decide(picture(hosts, {"t": tenant}))]


def test_one_that_serves_is_stopped_first() -> None:
    (drain,) = decide(picture([host("a", nodes=(node("a"),))], {"t": deleted(owned("a"))}))
    assert drain == Drain("t", "a", "delete")


@pytest.mark.parametrize("state", [OwnerState.RELEASED, OwnerState.DAMAGED])
def test_one_that_nobody_runs_is_buried_and_not_started(state: OwnerState) -> None:
    (bury,) = decide(picture([host("a"), host("b")], {"t": deleted(owned("a", state))}))
    assert isinstance(bury, Bury)
    assert (bury.tenant, bury.number) == ("t", 1)


def test_one_that_was_never_started_is_buried() -> None:
    assert kinds([host("a")], deleted(None)) == [Bury]


def test_one_whose_host_is_lost_is_buried_once_that_is_fenced() -> None:
    silent = host("a", silent=5.0, nodes=None)
    assert kinds([silent, host("b")], deleted(owned("a"))) == []
    assert kinds([host("a", ended=True), host("b")], deleted(owned("a"))) == [Bury]


def test_one_that_is_buried_is_left_alone_by_everybody() -> None:
    record = burial.bury(owned("a", OwnerState.RELEASED), "t", 1, authority_ended=True)
    assert kinds([host("a"), host("b")], deleted(record)) == []


def test_one_whose_deletion_was_taken_back_is_not_buried_again() -> None:
    back = burial.unbury(owned("a"), "t", 1)
    # The tombstone is still there: whoever took it back was killed in between.
    assert kinds([host("a", nodes=(node("a"),))], deleted(back)) == []


def test_a_name_that_is_free_is_started_anew() -> None:
    buried = burial.bury(owned("a", OwnerState.RELEASED), "t", 1, authority_ended=True)
    erased = burial.end_erasing(burial.begin_erasing(buried, 1), 1)
    again = replace(deleted(erased), wanted=TenantRecord(tenant="t", app="app", follows=1))
    (start,) = decide(picture([host("a")], {"t": again}))
    assert (start.cause, start.expected) == ("created", "e-owner")  # type: ignore[union-attr]
    # What a coordinator read before the removal brings nobody back, and nobody else to life.
    stale = replace(again, wanted=TenantRecord(tenant="t", app="app"))
    assert decide(picture([host("a")], {"t": stale})) == []
    claimed = ownership.claim(erased, "t", ownership.Owner(host="a", incarnation="l.n"),
                              authority_ended=True)  # fmt: skip
    assert claimed.genesis


# -- who may still write -------------------------------------------------------------------------


def blocked(*hosts: SeenHost, known: tuple[str, ...] = ("a", "b")) -> list[str]:
    return writers(known, {one.name: one for one in hosts}, "t", buried_at=5.0)


def test_nobody_writes_once_all_hosts_have_said_so() -> None:
    assert blocked(host("a", nodes=(node("a", "other"),)), host("b")) == []
    assert blocked(host("a", ended=True, nodes=None), host("b")) == []
    assert blocked(host("a", nodes=(node("a", over=True),)), host("b")) == []


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (host("a", nodes=(node("a"),)), "a still has a node of it"),
        (host("a", nodes=None, silent=99.0), "a does not answer, and its lease has not ended"),
        (host("a", nodes_at=5.0), "a was not asked yet"),
        (host("c"), "a is not known yet"),
    ],
)
def test_whoever_may_write_is_waited_for(one: SeenHost, why: str) -> None:
    assert blocked(one, host("b")) == [why]


# -- what lies on a host -------------------------------------------------------------------------


def test_only_the_tenants_own_remains_are_removed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    mine = ["t-00000001-0123abcd-1700000000", "t-00000002-89abcdef-1700000001"]
    others = [
        "t-00000009-89abcdef-1700000001",  # of an epoch after its last
        "t-x-00000001-0123abcd-1700000000",
        "tt-00000001-0123abcd-1700000000",
        "t-00000001-0123abcd-1700000000-00000001-0123abcd-1700000000",  # a tenant of that name
        "t",
    ]
    for name in (*mine, *others):
        (tmp_path / "quarantine" / name / "data").mkdir(parents=True)
        (tmp_path / "quarantine" / name / "data" / "log.db").write_bytes(b"12345")
    found = remains.remove(tmp_path, "t", 3)
    assert (found.folders, found.bytes) == (2, 10)
    assert {one.name for one in (tmp_path / "quarantine").iterdir()} == set(others)


# -- the coordinator itself ----------------------------------------------------------------------


class Fleet:
    """What `Deletions` needs of a coordinator, over a bucket that outlives it."""

    def __init__(self, store: ObjectStore, hosts: dict[str, SeenHost] | None = None) -> None:
        self.store = store
        self.timeline = TimelineLog()
        self.history = SimpleNamespace(note=lambda *_, **__: None)
        self.restores = SimpleNamespace(running=list)
        self.drills = SimpleNamespace(running=None, known={})
        self.woken = 0
        watches = {name: _watch(one) for name, one in (hosts or {}).items()}
        self.observer = SimpleNamespace(hosts=watches)
        self.tenants: dict[str, Tenant] = {}
        self.revoked: list[str] = []
        self.deletions = Deletions(
            cast(Any, self),
            store,
            cast(Any, SimpleNamespace(revoke=self.revoked.append)),
            httpx.AsyncClient(transport=httpx.MockTransport(_agent)),
            "token",
            grace_days=7,
            clock=lambda: 0.0,
        )

    def wake(self) -> None:
        self.woken += 1

    async def look(self) -> None:
        """Read all that there is anew, decide, and act, once."""
        wanted = records.read(self.store, keys.wanted("a"), TenantRecord)
        assert wanted is not None
        if wanted.record.gone:
            self.deletions.forget(wanted.record)
            return
        tenant = self.tenants.setdefault("a", Tenant(wanted.record))
        tenant.wanted, tenant.stale = wanted.record, False
        tenant.owner = records.read(self.store, keys.owner("a"), OwnerRecord)
        seen = picture([], {"a": tenant.seen()})
        for action in decide(seen):
            if isinstance(action, Bury):
                await self.deletions.bury(action)
        tenant.stale = False
        tenant.owner = records.read(self.store, keys.owner("a"), OwnerRecord)
        await self.deletions.look_after("a")


def _watch(one: SeenHost) -> Any:
    return SimpleNamespace(seen=lambda now: one, lease=one.lease, address="http://host")


def _agent(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"folders": 1, "bytes": 5})


def released(store: ObjectStore) -> None:
    """A tenant that was released, with all that one can have, and one beside it."""
    for name in ("a", "a-b"):
        fill(store, name)
    records.change(
        store,
        keys.owner("a"),
        OwnerRecord,
        lambda now: now and now.model_copy(update=now.succeeded_by(state=OwnerState.RELEASED)),
    )
    for name in ("h1", "h2"):
        lease = LeaseRecord(host=name, incarnation="l")
        records.swap(store, keys.lease(name), lease, None)
    # A cordon of a host that never joined keeps nobody waiting.
    store.put(f"{keys.HOSTS}h3/host.json", b"{}")


HOSTS_SEEN = {"h1": host("h1"), "h2": host("h2", ended=True)}


def test_a_coordinator_killed_at_any_request_leaves_it_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(erase, "BATCH", 5)

    async def whole(at: int, after: bool) -> bool:
        """Whether anybody was killed."""
        store = MemoryStore()
        released(store)
        asked = DeletionWanted(grace_seconds=0, by="me", why="a test")
        first = Fleet(KilledStore(store, at, after), HOSTS_SEEN)
        killed = False
        try:
            await first.look()
            await first.deletions.ask("a", asked)
            for _ in range(3):
                await first.look()
        except Killed:
            killed = True
        wanted = records.read(store, keys.wanted("a"), TenantRecord)
        assert wanted is not None
        second = Fleet(store, HOSTS_SEEN)
        if wanted.record.deletion is None:
            # It was killed before the tombstone was written, so nobody was told that it was.
            assert len(contents(store, "a")) == 16
            await second.look()
            await second.deletions.ask("a", asked)
        for _ in range(3):
            await second.look()
        assert set(contents(store, "a")) == {keys.owner("a"), keys.wanted("a")}
        assert len(contents(store, "a-b")) == 16
        (receipt,) = receipts.read_all(store, "a")
        assert receipt.intact
        assert (receipt.total.objects, receipt.by, receipt.why) == (14, "me", "a test")
        assert "a" in second.deletions.gone
        assert "a" in first.revoked + second.revoked
        return killed

    async def test() -> None:
        for after in (False, True):
            at = 1
            while await whole(at, after):
                at += 1
            assert at > 40, "there was nothing to be killed at"

    asyncio.run(test())


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ({"h1": host("h1", nodes=(node("h1", "a"),)), "h2": host("h2")}, "still has a node"),
        ({"h1": host("h1", nodes=None, silent=9.0), "h2": host("h2")}, "does not answer"),
        ({"h1": host("h1")}, "not known yet"),
    ],
)
def test_nothing_goes_while_somebody_may_write(hosts: dict[str, SeenHost], words: str) -> None:
    async def test() -> None:
        store = MemoryStore()
        released(store)
        fleet = Fleet(store, hosts)
        await fleet.look()
        await fleet.deletions.ask("a", DeletionWanted(grace_seconds=0))
        await fleet.look()
        view = fleet.deletions.view("a", fleet.tenants["a"])
        assert (view.phase, words in view.blocked) == ("kept", True), view
        assert len(contents(store, "a")) == 16
        assert [one.kind for one in fleet.timeline.after(0)][-1] == "purge_blocked"

    asyncio.run(test())


def test_it_is_kept_for_its_grace_period_by_the_stores_clock() -> None:
    async def test() -> None:
        at = datetime.now(UTC) - timedelta(days=3)
        store = MemoryStore(clock=lambda: at)
        released(store)
        fleet = Fleet(store, HOSTS_SEEN)
        await fleet.look()
        # For this machine the day has passed already; the bucket says that it has not.
        await fleet.deletions.ask("a", DeletionWanted(grace_seconds=86_400))
        await fleet.look()
        assert fleet.deletions.view("a", fleet.tenants["a"]).phase == "kept"
        assert len(contents(store, "a")) == 16
        at += timedelta(days=1)
        fleet.deletions._tried.clear()
        await fleet.look()
        assert "a" in fleet.deletions.gone

    asyncio.run(test())


def test_a_deletion_has_a_number_that_no_receipt_has() -> None:
    """Though the owner's record, made anew, knows of none."""

    async def test() -> None:
        store = MemoryStore()
        released(store)
        fleet = Fleet(store, HOSTS_SEEN)
        await fleet.look()
        store.put(keys.receipt("a", 3), _receipt(3).model_dump_json().encode())
        assert (await fleet.deletions.ask("a", DeletionWanted())).number == 4

    asyncio.run(test())


def _receipt(number: int) -> Receipt:
    return Receipt(
        tenant="a",
        number=number,
        lineage="l",
        epoch=1,
        asked_at=1.0,
        purge_after=2.0,
        began_at=3.0,
        purged_at=4.0,
    )


def test_asking_again_while_the_last_step_is_left_changes_nothing() -> None:
    async def test() -> None:
        store = MemoryStore()
        released(store)
        fleet = Fleet(store, HOSTS_SEEN)
        await fleet.look()
        await fleet.deletions.ask("a", DeletionWanted(grace_seconds=0))
        tombstone = store.get(keys.wanted("a")).body
        await fleet.look()
        assert "a" in fleet.deletions.gone
        # It was killed before the catalog's entry was written.
        store.put(keys.wanted("a"), tombstone)
        again = Fleet(store, HOSTS_SEEN)
        tenant = Tenant(TenantRecord.model_validate_json(tombstone))
        again.tenants["a"] = tenant
        view = await again.deletions.ask("a", DeletionWanted(grace_seconds=0))
        assert view.number == 1
        await again.look()
        assert "a" in again.deletions.gone

    asyncio.run(test())


def test_a_tombstone_is_taken_back_by_whoever_comes_next() -> None:
    async def test() -> None:
        store = MemoryStore()
        released(store)
        fleet = Fleet(store, HOSTS_SEEN)
        await fleet.look()
        await fleet.deletions.ask("a", DeletionWanted())
        await fleet.look()
        # It is killed between the record that decides and the tombstone.
        records.change(store, keys.owner("a"), OwnerRecord, lambda now: burial.unbury(now, "a", 1))
        again = Fleet(store, HOSTS_SEEN)
        await again.look()
        wanted = records.read(store, keys.wanted("a"), TenantRecord)
        assert wanted is not None
        assert wanted.record.deletion is None
        again.tenants["a"].wanted = wanted.record
        with pytest.raises(NotDeleted, match="not deleted"):
            await again.deletions.take_back("a")
        # Deleted once more, it is another deletion.
        view = await again.deletions.ask("a", DeletionWanted())
        assert view.number == 2

    asyncio.run(test())
