"""What Python's search for garbage finds after executions: next to nothing, so it can be rare."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

from node import activity, workflow
from node.engine.application import collect
from tests.integration.engine.harness import engine, go

EXECUTIONS = 20


@activity
async def near(number: int) -> int:
    return number


@activity
def on_a_thread(number: int) -> int:
    return number


@activity(transactional=True)
def in_the_log(number: int) -> int:
    return number


@activity
async def beating(number: int) -> int:
    activity.heartbeat(number)
    return number


@workflow
async def everyday() -> int:
    total = await near(1) + await on_a_thread(2) + await in_the_log(3) + await beating(4)
    await workflow.sleep(0.001)
    return total


@workflow
async def told() -> None:
    await workflow.receive("go")


def test_finished_executions_leave_no_garbage(tmp_path: Path) -> None:
    async def run() -> None:
        async with engine(
            tmp_path, collect("test", (near, on_a_thread, in_the_log, beating, everyday, told))
        ) as running:

            async def one() -> None:
                started = await running.start("everyday", {})
                waiting = await running.start("told", {})
                await running.signal(waiting.view.id, "go")
                for view in (started.view, waiting.view):
                    assert (await running.result(view.id, wait=20)).status == "completed"

            await one()
            gc.collect()
            gc.disable()
            try:
                await asyncio.gather(*(one() for _ in range(EXECUTIONS)))
                found = gc.collect()
            finally:
                gc.enable()
        # Each execution has some hundreds of objects; not one for each may be left to search for.
        assert found < EXECUTIONS

    go(run())
