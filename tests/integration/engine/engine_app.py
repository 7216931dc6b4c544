"""An application that uses everything the engine has, with effects that can be counted."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel

from node import ActivityFailed, NonRetryable, RetryPolicy, activity, workflow

FAST = RetryPolicy(max_attempts=4, initial=0.01, jitter=0)


def record(text: str) -> None:
    """Count an effect in the ledger, a file beside the log."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, (text + "\n").encode())
    finally:
        os.close(ledger)


def recorded() -> list[str]:
    path = Path(os.environ["LEDGER"])
    return path.read_text().splitlines() if path.exists() else []


class Item(BaseModel):
    name: str
    price: int


@activity
async def price(name: str) -> Item:
    await asyncio.sleep(0)
    record(f"price {activity.info().idempotency_key}")
    return Item(name=name, price=len(name) * 3)


@activity
def tax(item: Item) -> int:
    record(f"tax {activity.info().idempotency_key}")
    return item.price // 4


@activity(retry=FAST)
async def flaky(name: str) -> int:
    info = activity.info()
    record(f"flaky {info.idempotency_key} {info.attempt}")
    if info.attempt < 3:
        raise ConnectionError(f"{name}: try again")
    return info.attempt


@activity(retry=FAST)
async def hopeless() -> None:
    raise NonRetryable("never")


@activity(transactional=True, retry=FAST)
def book(order: str, total: int) -> int:
    info = activity.info()
    db = activity.transaction()
    db.execute("CREATE TABLE IF NOT EXISTS booking(id TEXT, total INTEGER)")
    db.execute("INSERT INTO booking VALUES (?, ?)", (order, total))
    if info.attempt < 2:
        raise ValueError("roll this back")
    return total


@workflow
async def order(names: list[str]) -> dict[str, int | str]:
    items = await asyncio.gather(*(price(name) for name in names))
    taxes = 0
    for item in items:
        taxes += await tax(item)
    await workflow.sleep(0.02)
    tries = await flaky(names[0])
    try:
        await hopeless()
    except ActivityFailed as error:
        failed = error.type
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(book(workflow.info().id, taxes))
        second = tasks.create_task(price("group"))
    return {
        "taxes": taxes,
        "tries": tries,
        "failed": failed,
        "booked": first.result(),
        "group": second.result().price,
        "chance": workflow.random().randrange(1_000_000),
        "uuid": str(workflow.uuid4()),
    }
