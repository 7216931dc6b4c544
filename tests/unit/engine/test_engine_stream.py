"""What streams show, over random logs: an offset means one value, whenever it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.engine.beginning import Beginning, standing
from node.engine.events import Event, Kind
from node.engine.stream import END, Item, Strands, check_chunk, chunk

VALUES = st.lists(st.integers(0, 9).map(str), min_size=1, max_size=3)
NAMES = st.sampled_from(["a", "b"])
DEEDS = st.one_of(
    st.tuples(st.just("chunk"), NAMES, VALUES),
    st.tuples(st.just("step"), NAMES, VALUES, st.booleans()),
    st.tuples(st.just("end"), NAMES),
    st.tuples(st.just("reopened"), st.integers(1, 5)),
    st.tuples(st.just("continued")),
    st.tuples(st.just("restarted")),
)


def log_of(deeds: Sequence[Any]) -> list[Event]:
    events = [Event(1, "x", Kind.STARTED, "w", 1, "{}", 0, 1)]
    first = 1
    for sequence, (what, *more) in enumerate(deeds, 2):
        kind, name, payload = Kind.CHUNK, "w", END
        if what == "chunk":
            name, payload = more[0], chunk(more[1])
        elif what == "step":
            kind, name = Kind.STEP_CHUNK, "act"
            payload = chunk(more[1], stream=more[0], begins=more[2])
        elif what == "end":
            name = more[0]
        elif what == "reopened":
            cut: Any = max(first + 1, sequence - more[0])
            kind, payload = Kind.REOPENED, cut
        else:
            first = sequence
            kind = Kind.CONTINUED if what == "continued" else Kind.RESTARTED
            payload = Beginning("{}").payload()
        events.append(Event(sequence, "x", kind, name, 1, payload, 0, sequence))
    return events


def items_of(events: Sequence[Event], strands: Strands) -> list[Item]:
    return [item for event in events for item in strands.add(event, "a")]


class Forgetful(Strands):
    """A broken twin: what is void gives its offsets away again."""

    def _reopen(self, cut: int) -> None:
        for strand in self.by_name.values():
            strand.places = [place for place in strand.places if place[0] < cut]
            strand.length = strand.places[-1][1] + 1 if strand.places else 0


def offsets(make: type[Strands], deeds: Sequence[Any]) -> list[int]:
    return [item.offset for item in items_of(log_of(deeds), make())]


@settings(max_examples=150, deadline=None)
@given(st.lists(DEEDS, max_size=12), st.integers(0, 12))
def test_what_was_shown_stays(deeds: list[Any], cut: int) -> None:
    events = log_of(deeds)
    whole = items_of(events, Strands())
    assert [item.offset for item in whole] == list(range(len(whole)))
    before, strands = items_of(events[:cut], Strands()), Strands()
    assert whole[: len(before)] == before
    assert items_of(events[:cut], strands) + items_of(events[cut:], strands) == whole


def test_an_offset_that_is_given_twice_is_noticed() -> None:
    deeds = [("chunk", "a", ["1"]), ("reopened", 1), ("chunk", "a", ["2"])]
    assert offsets(Strands, deeds) == [0, 1]
    assert offsets(Forgetful, deeds) == [0, 0]


@settings(max_examples=150, deadline=None)
@given(st.lists(DEEDS.filter(lambda deed: deed[0] != "continued"), max_size=12))
def test_who_forgets_what_he_is_told_has_what_stands(deeds: list[Any]) -> None:
    """The workflow's own values, and those of steps without attempts that begin again."""
    deeds = [(*deed[:3], False) if deed[0] == "step" else deed for deed in deeds]
    deeds.append(("chunk", "a", ["99"]))
    events = log_of(deeds)
    kept: list[Item] = []
    for item in items_of(events, Strands()):
        if item.discards_from is not None:
            kept = [one for one in kept if one.offset < item.discards_from]
        kept.append(item)
    wanted = items_of(standing(events), Strands())
    assert [item.value for item in kept] == [item.value for item in wanted]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.CHUNK, "{}"),
        (Kind.CHUNK, "[]"),
        (Kind.CHUNK, '{"v":[]}'),
        (Kind.CHUNK, '{"v":[1],"s":"a"}'),
        (Kind.STEP_CHUNK, '{"v":[1]}'),
        (Kind.STEP_CHUNK, '{"v":[],"s":"a"}'),
        (Kind.STEP_CHUNK, '{"v":[1],"s":"a","end":1}'),
    ],
)
def test_what_is_no_chunk_is_refused(kind: Kind, payload: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        check_chunk(Event(2, "x", kind, "a", 1, payload, 0, 2))
