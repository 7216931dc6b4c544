"""Executions that are paused, cancelled, terminated and tried again by an insistent operator."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from node import RetryPolicy, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.errors import ExecutionClosed
from node.engine.events import Status
from tests.integration.engine.engine_app import record, recorded


@activity
async def double(number: int) -> int:
    return 2 * number


@activity(retry=RetryPolicy(max_attempts=1))
async def needs_repair() -> str:
    if "repaired" not in recorded():
        raise ConnectionError("broken")
    return "works"


@workflow
async def paused() -> list[object]:
    found: list[object] = [await double(1)]
    found.append(await workflow.receive("go"))
    await workflow.sleep(0.002)
    return [*found, await double(2)]


@workflow
async def tidies_up() -> None:
    try:
        await workflow.sleep(3600)
    except asyncio.CancelledError:
        await double(3)
        raise


@workflow
async def repaired() -> list[object]:
    return [await double(4), await needs_repair(), await double(5)]


APP = collect("control", [double, needs_repair, paused, tidies_up, repaired])
WANTED = {
    "p": ["COMPLETED", [2, "on", 4]],
    "c": ["CANCELLED", "enough"],
    "t": ["TERMINATED", "now"],
    "r": ["COMPLETED", [8, "works", 10]],
}


async def drive(engine: Engine) -> None:
    works = {"p": "paused", "c": "tidies_up", "t": "tidies_up", "r": "repaired"}
    for id, name in works.items():
        await engine.start(name, {}, id=id)
    with suppress(ExecutionClosed):
        if "paused" not in recorded():
            await engine.control.pause("p")
            record("paused")
        await engine.signal("p", "go", "on", key="on")
        await engine.control.resume("p")
    await engine.control.cancel("c", "enough")
    await engine.control.terminate("t", "now")
    if (await engine.result("r", wait=30)).status is Status.FAILED:
        if "repaired" not in recorded():
            record("repaired")
        await engine.control.retry("r")
    for id in WANTED:
        await engine.result(id, wait=30)
