"""Executions on two queues: many on a narrow one, some of them started by another execution."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from node import Queue, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.errors import ExecutionClosed

NARROW = Queue("narrow", concurrency=2)
SINGLE = Queue("single", concurrency=1)


@activity
async def work(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@workflow(queue=NARROW)
async def job(number: int) -> int:
    await workflow.sleep(0.001)
    return await work(number)


@workflow
async def told() -> list[int]:
    return [await workflow.receive("word", int) for _ in range(2)]


@workflow(queue=SINGLE)
async def long(left: int) -> int:
    await work(left)
    if left:
        workflow.continue_as_new(left - 1)
    return left


@workflow
async def family() -> list[int]:
    urgent = job.on_queue(NARROW, priority=-1)
    found = await asyncio.gather(*(job.child(n) for n in range(3)), urgent.child(7))
    job.with_id("left").on_queue(NARROW, dedup="one").detach(1)
    return found


APP = collect("queues", [NARROW, SINGLE, work, job, told, long, family])


async def drive(engine: Engine) -> None:
    await engine.start("family", {}, id="f")
    for number in range(4):
        await engine.start("job", {"number": number}, id=f"j{number}", priority=number % 2)
    for number in range(2):
        await engine.start("long", {"left": 2}, id=f"l{number}")
    await engine.start("told", {}, id="t", queue="single", priority=5, partition="p")
    for number in (1, 2):
        # In a later life it may have had them.
        with suppress(ExecutionClosed):
            await engine.signal("t", "word", number, key=str(number))
    for id in ("f", *(f"j{number}" for number in range(4)), "l0", "l1", "t", "left"):
        await engine.result(id, wait=30)
