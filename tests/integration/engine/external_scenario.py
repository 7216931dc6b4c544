"""Approval by token, and a patch, under a client that completes everything again when in doubt."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from node import activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.errors import ExecutionClosed
from tests.integration.engine.engine_app import record
from tests.integration.engine.harness import until


@activity
async def ask(token: str) -> None:
    record(token)


@workflow
async def approval() -> dict[str, object]:
    new = workflow.patched("ask-twice")
    first = workflow.external("approved", bool)
    await ask(first.token)
    answer = await first
    again = workflow.external("approved", bool)
    await ask(again.token)
    try:
        await workflow.wait_for(lambda: False, timeout=0.001)
        late = False
    except TimeoutError:
        late = True
    return {"new": new, "answers": [answer, await again], "late": late}


APP = collect("external", [ask, approval])
WANTED = {"a": ["COMPLETED", {"new": True, "answers": [True, False], "late": True}]}


def tokens() -> list[str]:
    path = Path(os.environ["LEDGER"])
    return list(dict.fromkeys(path.read_text().splitlines())) if path.exists() else []


async def drive(engine: Engine) -> None:
    await engine.start("approval", {}, id="a")
    for number in range(2):
        if (await engine.result("a")).closed_at is None:
            await until(lambda number=number: len(tokens()) > number)  # type: ignore[misc]
            with suppress(ExecutionClosed):
                await engine.complete(tokens()[number], number == 0)
    await engine.result("a", wait=30)
