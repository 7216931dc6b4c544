"""A small application for tests: steps whose effects a test can see from outside."""

from __future__ import annotations

import os

from node import activity, workflow


@activity
def mark(number: int) -> str:
    """Append a line to the file that the test named: an effect outside the node."""
    info = activity.info()
    line = f"{info.execution} {number} {info.idempotency_key}"
    with open(os.environ["MARKS"], "a", encoding="utf-8") as file:
        file.write(line + "\n")
    return line


@activity(transactional=True)
def keep(number: int) -> None:
    """Write the tenant's own table in the log's own transaction."""
    table = activity.transaction()
    table.execute("CREATE TABLE IF NOT EXISTS kept (number INTEGER)")
    table.execute("INSERT INTO kept VALUES (?)", (number,))


@workflow
async def count(steps: int, pause: float = 0.0) -> int:
    """Mark and keep every number below ``steps``, with a pause between."""
    for number in range(steps):
        await mark(number)
        await keep(number)
        if pause:
            await workflow.sleep(pause)
    workflow.logger.info("counted to %s", steps)
    return steps
