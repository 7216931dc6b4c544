"""A stream of a workflow and of an activity whose first attempt fails, followed in every life."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from node import RetryPolicy, activity, workflow
from node.engine.application import collect
from node.engine.durability import Outcome
from node.engine.engine import Engine
from node.engine.inspection import events_of
from node.engine.stream import Item, Strands
from tests.integration.engine.engine_app import record, recorded


@activity(retry=RetryPolicy(initial=0.001))
async def answers() -> int:
    tokens = activity.stream("tokens")
    record("run")
    # In lives of one commit each, an attempt that has one of its own would never come to its end.
    slow = recorded().count("run") < 6
    for token in ("to", "be", "or"):
        await tokens.publish(token)
        await asyncio.sleep(0.045 if token == "be" and slow else 0)
    if activity.info().attempt == 1:
        raise ValueError("the line is cut")
    return 3


@workflow
async def tells(again: bool) -> int:
    tokens = workflow.stream("tokens")
    tokens.publish("begin")
    tokens.publish("again" if again else "first")
    count = await answers()
    await tokens.publish({"count": count})
    if not again:
        workflow.continue_as_new(True)
    tokens.close()
    await workflow.sleep(0.001)
    return count


APP = collect("streams", [answers, tells])
WANTED = {"s": ["COMPLETED", 3]}


async def drive(engine: Engine) -> None:
    await engine.start("tells", {"again": False}, id="s")
    with engine.follow("s", "tokens") as reader:
        ended = False
        while not ended:
            page = await reader.read(100, 30)
            proven = engine.can_prove and await engine.prove(page.sequence, within=10)
            if proven not in (False, Outcome.DURABLE):
                return
            for item in page.items:
                record(json.dumps([item.offset, item.value]))
            ended = page.ended
    await engine.result("s", wait=30)


def items_of(log: Path, name: str = "tokens") -> list[Item]:
    strands = Strands()
    return [item for event in events_of(log) for item in strands.add(event, name)]


def kept(items: list[Item]) -> list[tuple[str | None, Any]]:
    """What a reader has in the end, who forgets what he is told to forget."""
    found: list[Item] = []
    for item in items:
        if item.discards_from is not None:
            found = [one for one in found if one.offset < item.discards_from]
        if item.begins:
            found = [one for one in found if one.source != item.source]
        found.append(item)
    return [(item.source, item.value) for item in found]


def check(log: Path, ledger: Path) -> None:
    items = items_of(log)
    assert [item.offset for item in items] == list(range(len(items)))
    shown = [line for line in ledger.read_text().splitlines() if line != "run"]
    assert shown
    for line in shown:
        offset, value = json.loads(line)
        assert items[offset].value == value, f"offset {offset} was shown as {value}"
    assert kept(items) == [
        *((None, value) for value in ("begin", "first")),
        *(("answers#1", value) for value in ("to", "be", "or")),
        *((None, value) for value in ({"count": 3}, "begin", "again")),
        *(("answers#2", value) for value in ("to", "be", "or")),
        (None, {"count": 3}),
    ]
