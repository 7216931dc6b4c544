"""Executions that are forked while everything dies: exactly, from a failure, and with results."""

from __future__ import annotations

import asyncio
from pathlib import Path

from node import ChildFailed, Queue, RetryPolicy, activity, workflow
from node.engine.application import collect
from node.engine.archive import replay_archive
from node.engine.engine import Engine
from node.engine.forked import ForkMode
from node.engine.inspection import events_of
from tests.integration.engine.engine_app import record, recorded

ONCE = RetryPolicy(max_attempts=1)


@activity(version=1)
async def double(number: int) -> int:
    record(f"double {number} {activity.info().execution}")
    return 2 * number


@activity(retry=ONCE)
async def needs_repair() -> str:
    if "repaired" not in recorded():
        raise ConnectionError("broken")
    return "works"


@activity(transactional=True)
def book(number: int) -> int:
    db = activity.transaction()
    db.execute("CREATE TABLE IF NOT EXISTS booked(execution TEXT, number INTEGER)")
    row = (activity.info().execution, number)
    db.execute("INSERT INTO booked VALUES (?, ?)", row)
    return number


@workflow
async def leaf(number: int) -> int:
    return await double(number)


@workflow
async def broken_leaf() -> str:
    return await needs_repair()


@workflow(queue=Queue("line", concurrency=1))
async def work(start: int) -> list[object]:
    found: list[object] = [await double(start)]
    found.append(await workflow.receive("go"))
    found += await asyncio.gather(double(2), book(3), leaf.child(4))
    async with asyncio.timeout(3600):
        found.append(await double(5))
    try:
        found.append(await broken_leaf.child())
    except ChildFailed:
        await double(6)
        raise
    await workflow.sleep(0.002)
    found.append(await book(7))
    return found


APP = collect("forks", [double, needs_repair, book, leaf, broken_leaf, work])
END = [2, "on", 4, 3, 8, 10, "works", 7]
AGAIN = [20, *END[1:]]
WANTED = {
    "w": [
        "FAILED",
        {
            "type": "ChildFailed",
            "message": "child broken_leaf 'w.broken_leaf.1' failed: ActivityFailed: needs_repair #1"
            " failed after 1 attempts: ConnectionError: broken",
        },
    ],
    "w.leaf.1": ["COMPLETED", 8],
    "w.broken_leaf.1": [
        "FAILED",
        {
            "type": "ActivityFailed",
            "message": "needs_repair #1 failed after 1 attempts: ConnectionError: broken",
        },
    ],
    "exact": ["COMPLETED", END],
    "exact.broken_leaf.1": ["COMPLETED", "works"],
    "reused": ["COMPLETED", AGAIN],
    "reused.leaf.1": ["COMPLETED", 8],
    "reused.broken_leaf.1": ["COMPLETED", "works"],
    "again": ["COMPLETED", END],
    "again.broken_leaf.1": ["COMPLETED", "works"],
}


async def drive(engine: Engine) -> None:
    await engine.start("work", {"start": 1}, id="w")
    if engine.execution("w").closed_at is None:
        await engine.signal("w", "go", "on", key="on")
    await engine.result("w", wait=30)
    if "repaired" not in recorded():
        record("repaired")
    await engine.fork("w", new_id="exact")
    await engine.fork("w", new_id="reused", mode=ForkMode.REUSE, input={"start": 10})
    await engine.result("exact", wait=30)
    await engine.fork("exact", new_id="again", at="double#2", paused=True)
    if engine.execution("again").paused:
        await engine.control.resume("again")
    for id in WANTED:
        await engine.result(id, wait=30)
        assert replay_archive(engine.export(id), APP).ok


def check(log: Path, ledger: Path) -> None:
    ran = ledger.read_text().splitlines()
    # Only what was not known runs in a fork.
    assert {line for line in ran if line.endswith(" exact")} == set()
    assert {line for line in ran if line.endswith(" reused")} == {"double 10 reused"}
    assert {line for line in ran if line.endswith(" again")} == {
        "double 2 again",
        "double 5 again",
    }
    ids = [event.execution for event in events_of(log) if event.kind.name == "FORKED"]
    assert sorted(ids) == ["again", "exact", "reused"]
