"""Who is next in a queue: never above a limit, in order, and everybody in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.engine.queue_line import Choice, Limits, Line

LIMITS = st.builds(
    Limits,
    concurrency=st.none() | st.integers(1, 4),
    count=st.integers(0, 3),
    per=st.integers(1, 50),
)
PARTITIONS = st.sampled_from([None, "a", "b", "c"])
ADD = st.tuples(st.just("add"), st.integers(-1, 1), PARTITIONS)
ACTS = st.lists(
    st.one_of(
        ADD,
        ADD,
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("discard"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.integers(0, 40)),
    ),
    max_size=60,
)


@dataclass
class Model:
    """Says by counting alone whether a choice is right."""

    limits: Limits
    partition_limits: Limits
    now: int = 1000
    waiting: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    running: dict[int, str | None] = field(default_factory=dict)
    begun: list[tuple[int, str | None]] = field(default_factory=list)

    def may_go(self, partition: str | None) -> bool:
        everyone = self._lets(self.limits, list(self.running), [at for at, _ in self.begun])
        own = [item for item, name in self.running.items() if name == partition]
        times = [at for at, name in self.begun if name == partition]
        return everyone and (partition is None or self._lets(self.partition_limits, own, times))

    def _lets(self, limits: Limits, running: list[int], times: list[int]) -> bool:
        recent = [at for at in times if at > self.now - limits.per]
        bounded = limits.concurrency is not None and len(running) >= limits.concurrency
        return not bounded and not (limits.count and len(recent) >= limits.count)

    def candidates(self) -> list[int]:
        return [item for item, (_, name) in self.waiting.items() if self.may_go(name)]

    def check(self, choice: Choice[int]) -> None:
        candidates = self.candidates()
        if choice.item is None:
            assert candidates == []
            return
        assert choice.item in candidates
        priority, name = self.waiting[choice.item]
        assert priority == min(self.waiting[item][0] for item in candidates)
        same = [item for item, there in self.waiting.items() if there == (priority, name)]
        assert choice.item == min(same)
        del self.waiting[choice.item]
        self.running[choice.item] = name
        self.begun.append((self.now, name))


def drain(line: Line[int], model: Model) -> Choice[int]:
    while True:
        choice = line.choose(model.now)
        model.check(choice)
        if choice.item is None:
            return choice


@settings(max_examples=150, deadline=None)
@given(LIMITS, LIMITS, ACTS)
def test_every_choice_is_right_and_everybody_has_a_turn(
    limits: Limits, partition_limits: Limits, acts: list[tuple[object, ...]]
) -> None:
    line: Line[int] = Line(limits, partition_limits)
    model = Model(limits, partition_limits)
    for number, act in enumerate(acts, 1):
        match act:
            case ("add", int(priority), str() | None as name):
                line.add(number, priority, number, name)
                model.waiting[number] = priority, name
            case ("end", int(nth)) if model.running:
                item = list(model.running)[nth % len(model.running)]
                assert line.ended(item)
                del model.running[item]
            case ("discard", int(nth)) if model.waiting:
                item = list(model.waiting)[nth % len(model.waiting)]
                assert line.discard(item)
                del model.waiting[item]
            case ("wait", int(milliseconds)):
                model.now += milliseconds
        drain(line, model)
        assert (line.waiting, line.running) == (len(model.waiting), len(model.running))
    for _ in range(10 * len(acts) + 1):
        if not model.waiting:
            break
        look_at = drain(line, model).look_at
        if look_at is not None:
            # Not a moment too late: just before it, nobody may go.
            assert look_at > model.now
            model.now = look_at - 1
            drain(line, model)
            model.now = look_at
        elif model.running:
            item = next(iter(model.running))
            line.ended(item)
            del model.running[item]
    assert not model.waiting


def test_the_model_notices_a_line_that_ignores_its_limits() -> None:
    line: Line[int] = Line()
    model = Model(Limits(concurrency=1), Limits())
    for number in (1, 2):
        line.add(number, 0, number)
        model.waiting[number] = 0, None
    with pytest.raises(AssertionError):
        drain(line, model)


def test_partitions_take_turns() -> None:
    line: Line[str] = Line(Limits(concurrency=1))
    for number in range(6):
        line.add(f"big{number}", 0, number, "big")
    for number in range(2):
        line.add(f"small{number}", 0, 10 + number, "small")
    order: list[str] = []
    while (item := line.choose(0).item) is not None:
        order.append(item)
        line.ended(item)
    assert order[:4] == ["big0", "small0", "big1", "small1"]


def test_new_partitions_do_not_starve_an_old_one() -> None:
    line: Line[str] = Line(Limits(concurrency=1))
    line.add("old0", 0, 0, "old")
    line.add("old1", 0, 1, "old")
    seen: Counter[str] = Counter()
    for number in range(2, 12):
        line.add(f"new{number}", 0, number, f"new{number}")
        item = line.choose(0).item
        assert item is not None
        seen[item[:3]] += 1
        line.ended(item)
    assert seen["old"] == 2


def test_what_is_no_longer_wanted_does_not_pile_up() -> None:
    line: Line[int] = Line(Limits(concurrency=1))
    line.add(0, -1, 0)
    assert line.choose(0).item == 0
    for number in range(1, 10_000):
        line.add(number, number % 7, number, str(number % 5))
        if number > 10:
            line.discard(number - 10)
    assert line.waiting == 10
    heaps = [len(part.heap) for part in line._parts.values()]
    assert sum(heaps) + len(line._ready) + len(line._later) < 1000
    line.forget(0)
    assert line.partitions == 6


def test_a_lower_limit_holds_for_those_that_run_already() -> None:
    line: Line[int] = Line(Limits(concurrency=1, count=1, per=100))
    for item in (1, 2):
        line.runs(item)
        line.began(item)
    line.add(3, 0, 3)
    assert line.choose(50) == Choice(None, None)
    line.ended(1)
    assert line.choose(50) == Choice(None, None)
    line.ended(2)
    assert line.choose(50) == Choice(None, 102)
    assert line.choose(102).item == 3
