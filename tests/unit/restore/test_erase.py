"""All of a deleted tenant removed: killed at every request, beside neighbours, and broken twins."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import pytest

from backup import burial, keys, ownership, receipts, records
from backup.errors import Ambiguous, StoreError
from backup.memory import MemoryStore
from backup.ownership import NotAllowed, OwnerRecord, TenantRecord
from backup.receipts import Receipt, Removed, kind_of
from backup.store import Entry
from restore import erase
from restore.erase import NotErased
from tests.erasing import (
    DELETION,
    HOSTS,
    NEIGHBOURS,
    A,
    bury,
    check_gone,
    contents,
    fill,
    remove,
)
from tests.killed_store import Killed, KilledStore


def stored(batch: int = 4) -> MemoryStore:
    store = MemoryStore(clock=lambda: datetime.fromtimestamp(1000.0, UTC))
    for tenant in ("a", *NEIGHBOURS):
        fill(store, tenant)
    bury(store, "a")
    return store


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "BATCH", 4)


def owner(store: MemoryStore) -> OwnerRecord:
    found = records.read(store, keys.owner("a"), OwnerRecord)
    assert found is not None
    return found.record


def test_everything_goes_and_nothing_of_anybody_else() -> None:
    store = stored()
    before = {tenant: contents(store, tenant) for tenant in NEIGHBOURS}
    receipt = remove(store)
    check_gone(store, receipt)
    assert (receipt.began_at, receipt.purged_at) == (1000.0, 1000.0)
    assert {tenant: contents(store, tenant) for tenant in NEIGHBOURS} == before


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_request_it_goes_on_to_the_same_end(after: bool) -> None:
    whole = remove(stored())
    for at in count(1):
        store = stored()
        before = {tenant: contents(store, tenant) for tenant in NEIGHBOURS}
        try:
            remove(KilledStore(store, at, after))
        except Killed:
            pass
        else:
            break
        receipt = remove(store)
        check_gone(store, receipt)
        assert {tenant: contents(store, tenant) for tenant in NEIGHBOURS} == before
        assert receipt.removed == whole.removed, f"killed at request {at}"
    assert at > 40, "there was nothing to be killed at"


def test_killed_twice_on_its_way_it_still_comes_to_the_same_end() -> None:
    whole = remove(stored())
    for first in range(1, 50, 3):
        for second in range(1, 50, 3):
            store = stored()
            for at in (first, second):
                try:
                    remove(KilledStore(store, at, after=True))
                except Killed:
                    continue
            receipt = remove(store)
            check_gone(store, receipt)
            assert receipt.removed == whole.removed


@pytest.mark.parametrize("lost", ["put", "delete"])
def test_answers_that_are_lost_change_nothing(lost: str) -> None:
    store, whole = stored(), remove(stored())
    store.fault = lambda operation, key: "after" if operation == lost == "put" else None
    receipt = remove(store)
    store.fault = None
    check_gone(store, receipt)
    assert receipt.removed == whole.removed


def test_a_store_that_fails_leaves_it_for_the_next_time() -> None:
    store = stored()
    store.fault = lambda operation, key: Ambiguous("no") if operation == "delete" else None
    with pytest.raises(StoreError):
        remove(store)
    store.fault = None
    check_gone(store, remove(store))


# -- what stops it -------------------------------------------------------------------------------


def test_nothing_goes_that_is_not_marked() -> None:
    store = stored()
    before = contents(store, "a")
    with pytest.raises(NotErased, match="not marked"):
        erase.empty(store, "a", DELETION, keys_are="", versions="off")
    assert contents(store, "a") == before


def test_a_hold_keeps_everything_until_it_is_taken_off() -> None:
    store = stored()
    held = ownership.set_hold(owner(store), True)
    records.change(store, keys.owner("a"), OwnerRecord, lambda now: held)
    before = contents(store, "a")
    with pytest.raises(NotAllowed, match="on hold"):
        remove(store)
    assert contents(store, "a") == before
    records.change(
        store, keys.owner("a"), OwnerRecord, lambda now: now and ownership.set_hold(now, False)
    )
    check_gone(store, remove(store))


def test_a_hold_that_comes_too_late_is_refused() -> None:
    store = stored()
    erase.begin(store, "a", 1)
    with pytest.raises(NotAllowed, match="too late"):
        ownership.set_hold(owner(store), True)


def test_a_record_that_is_put_back_stops_it_between_two_batches() -> None:
    store = stored()
    erase.begin(store, "a", 1)
    back = burial.unbury(
        owner(store).model_copy(
            update={"tomb": owner(store).tomb.model_copy(update={"erasing": False})}  # type: ignore[union-attr]
        ),
        "a",
        1,
    )

    def put_back(receipt: Receipt) -> None:
        records.change(store, keys.owner("a"), OwnerRecord, lambda now: back)

    with pytest.raises(NotErased):
        erase.empty(store, "a", DELETION, keys_are="", versions="off", progress=put_back)
    assert len(contents(store, "a")) == 16 - 4


def test_of_two_that_remove_one_counts() -> None:
    store = stored()
    erase.begin(store, "a", 1)

    def other(receipt: Receipt) -> None:
        if receipt.total.objects == 4:
            erase.empty(store, "a", DELETION, keys_are="revoked", versions="off")

    receipt = erase.empty(store, "a", DELETION, keys_are="revoked", versions="off", progress=other)
    with pytest.raises(NotErased, match="somebody else"):
        erase.finish(store, DELETION, receipt, HOSTS)
    check_gone(store, remove(store))


def test_whoever_comes_when_all_is_done_ends_with_the_same_receipt() -> None:
    store = stored()
    erase.begin(store, "a", 1)
    stale = erase.empty(store, "a", DELETION, keys_are="revoked", versions="off")
    done = remove(store)
    assert erase.finish(store, DELETION, stale, {}) == done
    check_gone(store, done)


# -- the name is used again ----------------------------------------------------------------------


def reborn(store: MemoryStore) -> OwnerRecord:
    """Somebody is created under the name, and serves."""
    wanted = records.read(store, keys.wanted("a"), TenantRecord)
    assert wanted is not None
    again = TenantRecord(tenant="a", app="another", rev=wanted.record.rev + 1)
    records.swap(store, keys.wanted("a"), again, wanted.etag)
    record = ownership.claim(owner(store), "a", A, authority_ended=True)
    record = ownership.activate(record, A, record.epoch)
    records.change(store, keys.owner("a"), OwnerRecord, lambda now: record)
    store.put(f"{keys.epoch('a', record.epoch)}0000/1.ltx", b"new")
    store.put(keys.lineage("a", record.epoch), b"new")
    return record


def test_the_next_tenant_of_the_name_is_another() -> None:
    store = stored()
    lineage = owner(store).lineage
    remove(store)
    record = reborn(store)
    assert record.lineage != lineage
    assert (record.epoch, record.parent, record.genesis) == (4, None, True)
    bury(store, "a", DELETION.model_copy(update={"number": 2}))
    second = remove(store, deletion=DELETION.model_copy(update={"number": 2}))
    assert [one.number for one in receipts.read_all(store, "a")] == [1, 2]
    assert set(second.epochs) == {4}


class Stopped(MemoryStore):
    """Whoever removes is stopped with a list in their hands, and wakes when the name is used."""

    meanwhile: Callable[[], None] | None = None

    def list(self, prefix: str):  # type: ignore[no-untyped-def]
        if self.meanwhile is not None:
            what, self.meanwhile = self.meanwhile, None
            what()
        return super().list(prefix)


def test_whoever_wakes_late_removes_nothing_of_the_next_tenant() -> None:
    store = Stopped(clock=lambda: datetime.fromtimestamp(1000.0, UTC))
    fill(store, "a")
    bury(store, "a")
    erase.begin(store, "a", 1)

    def meanwhile() -> None:
        remove(store)
        reborn(store)

    store.meanwhile = meanwhile
    with pytest.raises(NotErased):
        erase.finish(
            store,
            DELETION,
            erase.empty(store, "a", DELETION, keys_are="", versions="off"),
            {},
        )
    assert store.get(f"{keys.epoch('a', 4)}0000/1.ltx").body == b"new"
    assert store.get(keys.lineage("a", 4)).body == b"new"
    wanted = records.read(store, keys.wanted("a"), TenantRecord)
    assert wanted is not None
    assert wanted.record.app == "another"


def test_what_comes_late_is_removed_and_told_of() -> None:
    store = stored()
    remove(store)
    assert erase.sweep(store, "a", 1) is None
    store.put(f"{keys.epoch('a', 2)}0000/9.ltx", b"late")
    store.put(f"{keys.epoch('a', 9)}0000/9.ltx", b"not its own")
    receipt = erase.sweep(store, "a", 1)
    assert receipt is not None
    assert receipt.late == Removed(objects=1, bytes=4)
    assert receipt.intact
    assert [entry.size for entry in store.list(keys.epochs("a"))] == [11]
    reborn(store)
    store.put(f"{keys.epoch('a', 2)}0000/9.ltx", b"late")
    assert erase.sweep(store, "a", 1) is None, "the name is used again"


def test_what_was_never_its_own_ends_it_loudly() -> None:
    store = stored()
    store.put(f"{keys.epoch('a', 9)}0000/1.ltx", b"whose?")
    with pytest.raises(NotErased, match="00000009"):
        remove(store)


# -- judging -------------------------------------------------------------------------------------


def test_it_goes_once_its_time_has_come_and_nobody_is_there() -> None:
    buried = owner(stored())
    early = erase.judge(buried, DELETION, 19.0, [], [])
    assert (early.goes, early.due) == (False, False)
    assert erase.judge(buried, DELETION, 20.0, [], []).goes
    for writers, readers in ((["host-1 has a node"], []), ([], ["b is forked from it"])):
        verdict = erase.judge(buried, DELETION, 20.0, writers, readers)
        assert (verdict.goes, verdict.due, verdict.reason) == (
            False,
            True,
            (writers or readers)[0],
        )
    held = ownership.set_hold(buried, True)
    assert erase.judge(held, DELETION, 20.0, [], []).reason == "it is on hold"
    serving = fill(MemoryStore(), "c")
    assert not erase.judge(serving, DELETION, 99.0, [], []).goes
    # What was begun is ended.
    begun = burial.begin_erasing(buried, 1)
    assert erase.judge(begun, DELETION, 0.0, ["somebody"], ["somebody"]).goes


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("tenants/a/epochs/00000012/0000/1.ltx", ("replicas", 12)),
        ("tenants/a/epochs/what", ("replicas", None)),
        ("tenants/a/lineage/00000003.json", ("lineage", 3)),
        ("tenants/a/copies/20260101T000000Z-7-41.db.gz", ("copies", 7)),
        ("tenants/a/copies/20260101T000000Z-7-41-abcdef01.db.gz.sealed", ("copies", 7)),
        ("tenants/a/copies/what", ("copies", None)),
        ("tenants/a/drills.json", ("drills", None)),
        ("tenants/a/else", ("other", None)),
    ],
)
def test_the_kind_of_an_object_is_in_its_name(key: str, kind: tuple[str, int | None]) -> None:
    assert kind_of("a", key) == kind


# -- broken twins --------------------------------------------------------------------------------


def test_a_receipt_that_was_changed_is_noticed() -> None:
    receipt = remove(stored())
    assert receipt.intact
    changes: list[dict[str, object]] = [
        {"why": "nothing"},
        {"by": ""},
        {"late": Removed(objects=1)},
        {"hosts": {}},
    ]
    for change in changes:
        assert not receipt.model_copy(update=change).intact


def test_a_prefix_without_its_slash_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored()
    before = {tenant: contents(store, tenant) for tenant in NEIGHBOURS}
    monkeypatch.setattr(keys, "everything", lambda tenant: f"tenants/{tenant}")
    remove(store)
    monkeypatch.undo()
    assert {tenant: contents(store, tenant) for tenant in NEIGHBOURS} != before


def test_batches_that_are_not_written_ahead_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted after they are removed: what was removed before a kill is in no receipt."""
    monkeypatch.setattr(erase, "BATCH", 4)
    right = Receipt.covering

    def late(self: Receipt, entries: list[Entry]) -> Receipt | None:
        return right(self.model_copy(update={"batch": ()}), entries)

    monkeypatch.setattr(Receipt, "covering", late)
    with pytest.raises(AssertionError):
        test_killed_at_any_request_it_goes_on_to_the_same_end(after=True)
