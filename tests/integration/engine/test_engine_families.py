"""Children, continue-as-new and ids used again, on a real engine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from node import ChildFailed, RetryPolicy, activity, workflow
from node.engine.durability import Durability
from node.engine.errors import ExecutionClosed, ExecutionConflict
from node.engine.events import Kind, Reuse, Status
from node.engine.families import Families
from node.engine.inspection import events_of, inspect_log
from tests.integration.engine import families_scenario, retry_scenario
from tests.integration.engine.harness import (
    Proves,
    application,
    engine,
    go,
    until,
)

MODES = [{}, {"forced_replay": True}, {"durability": Durability.EVERY_COMMIT}]


@pytest.mark.parametrize("mode", MODES)
def test_families(tmp_path: Path, mode: Any) -> None:
    async def test() -> None:
        app = families_scenario.APP
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await families_scenario.drive(it)
            assert it.execution("f").result == {
                "found": [0, 2, 4, 7],
                "failed": "failed ActivityFailed",
                "late": True,
                "detached": "f.leaf.4",
            }
            assert it.execution("c").result == 66
            assert it.execution("f.leaf.4").result == 100
            for id in ("slow", "left-behind"):
                view = it.execution(id)
                assert view.status is Status.CANCELLED
                assert Kind.STEP_COMPLETED in [event.kind for event in it.events(id)]
            assert it.counts["running"] == 0

    go(test())
    assert inspect_log(tmp_path / "log.db").executions["cancelled"] == 2


@activity
async def endless() -> None:
    await asyncio.Event().wait()


@workflow
async def child() -> None:
    await endless()


@workflow
async def parent() -> str:
    try:
        await child.with_id("kid").child()
    except ChildFailed as error:
        return error.status
    return "completed"


def test_a_childs_end_from_outside_reaches_its_parent(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(endless, child, parent)) as it:
            await it.start("parent", {}, id="a")
            await it.control.terminate("kid")
            assert (await it.result("a", wait=10)).result == "terminated"

    go(test())


def test_terminating_a_parent_terminates_its_children(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(endless, child, parent)) as it:
            await it.start("parent", {}, id="a")
            assert await it.control.terminate("a", "enough")
            assert not await it.control.terminate("a")
            view = it.execution("a")
            assert (view.status, view.error) == (
                Status.TERMINATED,
                {"type": "Terminated", "message": "enough"},
            )
            assert (await it.result("kid", wait=10)).status is Status.TERMINATED

    go(test())
    assert inspect_log(tmp_path / "log.db").executions["terminated"] == 2


def test_a_child_whose_id_is_taken_fails(tmp_path: Path) -> None:
    @workflow
    async def twice() -> str:
        try:
            await asyncio.gather(child.with_id("kid").child(), child.with_id("kid").child())
        except ChildFailed as error:
            return error.type
        return "?"

    async def test() -> None:
        async with engine(tmp_path, application(endless, child, twice)) as it:
            await it.start("twice", {}, id="a")
            assert (await it.result("a", wait=10)).result == "ExecutionConflict"
            assert (await it.result("kid", wait=10)).status is Status.CANCELLED

    go(test())


@pytest.mark.parametrize("forced", [False, True])
def test_continuing_keeps_what_was_not_received_and_never_repeats_a_key(
    tmp_path: Path, forced: bool
) -> None:
    keys: list[str] = []

    @activity
    async def note() -> None:
        keys.append(activity.info().idempotency_key)

    @workflow
    async def loops(round: int = 0) -> list[object]:
        await note()
        value = await workflow.receive("go", int)
        if round < 2:
            workflow.continue_as_new(round + 1)
        return [round, value, str(workflow.uuid4())]

    app = application(note, loops)

    async def first() -> None:
        async with engine(tmp_path, app, forced_replay=forced) as it:
            await it.start("loops", {}, id="a")
            for number in (1, 2):
                await it.signal("a", "go", number, key=f"k{number}")
            await until(lambda: len(keys) == 3)

    async def second() -> None:
        async with engine(tmp_path, app, forced_replay=forced) as it:
            assert not (await it.signal("a", "go", 9, key="k1")).arrived
            # The same id and the first input are still the same start.
            assert not (await it.start("loops", {}, id="a")).created
            await it.signal("a", "go", 3, key="k3")
            view = await it.result("a", wait=10)
            assert view.result[:2] == [2, 3]
            assert [event.kind for event in it.events("a")].count(Kind.CONTINUED) == 2

    go(first())
    go(second())
    assert len(set(keys)) == 3
    inspect_log(tmp_path / "log.db")


def test_ids_are_used_again_as_asked(tmp_path: Path) -> None:
    keys: list[str] = []

    @activity
    async def note() -> None:
        keys.append(activity.info().idempotency_key)

    @workflow
    async def job(n: int) -> int:
        await note()
        if n < 0:
            raise ValueError("negative")
        if n == 99:
            await workflow.receive("end")
        return n

    async def test() -> None:
        async with engine(tmp_path, application(note, job)) as it:
            await it.start("job", {"n": 1}, id="a")
            await it.result("a", wait=10)
            assert not (await it.start("job", {"n": 1}, id="a")).created
            with pytest.raises(ExecutionConflict):
                await it.start("job", {"n": 1}, id="a", reuse=Reuse.REJECT)
            with pytest.raises(ExecutionConflict):
                await it.start("job", {"n": 2}, id="a", reuse=Reuse.IF_FAILED)
            again = await it.start("job", {"n": -1}, id="a", reuse=Reuse.IF_CLOSED)
            assert again.created
            assert again.view.input == {"n": -1}
            assert (await it.result("a", wait=10)).status is Status.FAILED
            assert it.counts["completed"] == 0
            again = await it.start("job", {"n": 99}, id="a", reuse=Reuse.IF_FAILED)
            assert again.created
            assert not (await it.start("job", {"n": 99}, id="a", reuse=Reuse.IF_FAILED)).created
            with pytest.raises(ExecutionConflict):
                await it.start("job", {"n": 99}, id="a", reuse=Reuse.REJECT)
            again = await it.start("job", {"n": 3}, id="a", reuse=Reuse.TERMINATE)
            assert again.created
            assert (await it.result("a", wait=10)).result == 3
            assert it.counts == {
                "running": 0,
                "completed": 1,
                "failed": 0,
                "cancelled": 0,
                "terminated": 0,
                "queued": 0,
                "diverged": 0,
                "parked": 0,
            }

    go(test())
    assert len(keys) == len(set(keys)) >= 3
    assert inspect_log(tmp_path / "log.db").executions["completed"] == 1


@pytest.mark.parametrize("forced", [False, True])
def test_a_retry_tries_the_children_again_that_failed(tmp_path: Path, forced: bool) -> None:
    works = False
    calls: list[str] = []

    @activity(retry=RetryPolicy(max_attempts=1))
    async def shaky(name: str) -> str:
        calls.append(name)
        if not works:
            raise ConnectionError("down")
        return name

    @workflow
    async def kid(name: str) -> str:
        return await shaky(name)

    @workflow
    async def fine(number: int) -> int:
        return number

    @workflow
    async def mother() -> list[object]:
        one = await fine.child(1)
        try:
            two = await kid.child("two")
        except ChildFailed:
            await fine.child(99)
            raise
        return [one, two, await fine.child(3)]

    app = application(shaky, kid, fine, mother)

    async def first() -> None:
        nonlocal works
        async with engine(tmp_path, app, forced_replay=forced) as it:
            await it.start("mother", {}, id="m")
            assert (await it.result("m", wait=10)).status is Status.FAILED
            works = True
            await it.control.retry("m")
            view = await it.result("m", wait=10)
            assert view.result == [1, "two", 3]
            assert calls == ["two", "two"]
            # The id of what was called after the failure is used again, for another input.
            assert it.execution("m.fine.2").result == 3

    async def second() -> None:
        async with engine(tmp_path, app, forced_replay=forced) as it:
            assert it.counts["running"] == 0

    go(first())
    go(second())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("goes_along", [True, False])
def test_a_retry_that_a_crash_cut_short_goes_on_with_the_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_along: bool
) -> None:
    app = retry_scenario.APP
    repaired = False
    monkeypatch.setattr(retry_scenario, "recorded", lambda: ["repaired"] if repaired else [])

    async def first() -> None:
        nonlocal repaired
        async with engine(tmp_path, app) as it:
            await it.start("tree", {}, id="t")
            assert (await it.result("t", wait=10)).status is Status.FAILED
            repaired = True
            # All that the log gets to hold is that the parent was opened again.
            with monkeypatch.context() as cut:
                cut.setattr(Families, "begun", lambda *_: None)
                await it.control.retry("t")
        opened = [e.execution for e in events_of(tmp_path / "log.db") if e.kind is Kind.REOPENED]
        assert opened == ["t"]

    async def second() -> None:
        async with engine(tmp_path, app) as it:
            with suppress(ExecutionClosed):
                await it.signal("right", "go", "right")
            view = await it.result("t", wait=10)
            assert (view.status is Status.COMPLETED) is goes_along
            if goes_along:
                assert view.result == retry_scenario.WANTED["t"][1]

    go(first())
    if not goes_along:
        # The broken twin: children stay as they were, and their failure is told once more.
        monkeypatch.setattr(Families, "_goes_along", lambda *_: False)
    go(second())
    inspect_log(tmp_path / "log.db")


def test_a_child_that_cannot_be_tried_again_leaves_no_parent_waiting(tmp_path: Path) -> None:
    works = False

    @activity(retry=RetryPolicy(max_attempts=1))
    async def shaky() -> str:
        if not works:
            raise ConnectionError("down")
        return "well"

    @workflow
    async def kid() -> str:
        return await shaky()

    @workflow
    async def mother() -> str:
        return await kid.with_id("kid").child()

    async def first() -> None:
        async with engine(tmp_path, application(shaky, kid, mother)) as it:
            await it.start("mother", {}, id="m")
            assert (await it.result("m", wait=10)).status is Status.FAILED

    async def second() -> None:
        nonlocal works
        works = True
        async with engine(tmp_path, application(shaky, mother)) as it:
            await it.control.retry("m")
            assert (await it.result("m", wait=10)).status is Status.FAILED

    go(first())
    go(second())
    inspect_log(tmp_path / "log.db")


def test_a_child_that_is_tried_again_by_itself_goes_on_without_its_parent(tmp_path: Path) -> None:
    @activity(retry=RetryPolicy(max_attempts=1))
    async def refuses() -> None:
        raise ConnectionError("down")

    @workflow
    async def kid() -> str:
        word = await workflow.receive("word", str)
        if word == "bad":
            await refuses()
        return word

    @workflow
    async def mother() -> None:
        await kid.with_id("kid").child()

    app = application(refuses, kid, mother)

    async def test() -> None:
        async with engine(tmp_path, app) as it:
            await it.start("mother", {}, id="m")
            await it.control.terminate("kid")
            assert (await it.result("m", wait=10)).status is Status.FAILED
            await it.control.retry("kid")
        async with engine(tmp_path, app) as it:
            assert it.execution("kid").status is Status.RUNNING
            await it.signal("kid", "word", "good")
            assert (await it.result("kid", wait=10)).result == "good"

    go(test())
    inspect_log(tmp_path / "log.db")
