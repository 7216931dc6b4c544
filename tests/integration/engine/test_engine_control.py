"""Cancel, terminate, pause, resume and retry, on a real engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node import RetryPolicy, activity, workflow
from node.engine.durability import Durability
from node.engine.errors import ExecutionClosed, ExecutionConflict, UnknownExecution
from node.engine.events import Kind, Status
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import Proves, application, engine, go, until

MODES = [{}, {"forced_replay": True}, {"durability": Durability.EVERY_COMMIT}]


@activity
async def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("mode", MODES)
def test_cancelling_reaches_activities_and_lets_the_code_clean_up(
    tmp_path: Path, mode: Any
) -> None:
    seen: list[str] = []

    @activity
    async def endless() -> None:
        seen.append("running")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("stopped")

    @workflow
    async def work() -> None:
        try:
            await asyncio.gather(endless(), workflow.sleep(3600))
        finally:
            await double(1)

    async def test() -> None:
        app = application(endless, double, work)
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("work", {}, id="a")
            await until(lambda: seen == ["running"])
            assert await it.control.cancel("a", "not needed")
            assert not await it.control.cancel("a")
            view = await it.result("a", wait=10)
            assert view.status is Status.CANCELLED
            assert view.error == {"type": "Cancelled", "message": "not needed"}
            await until(lambda: seen == ["running", "stopped"])
            kinds = [event.kind for event in it.events("a")]
            assert kinds.count(Kind.CANCEL) == 1
            assert Kind.STEP_CANCELLED in kinds
            # After the end it changes nothing.
            before = it.sequence
            assert not await it.control.cancel("a")
            assert it.sequence == before
            with pytest.raises(UnknownExecution):
                await it.control.cancel("b")

    go(test())
    assert inspect_log(tmp_path / "log.db").executions["cancelled"] == 1


def test_code_may_ignore_a_cancellation_and_complete(tmp_path: Path) -> None:
    @workflow
    async def stubborn() -> str:
        try:
            await workflow.sleep(3600)
        except asyncio.CancelledError:
            return f"done {await double(2)}"
        return "?"

    async def test() -> None:
        async with engine(tmp_path, application(double, stubborn)) as it:
            await it.start("stubborn", {}, id="a")
            await it.control.cancel("a")
        async with engine(tmp_path, application(double, stubborn)) as it:
            assert (await it.result("a", wait=10)).result == "done 4"

    go(test())


@pytest.mark.parametrize("forced", [False, True])
def test_a_paused_execution_starts_nothing_until_it_is_resumed(
    tmp_path: Path, forced: bool
) -> None:
    @activity(transactional=True)
    def keep(number: int) -> int:
        return number

    @workflow
    async def work() -> list[object]:
        @workflow.query
        def alive() -> bool:
            return True

        first = await workflow.receive("go", int)
        found = await asyncio.gather(double(first), keep(3), workflow.sleep(0.001))
        return [first, found[0], found[1]]

    app = application(double, keep, work)

    async def first() -> None:
        async with engine(tmp_path, app, forced_replay=forced) as it:
            await it.start("work", {}, id="a")
            assert await it.control.pause("a")
            assert not await it.control.pause("a")
            assert await it.control.resume("a")
            assert not await it.control.resume("a")
            assert await it.control.pause("a")
            await it.signal("a", "go", 1)
            assert it.execution("a").paused
            assert (await it.query("a", "alive", {})).value is True

    async def second() -> None:
        async with engine(tmp_path, app, forced_replay=forced) as it:
            assert it.execution("a").paused
            # Its timer is long due, and others run meanwhile.
            await it.start("work", {}, id="b")
            await it.signal("b", "go", 5)
            assert (await it.result("b", wait=10)).result == [5, 10, 3]
            done = {Kind.STEP_COMPLETED, Kind.TIMER_FIRED}
            assert not done & {event.kind for event in it.events("a")}
            assert await it.control.resume("a")
            assert (await it.result("a", wait=10)).result == [1, 2, 3]
            with pytest.raises(ExecutionClosed):
                await it.control.pause("a")

    go(first())
    go(second())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_execution_is_tried_again_from_the_step_that_failed(
    tmp_path: Path, mode: Any
) -> None:
    calls: list[str] = []
    works = False

    @activity
    async def first() -> int:
        calls.append("first")
        return 1

    @activity(retry=RetryPolicy(max_attempts=2, initial=0.001))
    async def shaky() -> int:
        calls.append("shaky")
        if not works:
            raise ConnectionError("down")
        return 2

    @activity
    async def clean_up() -> None:
        calls.append("clean up")

    @workflow
    async def work() -> list[object]:
        one = await first()
        try:
            two = await shaky()
        except Exception:
            await clean_up()
            await workflow.receive("word", str)
            raise
        return [one, two, await workflow.receive("word", str)]

    app = application(first, shaky, clean_up, work)

    async def test() -> None:
        nonlocal works
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("work", {}, id="a")
            await until(lambda: "clean up" in calls)
            await it.signal("a", "word", "kept", key="k")
            assert (await it.result("a", wait=10)).status is Status.FAILED
            works = True
            calls.clear()
            await it.control.retry("a")
            assert it.counts["failed"] == 0
            view = await it.result("a", wait=10)
            assert view.result == [1, 2, "kept"]
            assert calls == ["shaky"]
            with pytest.raises(ExecutionConflict, match="completed"):
                await it.control.retry("a")
            assert not (await it.signal("a", "word", "kept", key="k")).arrived
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            assert it.counts["completed"] == 1

    go(test())
    inspect_log(tmp_path / "log.db")


def test_a_cancelled_and_a_terminated_execution_can_be_tried_again(tmp_path: Path) -> None:
    @workflow
    async def work() -> str:
        return await workflow.receive("word", str)

    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            for id, end in (("a", it.control.cancel), ("b", it.control.terminate)):
                await it.start("work", {}, id=id)
                await end(id)
                await it.result(id, wait=10)
                for _ in range(2):
                    await it.control.retry(id)
                    await it.control.terminate(id)
                await it.control.retry(id)
                with pytest.raises(ExecutionConflict, match="open"):
                    await it.control.retry(id)
        async with engine(tmp_path, application(work)) as it:
            for id in "ab":
                await it.signal(id, "word", id)
                assert (await it.result(id, wait=10)).result == id

    go(test())
    assert inspect_log(tmp_path / "log.db").executions["completed"] == 2


def test_a_diverged_execution_can_be_terminated(tmp_path: Path) -> None:
    @workflow
    async def reads() -> str:
        try:
            return Path(__file__).read_text()
        except Exception:
            return "swallowed"

    async def test() -> None:
        async with engine(tmp_path, application(reads)) as it:
            await it.start("reads", {}, id="a")
            # The code caught the refusal, and is stopped all the same.
            assert (await it.result("a", wait=10)).status is Status.DIVERGED
            assert await it.control.terminate("a")
            assert it.execution("a").status is Status.TERMINATED

    go(test())


@pytest.mark.parametrize("mode", MODES)
def test_cancelling_beside_a_transactional_activity(tmp_path: Path, mode: Any) -> None:
    @activity(transactional=True)
    def keep(number: int) -> int:
        return number

    @workflow
    async def leaves_one_behind() -> None:
        await double(1)
        tasks = [asyncio.create_task(keep(1))]
        await workflow.receive("go")
        tasks[0].cancel()
        tasks.append(asyncio.create_task(keep(2)))

    async def test() -> None:
        app = application(double, keep, leaves_one_behind)
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            for number in range(20):
                id = f"e{number}"
                await it.start("leaves_one_behind", {}, id=id)
                await asyncio.gather(it.signal(id, "go"), it.control.cancel(id))
                view = await it.result(id, wait=10)
                assert view.status in (Status.COMPLETED, Status.CANCELLED)

    go(test())
    inspect_log(tmp_path / "log.db")
