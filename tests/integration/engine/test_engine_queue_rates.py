"""Rates, partitions and paused queues on a real engine, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from node import Queue, Rate, workflow
from node.engine.engine import Engine
from node.engine.errors import DefinitionError, UnknownQueue
from node.engine.events import Kind, Status
from node.engine.inspection import events_of, inspect_log
from tests.integration.engine.harness import application, engine, go

NOON = 1_700_000_000.0
SLOW = Queue("slow", rate=Rate(2, per=60))
FAIR = Queue(
    "fair", concurrency=3, partition_concurrency=1, partition_rate=Rate(2, per=60), rate=Rate(9, 1)
)


@workflow
async def quick() -> None:
    pass


@workflow
async def holds() -> None:
    await workflow.receive("end")


APP = application(SLOW, FAIR, quick, holds)


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


async def settle(it: Engine, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    it.look_at_clock()
    for _ in range(5):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while not it.at_rest():
            await asyncio.sleep(0.001)


def turns(folder: Path) -> list[tuple[str, float]]:
    """Who had a turn, and how many seconds after noon."""
    return [
        (event.execution, event.at / 1000 - NOON)
        for event in events_of(folder / "log.db")
        if event.kind is Kind.DEQUEUED
    ]


def test_a_rate_holds_over_a_restart(tmp_path: Path) -> None:
    clock = Clock()

    async def first() -> None:
        async with engine(tmp_path, APP, clock=clock) as it:
            for number in range(6):
                await it.start("quick", {}, id=f"q{number}", queue="slow")
                clock.now += 5
            assert it.next_wake == NOON + 60
            (wait,) = it.waiting("q3")
            assert (wait.until, wait.detail["position"]) == (NOON + 60, 2)
            assert wait.wakes == "the rate of queue 'slow': 2 in 60 s"
            assert it.queues.show("slow").next_at == NOON + 60

    async def second() -> None:
        async with engine(tmp_path, APP, clock=clock) as it:
            assert it.counts["queued"] == 4
            assert it.next_wake == NOON + 60
            for _ in range(100):
                if not it.counts["queued"]:
                    break
                await settle(it, clock, 5)
            else:
                raise AssertionError("they never had their turn")

    go(first())
    go(second())
    assert turns(tmp_path) == [
        ("q0", 0.0),
        ("q1", 5.0),
        ("q2", 60.0),
        ("q3", 65.0),
        ("q4", 120.0),
        ("q5", 125.0),
    ]
    inspect_log(tmp_path / "log.db")


def test_each_partition_has_its_own_limits(tmp_path: Path) -> None:
    clock = Clock()

    async def first() -> None:
        async with engine(tmp_path, APP, clock=clock) as it:
            for number in range(3):
                for name in ("ada", "bob"):
                    id = f"{name}{number}"
                    await it.start("holds", {}, id=id, queue="fair", partition=name)
            assert it.counts["queued"] == 4
            wakes = it.waiting("ada1")[0].wakes
            assert wakes == "the end of one of 1 that run: the concurrency of partition 'ada'"
            await it.control.terminate("ada0")
            assert it.execution("ada1").status is Status.RUNNING
            await it.control.terminate("ada1")

    async def second() -> None:
        async with engine(tmp_path, APP, clock=clock) as it:
            # ada has had its two turns of this minute; bob has one more.
            (wait,) = it.waiting("ada2")
            assert (wait.until, wait.detail["partition"]) == (NOON + 60, "ada")
            await it.control.terminate("bob0")
            assert it.execution("bob1").status is Status.RUNNING
            await settle(it, clock, 60)
            assert it.execution("ada2").status is Status.RUNNING
            assert it.execution("bob2").status is Status.QUEUED

    go(first())
    go(second())
    assert [id for id, _ in turns(tmp_path)] == ["ada0", "bob0", "ada1", "bob1", "ada2"]


def test_a_paused_queue_stays_paused(tmp_path: Path) -> None:
    clock = Clock()

    async def first() -> None:
        async with engine(tmp_path, APP, clock=clock) as it:
            assert not await it.queues.resume("slow")
            assert await it.queues.pause("slow")
            assert not await it.queues.pause("slow")
            await it.start("quick", {}, id="a", queue="slow")
            await it.start("quick", {}, id="b", queue="fair")
            await it.result("b", wait=10)

    async def second() -> None:
        async with engine(tmp_path, APP, clock=clock) as it:
            await settle(it, clock, 5)
            assert it.execution("a").status is Status.QUEUED
            assert it.waiting("a")[0].wakes == "resuming the queue 'slow'"
            view = it.queues.show("slow")
            assert (view.paused, view.waiting, view.running) == (True, 1, 0)
            assert view.oldest_since == NOON
            assert it.next_wake is None
            assert await it.queues.resume("slow")
            assert (await it.result("a", wait=10)).status is Status.COMPLETED
            # The one that keeps it is the engine's own, and nobody's to see.
            assert [view.id for view in it.executions()] == ["a", "b"]
            assert it.counts["running"] == 0

    async def third() -> None:
        async with engine(tmp_path, APP, clock=clock) as it:
            assert not it.queues.show("slow").paused
            assert await it.queues.pause("slow")

    for life in (first, second, third):
        go(life())
    inspect_log(tmp_path / "log.db")


def test_queues_are_listed_with_their_limits(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            fair, slow = it.queues.list()
            assert (fair.name, fair.concurrency, fair.partition_concurrency) == ("fair", 3, 1)
            assert (fair.partition_rate, slow.rate) == (
                {"count": 2, "per": 60.0},
                {"count": 2, "per": 60.0},
            )
            for call in (it.queues.pause, it.queues.resume):
                with pytest.raises(UnknownQueue):
                    await call("other")

    go(test())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Queue("no name"),
        lambda: Queue("q", concurrency=0),
        lambda: Queue("q", partition_concurrency=-1),
        lambda: Queue("q", duplicates=cast(Any, "both")),
        lambda: Rate(0, per=1),
        lambda: Rate(1, per=0),
    ],
)
def test_wrong_declarations_are_refused(wrong: Any) -> None:
    with pytest.raises(DefinitionError):
        wrong()
