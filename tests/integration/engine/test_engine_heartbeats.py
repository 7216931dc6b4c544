"""Heartbeats, their progress and timeout, and activities that crash the process."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from node import ActivityFailed, RetryPolicy, activity, workflow
from node.engine.events import Kind
from node.engine.inspection import inspect_log
from tests.integration.engine import crash_scenario
from tests.integration.engine.harness import (
    application,
    engine,
    go,
    live_once,
    outcomes,
    until,
)

FAST = RetryPolicy(max_attempts=3, initial=0.001, jitter=0)


@pytest.mark.parametrize("forced", [False, True])
def test_progress_survives_a_failed_attempt_and_a_restart(tmp_path: Path, forced: bool) -> None:
    seen: list[object] = []
    stay = True

    @activity(retry=RetryPolicy(max_attempts=None, initial=0.001))
    async def counts() -> int:
        done = activity.progress() or {"n": 0}
        seen.append(done["n"])
        activity.heartbeat({"n": done["n"] + 1})
        await asyncio.sleep(0)
        if done["n"] == 0:
            raise ConnectionError("again")
        if stay:
            await asyncio.Event().wait()
        return int(done["n"])

    @workflow
    async def work() -> int:
        return await counts()

    app = application(counts, work)

    async def first() -> None:
        async with engine(tmp_path, app, forced_replay=forced) as it:
            await it.start("work", {}, id="a")
            await until(lambda: [event.kind for event in it.events("a")].count(Kind.HEARTBEAT) == 2)

    async def second() -> None:
        nonlocal stay
        stay = False
        async with engine(tmp_path, app, forced_replay=forced) as it:
            assert (await it.result("a", wait=10)).result == 2

    go(first())
    go(second())
    assert seen == [0, 1, 2]
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("plain", [False, True])
def test_an_attempt_without_heartbeats_is_given_up(tmp_path: Path, plain: bool) -> None:
    release = threading.Event()

    @activity(retry=FAST, heartbeat_timeout=0.05)
    async def silent() -> str:
        if activity.info().attempt == 1:
            await asyncio.Event().wait()
        for _ in range(5):
            await asyncio.sleep(0.02)
            activity.heartbeat()
        return "alive"

    @activity(name="silent", retry=FAST, heartbeat_timeout=0.05)
    def blocked() -> str:
        if activity.info().attempt == 1:
            release.wait(10)
        activity.heartbeat()
        return "alive"

    @workflow
    async def work() -> str:
        return await (blocked() if plain else silent())

    async def test() -> None:
        async with engine(tmp_path, application(blocked if plain else silent, work)) as it:
            await it.start("work", {}, id="a")
            assert (await it.result("a", wait=10)).result == "alive"
            retries = [e for e in it.events("a") if e.kind is Kind.STEP_RETRY]
            assert "TimeoutError" in str(retries[0].payload)
            release.set()

    go(test())


def test_a_plain_activity_learns_that_it_was_cancelled(tmp_path: Path) -> None:
    told: list[str] = []

    @activity
    def works() -> None:
        told.append("running")
        while not activity.cancelled():
            pass
        try:
            activity.heartbeat(1)
        except Exception as error:
            told.append(type(error).__name__)

    @workflow
    async def work() -> None:
        await works()

    async def test() -> None:
        async with engine(tmp_path, application(works, work)) as it:
            await it.start("work", {}, id="a")
            await until(lambda: bool(told))
            await it.control.cancel("a")
            await until(lambda: told == ["running", "ActivityCancelled"])
            assert (await it.result("a", wait=10)).status == "cancelled"
            assert Kind.HEARTBEAT not in [event.kind for event in it.events("a")]

    go(test())


def test_an_activity_that_crashes_the_process_is_not_tried_for_ever(tmp_path: Path) -> None:
    lives = 1
    while live_once(tmp_path, "tests.integration.engine.crash_scenario", 0, "cached") != 0:
        lives += 1
        assert lives < 20
    assert outcomes(tmp_path) == {"a": ["COMPLETED", "Interrupted"]}
    # One life began it, and the limit's number took it up again.
    assert lives == crash_scenario.LIMIT + 2
    inspect_log(tmp_path / "log.db")
    assert (tmp_path / "ledger").read_text().count("crash") == crash_scenario.LIMIT + 1


def test_closing_in_good_order_is_no_interruption(tmp_path: Path) -> None:
    runs: list[int] = []

    @activity(retry=RetryPolicy(max_interruptions=1))
    async def waits() -> None:
        runs.append(1)
        await asyncio.Event().wait()

    @workflow
    async def work() -> str:
        try:
            await waits()
        except ActivityFailed as error:
            return error.type
        return "?"

    async def test() -> None:
        for life in range(5):
            async with engine(tmp_path, application(waits, work)) as it:
                await it.start("work", {}, id="a")
                await until(lambda life=life: len(runs) == life + 1)  # type: ignore[misc]

    go(test())
    assert os.path.exists(tmp_path / "log.db")
