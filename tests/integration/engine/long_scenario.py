"""A long activity that goes on from its last heartbeat, timers in a crowd, and a race."""

from __future__ import annotations

import asyncio

from node import activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine

PAGES = 4


@activity(heartbeat_timeout=20)
async def read_pages() -> int:
    page = int(activity.progress() or 0)
    while page < PAGES:
        page += 1
        activity.heartbeat(page)
        await asyncio.sleep(0.002)
    return page


@activity
async def endless() -> None:
    await asyncio.Event().wait()


@workflow
async def reader() -> int:
    return await read_pages()


@workflow
async def crowd() -> list[int]:
    order: list[int] = []

    async def one(number: int) -> None:
        await workflow.sleep(number / 1000)
        order.append(number)

    await asyncio.gather(*(one(number) for number in (5, 1, 3)))
    return order


@workflow
async def race() -> str:
    quick = asyncio.create_task(workflow.sleep(0.001))
    slow = asyncio.create_task(endless())
    done, _ = await asyncio.wait([quick, slow], return_when=asyncio.FIRST_COMPLETED)
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    return "quick" if quick in done else "slow"


APP = collect("long", [read_pages, endless, reader, crowd, race])
WANTED = {
    "reader": ["COMPLETED", PAGES],
    "crowd": ["COMPLETED", [1, 3, 5]],
    "race": ["COMPLETED", "quick"],
}


async def drive(engine: Engine) -> None:
    for id in WANTED:
        await engine.start(id, {}, id=id)
    for id in WANTED:
        await engine.result(id, wait=30)
