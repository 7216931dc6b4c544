"""Random work, with removals in between: whatever goes, what is left holds together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from node import Retention, RetryPolicy, activity, workflow
from node.engine.engine import Engine
from node.engine.errors import (
    EngineError,
    ExecutionConflict,
    ExecutionHeld,
    ExecutionOpen,
    UnknownExecution,
)
from node.engine.events import Kind, Reuse
from node.engine.inspection import events_of, inspect_log
from node.engine.removal import Limits
from tests.integration.engine.harness import application, engine, go

luck = Random()


@activity(retry=RetryPolicy(max_attempts=1))
async def step(text: str) -> str:
    await asyncio.sleep(luck.random() * 0.002)
    if luck.random() < 0.05:
        raise ValueError("bad luck")
    return text


@workflow
async def work(steps: int, text: str) -> str:
    out = workflow.stream("out")
    for number in range(steps):
        out.publish(number)
        text = await step(text)
    return text


@workflow
async def goes_on(left: int) -> int:
    await step("on")
    workflow.stream("out").publish(left)
    if left:
        workflow.continue_as_new(left - 1)
    return left


@workflow
async def family(size: int) -> int:
    await asyncio.gather(*(work.child(1, "c") for _ in range(size)))
    return size


@workflow
async def waits() -> None:
    await workflow.receive("go")


APP = application(
    step,
    work,
    goes_on,
    family,
    waits,
    Retention(workflow=work, outcome="completed", keep=timedelta()),
    Retention(history=timedelta()),
)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_goes_the_rest_holds_together(tmp_path: Path, seed: int) -> None:
    luck.seed(seed)
    counted: dict[tuple[str, str], int] = {}

    async def test() -> None:
        for _ in range(3):
            async with engine(tmp_path, APP, inline_limit=4096) as it:
                it.retention._limits = Limits(
                    events=luck.choice([3, 20, 2000]), seconds=luck.choice([0, 1])
                )
                ids = [f"{number % 9}" for number in range(30)]
                for id in ids:
                    with suppress(ExecutionConflict):
                        await begin(it, id)
                    with suppress(UnknownExecution, ExecutionOpen, ExecutionHeld):
                        await disturb(it, luck.choice(ids))
                    if luck.random() < 0.2:
                        inspect_log(it._store.path)
                for id in ids:
                    with suppress(UnknownExecution):
                        await it.result(id, wait=0.02)
                done = await it.retention.run()
                assert done.trouble is None
                assert it.retention.view().events > 20
                for view in it.executions(limit=500):
                    it.events(view.id)
                    assert all(one.length for one in it.streams(view.id))
            inspect_log(tmp_path / "log.db")

    go(test())
    # Numbers of steps only ever grow, whatever was removed in between.
    events = list(events_of(tmp_path / "log.db"))
    again = {event.execution for event in events if event.kind is Kind.REOPENED}
    for event in events:
        if event.kind is Kind.STEP and event.execution not in again:
            before = counted.get((event.execution, event.name), 0)
            assert event.occurrence > before
            counted[event.execution, event.name] = event.occurrence


async def begin(it: Engine, id: str) -> None:
    reuse = luck.choice(list(Reuse))
    what = luck.random()
    if what < 0.5:
        text = "x" * luck.choice([1, 9000])
        await it.start("work", {"steps": luck.randrange(5), "text": text}, id=id, reuse=reuse)
    elif what < 0.8:
        await it.start("goes_on", {"left": luck.randrange(4)}, id=id, reuse=reuse)
    elif what < 0.9:
        await it.start("family", {"size": luck.randrange(3)}, id=id, reuse=reuse)
    else:
        await it.start("waits", {}, id=id, reuse=reuse)


async def disturb(it: Engine, id: str) -> None:
    what = luck.random()
    if what < 0.1:
        assert (await it.retention.run()).trouble is None
    elif what < 0.2:
        await it.retention.delete(id)
    elif what < 0.25:
        await it.retention.hold(id)
    elif what < 0.3:
        await it.retention.release(id)
    elif what < 0.4:
        with suppress(EngineError):
            await it.control.retry(id)
    elif what < 0.45:
        await it.control.cancel(id)
    elif what < 0.5:
        await it.control.terminate(id)
    elif what < 0.7:
        await asyncio.sleep(0.005)
