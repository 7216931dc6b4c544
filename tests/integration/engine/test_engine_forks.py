"""Forks, on a real engine: from a step, from a failure, and with the results that are the same."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from node import Queue, RetryPolicy, activity, workflow
from node.engine.archive import replay_archive
from node.engine.durability import Durability
from node.engine.engine import Engine
from node.engine.errors import ExecutionConflict, ForkRefused, PayloadError, UnknownExecution
from node.engine.events import Kind, Status
from node.engine.forked import ForkMode
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import Proves, application, engine, go, until

MODES: list[dict[str, Any]] = [
    {},
    {"forced_replay": True},
    {"durability": Durability.EVERY_COMMIT},
]
ran: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()
    broken.clear()


@activity(retry=RetryPolicy(max_attempts=1))
async def step(name: str, given: str = "") -> str:
    ran.append(name)
    if name in broken:
        raise ConnectionError(f"{name} is broken")
    return f"{name}({given})"


@activity(transactional=True)
def book(name: str) -> str:
    ran.append(name)
    return f"booked {name}"


@workflow
async def chain(start: str) -> list[str]:
    found = [await step("a", start)]
    found.append(await step("b", str(workflow.uuid4())))
    await workflow.sleep(0.001)
    found.append(await step("c", workflow.info().id))
    found.append(await book("d"))
    found.append(str(workflow.uuid4()))
    return found


APP = application(step, book, chain)


def waits_for(it: Engine, id: str, name: str) -> bool:
    return [one.name for one in it.waiting(id)] == [name]


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_goes_on_from_a_step_and_leaves_the_other_as_it_was(
    tmp_path: Path, mode: Any
) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP, barrier=Proves(), **mode) as it:
            await it.start("chain", {"start": "s"}, id="one")
            was = (await it.result("one", wait=10)).result
            before = it.events("one")
            ran.clear()
            made = await it.fork("one", at="step#3", new_id="two")
            assert made.created
            view = await it.result("two", wait=10)
            assert ran == ["c", "d"]
            # What stands is what it was, and what comes after it is its own.
            assert view.result[:4] == was[:4]
            assert view.result[4] != was[4]
            assert view.forked_from == {"id": "one", "mode": "exact", "sequence": 8}
            assert it.events("one") == before
            assert not (await it.fork("one", at="step#3", new_id="two")).created
            with pytest.raises(ExecutionConflict):
                await it.fork("one", mode=ForkMode.REUSE, new_id="two")
            # A fork of the fork, before and after where that was forked.
            for at, steps in (("step#2", ["b", "c", "d"]), ("book", ["d"])):
                ran.clear()
                again = await it.fork("two", at=at)
                found = (await it.result(again.view.id, wait=10)).result
                assert ran == steps
                assert found[0] == was[0]
                assert found[2] == was[2] if at == "book" else found[2] != was[2]
                assert found[4] not in (was[4], view.result[4])
                assert replay_archive(it.export(again.view.id), APP).ok
            assert replay_archive(it.export("two"), APP).ok
        async with engine(tmp_path, APP, barrier=Proves(), **mode) as it:
            assert it.execution("two").forked_from["id"] == "one"  # type: ignore[index]
            assert it.counts["completed"] == 4

    go(test())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_of_one_that_failed_goes_on_from_the_failure(tmp_path: Path, mode: Any) -> None:
    async def test() -> None:
        broken.add("c")
        async with engine(tmp_path, APP, barrier=Proves(), **mode) as it:
            await it.start("chain", {"start": "s"}, id="one")
            assert (await it.result("one", wait=10)).status is Status.FAILED
            broken.clear()
            ran.clear()
            made = await it.fork("one", new_id="two")
            assert (await it.result("two", wait=10)).status is Status.COMPLETED
            assert ran == ["c", "d"]
            assert it.execution("one").status is Status.FAILED
            assert it.execution("one").forked_from is None
            assert made.view.forked_from is not None
            # The one that failed can be tried again all the same, and so can a fork.
            await it.control.retry("one")
            assert (await it.result("one", wait=10)).status is Status.COMPLETED
            broken.add("d")
            broken.add("c")
            await it.fork("two", at="step#3", new_id="three")
            assert (await it.result("three", wait=10)).status is Status.FAILED
            broken.clear()
            ran.clear()
            await it.control.retry("three")
            assert (await it.result("three", wait=10)).status is Status.COMPLETED
            assert ran == ["c", "d"]
            assert replay_archive(it.export("three"), APP).ok
            # A completed one does not say where to go on.
            with pytest.raises(ForkRefused, match="completed") as refused:
                await it.fork("two")
            assert "step#3" in refused.value.hint
            for at in ("nothing", "step#9", 9999):
                with pytest.raises(ForkRefused, match=r"no step|not among"):
                    await it.fork("two", at=at)
            with pytest.raises(UnknownExecution):
                await it.fork("nobody")
            with pytest.raises(ForkRefused, match="own input"):
                await it.fork("two", at="step", input={"start": "x"})
            with pytest.raises(PayloadError):
                await it.fork("two", mode=ForkMode.REUSE, input={"begin": "x"})
            with pytest.raises(PayloadError):
                await it.fork("two", at="step", new_id="a/b")

    go(test())
    inspect_log(tmp_path / "log.db")


def test_what_came_after_the_step_is_sent_again_or_not(tmp_path: Path) -> None:
    @workflow
    async def talks() -> list[object]:
        found: list[object] = []

        @workflow.update
        def add(what: str) -> int:
            found.append(what)
            return len(found)

        found.append(await workflow.receive("early"))
        found.append(await step("a"))
        found.append(await workflow.receive("late", timeout=3600))
        found.append(await step("b"))
        return found

    app = application(step, talks)

    async def test() -> None:
        async with engine(tmp_path, app) as it:
            await it.start("talks", {}, id="one")
            await it.signal("one", "early", 1, key="e")
            await until(lambda: ran == ["a"])
            assert (await it.update("one", "add", {"what": "x"}, key="u")).value == 3
            await it.signal("one", "late", 2, key="l")
            assert (await it.result("one", wait=10)).result == [1, "a()", "x", 2, "b()"]
            ran.clear()
            await it.fork("one", at="step#1", new_id="again")
            # It is sent again at once, and the step takes its time now.
            assert (await it.result("again", wait=10)).result == [1, "x", "a()", 2, "b()"]
            assert ran == ["a", "b"]
            assert not (await it.signal("again", "late", 2, key="l")).arrived
            await it.fork("one", at="step#1", new_id="alone", messages=False)
            await until(lambda: ran == ["a", "b", "a"])
            assert not (await it.signal("alone", "early", 2, key="e")).arrived
            assert (await it.signal("alone", "late", 3, key="l")).arrived
            assert (await it.result("alone", wait=10)).result == [1, "a()", 3, "b()"]
            ran.clear()
            await it.fork("one", mode=ForkMode.REUSE, new_id="reused")
            assert (await it.result("reused", wait=10)).result == [1, "a()", 2, "b()"]
            assert ran == []
            for id in ("again", "alone", "reused"):
                assert replay_archive(it.export(id), app).ok
            at_signal = next(e.sequence for e in it.events("one") if e.kind is Kind.SIGNAL)
            await it.fork("one", at=at_signal, messages=False, new_id="before")
            assert it.waiting("before")[0].kind == "signal"

    go(test())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_of_an_open_one_waits_for_itself(tmp_path: Path, mode: Any) -> None:
    """Its children, its tokens and its turn are its own."""
    handed: list[str] = []

    @activity
    async def hand_on(token: str) -> None:
        handed.append(token)

    @workflow
    async def leaf() -> str:
        return await workflow.receive("word", str)

    @workflow
    async def open_ended() -> list[object]:
        first = await step("a")
        child = leaf.child()
        approval = workflow.external("approval", str)
        await hand_on(approval.token)
        return [first, await approval, await child, child.id]

    app = application(step, hand_on, leaf, open_ended)

    async def test() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("open_ended", {}, id="one")
            await until(lambda: len(handed) == 1)
            await it.fork("one", new_id="early", at="hand_on")
            await until(lambda: len(handed) == 2)
            # The call that is run again was made with what the other one gave.
            assert handed[0] == handed[1]
            made = await it.fork("one", new_id="two", paused=True)
            assert made.view.paused
            token = made.tokens["approval#1"]
            assert token not in handed
            assert (await it.fork("one", new_id="two", paused=True)).tokens == made.tokens
            assert await it.complete(handed[0], "yes of one")
            await it.signal("one.leaf.1", "word", "of one")
            assert (await it.result("one", wait=10)).result == [
                "a()", "yes of one", "of one", "one.leaf.1",
            ]  # fmt: skip
            assert {wait.kind for wait in it.waiting("two")} == {"pause", "child", "external"}
            await it.control.resume("two")
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            assert await it.complete(token, "yes of two")
            await it.signal("two.leaf.1", "word", "of two")
            assert (await it.result("two", wait=10)).result == [
                "a()", "yes of two", "of two", "two.leaf.1",
            ]  # fmt: skip
            # What it had is kept where the other one has ended meanwhile.
            third = await it.fork("one", new_id="three", at="hand_on")
            assert third.tokens == {}
            assert (await it.result("three", wait=10)).result == [
                "a()", "yes of one", "of one", "one.leaf.1",
            ]  # fmt: skip
            with pytest.raises(UnknownExecution):
                it.execution("three.leaf.1")
            assert ran == ["a"]
            await it.control.cancel("early")
            assert (await it.result("early", wait=10)).status is Status.CANCELLED
            assert (await it.result("early.leaf.1", wait=10)).status is Status.CANCELLED
            for id in ("two", "three", "early"):
                assert replay_archive(it.export(id), app).ok
            # From before it was cancelled.
            await it.fork("early", new_id="four")
            assert {wait.kind for wait in it.waiting("four")} == {"child", "external"}

    go(test())
    inspect_log(tmp_path / "log.db")


def test_where_what_stands_depends_on_a_child_that_is_another_the_fork_is_refused(
    tmp_path: Path,
) -> None:
    @workflow
    async def leaf() -> str:
        return await workflow.receive("word", str)

    @workflow
    async def tells() -> str:
        child = leaf.child()
        await step("told of", child.id)
        await step("next")
        return await child

    app = application(step, leaf, tells)

    async def test() -> None:
        async with engine(tmp_path, app) as it:
            await it.start("tells", {}, id="one")
            await until(lambda: ran == ["told of", "next"])
            before = len(it.executions())
            with pytest.raises(ForkRefused, match="does not follow") as refused:
                await it.fork("one", at="step#2")
            assert "earlier step" in refused.value.hint
            assert len(it.executions()) == before
            await it.fork("one", at=it.events("one")[0].sequence, new_id="two")
            await it.signal("two.leaf.1", "word", "w")
            assert it.events("two")[3].kind is Kind.CHILD

    go(test())


def test_a_deadline_that_is_over_leaves_a_fork_the_time_that_was_left(tmp_path: Path) -> None:
    now = 1_800_000_000.0

    @workflow
    async def timed() -> str:
        try:
            async with asyncio.timeout(60):
                await workflow.sleep(20)
                return await step("a")
        except TimeoutError:
            return "too late"

    app = application(step, timed)

    async def test() -> None:
        nonlocal now
        async with engine(tmp_path, app, clock=lambda: now) as it:
            await it.start("timed", {}, id="one")
            now += 25
            await it.fork("one", new_id="copy", paused=True)
            it.look_at_clock()
            assert (await it.result("one", wait=10)).result == "a()"
            now += 3600
            await it.fork("one", at="step", new_id="two", paused=True)
            waits = {one.name: one.until for one in it.waiting("two") if one.kind == "timer"}
            assert list(waits.values()) == [now + 60 - 25]
            # Where nothing is cut off, time goes on.
            stands = {one.until for one in it.waiting("copy") if one.kind == "timer"}
            assert stands == {1_800_000_000 + 20, 1_800_000_000 + 60}
            await it.control.resume("two")
            assert (await it.result("two", wait=10)).result == "a()"
            it.look_at_clock()
            await it.control.resume("copy")
            assert (await it.result("copy", wait=10)).result == "too late"

    go(test())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_one_that_continued_as_new_is_forked_from_where_it_went_on(
    tmp_path: Path, mode: Any
) -> None:
    @workflow
    async def rounds(left: int) -> list[object]:
        found: list[object] = [await step(f"s{left}"), str(workflow.uuid4())]
        found.append(await workflow.receive("go", int))
        if left:
            workflow.continue_as_new(left - 1)
        found.append(await step(f"e{left}"))
        return found

    app = application(step, rounds)

    async def test() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("rounds", {"left": 1}, id="one")
            await it.signal("one", "go", 1, key="a")
            await it.signal("one", "go", 2, key="b")
            was = (await it.result("one", wait=10)).result
            assert ran == ["s1", "s0", "e0"]
            ran.clear()
            # Its steps go on being counted.
            await it.fork("one", at="step#3", new_id="two")
            assert (await it.result("two", wait=10)).result == was
            assert ran == ["e0"]
            with pytest.raises(ForkRefused, match="no step"):
                await it.fork("one", at="step#1")
            await it.fork("one", at="step", new_id="three", paused=True)
            assert it.execution("three").input == {"left": 0}
            await it.control.resume("three")
            found = (await it.result("three", wait=10)).result
            assert found[0::2] == was[0::2][:2]
            assert found[1] != was[1]
            # And a fork goes on as new itself.
            await it.fork("one", mode=ForkMode.REUSE, input={"left": 1}, new_id="four")
            await it.signal("four", "go", 3)
            await it.signal("four", "go", 4)
            assert (await it.result("four", wait=10)).status is Status.COMPLETED
            for id in ("two", "three", "four"):
                assert replay_archive(it.export(id), app).ok
            assert it.execution("four").forked_from["mode"] == "reuse"  # type: ignore[index]

    go(test())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_reuse_runs_only_the_steps_that_changed(tmp_path: Path, mode: Any) -> None:
    """Another version, other arguments, a new step: each says why."""

    def build(version: int | None, extra: bool) -> Any:
        @activity(version=version)
        async def extract(text: str) -> int:
            ran.append(f"extract {text}")
            return len(text)

        @activity(transactional=True, version="x")
        def keep(number: int) -> int:
            ran.append(f"keep {number}")
            return number

        @activity
        async def summary(total: int) -> str:
            ran.append(f"summary {total}")
            return f"{total} in all"

        @activity
        async def added() -> None:
            ran.append("added")

        @workflow
        async def pages(texts: list[str], wait: float = 0.001) -> str:
            found = await asyncio.gather(*(extract(text) for text in texts))
            await workflow.sleep(wait)
            kept = [await keep(number) for number in found]
            if extra:
                await added()
            return await summary(sum(kept))

        return application(extract, keep, summary, added, pages)

    async def test() -> None:
        given = {"texts": ["a", "bb", "a", "ccc"]}
        async with engine(tmp_path, build(1, False), barrier=Proves(), **mode) as it:
            await it.start("pages", given, id="one")
            assert (await it.result("one", wait=10)).result == "7 in all"
            ran.clear()
            # The order does not matter, and each result is taken once.
            other = {"texts": ["ccc", "a", "dd", "a", "a"]}
            plan = it.preview_fork("one", mode=ForkMode.REUSE, input=other)
            why = [(one.name, one.occurrence, one.action, one.why) for one in plan.steps[:5]]
            assert why == [
                ("extract", 1, "reused", "the same version and arguments"),
                ("extract", 2, "reused", "the same version and arguments"),
                ("extract", 3, "runs", "its arguments changed"),
                ("extract", 4, "reused", "the same version and arguments"),
                ("extract", 5, "runs", "it is called more often than before"),
            ]
            assert all(one.certain for one in plan.steps[:5])
            await it.fork("one", mode=ForkMode.REUSE, input=other, new_id="two")
            assert (await it.result("two", wait=10)).result == "8 in all"
            assert ran == ["extract dd", "extract a", "keep 1", "summary 8"]
            reused = [e for e in it.events("two") if e.kind is Kind.STEP_REUSED]
            assert len(reused) == 3 + 4
            assert replay_archive(it.export("two"), build(1, False)).ok
        async with engine(tmp_path, build(2, True), barrier=Proves(), **mode) as it:
            plan = it.preview_fork("two", mode=ForkMode.REUSE)
            runs = {one.name: one for one in plan.steps if one.action == "runs"}
            assert runs["extract"].why == "its version changed (1 → 2)"
            assert (runs["added"].why, runs["added"].certain) == ("a new step", False)
            assert plan.ends == "the rest depends on added#1"
            ran.clear()
            await it.fork("two", mode=ForkMode.REUSE, new_id="three")
            assert (await it.result("three", wait=10)).result == "8 in all"
            assert sorted(ran) == sorted(
                ["extract ccc", "extract a", "extract dd", "extract a", "extract a", "added"]
            )
            ran.clear()
            # Of a fork of a fork, from a step on.
            await it.fork("three", mode=ForkMode.REUSE, at="keep#2", new_id="four")
            assert (await it.result("four", wait=10)).result == "8 in all"
            assert ran == ["keep 1", "keep 2", "keep 1", "keep 1", "added", "summary 8"]
        async with engine(tmp_path, build(None, False), barrier=Proves(), **mode) as it:
            # What is not declared is not what was.
            plan = it.preview_fork("four", mode=ForkMode.REUSE)
            assert plan.steps[0].why == "its version changed (2 → none)"
            assert replay_archive(it.export("four"), build(None, True)).ok

    go(test())
    inspect_log(tmp_path / "log.db")


def test_a_version_costs_nothing_where_none_is_declared(tmp_path: Path) -> None:
    @activity(version=3)
    async def declared() -> None:
        pass

    @workflow
    async def both() -> None:
        await step("a")
        await declared()

    async def test() -> None:
        async with engine(tmp_path, application(step, declared, both)) as it:
            await it.start("both", {}, id="one")
            await it.result("one", wait=10)
            kinds = [(e.kind, e.name, e.payload) for e in it.events("one")]
            versions = [entry for entry in kinds if entry[0] is Kind.STEP_VERSION]
            assert versions == [(Kind.STEP_VERSION, "declared", "3")]
            assert len(kinds) == 7

    go(test())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", [ForkMode.EXACT, ForkMode.REUSE])
def test_a_fork_waits_for_its_turn_in_the_queue(tmp_path: Path, how: ForkMode, mode: Any) -> None:
    line = Queue("line", concurrency=1)

    @workflow(queue=line)
    async def queued(name: str) -> list[object]:
        early = await workflow.receive("early", str)
        return [early, await step(name), await workflow.receive("end", str)]

    app = application(step, queued, line)

    async def test() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("queued", {"name": "x"}, id="before", dedup="d")
            await it.start("queued", {"name": "a"}, id="one", dedup="e")
            await it.signal("one", "early", "there", key="k")
            await it.fork("one", mode=how, new_id="unbegun", paused=True)
            for id in ("before", "one"):
                if id == "before":
                    await it.signal(id, "early", "e")
                await until(partial(waits_for, it, id, "end"))
                await it.signal(id, "end", "e")
                await it.result(id, wait=10)
            assert (await it.result("one", wait=10)).result == ["there", "a()", "e"]
            await it.start("queued", {"name": "y"}, id="other")
            await it.fork("one", mode=how, at="step", new_id="two", messages=False)
            assert it.execution("two").status is Status.QUEUED
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            assert it.execution("two").status is Status.QUEUED
            assert it.execution("unbegun").paused
            ran.clear()
            for name in ("early", "end"):
                await it.signal("other", name, "e")
            await it.result("other", wait=10)
            if how is ForkMode.REUSE:
                await it.signal("two", "early", "there")
            else:
                assert not (await it.signal("two", "early", "there", key="k")).arrived
            await it.signal("two", "end", "f")
            assert (await it.result("two", wait=10)).result == ["there", "a()", "f"]
            assert ran == ["y", "a"]
            await it.control.resume("unbegun")
            await it.signal("unbegun", "end", "g")
            assert (await it.result("unbegun", wait=10)).result == ["there", "a()", "g"]
            # And at once where nobody is before it.
            begin = it.events("one")[0].sequence
            for id, where in (("free", "step"), ("first", begin)):
                await it.fork("one", mode=how, at=where, new_id=id)
                assert (await it.result(id, wait=10)).result == ["there", "a()", "e"]
            for id in ("two", "unbegun", "free", "first"):
                assert replay_archive(it.export(id), app).ok

    go(test())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_streams_patches_and_random_numbers_of_what_stands(tmp_path: Path, mode: Any) -> None:
    @activity
    async def says(word: str) -> None:
        ran.append(word)
        await activity.stream("out").publish(word)

    def build(new: bool) -> Any:
        @workflow
        async def work() -> list[object]:
            out = workflow.stream("out")
            random = workflow.random()
            first = random.random()
            out.publish(first)
            await says("a")
            path = "new" if new and workflow.patched("better") else "old"
            out.publish(path)
            await says("b")
            if new and workflow.patched("later"):
                path += " later"
            await says("c")
            out.close()
            return [first, path, random.random()]

        return application(says, work)

    async def test() -> None:
        async with engine(tmp_path, build(False), barrier=Proves(), **mode) as it:
            await it.start("work", {}, id="one")
            was = (await it.result("one", wait=10)).result
        async with engine(tmp_path, build(True), barrier=Proves(), **mode) as it:
            ran.clear()
            await it.fork("one", at="says#2", new_id="two")
            found = (await it.result("two", wait=10)).result
            assert found[0] == was[0]
            assert found[1] == "old later"
            # Also of a generator that the code had before.
            assert found[2] != was[2]
            assert ran == ["b", "c"]
            with it.follow("two", "out") as reader:
                page = await reader.read(100, 5)
            assert [one.value for one in page.items] == [was[0], "a", "old", "b", "c"]
            assert page.ended
            twin = await it.fork("two", at="says#3")
            again = (await it.result(twin.view.id, wait=10)).result
            assert again[:2] == found[:2]
            assert again[2] not in (found[2], was[2])
            await it.fork("one", mode=ForkMode.REUSE, new_id="three")
            assert (await it.result("three", wait=10)).result[1] == "new later"
            for id in ("one", "two", twin.view.id, "three"):
                assert replay_archive(it.export(id), build(True)).ok

    go(test())
    inspect_log(tmp_path / "log.db")


def test_forks_and_starts_of_one_id_do_not_meet(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("chain", {"start": "s"}, id="one")
            await it.result("one", wait=10)

            twins = await asyncio.gather(
                *(it.fork("one", at="step#2", new_id="two") for _ in range(3))
            )
            assert [one.created for one in twins] == [True, False, False]
            await it.result("two", wait=10)
            made = await asyncio.gather(
                it.fork("one", at="step#2", new_id="three"),
                it.start("chain", {"start": "s"}, id="three"),
                it.signal("three", "word", 1),
                it.control.pause("three"),
            )
            assert not made[1].created
            assert it.execution("three").paused
            await it.control.resume("three")
            both = await asyncio.gather(
                it.start("chain", {"start": "other"}, id="four"),
                it.fork("one", at="step#2", new_id="four"),
                return_exceptions=True,
            )
            assert isinstance(both[1], ExecutionConflict)
            for id in ("three", "four"):
                await it.result(id, wait=10)
            cancelled = asyncio.create_task(it.fork("one", at="book", new_id="five"))
            await asyncio.sleep(0)
            await it.control.terminate("five")
            await cancelled
            for id in ("two", "three", "four", "five"):
                await it.result(id, wait=10)
        async with engine(tmp_path, APP) as it:
            assert it.counts["running"] == 0
            assert sum(it.counts.values()) == 5

    go(test())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_what_a_fork_has_not_come_to_goes_on_to_its_own_fork(tmp_path: Path, mode: Any) -> None:
    @workflow
    async def both() -> list[str]:
        found = await asyncio.gather(step("slow"), step("a"), step("b"))
        return [*found, await step("c")]

    app = application(step, both)

    async def test() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("both", {}, id="one")
            was = (await it.result("one", wait=10)).result
            ran.clear()
            # The outcome that comes first in the log is not there, the others are kept.
            done = [e for e in it.events("one") if e.kind is Kind.STEP_COMPLETED]
            first = f"{done[0].name}#{done[0].occurrence}"
            await it.fork("one", at=first, new_id="two", paused=True)
            await it.fork("two", new_id="three", paused=True)
            await it.fork("one", mode=ForkMode.REUSE, new_id="reused", paused=True)
            await it.fork("reused", new_id="again")
            assert (await it.result("again", wait=10)).result == was
            assert ran == []
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.control.resume("three")
            assert (await it.result("three", wait=10)).result == was
            assert len(ran) == 2
            await it.fork("reused", mode=ForkMode.REUSE, new_id="last")
            assert (await it.result("last", wait=10)).result == was
            assert len(ran) == 2
            # One that was terminated goes on from where it was.
            await it.control.terminate("two")
            await it.fork("two", new_id="four")
            assert (await it.result("four", wait=10)).result == was
            assert len(ran) == 4
            with pytest.raises(ForkRefused, match="no step"):
                await it.fork("one", at="none")

    go(test())
    inspect_log(tmp_path / "log.db")


def test_a_step_that_the_code_gave_up_on_is_run_again_from_before_that(tmp_path: Path) -> None:
    @activity
    async def hangs() -> str:
        ran.append("hangs")
        if "free" not in ran:
            await asyncio.Event().wait()
        return "at last"

    @workflow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(60):
                return await hangs()
        except TimeoutError:
            return await step("instead")

    @workflow
    async def at_once() -> str:
        task = asyncio.ensure_future(hangs())
        await asyncio.sleep(0)
        task.cancel()
        return await step("instead")

    app = application(step, hangs, impatient, at_once)
    now = 1_800_000_000.0

    async def test() -> None:
        nonlocal now
        async with engine(tmp_path, app, clock=lambda: now) as it:
            await it.start("impatient", {}, id="one")
            await until(lambda: ran == ["hangs"])
            now += 61
            it.look_at_clock()
            assert (await it.result("one", wait=10)).result == "instead()"
            ran.append("free")
            await it.fork("one", at="hangs", new_id="two")
            assert (await it.result("two", wait=10)).result == "at last"
            await it.start("at_once", {}, id="three")
            await it.result("three", wait=10)
            with pytest.raises(ForkRefused, match="gave up"):
                await it.fork("three", at="hangs")

    go(test())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("mode", MODES)
def test_children_with_ids_of_their_own_have_one_parent(tmp_path: Path, mode: Any) -> None:
    @workflow
    async def leaf(name: str) -> str:
        return await step(name)

    @workflow
    async def family() -> list[str]:
        done = await leaf.with_id("done").child("a")
        waits = leaf.with_id("waits").child("b")
        ids = [leaf.with_id("loose").detach("c"), waits.id]
        late = leaf.with_id("late").child("d")
        return [done, await waits, await late, *ids, late.id]

    app = application(step, leaf, family)

    async def test() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            broken.add("b")
            await it.start("family", {}, id="one")
            assert (await it.result("one", wait=10)).status is Status.FAILED
            for id in ("loose", "late"):
                await it.result(id, wait=10)
            broken.clear()
            ran.clear()
            await it.fork("one", new_id="two")
            found = (await it.result("two", wait=10)).result
            assert found[0] == "a()"
            assert found[3:5] == ["loose", "waits~two"]
            # As it ended before or after the other one's failure, which nobody knows.
            assert found[5] in ("late", "late~two")
            assert "a" not in ran
            assert "c" not in ran
            ran.clear()
            await it.fork("two", mode=ForkMode.REUSE, new_id="three")
            found = (await it.result("three", wait=10)).result
            assert found[3:] == ["loose~three", "waits~three", "late~three"]
            assert it.execution("done~three").result == "a()"
            await it.result("loose~three", wait=10)
            assert sorted(ran) == ["a", "b", "c", "d"]
            ran.clear()
            await it.fork("three", at="leaf#1", new_id="four")
            found = (await it.result("four", wait=10)).result
            assert found[3:] == ["loose~four", "waits~four", "late~four"]
            for id in ("two", "three", "four"):
                assert replay_archive(it.export(id), app).ok

    go(test())
    inspect_log(tmp_path / "log.db")
