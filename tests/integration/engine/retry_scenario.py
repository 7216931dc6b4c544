"""A family is tried again once: a grandchild failed, and a child was cancelled for that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from node import RetryPolicy, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.events import Kind, Status
from node.engine.inspection import events_of
from tests.integration.engine.engine_app import record, recorded


@activity(retry=RetryPolicy(max_attempts=1))
async def repaired_part(name: str) -> str:
    if "repaired" not in recorded():
        raise ConnectionError("broken")
    return name


@workflow
async def leaf(name: str) -> str:
    return await repaired_part(name)


@workflow
async def branch(name: str) -> list[str]:
    return [await leaf.with_id(f"{name}-leaf").child(name), await repaired_part(name)]


@workflow
async def tree() -> list[object]:
    fine = await leaf_of_stone.with_id("stone").child()
    # When the one fails, the other is cancelled.
    both = await asyncio.gather(
        branch.with_id("left").child("left"), patient.with_id("right").child()
    )
    return [fine, *both]


@workflow
async def patient() -> str:
    return await workflow.receive("go", str)


@workflow
async def leaf_of_stone() -> str:
    await workflow.sleep(0.002)
    return "stone"


APP = collect("retry", [repaired_part, leaf, branch, tree, patient, leaf_of_stone])
WANTED: dict[str, list[Any]] = {
    "t": ["COMPLETED", ["stone", ["left", "left"], "right"]],
    "left": ["COMPLETED", ["left", "left"]],
    "left-leaf": ["COMPLETED", "left"],
    "right": ["COMPLETED", "right"],
    "stone": ["COMPLETED", "stone"],
}


async def drive(engine: Engine) -> None:
    await engine.start("tree", {}, id="t")
    if (await engine.result("t", wait=30)).status is Status.FAILED:
        if "repaired" not in recorded():
            record("repaired")
        await engine.control.retry("t")
    await engine.signal("right", "go", "right", key="go")
    await asyncio.gather(*(engine.result(id, wait=30) for id in WANTED))


def check(log: Path, ledger: Path) -> None:
    opened = [event.execution for event in events_of(log) if event.kind is Kind.REOPENED]
    assert sorted(opened) == ["left", "left-leaf", "right", "t"]
