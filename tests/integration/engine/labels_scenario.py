"""Labels of a start, of the code, of a child and of what goes on with a new input."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import apsw

from node import RetryPolicy, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from tests.integration.engine.engine_app import record


@activity(retry=RetryPolicy(initial=0.001))
async def pays(amount: int) -> int:
    record("pays")
    await asyncio.sleep(0)
    return amount


@workflow
async def ships(to: str) -> str:
    workflow.label(stage="shipped")
    return json.dumps(workflow.labels())


@workflow
async def orders(amount: int, again: bool) -> dict[str, str]:
    workflow.label(stage="new", hint="look")
    await pays(amount)
    workflow.label(stage="paid", hint=None)
    # Nothing changes, so nothing is logged.
    workflow.label(stage="paid")
    child = ships.with_labels(customer="acme").child("home")
    await workflow.sleep(0.001)
    said = json.loads(await child)
    if again:
        workflow.continue_as_new(amount + 1, False)
    return {**workflow.labels(), "child": said["customer"]}


APP = collect("labels", [pays, ships, orders])
GIVEN = {"customer": "acme", "desk": "9"}
WANTED = {
    "o": ["COMPLETED", {"child": "acme", "customer": "acme", "desk": "9", "stage": "paid"}],
    **{f"o.ships.{n}": ["COMPLETED", '{"customer": "acme", "stage": "shipped"}'] for n in (1, 2)},
}


async def drive(engine: Engine) -> None:
    await engine.start("orders", {"amount": 1, "again": True}, id="o", labels=GIVEN)
    await engine.result("o", wait=30)


def check(log: Path, ledger: Path) -> None:
    assert "pays" in ledger.read_text()
    db = apsw.Connection(str(log), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = db.execute("SELECT id, labels FROM executions ORDER BY id").fetchall()
    finally:
        db.close()
    found = {str(id): json.loads(str(labels)) for id, labels in rows}
    shipped = {"customer": "acme", "stage": "shipped"}
    assert found == {
        "o": {**GIVEN, "stage": "paid"},
        "o.ships.1": shipped,
        "o.ships.2": shipped,
    }
