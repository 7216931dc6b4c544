"""What users of other engines expect or complain of, seen from outside. The rest of the list is in
docs/explanation/what-is-proven.md, each with its test."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from node import activity, workflow
from node.engine.application import Application
from node.engine.engine import Engine, EngineConfig
from node.engine.events import Kind, Status
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import application, engine, go, until

MODES = [{}, {"forced_replay": True}]


@activity
async def double(number: int) -> int:
    return 2 * number


@activity
async def in_a_while() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@workflow
async def waits_a_while() -> None:
    await in_a_while()


@pytest.mark.parametrize("mode", MODES)
def test_a_cancellation_after_the_final_step_changes_nothing(
    tmp_path: Path, mode: dict[str, bool]
) -> None:
    """Whether it comes in the turn of the end, or between the end and its commit, or later."""

    async def test() -> None:
        async with engine(tmp_path, application(in_a_while, waits_a_while), **mode) as it:
            for turns in range(12):
                id = f"e{turns}"
                await it.start("waits_a_while", {}, id=id)
                for _ in range(turns):
                    await asyncio.sleep(0)
                asked = await it.control.cancel(id)
                view = await it.result(id, wait=20)
                kinds = [event.kind for event in it.events(id)]
                assert view.status is (Status.CANCELLED if asked else Status.COMPLETED)
                assert (Kind.CANCEL in kinds) is asked
                assert await it.control.cancel(id) is False
            ends = {it.execution(f"e{turns}").status for turns in range(12)}
            assert ends == {Status.CANCELLED, Status.COMPLETED}

    go(test())
    inspect_log(tmp_path / "log.db")


def of_tenant(folder: Path, tenant: str, app: Application) -> Engine:
    path = folder / f"{tenant}.db"
    return Engine(
        EngineConfig(path=path, application=app, tenant=tenant, lineage=tenant, create=True)
    )


def test_two_tenants_in_one_process_share_nothing(tmp_path: Path) -> None:
    keys: list[str] = []

    @activity
    async def slow() -> str:
        keys.append(activity.info().idempotency_key)
        await asyncio.sleep(0.01)
        return workflow_of[activity.info().execution]

    workflow_of = {"same": "ran"}

    @workflow
    async def one() -> list[str]:
        return [await slow(), workflow.info().tenant]

    app = application(slow, one)

    async def test() -> None:
        async with of_tenant(tmp_path, "a", app) as a, of_tenant(tmp_path, "b", app) as b:
            await asyncio.gather(*(it.start("one", {}, id="same") for it in (a, b)))
            assert (await a.result("same", wait=20)).result == ["ran", "a"]
            assert (await b.result("same", wait=20)).result == ["ran", "b"]
            await a.start("one", {}, id="only-here")
            assert [view.id for view in b.executions()] == ["same"]
            a.cut_off()
            assert b.running
            assert (await b.start("one", {}, id="later")).created

    go(test())
    assert len(set(keys[:2])) == 2, "two tenants' effects had one key"


@pytest.mark.slow
def test_a_history_has_no_limit_of_51200_events(tmp_path: Path) -> None:
    @workflow
    async def long() -> int:
        total = 0
        for _ in range(26):
            total += sum(await asyncio.gather(*(double(1) for _ in range(1000))))
        await workflow.receive("go")
        return total

    app = application(double, long)

    async def test() -> None:
        async with engine(tmp_path, app) as it:
            await it.start("long", {}, id="l")
            await until(lambda: any(wait.kind == "signal" for wait in it.waiting("l")))
        async with engine(tmp_path, app) as it:
            await it.signal("l", "go")
            assert (await it.result("l", wait=60)).result == 52_000
            assert len(it.events("l")) > 52_000

    go(test())


def parked(steps: int, notes: str) -> Application:
    """An application, in a version of its own."""

    @activity
    async def step(number: int) -> str:
        return f"{number} {notes}"

    @workflow
    async def waits() -> list[str]:
        # The comment, the local variable and the text below are other ones in each version.
        found = []
        for number in range(steps):
            found.append(await step(number))
            if number == 0:
                await workflow.receive("go")
        return found

    @workflow
    async def another() -> str:
        return notes

    return application(step, waits, *([another] if steps > 2 else []))


def test_a_deployment_strands_nobody_who_is_parked(tmp_path: Path) -> None:
    """Code that was changed where an execution has not been yet is simply the code from then on."""

    async def old() -> None:
        async with engine(tmp_path, parked(2, "old")) as it:
            await it.start("waits", {}, id="w")
            await until(lambda: any(wait.kind == "signal" for wait in it.waiting("w")))

    async def new() -> None:
        async with engine(tmp_path, parked(3, "new")) as it:
            assert it.execution("w").status is Status.RUNNING
            await it.signal("w", "go")
            assert (await it.result("w", wait=20)).result == ["0 old", "1 new", "2 new"]

    go(old())
    go(new())
