"""The process tree as plain data."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fleet.machine import Process, descendants


def table(*parents: tuple[int, int]) -> dict[int, Process]:
    return {pid: Process(pid, parent, "S", 0) for pid, parent in parents}


def test_descendants_are_found_at_every_depth_and_nothing_else() -> None:
    processes = table((1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (21, 20))
    assert set(descendants(processes, 10)) == {11, 12}
    assert set(descendants(processes, 21)) == set()
    assert set(descendants(processes, 99)) == set()


def test_the_order_of_the_table_does_not_matter() -> None:
    pairs = [(pid, pid // 2) for pid in range(1, 64)]
    random.Random(1).shuffle(pairs)
    assert len(descendants(table(*pairs), 1)) == 62


@given(st.dictionaries(st.integers(1, 12), st.integers(0, 12)))
def test_a_table_that_contradicts_itself_ends_too(parents: dict[int, int]) -> None:
    """It is read while it changes, so even circles may be seen."""
    found = descendants(table(*parents.items()), 1)
    assert 1 not in found
    for process in found.values():
        assert process.parent == 1 or process.parent in found
