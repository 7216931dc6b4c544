"""Signals, updates and conditions, driven by a client that sends everything again when in doubt."""

from __future__ import annotations

import asyncio

from node import Signal, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.errors import ExecutionClosed

note = Signal("note", str)


@activity
async def double(number: int) -> int:
    return 2 * number


@activity(transactional=True)
def keep(number: int) -> int:
    db = activity.transaction()
    db.execute("CREATE TABLE IF NOT EXISTS kept(number INTEGER)")
    db.execute("INSERT INTO kept VALUES (?)", (number,))
    return number


@workflow
async def basket() -> dict[str, object]:
    items: list[int] = []
    added: list[str] = []

    @workflow.update
    async def add(number: int) -> int:
        items.append(await double(number))
        return len(items)

    @workflow.signal
    def label(text: str) -> None:
        added.append(text)

    @workflow.query
    def count() -> int:
        return len(items)

    try:
        await workflow.receive("never", timeout=0.01)
        late = False
    except TimeoutError:
        late = True
    first, kept, second = await asyncio.gather(
        workflow.receive(note), keep(7), workflow.receive(note)
    )
    await workflow.wait_for(lambda: len(items) == 3 and len(added) == 2)
    return {
        "items": sorted(items),
        "notes": sorted([first, second]),
        "labels": sorted(added),
        "late": late,
        "kept": kept,
    }


APP = collect("messages", [note, double, keep, basket])


async def drive(engine: Engine) -> None:
    await engine.start("basket", {}, id="b")
    try:
        for text in ("one", "two"):
            await engine.signal("b", "note", text, key=f"note-{text}")
            await engine.signal("b", "label", text, key=f"label-{text}")
            await engine.signal("b", "note", text, key=f"note-{text}")
        answers = await asyncio.gather(
            *(engine.update("b", "add", {"number": n}, key=f"add-{n}") for n in (1, 2, 3))
        )
        assert sorted(answer.value for answer in answers) == [1, 2, 3]
    except ExecutionClosed:
        pass
    await engine.result("b", wait=30)
