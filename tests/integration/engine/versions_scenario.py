"""Two versions of one application: executions pinned to the first, and others that move."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from node import activity, workflow
from node.engine.application import Application, collect
from node.engine.engine import Engine
from node.engine.errors import ExecutionClosed
from node.engine.events import CLOSING
from node.engine.inspection import events_of


@activity
async def say(text: str) -> str:
    await asyncio.sleep(0)
    return text


@workflow(name="order", pinned=True)
async def order_1() -> list[str]:
    first = await say("one")
    told = await workflow.receive("go", str)
    return [first, told, await part_1.child()]


@workflow(name="part")
async def part_1() -> str:
    await workflow.sleep(0.001)
    return await say("part of 1")


@workflow(name="moving")
async def moving_1() -> list[str]:
    return [await say("old"), await workflow.receive("go", str)]


@workflow(name="chain", pinned=True)
async def chain_1(left: int) -> str:
    await workflow.receive("go", str)
    if left:
        workflow.continue_as_new(left - 1)
    return await say("chain of 1")


@workflow
async def switch() -> None:
    """The upgrade itself, so that the log says which version is to run."""
    await say("switch")


@workflow(name="order", pinned=True)
async def order_2() -> list[str]:
    return [await workflow.receive("go", str), await part_2.child(), await say("two")]


@workflow(name="part")
async def part_2() -> str:
    return await say("part of 2")


@workflow(name="moving")
async def moving_2() -> list[str]:
    before = await say("new" if workflow.patched("words") else "old")
    return [before, await workflow.receive("go", str), await say("more")]


@workflow(name="chain", pinned=True)
async def chain_2(left: int) -> str:
    if left:
        workflow.continue_as_new(left - 1)
    return await say("chain of 2")


V1 = collect("app", [say, order_1, part_1, moving_1, chain_1, switch], version="1")
V2 = collect("app", [say, order_2, part_2, moving_2, chain_2, switch], version="2")
WANTED = {
    "switch": ["COMPLETED", None],
    "o1": ["COMPLETED", ["one", "go", "part of 1"]],
    "o1.part.1": ["COMPLETED", "part of 1"],
    "m1": ["COMPLETED", ["old", "go", "more"]],
    "c1": ["COMPLETED", "chain of 2"],
    "o2": ["COMPLETED", ["go", "part of 2", "two"]],
    "o2.part.1": ["COMPLETED", "part of 2"],
    "m2": ["COMPLETED", ["new", "go", "more"]],
}


def versions(log: Path) -> tuple[Application, tuple[Application, ...]]:
    """The second version runs once the log has the end of the switch."""
    switched = log.exists() and any(
        event.execution == "switch" and event.kind in CLOSING for event in events_of(log)
    )
    return (V2, (V1,)) if switched else (V1, ())


async def drive(engine: Engine) -> bool:
    if engine.config.application is V1:
        for workflow, given, id in (
            ("order", {}, "o1"),
            ("moving", {}, "m1"),
            ("chain", {"left": 2}, "c1"),
        ):
            await engine.start(workflow, given, id=id)
            while engine.waiting(id)[0].kind != "signal":
                await asyncio.sleep(0.001)
        await engine.start("switch", {}, id="switch")
        await engine.result("switch", wait=30)
        return True
    await engine.start("order", {}, id="o2")
    await engine.start("moving", {}, id="m2")
    for id in ("o1", "m1", "c1", "o2", "m2"):
        # In a later life it may have ended.
        with suppress(ExecutionClosed):
            await engine.signal(id, "go", "go", key="go")
    for id in ("o1", "m1", "c1", "o2", "m2"):
        await engine.result(id, wait=30)
    return False
