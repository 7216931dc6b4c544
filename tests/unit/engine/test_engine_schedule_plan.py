"""What a schedule does next, over random lives: clocks that jump, ends that come late."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.engine.errors import BadSchedule
from node.engine.schedule import ScheduleSpec
from node.engine.schedule_plan import GRACE, Plan
from node.engine.schedule_state import Change, State, Waiting, execution_of

NOON = 1_795_000_000_000 // 3_600_000 * 3_600_000
MINUTE = 60_000


def spec(**values: object) -> ScheduleSpec:
    whole = {"workflow": "work", "every": 60} | values
    if "cron" in values:
        del whole["every"]
    return ScheduleSpec.of(whole)


@dataclass
class Life:
    """A schedule with executions that end when the test says so."""

    plan: Plan
    now: int = NOON
    running: list[int] = field(default_factory=list)
    ran: list[int] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = State(self.plan.spec.body(), self.now)

    def put(self, change: Change) -> None:
        before = json.loads(json.dumps(self.state.body()))
        self.state = State.read(before).after(json.loads(json.dumps(change)))
        self.changes.append(change)

    def look(self) -> None:
        for _ in range(100_000):
            if self.plan.stops_others(self.state):
                self.running.clear()
            change = self.plan.decide(self.state, self.now, len(self.running), self.happened)
            if change is None:
                return
            self.put(change)
            if change["do"] == "run":
                self.running.append(change["at"])
                self.ran.append(change["at"])
        raise AssertionError("it never comes to an end")

    def happened(self, at: int) -> bool:
        return at in self.ran[-200:]

    def did(self, what: str) -> list[int]:
        return [change["at"] for change in self.changes if change["do"] == what]


def live(plan: Plan, random: Random) -> Life:
    """A random life, with restarts, which the plan does not see, at any time."""
    life = Life(plan)
    for _ in range(40):
        life.now += random.choice([0, 1000, 9000, MINUTE, 3 * MINUTE, 20 * MINUTE])
        if random.random() < 0.6:
            life.running.clear()
        life.look()
    for _ in range(10_000):
        if not life.running:
            break
        life.running.clear()
        life.look()
    return life


def check(life: Life) -> None:
    """Every tick is settled in one way, once, and in order."""
    missed = [(change["at"], change["to"]) for change in life.changes if change["do"] == "miss"]
    ticks = life.plan.between(NOON + 1, life.now, 100_000)
    if life.plan.spec.jitter:
        ticks = [at for at in ticks if life.plan.due(at).at <= life.now]
    settled = sorted([*life.ran, *life.did("skip")])
    left = [at for at in ticks if not any(start <= at <= end for start, end in missed)]
    dropped = len(left) - len(settled)
    assert len(set(settled)) == len(settled), "a tick was settled twice"
    assert set(settled) <= set(left), "something happened that was no tick"
    # Ticks whose place a newer one took are only counted.
    assert life.state.skipped == len(life.did("skip")) + dropped, "a tick was forgotten"
    assert life.state.runs == len(life.ran)
    stops = str(life.plan.spec.overlap) in ("cancel_other", "terminate_other")
    assert stops or life.ran == sorted(life.ran), "they did not come in order"
    assert not life.state.waiting


OVERLAPS = ["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]
SPECS = st.builds(
    spec,
    every=st.sampled_from([20, 60, 90, 600]),
    overlap=st.sampled_from(OVERLAPS),
    catch_up_window=st.sampled_from([0, 30, 3600, 86_400]),
    jitter=st.sampled_from([0, 5, 300]),
    buffer_limit=st.integers(1, 5),
)


@settings(deadline=None, max_examples=60)
@given(SPECS, st.randoms(use_true_random=False))
def test_every_tick_is_settled_once(some: ScheduleSpec, random: Random) -> None:
    check(live(Plan(some, "seed"), random))


class Forgets(Plan):
    """Goes on from now, as one does that has no mark in its log."""

    def decide(
        self, state: State, now: int, running: int, happened: Callable[[int], bool]
    ) -> Change | None:
        due = self.next(state)
        if due is not None and due.nominal < now - MINUTE:
            return {"do": "resume", "to": now - MINUTE}
        return super().decide(state, now, running, happened)


class Repeats(Plan):
    """Looks back, as one does that asks the clock which tick was last."""

    def next(self, state: State) -> None:
        return None

    def decide(
        self, state: State, now: int, running: int, happened: Callable[[int], bool]
    ) -> Change | None:
        if not running:
            return {"do": "run", "at": now // MINUTE * MINUTE}
        return None


def checked(plan: type[Plan]) -> None:
    for seed in range(20):
        check(live(plan(spec(overlap="buffer_all"), "seed"), Random(seed)))


def test_a_plan_that_forgets_or_repeats_is_noticed() -> None:
    checked(Plan)
    for twin in (Forgets, Repeats):
        with pytest.raises((AssertionError, ValueError), match=r"forgotten|twice|settled before"):
            checked(twin)


def after(life: Life, minutes: float) -> list[int]:
    """What ran in these minutes: which ticks, in minutes after noon."""
    before = len(life.ran)
    life.now += round(minutes * MINUTE)
    life.look()
    return [(at - NOON) // MINUTE for at in life.ran[before:]]


def ends(life: Life) -> list[int]:
    life.running.clear()
    return after(life, 0)


def test_skip() -> None:
    life = Life(Plan(spec(), "s"))
    assert after(life, 1) == [1]
    assert after(life, 1) == []
    assert ends(life) == []
    assert after(life, 1) == [3]
    assert life.state.skipped == 1


def test_buffer_one() -> None:
    life = Life(Plan(spec(overlap="buffer_one"), "s"))
    assert [after(life, 1) for _ in range(3)] == [[1], [], []]
    assert ends(life) == [2]
    assert ends(life) == []
    assert life.state.skipped == 1


def test_buffer_all_up_to_its_limit() -> None:
    life = Life(Plan(spec(overlap="buffer_all", buffer_limit=2), "s"))
    assert [after(life, 1) for _ in range(4)] == [[1], [], [], []]
    assert [ends(life) for _ in range(3)] == [[2], [3], []]
    assert life.state.skipped == 1


@pytest.mark.parametrize("overlap", ["cancel_other", "terminate_other"])
def test_the_newest_takes_the_place_of_the_others(overlap: str) -> None:
    plan = Plan(spec(overlap=overlap), "s")
    life = Life(plan)
    assert after(life, 1) == [1]
    # What runs does not end at once.
    for _ in range(2):
        life.now += MINUTE
        change = plan.decide(life.state, life.now, 1, lambda _: False)
        assert change is not None
        life.put(change)
        assert plan.stops_others(life.state)
        assert plan.decide(life.state, life.now, 1, lambda _: False) is None
    assert ends(life) == [3]
    assert life.state.skipped == 1


def test_missed_ticks_happen_one_after_the_other() -> None:
    life = Life(Plan(spec(), "s"))
    assert after(life, 3.5) == [1]
    assert [ends(life) for _ in range(3)] == [[2], [3], []]
    # One comes in time while missed ones wait.
    assert after(life, 2.5) == [4]
    assert after(life, 1) == []
    assert [ends(life) for _ in range(3)] == [[5], [], []]


def test_missed_ticks_happen_at_once_where_all_are_allowed() -> None:
    life = Life(Plan(spec(overlap="allow_all"), "s"))
    assert after(life, 3.5) == [1, 2, 3]


def test_what_is_older_than_the_window_does_not_happen() -> None:
    life = Life(Plan(spec(catch_up_window=120, overlap="allow_all"), "s"))
    assert after(life, 60.5) == [59, 60]
    # Without a window, what is a little late happens all the same.
    life = Life(Plan(spec(catch_up_window=0, overlap="allow_all"), "s"))
    assert after(life, 60 + GRACE / MINUTE) == [60]
    assert after(life, 10.5) == []


def test_bounds_and_the_limit_of_runs() -> None:
    start, end = NOON // 1000 + 120, NOON // 1000 + 240
    life = Life(Plan(spec(start_at=start, end_at=end, overlap="allow_all"), "s"))
    assert after(life, 10) == [2, 3, 4]
    assert life.plan.next(life.state) is None
    life = Life(Plan(spec(max_runs=2), "s"))
    assert after(life, 10.5) == [1]
    assert [ends(life), ends(life)] == [[2], []]
    assert life.plan.coming(life.state, 5) == []
    assert not life.state.waiting


def test_a_pause_passes_over_its_ticks_and_lets_through_what_is_asked_for() -> None:
    life = Life(Plan(spec(), "s"))
    life.put({"do": "pause", "note": "why"})
    assert after(life, 5) == []
    life.put({"do": "ask", "what": Waiting("asked", life.now, key="k").body()})
    life.look()
    assert life.ran == [life.now]
    life.running.clear()
    life.put({"do": "resume", "to": life.now})
    assert after(life, 1) == [6]
    assert life.state.runs == 1


def test_a_backfill_happens_in_order_without_what_has_happened() -> None:
    life = Life(Plan(spec(), "s"))
    for minute in (1, 2, 3):
        assert after(life, 1) == [minute]
        life.running.clear()
    what = Waiting("asked", NOON - 3 * MINUTE - 1, NOON + 2 * MINUTE)
    life.put({"do": "ask", "what": what.body()})
    life.look()
    ran = [ends(life) for _ in range(4)]
    assert [(life.ran[3] - NOON) // MINUTE, *ran] == [-3, [-2], [-1], [0], []]
    assert not life.state.waiting


def test_what_was_missed_is_missed_by_the_clock_that_held_then() -> None:
    life = Life(Plan(spec(), "s"))
    assert after(life, 3.5) == [1]
    life.put({"do": "update", "spec": spec(every=45).body(), "to": life.now})
    life.plan = Plan(spec(every=45), "s")
    assert [ends(life), ends(life), ends(life)] == [[2], [3], []]
    assert life.plan.coming(life.state, 1)[0].nominal == NOON + 225_000


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 500))
def test_jitter_keeps_the_order_and_is_always_the_same(every: int, jitter: int, nth: int) -> None:
    plan = Plan(spec(every=every, jitter=jitter), "seed")
    at = plan.after(NOON + nth * every * 1000) or 0
    due, following = plan.due(at), plan.due(at + every * 1000)
    assert at <= due.at <= at + jitter * 1000
    assert due.at < following.nominal <= following.at
    assert due == Plan(spec(every=every, jitter=jitter), "seed").due(at)


def test_jitter_differs_from_schedule_to_schedule() -> None:
    dues = {Plan(spec(jitter=60), f"{n}").due(NOON).at for n in range(20)}
    assert len(dues) > 15


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"every": None}, "either cron or every"),
        ({"cron": "@daily", "every": 60}, "either cron or every"),
        ({"every": 0}, "every: .*greater than or equal to 1"),
        ({"every": 1.5}, "every: .*integer"),
        ({"cron": "@daily", "anchor": 5}, "anchor is for every"),
        ({"time_zone": "Europe/Paris"}, "time zone is for cron"),
        ({"start_at": 5, "end_at": 4}, "ends before it starts"),
        ({"start_at": "2026-01-01T00:00"}, "needs a time zone"),
        ({"start_at": "tomorrow"}, "Invalid isoformat"),
        ({"overlap": "wait"}, "overlap: .*'skip'"),
        ({"priority": 1}, "name one"),
        ({"evry": 5}, "evry: Extra inputs"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_in_words(values: dict[str, object], words: str) -> None:
    whole = {"workflow": "work", "every": 60, **values}
    if "cron" in values and "every" not in values:
        del whole["every"]
    with pytest.raises(BadSchedule, match=words):
        ScheduleSpec.of(whole)


def test_ids_are_for_the_time_that_a_tick_is_for() -> None:
    assert execution_of("s", NOON) == "s:2026-11-18T11:00:00Z"
    assert execution_of("s", NOON, "k") == "s:trigger:k"


@pytest.mark.parametrize(
    "change",
    [
        {"do": "run", "at": NOON},
        {"do": "skip", "at": NOON - 1},
        {"do": "late", "to": NOON},
        {"do": "run", "at": NOON + 1, "item": 0},
        {"do": "ask", "what": {"why": "tick", "at": 1}},
        {"do": "ask", "what": {"why": "asked", "at": 5, "to": 4}},
        {"do": "dance"},
        {"at": 1},
        [],
        None,
    ],
)
def test_a_change_that_cannot_be_is_refused(change: Change) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        State(spec().body(), NOON).after(change)
