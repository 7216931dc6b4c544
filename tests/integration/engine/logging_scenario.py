"""Workflows and activities that log, each line into the ledger: none may come twice."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from node import activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine

own = logging.getLogger("app.orders")


class Ledger(logging.Handler):
    """Appends each line with whose it is."""

    def emit(self, record: logging.LogRecord) -> None:
        about = vars(record)
        where = f"{about['execution']} {about['step']} {about['occurrence']} {about['attempt']}"
        with Path(os.environ["LEDGER"]).open("a") as file:
            file.write(f"{record.name}|{record.getMessage()}|{where}\n")


# In a life only: the tests' own process looks at lines in another way.
for _name in ("app", "workflow") if "LEDGER" in os.environ else ():
    _logger = logging.getLogger(_name)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    _logger.addHandler(Ledger())


@activity
async def price(item: int) -> int:
    return item * 10


@workflow
async def part(item: int) -> int:
    workflow.logger.info("part %s begins", item)
    try:
        return await price(item)
    finally:
        own.info("part %s is over", item)


@workflow
async def order(run: int = 1) -> int:
    own.info("run %s begins", run)
    total = 0
    for item in range(3):
        total += await price(item)
        own.info("run %s: %s after item %s", run, total, item)
    parts = await asyncio.gather(*(part.child(item) for item in (1, 2)))
    await workflow.sleep(0.01)
    own.info("run %s: the parts make %s", run, sum(parts))
    if run == 1:
        workflow.continue_as_new(2)
    word = await workflow.receive("go")
    own.info("it may go: %s", word)
    return total + sum(parts)


APP = collect("test", [price, part, order])
WANTED = {
    "o": ["COMPLETED", 60],
    **{f"o.part.{n}": ["COMPLETED", 20 - 10 * (n % 2)] for n in (1, 2, 3, 4)},
}
LINES = sum(1 + 3 + 1 for _ in (1, 2)) + 1 + 2 * 4


async def drive(engine: Engine) -> None:
    await engine.start("order", {}, id="o")
    await engine.signal("o", "go", "now", key="once")
    await engine.result("o", wait=30)


def lines(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines() if ledger.exists() else []


def check(log: Path, ledger: Path) -> None:
    found = lines(ledger)
    assert sorted(set(found)) == sorted(found)
    assert len(found) <= LINES
