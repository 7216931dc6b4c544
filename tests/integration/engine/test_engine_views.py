"""What the views say that are for finding out what goes wrong."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

from node import RetryPolicy, activity, workflow
from node.engine.schema import connect
from tests.integration.engine.harness import application, engine, go, until

repaired = asyncio.Event()


@activity(retry=RetryPolicy(max_attempts=2, initial=0.001, jitter=0))
async def breaks() -> None:
    if not repaired.is_set():
        raise ValueError("broken")
    await asyncio.Event().wait()


@workflow
async def fails() -> None:
    await breaks()


@workflow
async def parent() -> None:
    await fails.with_id("child").child()


@workflow
async def waits(left: int) -> None:
    if left:
        await workflow.sleep(0.001)
        workflow.continue_as_new(left - 1)
    child = listens.with_id("listener").child()
    event = workflow.external("approval")
    await asyncio.gather(workflow.sleep(3600), event, child)


@workflow
async def listens() -> None:
    await workflow.receive("word")


def look(folder: Path, sql: str) -> list[Any]:
    with closing(connect(folder / "log.db")) as db:
        return db.execute(sql).fetchall()


def test_failures_are_listed_with_their_reasons(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(parent, fails, breaks)) as it:
            await it.start("parent", {}, id="parent")
            await it.result("parent", wait=10)

    repaired.clear()
    go(test())
    rows = look(
        tmp_path,
        "SELECT execution, step, occurrence, type, message, attempts FROM failures"
        " ORDER BY sequence",
    )
    step = "breaks #1 failed after 2 attempts: ValueError: broken"
    child = f"child fails 'child' failed: ActivityFailed: {step}"
    assert rows == [
        ("child", "breaks", 1, "ValueError", "broken", 2),
        ("child", None, None, "ActivityFailed", step, None),
        ("parent", "fails", 1, "ActivityFailed", step, None),
        ("parent", None, None, "ChildFailed", child, None),
    ]
    assert look(tmp_path, "SELECT count(at) FROM failures") == [(4,)]


def test_what_open_executions_wait_for_is_listed(tmp_path: Path) -> None:
    async def test() -> None:
        app = application(fails, breaks, waits, listens)
        async with engine(tmp_path, app) as it:
            await it.start("fails", {}, id="again")
            await it.result("again", wait=10)
            repaired.set()
            await it.control.retry("again")
            await it.start("waits", {"left": 2}, id="many")
            await until(lambda: len(it.waiting("many")) == 3)
            await it.start("listens", {}, id="done")
            await it.signal("done", "word")
            await it.result("done", wait=10)

    repaired.clear()
    go(test())
    rows = look(
        tmp_path,
        "SELECT execution, workflow, waits_for, step, occurrence, since IS NULL,"
        " round((julianday(until) - julianday(since)) * 24, 1) FROM waiting ORDER BY 1, 3",
    )
    assert rows == [
        ("again", "fails", "activity", "breaks", 1, 0, None),
        ("listener", "listens", "message", None, None, 0, None),
        ("many", "waits", "child", "listens", 1, 0, None),
        ("many", "waits", "external", "approval", 1, 0, None),
        ("many", "waits", "timer", None, 3, 0, 1.0),
    ]
