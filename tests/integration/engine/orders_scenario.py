"""Executions of every kind of step, with effects that are counted and a table of their own."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import apsw

from node.engine.application import load_app
from node.engine.engine import Engine
from node.engine.inspection import inspect_log

APP = load_app("tests.integration.engine.engine_app")
IDS = [f"order-{number}" for number in range(4)]


async def drive(engine: Engine) -> None:
    await asyncio.gather(
        *(engine.start("order", {"names": ["pen", "ink", id]}, id=id) for id in IDS)
    )
    await asyncio.gather(*(engine.result(id, wait=60) for id in IDS))


def check(log: Path, ledger: Path) -> None:
    assert inspect_log(log).executions["completed"] == len(IDS)
    # The table and the log agree: each booking once, though the first attempt always fails.
    db = apsw.Connection(str(log), flags=apsw.SQLITE_OPEN_READONLY)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    booked = Counter(row[0] for row in db.execute("SELECT id FROM booking"))
    db.close()
    assert booked == dict.fromkeys(IDS, 1)
    # Every effect that the log knows happened, and a repeated one carried the same key.
    keys = {tuple(line.split()[:2]) for line in ledger.read_text().splitlines()}
    per_execution = Counter(kind for kind, _ in keys)
    assert per_execution == {"price": 4 * len(IDS), "tax": 3 * len(IDS), "flaky": len(IDS)}
