"""Schedules on a running engine: ticks, restarts, new versions, clocks that jump."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.replay import replay_files
from node import Overlap, Queue, Schedule, activity, workflow
from node.engine.errors import (
    BadSchedule,
    DefinitionError,
    EngineStopped,
    PayloadError,
    ScheduleConflict,
    UnknownHandler,
    UnknownQueue,
    UnknownSchedule,
    UnknownWorkflow,
)
from node.engine.events import Kind, Status
from node.engine.inspection import inspect_log
from node.engine.schedule_control import PER_HISTORY
from node.engine.schedule_plan import Plan
from node.testing import Lab, assert_replays, crash_everywhere, in_lab, pace
from tests.integration.engine.harness import application

MORNING = datetime(2026, 3, 28, 6, tzinfo=UTC)
NARROW = Queue("narrow", concurrency=1)
HOUR = 3600.0


@activity
async def note(text: str) -> str:
    return text


@workflow
async def job(seconds: float = 0.0) -> str | None:
    await workflow.sleep(seconds)
    at = workflow.info().scheduled_at
    return await note(f"{workflow.info().schedule} {at:%d %H:%M:%S}") if at else None


@workflow
async def tidy() -> str:
    try:
        await workflow.sleep(10 * HOUR)
    except asyncio.CancelledError:
        await workflow.sleep(60)
        raise
    return "done"


@workflow
async def broken() -> None:
    raise ValueError("broken")


@workflow
async def rounds(left: int = 2) -> str:
    if left:
        workflow.continue_as_new(left - 1)
    return str(workflow.info().scheduled_at)


def every(seconds: float, **more: Any) -> Schedule:
    return Schedule("s", more.pop("workflow", job), every=seconds, **more)


def ran(lab: Lab, name: str = "s") -> list[str]:
    """The executions of a schedule in the order of their start, without its name."""
    return [id.removeprefix(f"{name}:") for id in lab.outcomes() if id.startswith(f"{name}:")]


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A log that holds together at the end of the test."""
    path = tmp_path / "log.db"
    yield path
    inspect_log(path)


@in_lab(every(HOUR), job, note, now=MORNING)
async def test_a_tick_starts_an_execution_that_knows_its_time(lab: Lab) -> None:
    assert lab.engine.next_wake == (MORNING + timedelta(hours=1)).timestamp()
    await lab.advance(2 * HOUR + 5)
    assert lab.outcomes() == {
        "s:2026-03-28T07:00:00Z": (Status.COMPLETED, "s 28 07:00:00"),
        "s:2026-03-28T08:00:00Z": (Status.COMPLETED, "s 28 08:00:00"),
    }
    assert await lab.run(job) is None
    assert lab.engine.counts["completed"] == 3
    assert lab.engine.counts["running"] == 0


@in_lab(every(HOUR), job, note)
async def test_a_tick_costs_one_event_beside_its_start_in_one_commit(lab: Lab) -> None:
    await lab.advance(HOUR)
    (keeper,) = [event for event in lab.log("litefleet.schedule:s") if event.kind is Kind.SIGNAL]
    (id,) = lab.outcomes()
    started, origin = lab.log(id)[:2]
    assert (started.kind, origin.kind) == (Kind.STARTED, Kind.ORIGIN)
    assert started.sequence == keeper.sequence + 1
    assert started.commit == keeper.commit
    assert len(str(keeper.payload)) < 45


@in_lab(Schedule("s", job, cron="30 2 * * *", time_zone="Europe/Berlin"), job, note, now=MORNING)
async def test_across_changes_of_the_clocks(lab: Lab) -> None:
    await lab.advance(timedelta(days=2))
    assert ran(lab) == ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    lab.clock.jump(at("2026-10-24T12:00Z"))
    await lab.engine.schedules.pause("s")
    await lab.engine.schedules.resume("s")
    await lab.advance(timedelta(days=2))
    assert ran(lab)[-2:] == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]


# Restarts ---------------------------------------------------------------------------------------


async def away(lab: Lab, seconds: float, *, crashed: bool = True) -> None:
    """The engine is down for so long."""
    await lab.settle()
    if crashed:
        lab.cut_off()
    await lab.close()
    lab.clock.jump(lab.clock() + seconds)
    await lab.open()
    await lab.settle()


@pytest.mark.parametrize("crashed", [True, False])
def test_a_schedule_back_fills_after_a_restart(log: Path, crashed: bool) -> None:
    async def main() -> None:
        async with Lab(every(HOUR), job, note, path=log, now=MORNING) as lab:
            await lab.advance(HOUR)
            await away(lab, 3 * HOUR + 60, crashed=crashed)
            assert [id[11:13] for id in ran(lab)] == ["07", "08", "09", "10"]
            await away(lab, 1)
            await lab.advance(HOUR)
            assert [id[11:13] for id in ran(lab)] == ["07", "08", "09", "10", "11"]
            order = [lab.view(f"s:{id}").rowid for id in ran(lab)]
            assert order == sorted(order)

    asyncio.run(main())


@in_lab(every(HOUR, input={"seconds": 30}), job, note, now=MORNING)
async def test_missed_ticks_wait_for_one_another(lab: Lab) -> None:
    await away(lab, 3 * HOUR + 60)
    assert len(ran(lab)) == 1
    view = lab.engine.schedules.show("s")
    assert [one["why"] for one in view.waiting] == ["late"]
    await lab.advance(30)
    assert len(ran(lab)) == 2
    await lab.advance(60)
    assert len(ran(lab)) == 3
    assert lab.engine.schedules.show("s").waiting == []


@in_lab(every(60, catch_up_window=120, overlap="allow_all"), job, note, now=MORNING)
async def test_what_is_too_old_is_not_made_up_for(lab: Lab) -> None:
    await away(lab, HOUR + 30)
    assert ran(lab) == ["2026-03-28T06:59:00Z", "2026-03-28T07:00:00Z"]
    missed = lab.engine.schedules.show("s").recent[-1]
    assert (missed["did"], missed["for"]) == ("miss", at("2026-03-28T06:01Z"))


@in_lab(every(60, catch_up_window=600), job, note, now=MORNING)
async def test_a_clock_that_steps_repeats_and_forgets_nothing(lab: Lab) -> None:
    await lab.advance(150)
    lab.clock.jump(lab.clock() + HOUR)
    lab.engine.look_at_clock()
    await lab.settle()
    # Forward: as if it had been down for so long.
    assert [id[11:16] for id in ran(lab)] == [
        "06:01",
        "06:02",
        *(f"06:{n}" for n in range(53, 60)),
        *(f"07:0{n}" for n in range(3)),
    ]
    before = ran(lab)
    # Back: nothing happens until it is there again.
    lab.clock.milliseconds -= 3_600_000
    lab.engine.look_at_clock()
    await lab.settle()
    assert ran(lab) == before
    await lab.advance(HOUR)
    assert ran(lab) == before
    await away(lab, 0)
    assert ran(lab) == before
    await lab.advance(60)
    assert ran(lab) == [*before, "2026-03-28T07:03:00Z"]


async def busy(lab: Lab) -> Any:
    """Ticks, a trigger, a backfill and a pause."""
    schedules = lab.engine.schedules
    await lab.until(lambda: len(ran(lab)) >= 2)
    await schedules.trigger("s", key="k")
    await schedules.backfill("s", at("2026-03-27T22:00Z"), at("2026-03-27T23:30Z"))
    await lab.until(lambda: len(ran(lab)) >= 5)
    await schedules.pause("s", "enough")
    for id in ran(lab):
        await lab.result(f"s:{id}")
    return sorted(ran(lab))


def test_killed_at_every_commit() -> None:
    things = (every(HOUR, overlap="buffer_all"), job, note)

    async def main() -> None:
        survived = await crash_everywhere(busy, *things, now=MORNING)
        assert survived.outcome[0] == "2026-03-27T22:00:00Z"
        assert survived.commits > 8

    asyncio.run(main())


def test_its_history_stays_short(log: Path) -> None:
    async def main() -> None:
        async with Lab(every(60), job, note, path=log, now=MORNING) as lab:
            await lab.advance(60.0 * (2 * PER_HISTORY + 20))
            assert lab.engine.schedules.show("s").runs == 2 * PER_HISTORY + 20
            await away(lab, 0)
            events = lab.log("litefleet.schedule:s")
            continued = [event for event in events if event.kind is Kind.CONTINUED]
            assert len(continued) == 2
            assert len([e for e in events if e.sequence > continued[-1].sequence]) == 20
            # A burst that is longer than a history.
            start = at("2026-03-20T00:00Z")
            count = await lab.engine.schedules.backfill(
                "s", start, start + 7140.0, overlap="allow_all"
            )
            assert count == 120
            await lab.settle()
            assert lab.engine.schedules.show("s").runs == 2 * PER_HISTORY + 20
            assert len(ran(lab)) == 2 * PER_HISTORY + 20 + 120

    asyncio.run(main())


# Overlap ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "starts"),
    [
        ("skip", ["07:00", "09:00"]),
        ("buffer_one", ["07:00", "08:00"]),
        ("buffer_all", ["07:00", "08:00"]),
        ("allow_all", ["07:00", "08:00", "09:00"]),
    ],
)
def test_one_that_takes_longer_than_its_interval(overlap: str, starts: list[str]) -> None:
    async def main() -> None:
        schedule = every(HOUR, overlap=overlap, input={"seconds": 1.5 * HOUR})
        async with Lab(schedule, job, note, now=MORNING) as lab:
            await lab.advance(3 * HOUR + 60)
            assert [id[11:16] for id in ran(lab)] == starts

    asyncio.run(main())


@pytest.mark.parametrize(
    ("overlap", "status", "took"),
    [("cancel_other", "cancelled", 60), ("terminate_other", "terminated", 0)],
)
def test_the_newest_stops_what_runs(overlap: str, status: str, took: float) -> None:
    async def main() -> None:
        schedule = every(HOUR, overlap=Overlap(overlap), workflow=tidy)
        async with Lab(schedule, tidy, now=MORNING) as lab:
            await lab.advance(2 * HOUR + 120)
            first, second = (lab.view(f"s:{id}") for id in ran(lab))
            assert (first.status, second.status) == (status, Status.RUNNING)
            assert first.closed_at == at("2026-03-28T08:00Z") + took
            assert second.started_at == first.closed_at

    asyncio.run(main())


def test_a_new_tick_stops_what_runs_after_a_crash_between(log: Path) -> None:
    async def main() -> None:
        schedule = every(HOUR, overlap="cancel_other", workflow=tidy)
        async with Lab(schedule, tidy, path=log, now=MORNING) as lab:
            await lab.advance(2 * HOUR)
            await away(lab, 0)
            assert len(ran(lab)) == 1
            await lab.advance(60)
            assert [lab.view(f"s:{id}").status for id in ran(lab)] == ["cancelled", "running"]

    asyncio.run(main())


@in_lab(every(HOUR, workflow=broken, pause_on_failure=True), broken, now=MORNING)
async def test_a_failure_pauses_it(lab: Lab) -> None:
    await lab.advance(3 * HOUR)
    assert ran(lab) == ["2026-03-28T07:00:00Z"]
    view = lab.engine.schedules.show("s")
    assert (view.status, view.note) == ("paused", f"execution 's:{ran(lab)[0]}' failed")
    await away(lab, 0)
    assert lab.engine.schedules.show("s").status == "paused"
    # One that is resumed goes on, until the next one.
    assert await lab.engine.schedules.resume("s")
    await away(lab, 0)
    assert lab.engine.schedules.show("s").status == "active"
    await lab.advance(3 * HOUR)
    assert len(ran(lab)) == 2


def test_what_was_recorded_is_followed_with_its_time(log: Path) -> None:
    async def main() -> None:
        async with Lab(every(HOUR), job, note, path=log, now=MORNING) as lab:
            await lab.advance(HOUR)
            archive = lab.engine.archive("s:2026-03-28T07:00:00Z")
            assert assert_replays(archive, lab.application) == 1
            # A replay that is not told the time does something else.
            rows = [row for row in archive.rows if row.kind != "origin"]
            with pytest.raises(AssertionError, match="does not follow"):
                assert_replays(archive.model_copy(update={"rows": rows}), lab.application)
        assert assert_replays(log, lab.application) == 1
        found = replay_files([log], lab.application)
        assert (found.ok, found.executions) == (True, 1)

    asyncio.run(main())


@in_lab(every(HOUR, workflow=rounds), rounds, now=MORNING)
async def test_one_that_goes_on_as_new_keeps_its_time(lab: Lab) -> None:
    await lab.advance(HOUR)
    assert lab.outcomes()["s:2026-03-28T07:00:00Z"][1] == "2026-03-28 07:00:00+00:00"


# Queues -----------------------------------------------------------------------------------------


@in_lab(
    every(60, overlap="allow_all", queue=NARROW, priority=1, input={"seconds": 90}),
    job,
    note,
    now=MORNING,
)
async def test_it_starts_on_a_queue(lab: Lab) -> None:
    await lab.advance(130)
    assert [lab.view(f"s:{id}").status for id in ran(lab)] == ["running", "queued"]
    await away(lab, 0)
    assert lab.engine.schedules.show("s").running == [f"s:{id}" for id in ran(lab)]
    await lab.advance(25)
    assert [lab.view(f"s:{id}").status for id in ran(lab)] == ["completed", "running"]
    assert (await lab.result(f"s:{ran(lab)[1]}")).endswith("06:02:00")


# The application's declarations -----------------------------------------------------------------


def test_a_declaration_that_changes_is_taken_over(log: Path) -> None:
    async def main() -> None:
        async with Lab(every(HOUR), job, note, path=log, now=MORNING) as lab:
            await lab.advance(HOUR)
            later = lab.clock() + 2 * HOUR + 600
        changed = Schedule("s", job, cron="20 * * * *", input={"seconds": 1})
        async with Lab(changed, job, note, path=log) as lab:
            # What was missed is what the one before it missed.
            assert len(ran(lab)) == 1
        async with Lab(
            every(HOUR), job, note, path=log, now=datetime.fromtimestamp(later, UTC)
        ) as lab:
            await lab.settle()
            assert [id[11:16] for id in ran(lab)] == ["07:00", "07:20", "08:20"]
            await lab.advance(HOUR)
            assert [id[11:16] for id in ran(lab)] == ["07:00", "07:20", "08:20", "10:00"]

    asyncio.run(main())


def test_a_declaration_that_is_gone_stops_and_a_pause_outlasts_all(log: Path) -> None:
    async def main() -> None:
        async with Lab(every(HOUR), job, note, path=log, now=MORNING) as lab:
            await lab.engine.schedules.pause("s", "until the bank answers")
            with pytest.raises(ScheduleConflict, match="the application declares"):
                await lab.engine.schedules.delete("s")
            with pytest.raises(ScheduleConflict, match="the application declares"):
                await lab.engine.schedules.update("s", {"workflow": "job", "every": 5})
        async with Lab(job, note, path=log, now=MORNING) as lab:
            assert lab.engine.schedules.show("s").status == "stopped"
            assert lab.engine.next_wake is None
        async with Lab(every(30), job, note, path=log, now=MORNING) as lab:
            view = lab.engine.schedules.show("s")
            assert (view.status, view.note) == ("paused", "until the bank answers")
            await lab.engine.schedules.resume("s")
            await lab.advance(60)
            assert len(ran(lab)) == 2
        async with Lab(job, note, path=log, now=MORNING) as lab:
            await lab.advance(HOUR)
            assert len(ran(lab)) == 2
            await lab.engine.schedules.delete("s")
            assert lab.engine.schedules.list() == []
        async with Lab(every(30), job, note, path=log, now=MORNING) as lab:
            await lab.advance(30)
            assert len(ran(lab)) == 3

    asyncio.run(main())


@in_lab(every(HOUR), job, note, now=MORNING)
async def test_one_whose_keeper_was_ended_is_declared_again(lab: Lab) -> None:
    await lab.engine.control.terminate("litefleet.schedule:s")
    assert lab.engine.schedules.list() == []
    await lab.advance(2 * HOUR)
    await lab.restart()
    await lab.advance(HOUR)
    assert ran(lab) == ["2026-03-28T09:00:00Z"]


@in_lab(every(HOUR), job, note, now=MORNING)
async def test_a_keeper_that_is_tried_again_goes_on(lab: Lab) -> None:
    await lab.advance(HOUR)
    for end in ("terminate", "cancel"):
        await getattr(lab.engine.control, end)("litefleet.schedule:s")
        await lab.settle()
        assert lab.engine.schedules.list() == []
        await lab.engine.control.retry("litefleet.schedule:s")
        await lab.advance(HOUR)
        view = lab.engine.schedules.show("s")
        (listed,) = lab.engine.schedules.list()
        assert (listed.next, listed.recent) == (view.next[:1], view.recent[:1])
        assert view.runs == len(ran(lab))
        await away(lab, 0)
        assert lab.engine.schedules.show("s") == view
    assert [id[11:13] for id in ran(lab)] == ["07", "08", "09"]


def test_one_that_is_made_again_while_it_is_deleted(log: Path) -> None:
    async def main() -> None:
        async with Lab(job, note, path=log, now=MORNING) as lab:
            schedules = lab.engine.schedules
            await schedules.create("t", DAILY)
            deleted = asyncio.create_task(schedules.delete("t"))
            await asyncio.sleep(0)
            assert (await schedules.create("t", {**DAILY, "cron": "@weekly"}))[1] is True
            await deleted
            assert schedules.show("t").spec["cron"] == ["@weekly"]

    asyncio.run(main())


def test_a_mistake_of_ours_stops_the_engine_and_is_told(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Lab(every(HOUR), job, note, path=log, now=MORNING) as lab:
            await lab.settle()
            monkeypatch.setattr(Plan, "decide", lambda *_: 1 / 0)
            with pytest.raises(EngineStopped):
                await lab.advance(HOUR)
            monkeypatch.undo()

    asyncio.run(main())


def test_what_cannot_be_declared_is_refused() -> None:
    with pytest.raises(DefinitionError, match="schedule s: '1 2' is no cron") as refused:
        Schedule("s", job, cron="1 2")
    assert "five fields" in refused.value.hint
    with pytest.raises(DefinitionError, match="is no name for a schedule"):
        Schedule("a/b", job, every=5)
    with pytest.raises(DefinitionError, match="schedule s: job: its input is not"):
        application(Schedule("s", job, every=5, input={"secs": 1}))
    with pytest.raises(DefinitionError, match="two schedules are named 's'"):
        application(every(1), every(2))
    app = application(every(5, queue=NARROW))
    assert (set(app.workflows), set(app.queues)) == ({"job"}, {"narrow"})


def test_off_nothing_happens_by_itself() -> None:
    async def main() -> None:
        async with Lab(every(HOUR), job, note, now=MORNING, schedules=False) as lab:
            await lab.advance(5 * HOUR)
            assert (ran(lab), lab.engine.next_wake) == ([], None)
            await lab.engine.schedules.trigger("s", key="k")
            await lab.settle()
            assert ran(lab) == ["trigger:k"]

    asyncio.run(main())


@in_lab(every(1), job, note, tidy)
async def test_a_test_does_not_skip_time_for_ever(lab: Lab) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "MOST_JUMPS", 50)
        with pytest.raises(pace.Stuck, match=r"jumped 50 times.*schedules=False"):
            await lab.run(tidy)


# By an operator ---------------------------------------------------------------------------------

DAILY = {"workflow": "job", "cron": "@daily", "time_zone": "America/New_York"}


@in_lab(job, note, now=MORNING)
async def test_one_that_an_operator_makes_changes_and_deletes(lab: Lab) -> None:
    schedules = lab.engine.schedules
    view, created = await schedules.create("nightly", DAILY)
    assert (created, view.next[0]["for"]) == (True, at("2026-03-29T04:00Z"))
    assert (await schedules.create("nightly", DAILY))[1] is False
    with pytest.raises(ScheduleConflict, match="already"):
        await schedules.create("nightly", {**DAILY, "cron": "@hourly"})
    await away(lab, 0)
    schedules = lab.engine.schedules
    view = await schedules.update("nightly", {**DAILY, "cron": ["@hourly"], "max_runs": 2})
    assert view.spec["cron"] == ["@hourly"]
    await lab.advance(3 * HOUR)
    assert ran(lab, "nightly") == ["2026-03-28T07:00:00Z", "2026-03-28T08:00:00Z"]
    assert schedules.show("nightly").status == "over"
    await schedules.delete("nightly")
    with pytest.raises(UnknownSchedule):
        schedules.show("nightly")
    # The same id again: what has happened does not happen again.
    view, created = await schedules.create(
        "nightly", {"workflow": "job", "every": 3600}, paused="not yet"
    )
    assert (created, view.status, view.note) == (True, "paused", "not yet")
    assert await schedules.backfill("nightly", at("2026-03-28T06:00Z"), lab.clock()) == 4
    await lab.settle()
    assert sorted(id[11:13] for id in ran(lab, "nightly")) == ["06", "07", "08", "09"]


@in_lab(every(HOUR, input={"seconds": 90}), job, note, now=MORNING)
async def test_triggers(lab: Lab) -> None:
    schedules = lab.engine.schedules
    assert await schedules.trigger("s", key="a") == ("s:trigger:a", True)
    assert await schedules.trigger("s", key="a") == ("s:trigger:a", False)
    assert await schedules.trigger("s", key="b") == ("s:trigger:b", True)
    assert await schedules.trigger("s", key="c", overlap="allow_all") == ("s:trigger:c", True)
    await lab.settle()
    assert ran(lab) == ["trigger:a", "trigger:c"]
    # One that waits is no other either.
    assert (await schedules.trigger("s", key="b"))[1] is False
    await away(lab, 0)
    await lab.advance(200)
    assert ran(lab) == ["trigger:a", "trigger:c", "trigger:b"]
    assert await lab.result("s:trigger:b") == "s 28 06:00:00"
    assert (await lab.engine.schedules.trigger("s", key="b"))[1] is False
    with pytest.raises(PayloadError, match="printable"):
        await lab.engine.schedules.trigger("s", key="\n")


@in_lab(every(HOUR, input={"seconds": 5}, buffer_limit=1), job, note, now=MORNING)
async def test_backfills(lab: Lab) -> None:
    schedules = lab.engine.schedules
    start = at("2026-03-01T00:00Z")
    assert await schedules.backfill("s", start, start + 7200) == 3
    assert await schedules.backfill("s", start + 1, start + 2) == 0
    await lab.settle()
    # Half of it is still to come, and more may not wait.
    with pytest.raises(ScheduleConflict, match="1 requests wait"):
        await schedules.trigger("s", key="k")
    await lab.advance(20)
    assert [id[8:13] for id in ran(lab)] == ["01T00", "01T01", "01T02"]
    assert await schedules.backfill("s", start, start + 7200) == 3
    await lab.advance(20)
    assert len(ran(lab)) == 3
    for begin, end in [(5.0, 4.0), (0.0, lab.clock() + 60)]:
        with pytest.raises(BadSchedule, match="of the past"):
            await schedules.backfill("s", begin, end)
    await schedules.create("fast", {"workflow": "job", "every": 1})
    with pytest.raises(BadSchedule, match="more than 10000"):
        await schedules.backfill("fast", 0, start)


@in_lab(every(HOUR), job, note, NARROW, now=MORNING)
async def test_what_cannot_be_is_refused_and_changes_nothing(lab: Lab) -> None:
    schedules = lab.engine.schedules
    await lab.settle()
    before = lab.engine.sequence
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (BadSchedule, {"every": 5, "cron": "@daily"}),
        (BadSchedule, {"cron": "@daily", "time_zone": "Mars/Olympus"}),
        (UnknownWorkflow, {"every": 5, "workflow": "jobs"}),
        (UnknownWorkflow, {"every": 5, "workflow": "litefleet.schedule"}),
        (UnknownQueue, {"every": 5, "queue": "wide"}),
        (PayloadError, {"every": 5, "input": {"seconds": "many"}}),
    ]
    for error, values in refused:
        with pytest.raises(error):
            await schedules.create("t", {"workflow": "job", **values})
    with pytest.raises(BadSchedule):
        await schedules.create("a/b", {"workflow": "job", "every": 5})
    for name in ("pause", "resume", "delete"):
        with pytest.raises(UnknownSchedule):
            await getattr(schedules, name)("t")
    assert await schedules.resume("s") is False
    with pytest.raises(UnknownHandler, match="engine's own"):
        await lab.engine.signal("litefleet.schedule:s", "litefleet.change", {"do": "delete"})
    with pytest.raises(PayloadError, match="engine's own"):
        await lab.engine.start("job", {}, id="litefleet.schedule:t")
    assert lab.engine.sequence == before


def test_what_cannot_start_any_more_is_shown(log: Path) -> None:
    async def main() -> None:
        async with Lab(job, tidy, note, path=log, now=MORNING) as lab:
            await lab.engine.schedules.create("s", {"workflow": "tidy", "every": 60})
        async with Lab(job, note, path=log, now=MORNING) as lab:
            await lab.advance(120)
            view = lab.engine.schedules.show("s")
            assert [one["did"] for one in view.recent] == ["fail", "fail"]
            assert view.recent[0]["why"] == "no workflow 'tidy'"
            assert (view.runs, view.status) == (0, "active")

    asyncio.run(main())


@in_lab(every(HOUR), job, note, now=MORNING)
async def test_an_execution_of_that_id_that_somebody_else_started_stands(lab: Lab) -> None:
    await lab.start(job.with_id("s:2026-03-28T07:00:00Z"))
    await lab.advance(2 * HOUR)
    assert len(ran(lab)) == 2
    assert [one["did"] for one in lab.engine.schedules.show("s").recent] == ["run", "have"]
