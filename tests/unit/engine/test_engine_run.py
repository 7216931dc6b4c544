"""One workflow's code on a list for a log: order, replay, divergence."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import ActivityFailed, activity, workflow
from node.engine.errors import DeterminismError, Divergence
from node.engine.events import TIMER_STEP, Event, Kind, Status
from node.testing import Rehearsal


@activity
async def fetch(key: str) -> int:
    raise AssertionError("a rehearsal runs no activity")


@activity
async def store(key: str, value: int) -> None:
    raise AssertionError("a rehearsal runs no activity")


@workflow
async def in_a_row() -> int:
    first = await fetch("a")
    second = await fetch("b")
    await store("sum", first + second)
    return first + second


def test_a_result_leads_to_the_next_step() -> None:
    play = Rehearsal(in_a_row)
    assert play.waiting == [("fetch", 1)]
    play.complete("fetch", 2)
    assert play.waiting == [("fetch", 2)]
    play.complete("fetch", 3, occurrence=2)
    play.complete("store")
    assert (play.status, play.outcome) == (Status.COMPLETED, "5")
    assert [event.kind for event in play.log] == [
        Kind.STARTED,
        Kind.STEP,
        Kind.STEP_COMPLETED,
        Kind.STEP,
        Kind.STEP_COMPLETED,
        Kind.STEP,
        Kind.STEP_COMPLETED,
        Kind.COMPLETED,
    ]


@workflow
async def side_by_side() -> list[int]:
    async def double(key: str) -> int:
        value = await fetch(key)
        await store(key, value)
        return 2 * value

    return list(await asyncio.gather(double("a"), double("b"), double("c")))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_gather_calls_in_order_whatever_order_the_results_come_in(order: tuple[int, ...]) -> None:
    play = Rehearsal(side_by_side)
    assert play.waiting == [("fetch", 1), ("fetch", 2), ("fetch", 3)]
    for occurrence in order:
        play.complete("fetch", occurrence * 10, occurrence)
    stored = [json.loads(str(e.payload)) for e in play.log if e.name == "store"]
    assert [body["value"] for body in stored] == [occurrence * 10 for occurrence in order]
    for occurrence in order:
        play.complete("store", None, occurrence)
    assert play.outcome == "[20,40,60]"
    for length in range(1, len(play.log) + 1):
        play.replayed(length)


@workflow
async def with_a_deadline() -> str:
    try:
        async with asyncio.timeout(30):
            await fetch("slow")
    except TimeoutError:
        return "gave up"
    return "in time"


def test_a_timeout_is_a_durable_timer() -> None:
    late, early = Rehearsal(with_a_deadline), Rehearsal(with_a_deadline)
    assert late.waiting == [("fetch", 1), (TIMER_STEP, 1)] or late.waiting == [
        (TIMER_STEP, 1),
        ("fetch", 1),
    ]
    late.fire((TIMER_STEP, 1))
    assert late.outcome == '"gave up"'
    assert Kind.STEP_CANCELLED in [event.kind for event in late.log]
    assert late.replayed().outcome == '"gave up"'
    early.complete("fetch", 1)
    assert early.outcome == '"in time"'


@workflow
async def sleeper(hours: int) -> list[str]:
    before = workflow.now()
    await workflow.sleep(timedelta(hours=hours))
    middle = workflow.now()
    await workflow.sleep(0.5)
    return [str(middle - before), str(workflow.now() - middle)]


def test_time_moves_by_the_log_only() -> None:
    play = Rehearsal(sleeper, {"hours": 48})
    assert play.log[-1].payload == play.now + 48 * 3_600_000
    play.fire((TIMER_STEP, 1))
    play.fire((TIMER_STEP, 2))
    assert json.loads(str(play.outcome)) == ["2 days, 0:00:00", "0:00:00.500000"]


@workflow
async def until_then(when: str) -> str:
    await workflow.sleep_until(datetime.fromisoformat(when))
    return workflow.now().isoformat()


def test_sleeping_until_a_moment_puts_it_into_the_log_in_utc() -> None:
    play = Rehearsal(until_then, {"when": "2026-11-24T09:00:00.001+01:00"})
    deadline = int(datetime(2026, 11, 24, 8, tzinfo=UTC).timestamp() * 1000) + 1
    assert [e.payload for e in play.log if e.kind is Kind.TIMER] == [deadline]
    play.fire((TIMER_STEP, 1))
    assert play.outcome == '"2026-11-24T08:00:00.001000+00:00"'
    play.replayed()


def test_a_moment_that_has_passed_is_not_waited_for() -> None:
    play = Rehearsal(until_then, {"when": "1999-12-31T23:59:59Z"})
    assert play.status is Status.COMPLETED
    assert not any(event.kind is Kind.TIMER for event in play.log)


def test_a_moment_needs_a_time_zone() -> None:
    play = Rehearsal(until_then, {"when": "2026-11-24T09:00:00"})
    assert play.status is Status.FAILED
    assert "time zone" in str(play.outcome)


def test_time_never_goes_back_when_the_clock_does() -> None:
    play = Rehearsal(sleeper, {"hours": 1})
    deadline = play.log[-1].payload
    assert isinstance(deadline, int)
    play.now -= 10_000_000
    play.tell(Kind.TIMER_FIRED, (TIMER_STEP, 1), None)
    assert play.log[-1].payload == deadline + 500


@workflow
async def chance() -> list[str]:
    values = [str(workflow.random().random()), str(workflow.uuid4())]
    await fetch("x")
    return [*values, str(workflow.uuid4()), workflow.info().id]


def test_chance_is_the_same_on_every_replay_and_another_for_every_execution() -> None:
    play, other = Rehearsal(chance), Rehearsal(chance, id="other")
    again = play.replayed()
    for one in (play, again, other):
        one.complete("fetch", 1)
    assert play.outcome == again.outcome
    assert len({*json.loads(str(play.outcome)), *json.loads(str(other.outcome))}) == 8


@workflow
async def catches() -> str:
    try:
        await fetch("x")
    except ActivityFailed as error:
        return f"{error.step} {error.occurrence} {error.type} {error.message} {error.attempts}"
    return "no error"


def test_an_activity_that_failed_raises_where_it_is_awaited() -> None:
    play = Rehearsal(catches)
    play.fail("fetch", ValueError("too bad"), attempts=4)
    assert play.outcome == '"fetch 1 ValueError too bad 4"'
    assert play.replayed().outcome == play.outcome


@workflow
async def fails() -> None:
    await fetch("x")


def test_an_error_that_nobody_catches_fails_the_execution() -> None:
    play = Rehearsal(fails)
    play.fail("fetch", ValueError("too bad"))
    assert play.status is Status.FAILED
    assert json.loads(str(play.outcome))["type"] == "ActivityFailed"


@workflow
async def group() -> list[str]:
    seen: list[str] = []

    async def one(key: str) -> None:
        try:
            await fetch(key)
        except asyncio.CancelledError:
            seen.append(key)
            await store(key, 0)
            raise

    try:
        async with asyncio.TaskGroup() as tasks:
            for key in "abcdefgh":
                tasks.create_task(one(key))
            tasks.create_task(fetch("bad"))
    except* ActivityFailed:
        seen.append("failed")
    return seen


def test_a_task_group_cancels_its_tasks_in_the_same_order_every_time() -> None:
    play = Rehearsal(group)
    play.fail("fetch", ValueError("bad"), occurrence=1)
    calls = [event for event in play.log if event.kind is Kind.STEP and event.name == "store"]
    assert len(calls) == 8
    for length in range(1, len(play.log) + 1):
        again = play.replayed(length).log
        assert again == play.log[: len(again)]
    for occurrence in range(1, 9):
        play.complete("store", None, occurrence)
    assert sorted(json.loads(str(play.outcome))[:-1]) == list("abcdefgh")


# Divergence -------------------------------------------------------------------------------------


def finished(play: Rehearsal) -> list[Event]:
    play.complete("fetch", 2)
    play.complete("fetch", 3, occurrence=2)
    play.complete("store")
    return play.log


def numbered(events: list[Event]) -> list[Event]:
    return [e._replace(sequence=n, commit=n) for n, e in enumerate(events, 1)]


@workflow(name="in_a_row")
async def reordered() -> int:
    await store("sum", 0)
    return await fetch("a")


@workflow(name="in_a_row")
async def shortened() -> int:
    return await fetch("a")


@workflow(name="in_a_row")
async def lengthened() -> int:
    first = await fetch("a")
    await store("extra", 0)
    second = await fetch("b")
    return first + second


@workflow(name="in_a_row")
async def other_arguments() -> int:
    return await fetch("z")


@workflow(name="in_a_row")
async def other_result() -> int:
    first = await fetch("a")
    second = await fetch("b")
    await store("sum", first + second)
    return 0


@workflow(name="in_a_row")
async def added_beside() -> int:
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(fetch("a"))
        tasks.create_task(workflow.sleep(1))
    return first.result()


@pytest.mark.parametrize(
    ("code", "event", "words"),
    [
        (reordered, 2, "the code did step store #1"),
        (shortened, 4, "the code did completed in_a_row"),
        (lengthened, 4, "the code did step store #1"),
        (other_arguments, 2, '"z"'),
        (other_result, 8, "the code did completed in_a_row #1 0"),
        (added_beside, 4, "the code did"),
    ],
)
def test_code_that_does_not_follow_its_log_is_stopped(code, event, words) -> None:  # type: ignore[no-untyped-def]
    log = finished(Rehearsal(in_a_row))
    with pytest.raises(Divergence, match="the log holds") as caught:
        Rehearsal(code, log=log)
    assert caught.value.sequence == event
    assert words in str(caught.value)


def test_a_log_with_events_swapped_added_or_removed_is_a_divergence() -> None:
    log = finished(Rehearsal(in_a_row))
    added = Event(0, "rehearsal", Kind.STEP, "fetch", 3, '{"key":"c"}', log[-1].at, 0)
    broken = [
        numbered([*log[:1], log[3], log[2], log[1], *log[4:]]),
        numbered([*log[:5], added, *log[5:]]),
        numbered([*log[:3], *log[5:]]),
        numbered([*log[:2], log[4], *log[2:4], *log[5:]]),
    ]
    for events in broken:
        with pytest.raises(Divergence):
            Rehearsal(in_a_row, log=events)
    Rehearsal(in_a_row, log=numbered(log))


@workflow(name="in_a_row")
async def goes_on_differently() -> int:
    await fetch("a")
    return await fetch("other")


def test_what_is_not_in_the_log_yet_may_change() -> None:
    play = Rehearsal(in_a_row)
    again = Rehearsal(goes_on_differently, log=play.log)
    again.complete("fetch", 1)
    assert again.waiting == [("fetch", 2)]


# Determinism --------------------------------------------------------------------------------------


@workflow
async def endless() -> None:
    while True:
        await asyncio.sleep(0)


def test_a_turn_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.engine.loop.CALLBACKS_PER_TURN", 1000)
    with pytest.raises(DeterminismError, match="on and on"):
        Rehearsal(endless)


@workflow
async def threads() -> None:
    await asyncio.to_thread(print)


def test_threads_are_refused() -> None:
    with pytest.raises(DeterminismError, match="thread"):
        Rehearsal(threads)


@workflow
async def leaves() -> None:
    raise SystemExit(3)


def test_exit_fails_the_execution_and_not_the_engine() -> None:
    assert Rehearsal(leaves).status is Status.FAILED


# Random programs ----------------------------------------------------------------------------------

Program = list[tuple[str, list["Program"]]]

programs: st.SearchStrategy[Program] = st.recursive(
    st.lists(st.tuples(st.sampled_from(["step", "sleep", "random"]), st.just([])), max_size=3),
    lambda inner: st.lists(
        st.tuples(
            st.sampled_from(["gather", "group", "race", "timeout", "try"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_size=3,
    ),
    max_leaves=8,
)


async def perform(program: Program) -> int:
    total = 0
    for what, parts in program:
        if what == "step":
            total += await fetch(str(total))
        elif what == "sleep":
            await workflow.sleep(1 + total % 7)
        elif what == "random":
            total += workflow.random().randrange(100)
        elif what == "gather":
            found = await asyncio.gather(*map(perform, parts), return_exceptions=True)
            total += sum(value for value in found if isinstance(value, int))
        elif what == "group":
            async with asyncio.TaskGroup() as tasks:
                started = [tasks.create_task(perform(part)) for part in parts]
            total += sum(task.result() for task in started)
        elif what == "race":
            tasks_ = [asyncio.ensure_future(perform(part)) for part in parts]
            done, pending = await asyncio.wait(tasks_, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            for task in done:
                total += 1 if task.exception() else task.result()
        elif what == "timeout":
            try:
                async with asyncio.timeout(3):
                    for part in parts:
                        total += await perform(part)
            except TimeoutError:
                total += 5
        else:
            try:
                for part in parts:
                    total += await perform(part)
            except (ActivityFailed, ExceptionGroup):
                total += await fetch("recover")
    return total


@workflow
async def interpret(program: list[list[object]]) -> int:
    return await perform(program)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(programs, st.randoms(use_true_random=False))
def test_any_program_replays_from_any_prefix(program: Program, chooser: random.Random) -> None:
    play = Rehearsal(interpret, {"program": json.loads(json.dumps(program))})
    while play.status is Status.RUNNING and len(play.log) < 300:
        step = chooser.choice(play.waiting)
        if step[0] == TIMER_STEP:
            play.fire(step)
        elif chooser.random() < 0.25:
            play.fail(step[0], ValueError("chance"), step[1])
        else:
            play.complete(step[0], chooser.randrange(9), step[1])
    assert play.status is not Status.RUNNING
    for length in range(1, len(play.log) + 1):
        prefix = play.replayed(length)
        # The code goes on from there exactly as it did.
        assert prefix.log == play.log[: len(prefix.log)]
