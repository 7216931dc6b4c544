"""What the engine of the coordinator's own log runs: an application as any tenant's.

It holds no credential, and does nothing itself but write the record of operations. Workflows here
are replayed from logs that older versions have written: what they do stays as it is.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fleet.coordinator import history_log
from fleet.history_views import OperationView
from node import Retention, activity, workflow


@activity(transactional=True)
def take_down(operations: list[dict[str, Any]]) -> int:
    """Add operations to the record, each of them once."""
    rows = activity.transaction()
    history_log.prepare(rows)
    history_log.append(rows, [OperationView.model_validate(one) for one in operations])
    return len(operations)


@workflow
async def record(operations: list[dict[str, Any]]) -> int:
    """Record what was done."""
    return await take_down(operations)


RETENTION = Retention(workflow=record, keep=timedelta(minutes=10))
"""The table stays. How it was written need not."""
