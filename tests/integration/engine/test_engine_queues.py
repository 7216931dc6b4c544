"""Queues on a real engine: limits, order and deduplication, whatever happens to the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from node import ChildFailed, Queue, RetryPolicy, activity, workflow
from node.engine.archive import replay_archive
from node.engine.durability import Durability
from node.engine.errors import (
    DefinitionError,
    DuplicateRefused,
    PayloadError,
    UnknownHandler,
    UnknownQueue,
)
from node.engine.events import CLOSING, Event, Kind, Reuse, Status
from node.engine.inspection import events_of, inspect_log
from tests.integration.engine import queues_scenario
from tests.integration.engine.harness import (
    Proves,
    application,
    engine,
    go,
    killed_after_each_commit,
    live_once,
    outcomes,
    until,
)

SCENARIO = "tests.integration.engine.queues_scenario"
MODES = [{}, {"forced_replay": True}, {"durability": Durability.EVERY_COMMIT}]
CONCURRENCY = {"narrow": 2, "single": 1}


def check(events: Iterable[Event], concurrency: Mapping[str, int]) -> int:
    """By the log alone: nobody goes above the limit or before its turn; how many went."""
    waiting: dict[str, tuple[str, int, int]] = {}
    running: dict[str, str] = {}
    gone = 0
    for event in events:
        if event.kind is Kind.ORIGIN:
            queue = json.loads(str(event.payload)).get("queue")
            if queue is not None and event.execution not in running:
                place = queue["name"], queue.get("priority", 0), event.sequence
                waiting[event.execution] = place
        elif event.kind is Kind.DEQUEUED:
            place = waiting.pop(event.execution)
            ahead = [other for other in waiting.values() if other[0] == place[0] and other < place]
            assert not ahead, f"{event.execution} does not wait for its turn"
            running[event.execution] = place[0]
            gone += 1
            most = concurrency.get(place[0], 10**6)
            assert list(running.values()).count(place[0]) <= most, f"too many at {event.sequence}"
        elif event.kind in CLOSING:
            running.pop(event.execution, None)
            waiting.pop(event.execution, None)
    return gone


@pytest.mark.parametrize("mode", MODES)
def test_queues(tmp_path: Path, mode: Any) -> None:
    async def test() -> None:
        async with engine(tmp_path, queues_scenario.APP, barrier=Proves(), **mode) as it:
            await queues_scenario.drive(it)
            assert it.execution("f").result == [0, 2, 4, 14]
            assert it.execution("t").result == [1, 2]
            assert it.execution("left").result == 2
            assert (it.counts["running"], it.counts["queued"]) == (0, 0)
            assert replay_archive(it.export("t"), queues_scenario.APP).ok

    go(test())
    inspect_log(tmp_path / "log.db")
    assert check(events_of(tmp_path / "log.db"), CONCURRENCY) == 12


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert live_once(folder, SCENARIO, 0, "cached") == 0
    return outcomes(folder)


@pytest.mark.parametrize(("mode", "commits"), [("cached", 1), ("forced", 2), ("every_commit", 3)])
def test_limits_hold_when_killed_after_each_commit(
    tmp_path: Path, wanted: dict[str, Any], mode: str, commits: int
) -> None:
    assert len(wanted) == 13
    assert killed_after_each_commit(tmp_path, SCENARIO, mode, commits) > 5
    assert outcomes(tmp_path) == wanted
    assert check(events_of(tmp_path / "log.db"), CONCURRENCY) == 12


def test_the_check_notices_what_it_is_for(tmp_path: Path) -> None:
    assert live_once(tmp_path, SCENARIO, 0, "cached") == 0
    events = list(events_of(tmp_path / "log.db"))
    with pytest.raises(AssertionError, match="too many"):
        check(events, {"narrow": 1, "single": 1})
    swapped = [
        event._replace(payload=str(event.payload).replace('"priority":1', '"priority":-9'))
        for event in events
    ]
    with pytest.raises(AssertionError, match="wait for its turn"):
        check(swapped, CONCURRENCY)


# What a queued execution is told ----------------------------------------------------------------

QUEUE = Queue("line", concurrency=1)
STRICT = Queue("strict", concurrency=1, duplicates="reject")


@workflow
async def holds() -> Any:
    return await workflow.receive("end")


@workflow
async def asks() -> str:
    @workflow.update
    def change() -> str:
        return "changed"

    return str(await workflow.receive("end"))


APP = application(QUEUE, STRICT, holds, asks)


def test_a_queued_execution_says_why_it_waits(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP, clock=lambda: 1_700_000_000.0) as it:
            first = await it.start("holds", {}, id="a", queue="line")
            assert first.view.status is Status.RUNNING
            for id, priority in (("b", 0), ("c", -1)):
                started = await it.start("holds", {}, id=id, queue="line", priority=priority)
                assert started.view.status is Status.QUEUED
            (wait,) = it.waiting("b")
            assert (wait.kind, wait.name, wait.since, wait.until) == (
                "queue",
                "line",
                1_700_000_000.0,
                None,
            )
            assert wait.wakes == "the end of one of 1 that run: the concurrency of queue 'line'"
            assert wait.detail == {"priority": 0, "waiting": 2, "running": 1, "position": 2}
            assert it.waiting("a")[0].kind == "signal"
            queued = it.executions(status=Status.QUEUED)
            assert [view.id for view in queued] == ["b", "c"]
            assert (it.counts["running"], it.counts["queued"]) == (3, 2)
            with pytest.raises(UnknownHandler, match="queued"):
                await it.update("b", "change", {})
            with pytest.raises(UnknownHandler):
                await it.query("b", "state", {})
            await it.signal("a", "end")
            await until(lambda: it.execution("c").status is Status.RUNNING)
            assert it.execution("b").status is Status.QUEUED

    go(test())


@pytest.mark.parametrize("reopened", [False, True])
def test_cancel_terminate_and_pause_work_at_once(tmp_path: Path, reopened: bool) -> None:
    async def first() -> None:
        async with engine(tmp_path, APP) as it:
            for id in "abcde":
                await it.start("holds", {}, id=id, queue="line")
            if not reopened:
                await second_half(it)

    async def second() -> None:
        async with engine(tmp_path, APP) as it:
            await second_half(it)

    async def second_half(it: Any) -> None:
        assert await it.control.cancel("b", "no need")
        assert not await it.control.cancel("b")
        view = it.execution("b")
        assert (view.status, view.error["message"]) == (Status.CANCELLED, "no need")
        assert await it.control.terminate("c")
        assert it.execution("c").status is Status.TERMINATED
        assert await it.control.pause("d")
        assert [wait.kind for wait in it.waiting("d")] == ["pause", "queue"]
        await it.signal("a", "end")
        await until(lambda: it.execution("e").status is Status.RUNNING)
        assert await it.control.resume("d")
        assert it.execution("d").status is Status.QUEUED
        await it.signal("e", "end")
        await until(lambda: it.execution("d").status is Status.RUNNING)
        for id in "bc":
            assert replay_archive(it.export(id), APP).ok
        # One that never began waits for its turn when it is tried again.
        await it.control.retry("b")
        assert it.execution("b").status is Status.QUEUED
        await it.signal("d", "end")
        await it.signal("b", "end", 5)
        assert (await it.result("b", wait=10)).result == 5
        assert replay_archive(it.export("b"), APP).ok

    go(first())
    if reopened:
        go(second())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_waits_for_a_turn_of_its_own(tmp_path: Path, mode: Any) -> None:
    broken = True
    running: list[str] = []

    @activity(retry=RetryPolicy(max_attempts=1))
    async def step() -> str:
        running.append(activity.info().execution)
        if broken:
            raise ValueError("broken")
        return "mended"

    @workflow(queue=QUEUE)
    async def fragile() -> list[str]:
        return [await step(), await workflow.receive("word")]

    app = application(QUEUE, step, fragile, holds)

    async def first() -> None:
        nonlocal broken
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("fragile", {}, id="a")
            assert (await it.result("a", wait=10)).status is Status.FAILED
            await it.start("holds", {}, id="b", queue="line")
            broken = False
            await it.control.retry("a")
            assert it.execution("a").status is Status.QUEUED
            assert {"queue", "activity"} == {wait.kind for wait in it.waiting("a")}
            await it.signal("a", "word", "heard")
            await asyncio.sleep(0.02)
            assert running == ["a"]

    async def second() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            assert it.execution("a").status is Status.QUEUED
            await asyncio.sleep(0.02)
            assert running == ["a"]
            await it.signal("b", "end")
            assert (await it.result("a", wait=10)).result == ["mended", "heard"]
            assert replay_archive(it.export("a"), app).ok

    go(first())
    go(second())
    inspect_log(tmp_path / "log.db")


def test_an_id_used_again_waits_for_its_turn(tmp_path: Path) -> None:
    async def first() -> None:
        async with engine(tmp_path, APP) as it:
            for id in "ab":
                await it.start("holds", {}, id=id, queue="line")
            await it.signal("a", "end")
            await it.result("a", wait=10)
            again = await it.start("holds", {}, id="a", reuse=Reuse.IF_CLOSED, queue="line")
            assert (again.created, again.view.status) == (True, Status.QUEUED)

    async def second() -> None:
        async with engine(tmp_path, APP) as it:
            assert it.execution("a").status is Status.QUEUED
            await it.signal("b", "end")
            await it.signal("a", "end", "again")
            assert (await it.result("a", wait=10)).result == "again"

    go(first())
    go(second())
    inspect_log(tmp_path / "log.db")


# Deduplication ----------------------------------------------------------------------------------


def test_a_deduplication_key_is_taken_until_its_execution_ends(tmp_path: Path) -> None:
    async def first() -> None:
        async with engine(tmp_path, APP) as it:
            one, two = await asyncio.gather(
                *(it.start("holds", {}, id=id, queue="line", dedup="k") for id in ("a", "b"))
            )
            assert (one.view.id, one.created, two.view.id, two.created) == ("a", True, "a", False)
            # Another queue's keys, and other keys, are nothing to it.
            await it.start("holds", {}, id="c", queue="strict", dedup="k")
            await it.start("holds", {}, id="d", queue="line", dedup="l")

    async def second() -> None:
        async with engine(tmp_path, APP) as it:
            with pytest.raises(DuplicateRefused, match="'c' of the queue 'strict'"):
                await it.start("holds", {}, id="e", queue="strict", dedup="k")
            for id, key in (("f", "k"), ("g", "l")):
                assert not (await it.start("holds", {}, id=id, queue="line", dedup=key)).created
            await it.control.terminate("a")
            assert (await it.start("holds", {}, id="f", queue="line", dedup="k")).created
            # The first one cannot come back while the key is another's.
            with pytest.raises(DuplicateRefused, match="'f'"):
                await it.control.retry("a")

    go(first())
    go(second())


def test_a_child_whose_key_is_taken_is_not_started(tmp_path: Path) -> None:
    @workflow
    async def parent() -> str:
        child = holds.on_queue(QUEUE, dedup="k")
        child.with_id("detached").detach()
        try:
            await child.with_id("attached").child()
        except ChildFailed as error:
            return error.type
        return "?"

    async def test() -> None:
        async with engine(tmp_path, application(QUEUE, holds, parent)) as it:
            await it.start("holds", {}, id="a", queue="line", dedup="k")
            await it.start("parent", {}, id="p")
            assert (await it.result("p", wait=10)).result == "DuplicateRefused"
            assert [view.id for view in it.executions()] == ["a", "p"]

    go(test())


# Declarations -----------------------------------------------------------------------------------


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            with pytest.raises(UnknownQueue, match="there are: line, strict"):
                await it.start("holds", {}, queue="other")
            for wrong in ({"priority": 1}, {"dedup": "k"}, {"partition": "p"}):
                with pytest.raises(PayloadError, match="for a start on a queue"):
                    await it.start("holds", {}, **wrong)
            for wrong in ({"priority": 10**7}, {"dedup": ""}, {"partition": "\n"}):
                with pytest.raises(PayloadError):
                    await it.start("holds", {}, queue="line", **wrong)
            assert it.sequence == 0

    go(test())
    with pytest.raises(DefinitionError, match="two queues are named 'line'"):
        application(QUEUE, Queue("line"), holds)


def test_limits_change_with_the_application(tmp_path: Path) -> None:
    wide = Queue("line", concurrency=3)

    async def first() -> None:
        async with engine(tmp_path, application(wide, holds)) as it:
            for id in "abcde":
                await it.start("holds", {}, id=id, queue="line")
            assert it.counts["queued"] == 2

    async def narrower() -> None:
        async with engine(tmp_path, APP) as it:
            for left, id in ((2, "a"), (2, "b"), (1, "c")):
                await it.signal(id, "end")
                await it.result(id, wait=10)
                await asyncio.sleep(0.01)
                assert it.counts["queued"] == left

    async def without() -> None:
        async with engine(tmp_path, application(holds)) as it:
            assert it.execution("e").status is Status.QUEUED
            assert "declares the queue 'line'" in it.waiting("e")[0].wakes
            await it.signal("d", "end")
            await it.result("d", wait=10)
            assert it.execution("e").status is Status.QUEUED

    async def wider() -> None:
        async with engine(tmp_path, application(wide, holds)) as it:
            assert it.execution("e").status is Status.RUNNING

    for life in (first, narrower, without, wider):
        go(life())
    inspect_log(tmp_path / "log.db")


def test_many_that_wait_cost_little(tmp_path: Path) -> None:
    done: list[int] = []

    @workflow(queue=Queue("many", concurrency=5))
    async def one(number: int) -> None:
        done.append(number)

    app = application(one, QUEUE, holds)
    most = 2000

    async def fill() -> None:
        async with engine(tmp_path, app) as it:
            await it.start("holds", {}, id="first", queue="line")
            starts = (it.start("holds", {}, id=str(n), queue="line") for n in range(most))
            await asyncio.gather(*starts)
            assert it.counts["queued"] == most
            live = it._executor.live.values()
            assert sum(each.run is not None for each in live) == 1

    async def again() -> None:
        async with engine(tmp_path, app) as it:
            assert it.counts["queued"] == most
            await asyncio.gather(*(it.start("one", {"number": n}) for n in range(most)))
            await until(lambda: it.counts["completed"] == most)

    go(fill())
    go(again())
    assert done == list(range(most))
