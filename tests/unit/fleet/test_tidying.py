"""What nodes have left on a host: only what is superseded goes, and never the only copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backup import burial, keys, lineage, ownership, records
from backup.errors import Denied, StoreError
from backup.lineage import EpochRecord
from backup.memory import MemoryStore
from backup.ownership import Owner, OwnerRecord, OwnerState
from fleet.agent import remains
from fleet.agent.tidying import Tidying
from restore import retention
from restore.drill import Drill, note
from tests.erasing import DELETION, bury, remove

DAY = 86_400.0
NOW = 100 * DAY
A = Owner(host="a", incarnation="l.n")


class Host:
    """A tenant of three epochs, the newest drilled, and what a host has in its quarantine."""

    def __init__(self, data: Path) -> None:
        self.data = data
        (data / "quarantine").mkdir()
        self.store = MemoryStore()
        self.said: list[str] = []
        record: OwnerRecord | None = None
        for epoch in (1, 2, 3):
            record = ownership.claim(record, "t", A, authority_ended=True)
            record = ownership.activate(record, A, epoch)
            about = EpochRecord(
                tenant="t",
                lineage=record.lineage,
                epoch=epoch,
                parent=epoch - 1 or None,
                host="a",
                began_at=float(epoch),
            )
            lineage.write(self.store, about)
        assert record is not None
        self.record = record
        records.swap(self.store, keys.owner("t"), record, None)
        self.tidying = Tidying(self.store, data, 30, self.said.append, clock=lambda: NOW)

    def drilled(self, epoch: int = 3, ok: bool = True) -> None:
        drill = Drill(tenant="t", began_at=50.0, ok=ok, lineage=self.record.lineage, epoch=epoch)
        note(self.store, drill)

    def put_away(
        self, epoch: int, days: float = 31.0, *, tenant: str = "t", log: bool = True
    ) -> str:
        name = f"{tenant}-{epoch:08d}-0123abcd-{NOW - days * DAY:.0f}"
        folder = self.data / "quarantine" / name / "data"
        folder.mkdir(parents=True)
        (folder / ("log.db" if log else "other")).write_bytes(b"12345")
        return name

    def change(self, **changes: object) -> None:
        def changed(now: OwnerRecord | None) -> OwnerRecord | None:
            return now and now.model_copy(update=now.succeeded_by(**changes))

        records.change(self.store, keys.owner("t"), OwnerRecord, changed)

    def left(self) -> set[str]:
        return {folder.name for folder in (self.data / "quarantine").iterdir()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_is_superseded_and_old_goes_and_nothing_else(host: Host) -> None:
    host.drilled()
    old = {host.put_away(1), host.put_away(2)}
    newest, young = host.put_away(3), host.put_away(2, days=29.0)
    reasons = {one.folder: (one.goes, one.reason) for one in host.tidying.look()}
    assert {folder for folder, (goes, _) in reasons.items() if goes} == old
    assert reasons[newest] == (False, "the tenant may go on from it")
    assert reasons[young] == (False, "it stays for 1.0 more days")
    assert {one.folder for one in host.tidying.tidy()} == old
    assert host.left() == {newest, young}
    assert len(host.said) == 2
    assert host.tidying.tidy() == []


@pytest.mark.parametrize("drill", [None, (3, False), (2, True), (1, True)])
def test_nothing_goes_before_a_later_epoch_was_restored(
    host: Host, drill: tuple[int, bool] | None
) -> None:
    if drill is not None:
        host.drilled(*drill)
    host.put_away(2)
    (one,) = host.tidying.look()
    assert (one.goes, one.reason) == (False, "no later epoch was restored in a drill")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hold": True}, "the tenant is on hold"),
        ({"state": OwnerState.DAMAGED}, "the tenant is damaged"),
    ],
)
def test_a_tenant_that_may_need_it_keeps_it(
    host: Host, changes: dict[str, object], reason: str
) -> None:
    host.drilled()
    host.put_away(1)
    host.change(**changes)
    (one,) = host.tidying.look()
    assert (one.goes, one.reason) == (False, reason)


def test_what_nothing_is_known_of_stays(host: Host) -> None:
    host.drilled()
    host.put_away(0)
    host.put_away(1, tenant="unknown")
    (host.data / "quarantine" / "something else").mkdir()
    assert [(one.tenant, one.goes) for one in host.tidying.look()] == [
        ("t", False),
        ("unknown", False),
    ]
    host.put_away(0, days=32.0, log=False)
    assert [one.reason for one in host.tidying.tidy()] == ["there is no log in it"]


def test_a_record_that_is_not_there_proves_nothing(host: Host) -> None:
    host.drilled()
    host.put_away(1)
    host.store.objects.pop(keys.owner("t"))
    assert [one.reason for one in host.tidying.look()] == ["its tenant has no record"]
    host.store.fault = lambda operation, key: Denied("no")
    with pytest.raises(StoreError):
        host.tidying.tidy()
    assert len(host.left()) == 1


def test_of_a_tenant_that_is_gone_all_goes_at_once(host: Host) -> None:
    kept = host.put_away(3, days=0.0)
    records.swap(host.store, keys.wanted("t"), ownership.TenantRecord(tenant="t", app="app"), None)
    bury(host.store, "t")
    assert [one.goes for one in host.tidying.look()] == [False], "it can be brought back"
    remove(host.store, "t", DELETION)
    # Whoever has the name next is another tenant.
    again = ownership.claim(_owner(host), "t", A, authority_ended=True)
    again = ownership.activate(again, A, again.epoch)
    records.change(host.store, keys.owner("t"), OwnerRecord, lambda now: again)
    new = host.put_away(again.epoch, days=0.0)
    assert [one.folder for one in host.tidying.tidy()] == [kept]
    assert host.left() == {new}


def _owner(host: Host) -> OwnerRecord:
    found = records.read(host.store, keys.owner("t"), OwnerRecord)
    assert found is not None
    assert not burial.is_buried(found.record)
    return found.record


def test_half_of_a_folder_is_nobodys_tail(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.drilled()
    host.put_away(2)
    (kept,) = remains.quarantined(host.data)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # it is killed here
        remains.take_away(kept)
    assert len(host.left()) == 1
    assert remains.quarantined(host.data) == []
    assert remains.find_tail(host.data, "t") is None
    assert host.tidying.tidy() == []
    assert host.left() == set()


def test_without_a_period_only_those_of_tenants_that_are_gone_go(host: Host) -> None:
    host.drilled()
    host.put_away(1, days=9_999.0)
    never = Tidying(host.store, host.data, None, host.said.append, clock=lambda: NOW)
    assert never.tidy() == []


# -- broken twins --------------------------------------------------------------------------------


def test_one_that_does_not_ask_for_a_drill_is_noticed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_verified", lambda *_: 99)
    with pytest.raises(AssertionError):
        test_nothing_goes_before_a_later_epoch_was_restored(host, None)


def test_one_that_takes_the_newest_is_noticed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "newest_epoch", lambda owner: 99)
    monkeypatch.setattr(retention, "_verified", lambda *_: 99)
    with pytest.raises(AssertionError):
        test_what_is_superseded_and_old_goes_and_nothing_else(host)
