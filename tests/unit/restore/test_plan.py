"""What can be restored is decided from the list, and gaps are seen."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backup.memory import MemoryStore
from backup.store import Entry
from restore.plan import LtxFile, list_epoch, parse, plan

PREFIX = "tenants/t/epochs/00000001/"


def name(level: int, low: int, high: int) -> str:
    return f"{PREFIX}{level:04d}/{low:016x}-{high:016x}.ltx"


def files(*runs: tuple[int, int, int]) -> list[LtxFile]:
    return [LtxFile(low, high, level, 1) for level, low, high in runs]


def test_parse_reads_hex_and_passes_others_over() -> None:
    now = datetime.now(UTC)
    entries = [Entry(name(0, 10, 17), 5, now), Entry(PREFIX + "0000/readme.txt", 1, now)]
    assert parse(PREFIX, entries) == [LtxFile(10, 17, 0, 5)]


@pytest.mark.parametrize(
    ("runs", "reachable", "highest"),
    [
        ([], 0, 0),
        ([(0, 1, 1)], 1, 1),
        ([(0, 1, 1), (0, 2, 2), (0, 3, 3)], 3, 3),
        ([(1, 1, 5), (0, 4, 4), (0, 5, 5), (0, 6, 6)], 6, 6),  # compaction overlaps
        ([(9, 1, 100), (0, 101, 101)], 101, 101),  # a snapshot stands for what came before it
        ([(0, 1, 1), (0, 3, 3)], 1, 3),  # a gap
        ([(0, 2, 2), (0, 3, 3)], 0, 3),  # the base is missing
        ([(1, 1, 5), (0, 7, 9), (0, 6, 6)], 9, 9),  # order of the list does not matter
    ],
)
def test_reach(runs: list[tuple[int, int, int]], reachable: int, highest: int) -> None:
    found = plan(files(*runs))
    assert (found.reachable, found.highest) == (reachable, highest)
    assert found.gapped is (reachable < highest)


def test_missing_says_why() -> None:
    assert "nothing" in (plan([]).missing(0) or "")
    assert "transaction 2 is missing" in (plan(files((0, 1, 1), (0, 3, 3))).missing(0) or "")
    whole = plan(files((0, 1, 1), (0, 2, 2)))
    assert whole.missing(2) is None
    assert "3 was proven" in (whole.missing(3) or "")


def test_compaction_between_two_levels_of_a_list_hides_nothing() -> None:
    """Files move upward while the list is taken; levels are read upward, so none is missed."""
    store = MemoryStore()
    for txid in (1, 2, 3):
        store.put(name(0, txid, txid), b"x")

    def compact(operation: str, key: str) -> None:
        # Just before level 1 is listed: everything of level 0 moves up into one file.
        if operation == "list" and key.endswith("0001/"):
            store.objects = {name(1, 1, 3): (b"xxx", store.date())}

    store.fault = compact
    assert list_epoch(store, "t", 1).reachable == 3


def test_broken_twin_listing_downward_would_miss_it() -> None:
    store = MemoryStore()
    for txid in (1, 2, 3):
        store.put(name(0, txid, txid), b"x")
    found: list[LtxFile] = []
    for level in (1, 0):
        if level == 0:
            store.objects = {name(1, 1, 3): (b"xxx", store.date())}
        found += parse(PREFIX, store.list(f"{PREFIX}{level:04d}/"))
    assert plan(found).reachable == 0
