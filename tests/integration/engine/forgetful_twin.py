"""A scenario that does not survive: its activity remembers in memory what the log does not hold."""

from __future__ import annotations

from node import activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine

calls: list[int] = []


@activity
async def count() -> int:
    calls.append(1)
    return len(calls)


@workflow
async def work() -> list[int]:
    return [await count() for _ in range(3)]


APP = collect("forgetful", [count, work])


async def drive(engine: Engine) -> None:
    await engine.start("work", {}, id="a")
    await engine.result("a", wait=30)
