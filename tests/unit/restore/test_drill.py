"""What a drill is worth: its verdict, its record, and whose turn it is."""

from __future__ import annotations

import pytest

from backup.errors import Precondition, StoreError
from backup.memory import MemoryStore
from restore.drill import KEPT, Drill, Source, judge, note, read


def drilled(**changes: object) -> Drill:
    return Drill(tenant="t", began_at=100.0, epoch=3, sequence=50).model_copy(update=changes)


def test_a_good_one_reaches_all_that_was_proven_and_has_the_same_past() -> None:
    found = judge(drilled(), "aa", Source(3, 50, 0.2), "aa")
    assert (found.ok, found.finding, found.compared, found.behind_seconds) == (True, "", True, 0.2)


@pytest.mark.parametrize("source", [Source(3, 50), Source(3, 49), Source(2, 900), Source()])
def test_it_may_be_ahead_of_what_was_proven_before_it(source: Source) -> None:
    assert judge(drilled(), "aa", source, "aa").ok


@pytest.mark.parametrize("source", [Source(3, 51), Source(4, 1)])
def test_one_that_ends_before_what_was_proven_is_bad(source: Source) -> None:
    found = judge(drilled(), "aa", source, "aa")
    assert not found.ok
    assert "was proven before it began" in found.finding


@pytest.mark.parametrize("live", ["bb", ""])
def test_one_with_another_past_than_the_live_log_is_bad(live: str) -> None:
    found = judge(drilled(), "aa", Source(3, 50), live)
    assert not found.ok
    assert "another past" in found.finding


def test_without_a_live_log_it_is_good_and_says_that_it_was_not_compared() -> None:
    found = judge(drilled(), "aa", Source(), None)
    assert (found.ok, found.compared) == (True, False)


def test_what_was_not_restored_is_never_good() -> None:
    assert not judge(drilled(finding="a gap"), "aa", Source(), "aa").ok
    assert not judge(drilled(finding="a gap"), None, Source(), None).ok
    assert not judge(drilled(), None, Source(), None).ok


def test_the_record_keeps_the_newest_ones() -> None:
    store = MemoryStore()
    assert read(store, "t").verified_at is None
    for number in range(KEPT + 5):
        note(store, drilled(began_at=float(number), ok=number % 2 == 0))
    found = read(store, "t")
    assert [drill.began_at for drill in found.drills] == list(range(5, KEPT + 5))
    assert found.verified_at == KEPT + 4


def test_two_coordinators_lose_neither_drill() -> None:
    store = MemoryStore()
    note(store, drilled(began_at=1.0))
    raced = iter([True])

    def race(operation: str, _key: str) -> StoreError | None:
        if operation == "put" and next(raced, False):
            note(store, drilled(began_at=2.0))
            return Precondition("another one wrote it")
        return None

    store.fault = race
    assert [drill.began_at for drill in note(store, drilled(began_at=3.0)).drills] == [1, 2, 3]
