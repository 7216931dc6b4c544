"""The coordinator's part in removing epochs: who is asked, and what is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from backup import keys, lineage, ownership, records
from backup.lineage import EpochRecord
from backup.memory import MemoryStore
from backup.ownership import Origin, Owner, OwnerRecord, TenantRecord
from fleet.coordinator.account import Tenant
from fleet.coordinator.retention import Epochs, NotHeld
from fleet.coordinator.timeline import TimelineLog
from fleet.views import RestoreView
from restore.drill import Drill, note

A = Owner(host="a", incarnation="l.n")


class Fleet:
    """A tenant with two epochs, the second one drilled."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.timeline = TimelineLog()
        self.views: list[RestoreView] = []
        record: OwnerRecord | None = None
        for epoch in (1, 2):
            record = ownership.claim(record, "t", A, authority_ended=True)
            record = ownership.activate(record, A, epoch)
            self.store.put(f"{keys.epoch('t', epoch)}0000/1.ltx", b"xyz")
            lineage.write(
                self.store,
                EpochRecord(
                    tenant="t",
                    lineage=record.lineage,
                    epoch=epoch,
                    parent=epoch - 1 or None,
                    host="a",
                    began_at=float(epoch),
                ),
            )
        assert record is not None
        records.swap(self.store, keys.owner("t"), record, None)
        drill = Drill(tenant="t", began_at=10.0, ok=True, lineage=record.lineage, epoch=2)
        note(self.store, drill)
        self.lineage = record.lineage
        self.tenants = {"t": Tenant(TenantRecord(tenant="t", app="a"))}
        self.epochs = Epochs(
            self.store, self.tenants, lambda: self.views, self.timeline, days=1, clock=time.time
        )

    def left(self) -> list[int]:
        return [int(name) for name in self.store.prefixes(keys.epochs("t"))]


def test_an_epoch_that_may_go_goes_and_is_told_of() -> None:
    async def test() -> None:
        fleet = Fleet()
        before = await fleet.epochs.of("t")
        assert [(one.epoch, one.goes, one.objects, one.bytes) for one in before] == [
            (1, True, 1, 3),
            (2, False, 1, 3),
        ]
        assert await fleet.epochs.looked_at("t") is None
        assert [one.epoch for one in await fleet.epochs.tidy("t")] == [1]
        assert fleet.left() == [2]
        assert [entry.kind for entry in fleet.timeline.after(0, 10)] == ["epoch_purged"]
        assert await fleet.epochs.looked_at("t") is not None
        assert await fleet.epochs.tidy("t") == []

        def with_empty_folders(prefix: str) -> Iterator[str]:
            return iter(["00000001", "00000002"])

        # As SeaweedFS does: it is not removed again and again.
        fleet.store.prefixes = with_empty_folders  # type: ignore[method-assign]
        assert await fleet.epochs.tidy("t") == []
        assert [one.epoch for one in await fleet.epochs.of("t")] == [2]

    asyncio.run(test())


@pytest.mark.parametrize("part", [{"tenant": "t"}, {"tenant": "new", "source": "t"}])
def test_nothing_goes_while_a_restore_looks_for_its_state(part: dict[str, str]) -> None:
    fleet = Fleet()
    fleet.views.append(RestoreView(**part))  # type: ignore[arg-type]
    assert asyncio.run(fleet.epochs.tidy("t")) == []
    assert fleet.left() == [1, 2]


@pytest.mark.parametrize("name", ["t", "new"])
def test_what_a_recorded_restore_or_fork_will_read_stays(name: str) -> None:
    fleet = Fleet()
    origin = Origin(tenant="t", lineage=fleet.lineage, epoch=1, txid=1)
    fleet.tenants[name] = Tenant(TenantRecord(tenant=name, app="a", restore=origin))
    assert asyncio.run(fleet.epochs.tidy("t")) == []
    (one, _) = asyncio.run(fleet.epochs.of("t"))
    assert (one.goes, one.reason) == (False, "a restore reads it")


def test_a_hold_is_told_of_once_and_keeps_everything() -> None:
    async def test() -> None:
        fleet = Fleet()
        assert await fleet.epochs.hold("t", True)
        assert not await fleet.epochs.hold("t", True)
        assert await fleet.epochs.tidy("t") == []
        assert await fleet.epochs.hold("t", False)
        assert [entry.kind for entry in fleet.timeline.after(0, 10)] == ["held", "unheld"]
        fleet.tenants["new"] = Tenant(TenantRecord(tenant="new", app="a"))
        with pytest.raises(NotHeld, match="never started"):
            await fleet.epochs.hold("new", True)

    asyncio.run(test())
