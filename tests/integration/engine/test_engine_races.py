"""gather, races, as_completed and timeouts over activities, timers, signals and children."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node import activity, workflow
from node.engine.durability import Durability
from node.engine.events import Kind, Status
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import Proves, application, engine, go, until

MODES = [{}, {"forced_replay": True}, {"durability": Durability.EVERY_COMMIT}]


@activity
async def double(number: int) -> int:
    return 2 * number


@activity
async def endless() -> None:
    await asyncio.Event().wait()


@workflow
async def child(number: int) -> int:
    await workflow.sleep(0.001)
    return number


@workflow
async def never() -> None:
    await workflow.receive("never")


@workflow
async def race() -> list[object]:
    async def word() -> str:
        return await workflow.receive("word", str)

    async def kid() -> None:
        await never.with_id("kid").child()

    racers = {
        "activity": asyncio.create_task(endless()),
        "timer": asyncio.create_task(workflow.sleep(3600)),
        "child": asyncio.create_task(kid()),
        "signal": asyncio.create_task(word()),
    }
    done, late = await asyncio.wait(racers.values(), return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    found: list[object] = [name for name, task in racers.items() if task in done]

    async def from_child(number: int) -> int:
        return await child.child(number)

    jobs = [double(4), from_child(5), double(6)]
    completed = [await each for each in asyncio.as_completed(jobs)]
    return [*found, sorted(completed), await word()]


@pytest.mark.parametrize("mode", MODES)
def test_a_race_has_one_winner_and_the_others_are_cancelled(tmp_path: Path, mode: Any) -> None:
    app = application(double, endless, child, never, race)

    async def first() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("race", {}, id="r")
            await it.signal("r", "word", "first")
            assert (await it.result("kid", wait=10)).status is Status.CANCELLED
            # Three results and no more to come before the last word.
            await until(lambda: [wait.kind for wait in it.waiting("r")] == ["signal"])

    async def second() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.signal("r", "word", "last")
            view = await it.result("r", wait=10)
            assert view.result == ["signal", [5, 8, 12], "last"]
            kinds = [event.kind for event in it.events("r")]
            assert kinds.count(Kind.STEP_CANCELLED) == kinds.count(Kind.CHILD_CANCELLED) == 1

    go(first())
    go(second())
    inspect_log(tmp_path / "log.db")
