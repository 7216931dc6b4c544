"""Why is it waiting: exactly for what, since when, and what will wake it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from node import RetryPolicy, activity, workflow
from node.engine.durability import Durability, Outcome, Proof
from node.engine.engine import Engine
from node.engine.events import Kind, Status
from node.engine.inspection import inspect_log
from node.engine.waiting import DEEPEST, Wait
from tests.integration.engine.harness import application, engine, go, until


class Slow:
    """A barrier that proves nothing before it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()

    async def prove(self, sequence: int) -> Proof:
        await self.may.wait()
        return Proof(Outcome.DURABLE)


def only(it: Engine, id: str) -> Wait:
    (wait,) = it.waiting(id)
    return wait


def test_an_activity_waits_for_its_proof_then_for_its_end(tmp_path: Path) -> None:
    release = threading.Event()

    @activity(durability="before_effects", timeout=3600)
    def held() -> None:
        release.wait(20)

    @workflow
    async def work() -> None:
        await held()

    async def test() -> None:
        slow = Slow()
        async with engine(tmp_path, application(held, work), barrier=slow, threads=1) as it:
            await it.start("work", {}, id="a")
            wait = only(it, "a")
            assert wait.wakes == "the proof that its intent, event 2, is in the bucket"
            assert wait.where is not None
            assert wait.where.startswith(f"{__file__}:")
            assert wait.where.endswith("in " + work.function.__qualname__)
            await it.start("work", {}, id="b")
            slow.may.set()
            await until(lambda: "running_since" in only(it, "a").detail)
            wait = only(it, "a")
            assert wait.until == wait.detail["running_since"] + 3600
            assert wait.detail["max_attempts"] == 5
            assert only(it, "b").wakes.startswith("a free thread")
            release.set()
            await it.result("a", wait=10)
            await it.result("b", wait=10)

    go(test())


def test_without_authority_it_waits_for_that(tmp_path: Path) -> None:
    @activity
    async def one() -> None: ...

    @workflow
    async def work() -> None:
        await one()

    async def test() -> None:
        app = application(one, work)
        async with engine(tmp_path, app, authority=lambda: False) as it:
            await it.start("work", {}, id="a")
            await until(lambda: "authority" in only(it, "a").wakes)

    go(test())


def test_an_outcome_that_is_not_proven_is_waited_for(tmp_path: Path) -> None:
    gate = asyncio.Event()

    @activity
    async def one() -> None:
        await gate.wait()

    @workflow
    async def work() -> None:
        await one()

    async def test() -> None:
        slow = Slow()
        app = application(one, work)
        mode: dict[str, Any] = {"durability": Durability.EVERY_COMMIT}
        async with engine(tmp_path, app, barrier=slow, **mode) as it:
            slow.may.set()
            await it.start("work", {}, id="a")
            await until(lambda: "running_since" in only(it, "a").detail)
            slow.may.clear()
            gate.set()
            await until(lambda: any(e.kind is Kind.STEP_COMPLETED for e in it.events("a")))
            wait = only(it, "a")
            assert (wait.kind, wait.detail) == ("proof", {"of": "step"})
            slow.may.set()
            await it.result("a", wait=10)

    go(test())


def test_what_children_wait_for_is_seen_from_above(tmp_path: Path) -> None:
    @activity(retry=RetryPolicy(initial=3600, jitter=0))
    async def refused() -> None:
        raise ConnectionError("no answer")

    @workflow
    async def deep(levels: int) -> None:
        await (deep.child(levels - 1) if levels else refused())

    async def test() -> None:
        async with engine(tmp_path, application(refused, deep)) as it:
            await it.start("deep", {"levels": 2}, id="d")
            await until(lambda: Kind.STEP_RETRY in {e.kind for e in it.events("d.deep.1.deep.1")})
            wait = only(it, "d")
            for child in ("d.deep.1", "d.deep.1.deep.1"):
                assert wait.kind == "child"
                assert (wait.detail["id"], wait.detail["status"]) == (child, Status.RUNNING)
                (wait,) = wait.detail["waits"]
            assert wait.kind == "activity"
            assert wait.detail["last_error"]["message"] == "no answer"
            assert wait.detail["attempt"] == 2
            assert "running_since" not in wait.detail
            assert wait.until is not None
            await it.start("deep", {"levels": DEEPEST + 2}, id="e")
            await until(lambda: len(it.executions(limit=500)) == DEEPEST + 6)
            wait, seen = only(it, "e"), 0
            while "waits" in wait.detail:
                (wait,), seen = wait.detail["waits"], seen + 1
            assert (seen, wait.kind) == (DEEPEST, "child")

    go(test())


def test_locks_and_queues_of_asyncio_are_told_with_their_line(tmp_path: Path) -> None:
    @workflow
    async def work() -> None:
        lock, queue = asyncio.Lock(), asyncio.Queue[int]()

        async def locked() -> None:
            async with lock:
                await workflow.receive("go")

        async with asyncio.TaskGroup() as group:
            group.create_task(locked())
            group.create_task(locked(), name="second")
            await asyncio.wait_for(queue.get(), 3600)

    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            await it.start("work", {}, id="a")
            found = {(wait.kind, wait.name): wait for wait in it.waiting("a")}
            assert set(found) == {
                ("signal", "go"),
                ("timer", "(timer)"),
                ("asyncio", "Lock.acquire"),
                ("asyncio", "Queue.get"),
            }
            second = found["asyncio", "Lock.acquire"]
            assert second.detail == {"task": "second"}
            assert "locked" in str(second.where)
            stacks = it.stack("a")
            assert stacks[0].task == "a"
            assert stacks[0].places[0].function == work.function.__qualname__
            assert not any("node/engine" in place.file for s in stacks for place in s.places)
            assert it.stack("a") == stacks
            await it.control.terminate("a")
            assert it.stack("a") == []

    go(test())


@pytest.mark.parametrize("mode", [{}, {"forced_replay": True}])
def test_a_pause_says_since_when_and_why(tmp_path: Path, mode: dict[str, Any]) -> None:
    @workflow
    async def work() -> None:
        await workflow.receive("go")
        workflow.continue_as_new()

    async def test() -> None:
        async with engine(tmp_path, application(work), **mode) as it:
            await it.start("work", {}, id="a")
            await it.control.pause("a", "the bank is closed")
            at = next(e.at for e in it.events("a") if e.kind is Kind.PAUSED) / 1000
            await it.signal("a", "go")
        async with engine(tmp_path, application(work), **mode) as it:
            wait = it.waiting("a")[0]
            assert (wait.kind, wait.since) == ("pause", at)
            assert wait.detail == {"reason": "the bank is closed"}
            await it.control.resume("a")
            await it.control.pause("a")
            assert it.waiting("a")[0].detail == {}
        inspect_log(tmp_path / "log.db")

    go(test())


def test_the_list_shows_who_is_stuck(tmp_path: Path) -> None:
    now = 1_800_000_000.0

    @workflow
    async def sleeps() -> None:
        await workflow.sleep(86400)

    @workflow
    async def listens() -> None:
        await workflow.receive("go")
        await workflow.receive("go")

    async def test() -> None:
        nonlocal now
        app = application(sleeps, listens)
        async with engine(tmp_path, app, clock=lambda: now) as it:
            for number in range(3):
                await it.start("listens", {}, id=f"l{number}")
            await it.start("sleeps", {}, id="s")
            now += 7200
            await it.signal("l1", "go")
            found = it.all_waiting(longer_than=3600)
            assert [one.id for one in found] == ["l0", "l2", "s"]
            assert found[0].since == now - 7200
            assert [one.id for one in it.all_waiting(kind="timer")] == ["s"]
            assert [one.id for one in it.all_waiting(workflow="listens", limit=2)] == ["l0", "l1"]
            after = it.all_waiting(limit=2)[-1].rowid
            assert [one.id for one in it.all_waiting(after=after)] == ["l2", "s"]
        async with engine(tmp_path, application(sleeps), clock=lambda: now) as it:
            one = it.all_waiting(kind="code")[0]
            assert (one.status, one.since) == (Status.DIVERGED, now)

    go(test())
