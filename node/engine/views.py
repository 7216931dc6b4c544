"""Executions as the engine shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from node.engine.events import CLOSED_STATUS, Status
from node.engine.live import Live
from node.engine.store import Stored


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution as it is known now. Times are unix seconds; payloads are decoded JSON.

    `sequence` is the event that a reader of this view depends on: its closing event, or the
    newest committed one. `error` has at least "type" and "message". `rowid` orders executions
    by their start.
    """

    id: str
    workflow: str
    status: Status
    input: Any
    result: Any
    error: dict[str, Any] | None
    started_at: float
    closed_at: float | None
    sequence: int
    rowid: int
    paused: bool = False
    version: str | None = None
    """What the application that started it called its version."""
    forked_from: Mapping[str, Any] | None = None
    """For a fork, and for what was imported, the execution that it was made from: `id`, `mode`
    and `sequence`, with `tenant`, `lineage` and `digest` where that was another log's."""
    pinned: bool = False
    """It does not move to another version."""
    runs_on: str | None = None
    """The version whose code an open execution has, or waits for."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to a start: the execution, and whether this call created it."""

    view: ExecutionView
    created: bool


def _error(status: Status, outcome: Any) -> dict[str, Any] | None:
    if status is Status.FAILED:
        return cast("dict[str, Any]", outcome)
    if status in (Status.CANCELLED, Status.TERMINATED):
        return {"type": status.value.capitalize(), "message": outcome or ""}
    return None


def stored_of(live: Live) -> Stored:
    """What the log has of an execution whose first event is committed."""
    ending = live.ended
    return Stored(
        rowid=live.rowid,
        id=live.key,
        workflow=live.workflow,
        status=Status.RUNNING if ending is None else CLOSED_STATUS[ending.kind],
        started=live.started,
        closed=ending.sequence if ending else None,
        input=live.payload,
        outcome=ending.payload if ending else None,
        started_at=live.started_at,
        closed_at=ending.at if ending else None,
        version=live.origin.version,
        forked_from=live.forked_from,
        labels=live.origin.labels,
    )


def view_of(
    stored: Stored, live: Live | None, newest: int, runs_on: str | None = None
) -> ExecutionView:
    """What the log and the memory say together; `newest` is the newest committed event, and
    `runs_on` the version that runs it if it is open."""
    outcome = None if stored.outcome is None else json.loads(str(stored.outcome))
    view = ExecutionView(
        id=stored.id,
        workflow=stored.workflow,
        status=stored.status,
        input=json.loads(str(stored.input)),
        result=outcome if stored.status is Status.COMPLETED else None,
        error=_error(stored.status, outcome),
        started_at=stored.started_at / 1000,
        closed_at=None if stored.closed_at is None else stored.closed_at / 1000,
        sequence=stored.closed or newest,
        rowid=stored.rowid,
        version=stored.version,
        forked_from=None if stored.forked_from is None else json.loads(stored.forked_from),
        labels=stored.labels,
    )
    if live is not None:
        status = Status.QUEUED if live.queued else view.status
        pinned = live.pin is not None
        view = replace(view, paused=live.paused, status=status, pinned=pinned, runs_on=runs_on)
    if live is not None and live.trouble is not None:
        stopped = Status.PARKED if live.parked else Status.DIVERGED
        return replace(view, status=stopped, error=live.trouble)
    return view
