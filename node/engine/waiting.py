"""Why an execution waits: for what, since when, and what will wake it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.engine.events import Kind
from node.engine.live import Live
from node.engine.queues import Queues
from node.engine.steps import Pending


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that an execution waits for.

    `kind` is queue, activity, timer, child, external, signal, condition, pause, version, code or
    nothing; `name` and `occurrence` say which. `since` and `until` are unix seconds; `until` is
    there when time alone will wake it. `wakes` says in words what will.
    """

    kind: str
    name: str
    occurrence: int | None
    since: float | None
    until: float | None
    wakes: str
    detail: Mapping[str, Any]


def waits_of(live: Live, executions: Mapping[str, Live], queues: Queues, now: int) -> list[Wait]:
    """Everything an open execution waits for, in the order in which its code asked. `now` in
    unix milliseconds."""
    if live.trouble is not None:
        detail: dict[str, Any] = {"error": live.trouble}
        if live.parked:
            version = str(live.origin.pin)
            words = f"version {version} of the application"
            return [Wait("version", version, None, None, None, words, detail)]
        return [Wait("code", live.workflow, None, None, None, live.trouble["hint"], detail)]
    found: list[Wait] = []
    if live.paused:
        found.append(Wait("pause", "", None, None, None, "resuming the execution", {}))
    if live.queued and live.origin.ticket is not None:
        since, until, words, detail = queues.wait_of(live, live.origin.ticket)
        queue, then = live.origin.ticket.queue, None if until is None else until / 1000
        found.append(Wait("queue", queue, None, since / 1000, then, words, detail))
    if live.over:
        return found
    steps = [_step(pending, executions, now) for pending in live.code.pending.values()]
    messages = live.code.messages
    for name, waiters in messages.receivers.items():
        steps += [_message("signal", name, w.since) for w in waiters if not w.future.done()]
    steps += [_message("condition", w.what, w.since) for w in messages.conditions]
    if not steps:
        words = "nothing but a message or a cancellation: its code awaits what no event completes"
        steps = [Wait("nothing", "", None, None, None, words, {})]
    return found + sorted(steps, key=lambda wait: wait.since or 0)


def _message(kind: str, name: str, since: int) -> Wait:
    words = f"a signal {name!r}" if kind == "signal" else "an event that makes it true"
    return Wait(kind, name, None, since / 1000, None, words, {})


def _step(pending: Pending, executions: Mapping[str, Live], now: int) -> Wait:
    until: float | None = None
    detail: dict[str, Any] = {}
    kind, words = "external", "completing it with its token"
    if pending.kind is Kind.TIMER:
        kind, words = "timer", "its deadline"
        until = int(str(pending.payload)) / 1000
    elif pending.kind is Kind.CHILD:
        child = json.loads(str(pending.payload))["id"]
        kind, words = "child", f"the end of execution {child!r}"
        live = executions.get(child)
        detail = {"id": child, "diverged": live is not None and live.trouble is not None}
    elif pending.kind is Kind.STEP:
        kind, (words, until, detail) = "activity", _activity(pending, now)
    return Wait(kind, *pending.step, pending.since / 1000, until, words, detail)


def _activity(pending: Pending, now: int) -> tuple[str, float | None, dict[str, Any]]:
    progress = pending.progress
    detail: dict[str, Any] = {"attempt": progress.failures + 1}
    if progress.error is not None:
        failure = json.loads(progress.error)
        detail["last_error"] = {"type": failure["type"], "message": failure["message"]}
    if progress.heartbeat is not None:
        detail["progress"] = json.loads(progress.heartbeat)
    if progress.retry_at > now:
        return "its next attempt", progress.retry_at / 1000, detail
    return "the end of the running attempt", None, detail
