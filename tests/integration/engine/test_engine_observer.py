"""What an observer is told: what is new, what is committed, and nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node import ActivityInfo, RetryPolicy, activity, workflow
from node.engine.durability import Durability
from node.engine.errors import Divergence
from node.engine.events import Kind, Payload
from node.engine.observer import Attempt, Observer, Watched
from tests.integration.engine.harness import (
    Proves,
    application,
    engine,
    go,
    killed_after_each_commit,
    until,
)

SCENARIO = "tests.integration.engine.observer_scenario"
MODES: list[dict[str, Any]] = [
    {},
    {"forced_replay": True},
    {"durability": Durability.EVERY_COMMIT},
]


class Told(Observer):
    """Keeps what it is told as tuples."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []
        self.attempts: list[Attempt] = []
        self.events = 0

    def execution_started(self, execution: Watched) -> None:
        self.all.append(("started", execution.id))

    def execution_continued(self, execution: Watched) -> None:
        self.all.append(("continued", execution.id))

    def execution_closed(self, execution: Watched, kind: Kind, payload: Payload, at: int) -> None:
        assert at >= execution.started_at > 0
        self.all.append(("closed", execution.id, kind.name, payload))

    def execution_stopped(self, execution: Watched, error: Exception) -> None:
        self.all.append(("stopped", execution.id, type(error)))

    def attempt_began(self, execution: Watched, info: ActivityInfo) -> None:
        self.all.append(("began", execution.id, info.step, info.attempt))

    def attempt_ended(self, attempt: Attempt) -> None:
        assert attempt.ended_at >= attempt.began_at > 0
        self.attempts.append(attempt)
        self.all.append(("ended", attempt.info.step, attempt.info.attempt, attempt.kind.name))

    def committed(self, events: int, seconds: float) -> None:
        assert seconds >= 0
        self.events += events


@pytest.mark.parametrize("mode", MODES)
def test_it_is_told_what_happens_and_nothing_again(tmp_path: Path, mode: dict[str, Any]) -> None:
    attempts = 0

    @activity(retry=RetryPolicy(initial=0.001))
    async def shaky() -> int:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ValueError("not yet")
        return attempts

    @activity(transactional=True)
    def write() -> None:
        activity.transaction().execute("CREATE TABLE IF NOT EXISTS mine(x)")

    @workflow
    async def work(again: bool) -> int:
        found = await shaky()
        await write()
        if again:
            workflow.continue_as_new(False)
        await workflow.receive("go")
        return found

    app = application(shaky, write, work)

    async def test() -> None:
        first = Told()
        async with engine(tmp_path, app, barrier=Proves(), observer=first, **mode) as it:
            await it.start("work", {"again": True}, id="a")
            await until(lambda: len(first.attempts) == 5)
        assert first.all == [
            ("started", "a"),
            ("began", "a", "shaky", 1),
            ("ended", "shaky", 1, "STEP_RETRY"),
            ("began", "a", "shaky", 2),
            ("ended", "shaky", 2, "STEP_COMPLETED"),
            ("began", "a", "write", 1),
            ("ended", "write", 1, "STEP_COMPLETED"),
            ("continued", "a"),
            ("began", "a", "shaky", 1),
            ("ended", "shaky", 1, "STEP_COMPLETED"),
            ("began", "a", "write", 1),
            ("ended", "write", 1, "STEP_COMPLETED"),
        ]
        assert first.attempts[0].retry_at >= first.attempts[0].ended_at
        occurrences = [one.info.occurrence for one in first.attempts]
        assert occurrences == [1, 1, 1, 2, 2]
        second = Told()
        async with engine(tmp_path, app, barrier=Proves(), observer=second, **mode) as it:
            await it.signal("a", "go")
            await it.result("a", wait=10)
            assert first.events + second.events == it.sequence
        assert second.all == [("closed", "a", "COMPLETED", "3")]

    go(test())


def test_an_attempt_that_nobody_waits_for_is_told_as_cancelled(tmp_path: Path) -> None:
    @activity
    async def endless() -> None:
        await asyncio.Event().wait()

    @workflow
    async def work() -> None:
        try:
            async with asyncio.timeout(0.01):
                await endless()
        except TimeoutError:
            await workflow.receive("go")
            await endless()

    async def test() -> None:
        told = Told()
        async with engine(tmp_path, application(endless, work), observer=told) as it:
            await it.start("work", {}, id="a")
            await until(lambda: bool(told.attempts))
            await it.signal("a", "go")
            await until(lambda: told.all[-1][0] == "began")
        # The second one was taken down by the engine: it has begun, and will begin again.
        assert [word for word, *_ in told.all] == ["started", "began", "ended", "began"]
        assert told.attempts[0].kind is Kind.STEP_CANCELLED

    go(test())


def test_an_execution_that_diverges_is_told(tmp_path: Path) -> None:
    @activity
    async def one() -> None: ...

    @activity
    async def other() -> None: ...

    def app(before: bool) -> Any:
        @workflow
        async def work() -> None:
            await (one() if before else other())
            await workflow.receive("go")

        return application(one, other, work)

    async def test() -> None:
        told = Told()
        async with engine(tmp_path, app(True), observer=told) as it:
            await it.start("work", {}, id="a")
            await until(lambda: bool(told.attempts))
        told = Told()
        async with engine(tmp_path, app(False), observer=told):
            assert told.all == [("stopped", "a", Divergence)]

    go(test())


def test_an_observer_that_fails_disturbs_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Observer):
        def execution_started(self, execution: Watched) -> None:
            raise RuntimeError("too bad")

        def attempt_ended(self, attempt: Attempt) -> None:
            raise RuntimeError("too bad")

    @activity
    async def one() -> int:
        return 1

    @workflow
    async def work() -> int:
        return await one()

    async def test() -> None:
        async with engine(tmp_path, application(one, work), observer=Broken()) as it:
            await it.start("work", {}, id="a")
            assert (await it.result("a", wait=10)).result == 1

    go(test())
    assert caplog.text.count("an observer failed") == 2


@pytest.mark.parametrize("mode", ["cached", "every_commit"])
def test_nothing_is_told_twice_however_often_it_is_killed(tmp_path: Path, mode: str) -> None:
    assert killed_after_each_commit(tmp_path, SCENARIO, mode, commits=2) > 3
    told = (tmp_path / "ledger").read_text().splitlines()
    assert len(told) > 5
    assert sorted(set(told)) == sorted(told)
