"""Executions and histories that are removed in batches of a few events, and an id that is used
again after its execution was."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from node import Retention, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.inspection import events_of
from node.engine.removal import Limits
from tests.integration.engine.engine_app import record


@activity
async def effect(what: str) -> str:
    info = activity.info()
    record(json.dumps([info.execution, info.occurrence, info.idempotency_key]))
    return what


@workflow
async def short(word: str) -> str:
    said = [await effect(f"{word}{number}") for number in range(2)]
    return said[-1]


@workflow
async def long(left: int) -> int:
    out = workflow.stream("out")
    out.publish(left)
    await effect("on")
    if left:
        workflow.continue_as_new(left - 1)
    await workflow.receive("end")
    return left


@workflow
async def later() -> str:
    return await effect("later")


APP = collect(
    "retention",
    [
        effect,
        short,
        long,
        later,
        Retention(workflow=short, keep=timedelta()),
        Retention(history=timedelta()),
    ],
)
WANTED = {
    "again": ["COMPLETED", "later"],
    "long": ["COMPLETED", 0],
    "litefleet.retention": ["COMPLETED", None],
}


async def drive(engine: Engine) -> None:
    # More than one batch for an execution, so that there are deaths in between.
    engine.retention._limits = Limits(events=5, seconds=60)
    await engine.start("long", {"left": 2}, id="long")
    if engine.retention.view().executions == 0:
        await engine.start("short", {"word": "first"}, id="again")
        await engine.result("again", wait=30)
        with engine.follow("long", "out") as reader:
            while (await reader.read(10, 30)).next < 3:
                pass
    done = await engine.retention.run()
    assert done.trouble is None
    if _runs(engine):
        await engine.signal("long", "end", key="end")
    await engine.result("long", wait=30)
    with engine.follow("long", "out", 2) as reader:
        page = await reader.read(10, 30)
        assert [(item.offset, item.value) for item in page.items] == [(2, 0)]
    await engine.start("later", {}, id="again")
    await engine.result("again", wait=30)


def _runs(engine: Engine) -> bool:
    return engine.execution("long").status == "running"


def check(log: Path, ledger: Path) -> None:
    keys: dict[tuple[str, int], str] = {}
    for line in ledger.read_text().splitlines():
        execution, occurrence, key = json.loads(line)
        assert keys.setdefault((execution, occurrence), key) == key
    assert len(set(keys.values())) == len(keys)
    again = sorted(occurrence for execution, occurrence in keys if execution == "again")
    assert again == [1, 2, 3], "a step of the second one has the key of the first one's"
    kinds = [event.kind.name for event in events_of(log) if event.execution == "long"]
    assert kinds.count("CONTINUED") == 1
    assert kinds[0] == "STARTED"
