"""Children that complete, fail, are cancelled or go on by themselves; and a chain of runs."""

from __future__ import annotations

import asyncio

from node import ChildFailed, RetryPolicy, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.events import Status


@activity
async def double(number: int) -> int:
    return 2 * number


@activity(retry=RetryPolicy(max_attempts=1))
async def broken() -> None:
    raise ValueError("too bad")


@workflow
async def quick(number: int) -> int:
    return number


@workflow
async def leaf(number: int) -> int:
    await workflow.sleep(0.001)
    return await double(number)


@workflow
async def bad() -> None:
    await broken()


@workflow
async def slow() -> str:
    try:
        await workflow.sleep(3600)
    except asyncio.CancelledError:
        await double(1)
        raise
    return "?"


@workflow
async def family() -> dict[str, object]:
    found = await asyncio.gather(*(leaf.child(n) for n in range(3)), quick.child(7))
    try:
        await bad.child()
        failed = ""
    except ChildFailed as error:
        failed = f"{error.status} {error.type}"
    try:
        async with asyncio.timeout(0.01):
            await slow.with_id("slow").child()
        late = False
    except TimeoutError:
        late = True
    _ = slow.with_id("left-behind").child()
    on_its_own = leaf.detach(50)
    return {"found": found, "failed": failed, "late": late, "detached": on_its_own}


@workflow
async def chain(left: int, total: int = 0) -> int:
    total += await workflow.receive("add", int)
    total += await double(1)
    if left:
        workflow.continue_as_new(left - 1, total=total)
    return total


APP = collect("families", [double, broken, quick, leaf, bad, slow, family, chain])


async def drive(engine: Engine) -> None:
    await engine.start("family", {}, id="f")
    await engine.start("chain", {"left": 2}, id="c")
    if engine.execution("c").status is Status.RUNNING:
        for number in (10, 20, 30):
            await engine.signal("c", "add", number, key=str(number))
    for id in ("f", "c", "f.leaf.4", "slow", "left-behind"):
        await engine.result(id, wait=30)
