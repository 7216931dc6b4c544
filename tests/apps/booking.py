"""An application for faults: each step is one row and one commit, and has no effect outside."""

from __future__ import annotations

from node import activity, workflow


@activity(transactional=True)
def book(number: int) -> None:
    """Add a row that names its execution to the tenant's own table, in the log's transaction."""
    table = activity.transaction()
    table.execute("CREATE TABLE IF NOT EXISTS booked (execution TEXT, number INTEGER)")
    table.execute("INSERT INTO booked VALUES (?, ?)", (activity.info().execution, number))


@workflow
async def count(steps: int, pause: float = 0.0) -> int:
    """Book every number below ``steps``, with a pause between."""
    for number in range(steps):
        await book(number)
        if pause:
            await workflow.sleep(pause)
    return steps
