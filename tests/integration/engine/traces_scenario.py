"""A family of executions whose spans go into the ledger: each once, with one id, and all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from node import RetryPolicy, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.events import CLOSING, Kind
from node.engine.inspection import events_of
from node.engine.observer import Observer
from node.outbox import Outbox
from node.spans import Span


@activity(retry=RetryPolicy(initial=0.001))
async def shaky(item: int) -> int:
    if activity.info().attempt < 3:
        raise ValueError("not yet")
    return item


@activity(transactional=True)
def write() -> None:
    activity.transaction().execute("CREATE TABLE IF NOT EXISTS mine(x)")


@workflow
async def leaf(item: int) -> int:
    await write()
    return await shaky(item)


@workflow
async def family(run: int = 1) -> int:
    first = await shaky(1)
    parts = await asyncio.gather(*(leaf.child(item) for item in (1, 2)))
    await workflow.sleep(0.01)
    if run == 1:
        leaf.with_id("alone").detach(5)
        workflow.continue_as_new(2)
    return first + sum(parts) + await workflow.receive("go", int)


APP = collect("test", [shaky, write, leaf, family])
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203332-01"


class Wakes(Observer):
    outbox: Outbox | None = None

    def committed(self, events: int, seconds: float) -> None:
        if self.outbox is not None:
            self.outbox.wake()


OBSERVER = Wakes()


async def export(spans: Sequence[Span]) -> bool:
    write_down(spans)
    return True


def write_down(spans: Sequence[Span]) -> None:
    with Path(os.environ["LEDGER"]).open("a") as file:
        for span in spans:
            about = span.attributes
            step = [str(about.get(f"litefleet.{name}", "-")) for name in WORDS]
            parent = "-" if span.parent is None else f"{span.parent:x}"
            file.write(f"{span.identity.trace:x} {span.span:x} {parent} {' '.join(step)}\n")


WORDS = ("execution", "run", "step", "occurrence", "attempt", "outcome")


async def drive(engine: Engine) -> None:
    outbox = OBSERVER.outbox = Outbox(engine, export, gather=0)
    outbox.begin()
    await engine.start("family", {}, id="f", trace=TRACE)
    await engine.signal("f", "go", 7, key="once", trace=OTHER)
    for id in ("f", "alone"):
        await engine.result(id, wait=30)
    await outbox.close()


def check(log: Path, ledger: Path) -> None:
    rows = [line.split() for line in ledger.read_text().splitlines()]
    spans = [row[1] for row in rows]
    assert len(set(spans)) == len(spans), "a span twice"
    about = [tuple(row[3:8]) for row in rows]
    assert len(set(about)) == len(about), "one thing with two ids"
    assert {row[0] for row in rows} == {TRACE.split("-")[1].lstrip("0")}, "one trace"
    outside = TRACE.split("-")[2]
    assert {row[2] for row in rows} <= {*spans, outside}, "a parent that is not there"
    events = list(events_of(log))
    runs = sum(event.kind in CLOSING | {Kind.CONTINUED} for event in events)
    ends = (Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_RETRY)
    attempts = sum(event.kind in ends for event in events)
    assert (runs, attempts) == (7, 7 * 3 + 5)
    assert sum(row[5] == "-" for row in rows) == runs, "an execution without a span"
    assert sum(row[5] != "-" for row in rows) == attempts, "an attempt without a span"
