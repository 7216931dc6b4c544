"""Epochs that may go: a world of random histories, crashes at any operation, and broken twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from backup import keys, lineage, ownership, records
from backup.errors import Denied, StoreError
from backup.lineage import EpochRecord, newest_epoch
from backup.memory import MemoryStore, Operation
from backup.ownership import NotAllowed, Origin, Owner, OwnerRecord, OwnerState
from restore import purge, retention
from restore.drill import Drill, note
from restore.errors import RestoreFailed
from restore.history import read_history

DAY = 86_400.0
PERIOD = 7 * DAY
A = Owner(host="a", incarnation="l.n")
OBJECTS = 3


class Broken(AssertionError):
    """Something is gone that must not be."""


@dataclass
class World:
    """A tenant in a bucket, and what must still be in it. ``blind`` is what its retention does not
    see: its broken twins."""

    rng: Random
    blind: str = ""
    store: MemoryStore = field(default_factory=MemoryStore)
    now: float = 1_000_000.0
    began: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    drilled: set[int] = field(default_factory=set)
    wanted: frozenset[int] = frozenset()
    held_with: dict[int, int] | None = None

    def owner(self) -> OwnerRecord:
        found = records.read(self.store, keys.owner("t"), OwnerRecord)
        assert found is not None
        return found.record

    def swap(self, change: Callable[[OwnerRecord | None], OwnerRecord]) -> OwnerRecord:
        found = records.read(self.store, keys.owner("t"), OwnerRecord)
        wanted = change(found.record if found else None)
        etag = found.etag if found else None
        return records.swap(self.store, keys.owner("t"), wanted, etag).record

    def objects(self, epoch: int) -> int:
        return sum(1 for _ in self.store.list(keys.epoch("t", epoch)))

    def upload(self, epoch: int) -> None:
        for number in range(OBJECTS):
            self.store.put(f"{keys.epoch('t', epoch)}0000/{number}.ltx", b"x")

    # -- what happens ---------------------------------------------------------------------------

    def take_over(self, origin: Origin | None = None) -> None:
        def claim(now: OwnerRecord | None) -> OwnerRecord:
            return ownership.claim(now, "t", A, authority_ended=True, origin=origin)

        before = newest_epoch(self.owner()) if self.began else None
        record = self.swap(claim)
        self.upload(record.epoch)
        if self.rng.random() < 0.2:
            return  # it never becomes active
        lineage.write(
            self.store,
            EpochRecord(
                tenant="t",
                lineage=record.lineage,
                epoch=record.epoch,
                parent=record.parent.epoch if record.parent else None,
                host="a",
                began_at=self.now,
                origin=record.origin,
            ),
        )
        self.swap(lambda now: ownership.activate(now, A, record.epoch))  # type: ignore[arg-type]
        self.began[record.epoch] = self.now
        if before is not None:
            self.ended[before] = self.now

    def drill(self) -> None:
        record, ok = self.owner(), self.rng.random() < 0.6
        newest = newest_epoch(record)
        if newest is None:
            return
        drill = Drill(tenant="t", began_at=self.now, ok=ok, lineage=record.lineage, epoch=newest)
        note(self.store, drill)
        if ok:
            self.drilled.add(newest)

    def hold(self) -> None:
        on = self.held_with is None
        self.swap(lambda now: ownership.set_hold(now, on))  # type: ignore[arg-type]
        marked = self.owner().purging
        self.held_with = (
            {epoch: self.objects(epoch) for epoch in self.began if epoch not in marked}
            if on
            else None
        )

    def want(self) -> None:
        if self.wanted:
            self.wanted = frozenset()
            return
        left = [span.epoch for span in read_history(self.store, "t").spans]
        self.wanted = frozenset({self.rng.choice(left)})

    # -- the retention --------------------------------------------------------------------------

    def retain(self) -> None:
        """One round, cut off at any operation."""
        left = self.rng.choice([3, 6, 10, 15, 25, 10_000])

        def fault(operation: Operation, key: str) -> StoreError | None:
            nonlocal left
            left -= 1
            return Denied("cut off") if left < 0 else None

        self.store.fault = fault
        try:
            self._round()
        except StoreError:
            pass
        finally:
            self.store.fault = None

    def _round(self) -> None:
        period = 0.0 if self.blind == "period" else PERIOD
        wanted = frozenset() if self.blind == "wanted" else self.wanted
        verdicts = purge.look(self.store, "t", wanted, self.now, period)
        going = [one.epoch for one in verdicts if one.goes]
        if self.blind == "mark":
            for epoch in going:
                for entry in list(self.store.list(keys.epoch("t", epoch))):
                    self.store.delete(entry.key)
            return
        if going:
            purge.mark(self.store, "t", going)
        for epoch in self.owner().purging:
            purge.purge(self.store, "t", epoch, self.now)

    # -- what must hold -------------------------------------------------------------------------

    def check(self) -> None:
        record = self.owner()
        for epoch, objects in ((epoch, self.objects(epoch)) for epoch in self.began):
            whole = objects == OBJECTS
            young = epoch not in self.ended or self.now - self.ended[epoch] <= PERIOD
            self._must(whole or not young, f"epoch {epoch} is gone before its time")
            marked = epoch in record.purging
            self._must(whole or marked or not objects, f"{epoch} is half gone and not marked")
            if epoch in self.wanted:
                self._must(whole, f"epoch {epoch} is gone and a restore wants it")
        newest = newest_epoch(record)
        if newest is not None:
            self._must(self.objects(newest) == OBJECTS, "the newest state is gone")
        if self.drilled:
            last = max(self.drilled)
            self._must(self.objects(last) == OBJECTS, "the last verified chain is gone")
        elif self.began:
            gone = [one for one in self.began if self.objects(one) != OBJECTS]
            self._must(not gone, "something went though nothing was verified")
        if self.held_with is not None:
            now = {epoch: self.objects(epoch) for epoch in self.held_with}
            self._must(now == self.held_with, "something went though it is on hold")
        if self.began:
            for span in read_history(self.store, "t").spans:
                self._must(
                    self.objects(span.epoch) == OBJECTS, f"{span.epoch} is offered and not whole"
                )

    @staticmethod
    def _must(holds: bool, what: str) -> None:
        if not holds:
            raise Broken(what)


def live(seed: int, blind: str = "", steps: int = 60) -> World:
    rng = Random(seed)
    world = World(rng, blind)
    world.take_over()
    for _ in range(steps):
        step = rng.choice(
            ["over", "over", "drill", "drill", "retain", "retain", "retain", "time", "hold", "want"]
        )
        if step == "over":
            world.take_over()
        elif step == "drill":
            world.drill()
        elif step == "retain":
            world.retain()
        elif step == "time":
            world.now += rng.choice([0.1, 1, 5, 9]) * DAY
        elif step == "hold" and rng.random() < 0.4:
            world.hold()
        elif step == "want" and world.began:
            world.want()
        world.check()
        world.now += 60
    return world


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "BATCH", 2)


def many(blind: str = "") -> int:
    """Many worlds; how many epochs went."""
    went = 0
    for seed in range(250):
        world = live(seed, blind)
        went += sum(world.objects(epoch) == 0 for epoch in world.began)
    return went


def test_nothing_goes_that_may_be_needed() -> None:
    assert many() > 250  # it does remove things


def hold_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, marked = retention.judge_epochs, ownership.mark_purging

    def without(record: OwnerRecord) -> OwnerRecord:
        return record.model_copy(update={"hold": False})

    monkeypatch.setattr(purge, "judge_epochs", lambda owner, *rest: judge(without(owner), *rest))
    monkeypatch.setattr(ownership, "mark_purging", lambda now, epochs: marked(without(now), epochs))


def drills_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = retention.judge_epochs

    def believing(owner: OwnerRecord, history: object, present: object, *rest: object) -> object:
        drills, *more = rest
        good = [one.model_copy(update={"ok": True}) for one in drills]  # type: ignore[attr-defined]
        return judge(owner, history, present, good, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(purge, "judge_epochs", believing)


def verified_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin keeps the newest epoch only, drilled or not."""
    monkeypatch.setattr(
        retention, "_verified", lambda owner, began, drills: newest_epoch(owner) or 0
    )


TWINS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "hold": hold_unseen,
    "drills": drills_believed,
    "verified": verified_forgotten,
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_without_a_rule_is_noticed(twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    TWINS[twin](monkeypatch)
    with pytest.raises(Broken):
        many()


@pytest.mark.parametrize("blind", ["period", "wanted", "mark"])
def test_a_twin_that_does_not_look_is_noticed(blind: str) -> None:
    with pytest.raises(Broken):
        many(blind)


def test_a_round_that_is_cut_off_at_each_operation_is_finished_by_the_next() -> None:
    cut = 0
    while True:
        world = World(Random(0))
        world.rng.random = lambda: 0.5  # type: ignore[method-assign]
        for _ in range(4):
            world.take_over()
            world.drill()
            world.now += 10 * DAY
        cut_off_after(world.store, cut)
        try:
            world._round()
            finished = True
        except StoreError:
            finished = False
        world.store.fault = None
        world.check()
        world._round()
        world.check()
        assert [world.objects(epoch) for epoch in (1, 2, 3, 4)] == [0, 0, 0, OBJECTS]
        assert world.owner().purging == ()
        history = read_history(world.store, "t")
        assert ([span.epoch for span in history.spans], history.removed) == ([4], (3, 2, 1))
        with pytest.raises(RestoreFailed, match="removed after its retention"):
            history.span(2)
        cut += 1
        if finished:
            break
    assert cut > 20


def cut_off_after(store: MemoryStore, operations: int) -> None:
    until = len(store.operations) + operations

    def fault(operation: Operation, key: str) -> StoreError | None:
        return Denied("cut off") if len(store.operations) > until else None

    store.fault = fault


def active() -> OwnerRecord:
    first = ownership.activate(ownership.claim(None, "t", A, authority_ended=True), A, 1)
    second = ownership.claim(first, "t", A, authority_ended=True)
    return ownership.activate(second, A, 2)


def test_what_is_marked_is_no_more_than_what_the_record_can_do_without() -> None:
    assert ownership.mark_purging(active(), [1]).purging == (1,)
    for epochs in ([2], [1, 2], [3]):
        with pytest.raises(NotAllowed, match="needs epoch"):
            ownership.mark_purging(active(), epochs)
    with pytest.raises(NotAllowed, match="on hold"):
        ownership.mark_purging(ownership.set_hold(active(), True), [1])
    claimed = ownership.claim(active(), "t", A, authority_ended=True)
    with pytest.raises(NotAllowed, match="needs epoch 2"):
        ownership.mark_purging(claimed, [2])
    origin = Origin(tenant="t", lineage=active().lineage, epoch=1, txid=1)
    going_back = ownership.claim(
        active().model_copy(update={"state": OwnerState.RELEASED}),
        "t",
        A,
        authority_ended=True,
        origin=origin,
    )
    with pytest.raises(NotAllowed, match="needs epoch 1"):
        ownership.mark_purging(going_back, [1])
    damaged = active().model_copy(update={"state": OwnerState.DAMAGED})
    with pytest.raises(NotAllowed, match="damaged"):
        ownership.mark_purging(damaged, [1])


def test_a_claim_keeps_the_marks_and_a_mark_keeps_the_claim() -> None:
    marked = ownership.mark_purging(active(), [1])
    assert ownership.drain(marked, A, 2).purging == (1,)
    claimed = ownership.claim(marked, "t", A, authority_ended=True)
    assert (claimed.purging, claimed.held_by(A, 3)) == ((1,), False)
    assert ownership.mark_purging(ownership.activate(claimed, A, 3), [2]).held_by(A, 3)
    assert ownership.unmark_purged(marked, 1).purging == ()
