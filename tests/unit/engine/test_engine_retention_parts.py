"""Ranges, fingerprints and the choice of a rule."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import Retention, workflow
from node.engine.application import collect
from node.engine.errors import DefinitionError
from node.engine.events import Status
from node.engine.gone import numbered
from node.engine.removed import Fingerprint, Range, Removed, merged, ranges_of
from node.engine.retention import FOREVER, Default, Rules

GENESIS = bytes(16)
OUTCOMES = [Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED]
sequences = st.sets(st.integers(1, 200), max_size=60)


@workflow
async def work() -> None: ...


def sequences_in(ranges: list[Range]) -> set[int]:
    return {one for first, last in ranges for one in range(first, last + 1)}


@given(sequences)
def test_ranges_are_as_few_as_can_be(some: set[int]) -> None:
    ranges = ranges_of(sorted(some))
    assert sequences_in(ranges) == some
    assert sum(one.size for one in ranges) == len(some)
    assert all(before.last + 1 < after.first for before, after in pairwise(ranges))


@given(st.lists(sequences, max_size=6))
def test_however_they_come_they_merge_to_the_same(batches: list[set[int]]) -> None:
    prints = Fingerprint(GENESIS)
    ranges: list[Range] = []
    so_far: set[int] = set()
    total = 0
    for batch in batches:
        new = ranges_of(sorted(batch - so_far))
        so_far |= batch
        ranges = merged([*ranges, *new])
        total = prints.add(total, new)
    assert ranges == ranges_of(sorted(so_far))
    assert total == prints.add(0, ranges)
    assert total == prints.add(0, (Range(one, one) for one in so_far))
    assert prints.take(total, ranges) == 0


@given(sequences, sequences)
def test_other_ranges_have_another_fingerprint(one: set[int], other: set[int]) -> None:
    prints = Fingerprint(GENESIS)
    mine, theirs = (prints.add(0, ranges_of(sorted(some))) for some in (one, other))
    assert (mine == theirs) is (one == other)


def test_nothing_is_removed_twice() -> None:
    with pytest.raises(ValueError, match="event 4 was removed twice"):
        merged([Range(1, 4), Range(4, 6)])


@given(sequences, st.integers(0, 210), st.integers(0, 210))
def test_what_lies_between(some: set[int], low: int, high: int) -> None:
    removed = Removed(ranges_of(sorted(some)))
    firsts = [one.first for one in removed.ranges]
    assert removed.between(low, high) is any(low < first < high for first in firsts)


def test_an_id_is_remembered_as_a_number() -> None:
    assert numbered(b"k" * 32, "a") == numbered(b"k" * 32, "a")
    assert numbered(b"k" * 32, "a") not in (numbered(b"l" * 32, "a"), numbered(b"k" * 32, "b"))


rules = st.dictionaries(
    st.tuples(st.sampled_from([None, "work", "other"]), st.sampled_from([None, *OUTCOMES])),
    st.integers(0, 5),
)


@given(rules, st.sampled_from(["work", "else"]), st.sampled_from(OUTCOMES), st.booleans())
def test_the_most_specific_rule_is_chosen(
    days: dict[tuple[str | None, Status | None], int], name: str, outcome: Status, default: bool
) -> None:
    declared = [
        Retention(workflow=about[0], outcome=about[1], keep=timedelta(days=length))
        for about, length in days.items()
    ]
    chosen = Rules.of(declared, Default(keep=timedelta(days=9) if default else None))
    said = [
        days.get(about) for about in ((name, outcome), (name, None), (None, outcome), (None, None))
    ]
    first = next((one for one in said if one is not None), 9 if default else None)
    assert chosen.keep(name, outcome) == (None if first is None else first * 24 * 3600 * 1000)


def test_one_rule_keeps_for_ever_what_another_would_not() -> None:
    chosen = Rules.of(
        [Retention(workflow=work, keep=FOREVER), Retention(keep=timedelta(1), history=timedelta(2))]
    )
    assert chosen.keep("work", Status.FAILED) is None
    assert chosen.keep("other", Status.FAILED) == 24 * 3600 * 1000
    # Of the history it says nothing, so the next rule does.
    assert chosen.history("work") == 2 * 24 * 3600 * 1000
    assert chosen.shortest == 24 * 3600 * 1000
    assert [(rule.workflow, rule.keep) for rule in chosen.views()] == [
        ("work", None),
        (None, 24 * 3600.0),
    ]


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: Retention(), "neither keep nor history"),
        (lambda: Retention(keep=timedelta(-1)), "not below zero"),
        (lambda: Retention(outcome="running", keep=timedelta()), "'running' is no outcome"),
        (lambda: Retention(outcome="gone", keep=timedelta()), "'gone' is no outcome"),
        (lambda: Retention(outcome="failed", history=timedelta()), "may be open"),
        (lambda: Retention(workflow="no name", keep=timedelta()), "no name"),
        (
            lambda: collect(
                "app",
                [
                    work,
                    Retention(workflow=work, keep=timedelta()),
                    Retention(workflow="work", keep=timedelta(1)),
                ],
            ),
            "there are two",
        ),
    ],
)
def test_rules_that_cannot_be_are_refused(declare: object, words: str) -> None:
    assert callable(declare)
    with pytest.raises(DefinitionError, match=words):
        declare()
