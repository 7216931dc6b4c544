"""What the engine of the coordinator's own log runs: an application as any tenant's.

It holds no credential, and does nothing itself but write the record of operations: a step of an
operation is asked of the coordinator beside it, again and again until it answers, so each step must
be safe to repeat. Workflows here are replayed from logs that older versions have written: what they
do stays as it is.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Final

import httpx

from fleet.coordinator import history_log
from fleet.history_views import OperationView
from node import Retention, RetryPolicy, activity, workflow

STEPS_SOCKET: Final = "COORDINATOR_STEPS"
"""In the engine's environment: the unix socket at which the coordinator carries out steps."""
STEP_WITHIN: Final = 1000.0
"""Seconds for one try of a step."""
UNTIL_DONE = RetryPolicy(max_attempts=None, initial=0.2, max_interval=2.0)


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


@activity(retry=UNTIL_DONE)
async def step(name: str, operation: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Have the coordinator carry out a step of an operation; what it says of it."""
    transport = httpx.AsyncHTTPTransport(uds=os.environ[STEPS_SOCKET])
    async with httpx.AsyncClient(transport=transport, timeout=STEP_WITHIN) as http:
        body = {"operation": operation, "given": given}
        answer = await http.post(f"http://coordinator/steps/{name}", json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@workflow
async def restore(operation: dict[str, Any]) -> dict[str, Any]:
    """Take a tenant back to a past state, or fork one: rehearse it, record that it is wanted, and
    follow it to its end. What is wanted is carried out by the fleet, whoever coordinates it."""
    began = workflow.now().timestamp()
    taken: list[dict[str, Any]] = []

    async def told(name: str, given: dict[str, Any]) -> dict[str, Any]:
        since = workflow.now()
        found = await step(name, operation, given)
        while not found.get("over", True):
            found = await step(name, operation, given)
        seconds = (workflow.now() - since).total_seconds()
        taken.append({"name": name, "seconds": max(0.0, seconds)})
        return found

    end = found = await told("rehearse", {})
    if not found.get("error"):
        end = wanted = await told("want", found)
        if not wanted.get("error"):
            end = await told("follow", wanted)
    # By the log's own time, which never goes back.
    ended = workflow.now().timestamp()
    recorded = {
        "id": operation["id"],
        "kind": "fork" if operation["source"] else "restore",
        "tenant": operation["tenant"],
        "by": operation["by"],
        "why": operation["why"],
        "began_at": began,
        "ended_at": ended,
        "steps": taken,
        "outcome": end.get("outcome", "done"),
        "error": end.get("error", ""),
        "epoch_before": end.get("epoch_before"),
        "epoch_after": end.get("epoch_after"),
        "to_host": end.get("to_host"),
        "data": {"origin": found.get("origin"), "source": operation["source"]},
    }
    await take_down([recorded])
    return end


RETENTION = Retention(workflow=record, keep=timedelta(minutes=10))
"""The table stays. How it was written need not."""
RETENTION_OF_RESTORES = Retention(workflow=restore, keep=timedelta(days=30))
