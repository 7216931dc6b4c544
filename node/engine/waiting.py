"""Why an execution waits: for what, since when, and what will wake it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from node.engine.durability import Durability, effective
from node.engine.events import Kind, Status
from node.engine.live import Live
from node.engine.queues import Queues
from node.engine.stacks import Stack, is_composed, stacks_of
from node.engine.steps import Pending

#: Children below children that are looked into.
DEEPEST: Final = 10


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that an execution waits for.

    `kind` is queue, activity, timer, child, external, signal, condition, asyncio, pause, code or
    nothing; `name` and `occurrence` say which. `since` and `until` are unix seconds; `until` is
    there when time alone will wake it. `wakes` says in words what will. `where` is the line of
    code that waits, as `file:line in function`.
    """

    kind: str
    name: str
    occurrence: int | None
    since: float | None
    until: float | None
    wakes: str
    detail: Mapping[str, Any]
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open execution with all that it waits for. `since` is when the newest of that began,
    unix seconds: nothing has come of it from then on."""

    id: str
    workflow: str
    status: Status
    rowid: int
    since: float
    waits: list[Wait]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What surrounds executions in their engine, as far as they may have to wait for it.

    `now` in unix milliseconds; `paused` gives since when an execution is paused (unix ms), and
    why.
    """

    executions: Mapping[str, Live]
    queues: Queues
    now: int
    floor: Durability
    proven: int
    may_have_effects: bool
    thread_is_free: bool
    paused: Callable[[Live], tuple[int | None, str | None]]


def status_of(live: Live) -> Status:
    """How an open execution stands."""
    if live.trouble is not None:
        return Status.DIVERGED
    return Status.QUEUED if live.queued else Status.RUNNING


def occupation_of(live: Live) -> str:
    """What an open execution is at, in one word."""
    if live.trouble is None and live.paused:
        return "paused"
    if live.trouble is not None or live.queued or live.over:
        return status_of(live).value
    busy = live.in_transaction or any(
        pending.progress.began_at for pending in live.code.pending.values()
    )
    return "running" if busy else "waiting"


def waiting_of(live: Live, around: Surroundings) -> Waiting:
    """An open execution with what it waits for."""
    waits = waits_of(live, around)
    times = [wait.since for wait in waits if wait.since is not None]
    since = max(times, default=live.started_at / 1000)
    return Waiting(live.key, live.workflow, status_of(live), live.rowid, since, waits)


def stack_of(live: Live) -> list[Stack]:
    """Where the tasks of an open execution wait, its own first."""
    return [] if live.over else list(stacks_of(live.code.tasks))


def waits_of(live: Live, around: Surroundings, depth: int = 0) -> list[Wait]:
    """Everything an open execution waits for, in the order in which its code asked; of a child,
    too, up to DEEPEST."""
    if live.trouble is not None:
        trouble: dict[str, Any] = {"error": live.trouble}
        since = live.stopped_at / 1000
        return [Wait("code", live.workflow, None, since, None, live.trouble["hint"], trouble)]
    found: list[Wait] = []
    if live.paused:
        at, reason = around.paused(live)
        detail = {} if reason is None else {"reason": reason}
        began = None if at is None else at / 1000
        found.append(Wait("pause", "", None, began, None, "resuming the execution", detail))
    if live.queued and live.origin.ticket is not None:
        since_ms, until, words, detail = around.queues.wait_of(live, live.origin.ticket)
        queue, then = live.origin.ticket.queue, None if until is None else until / 1000
        found.append(Wait("queue", queue, None, since_ms / 1000, then, words, detail))
    if live.over:
        return found
    steps = _in_code(live, around, depth)
    if not steps:
        words = "nothing but a message or a cancellation: its code awaits what no event completes"
        steps = [Wait("nothing", "", None, None, None, words, {})]
    return found + sorted(steps, key=lambda wait: wait.since or 0)


def _in_code(live: Live, around: Surroundings, depth: int) -> list[Wait]:
    code = live.code
    stacks = stacks_of(code.tasks)
    where = {id(future): str(stack.place) for stack, future in stacks.items() if stack.place}
    known: set[int] = set()
    steps: list[Wait] = []
    for pending in code.pending.values():
        future = pending.future
        known.add(id(future))
        wait = _step(live, pending, around, depth)
        steps.append(replace(wait, where=where.get(id(future))))
    messages = code.messages
    waiters = [("signal", one) for some in messages.receivers.values() for one in some]
    waiters += [("condition", one) for one in messages.conditions]
    for kind, waiter in waiters:
        known.add(id(waiter.future))
        if not waiter.future.done():
            wait = _message(kind, waiter.what, waiter.since)
            steps.append(replace(wait, where=where.get(id(waiter.future))))
    for stack, waited in stacks.items():
        what = stack.between_tasks
        if waited is not None and what and id(waited) not in known and not is_composed(waited):
            words = "other code of the same workflow"
            about = {"task": stack.task}
            place = None if stack.place is None else str(stack.place)
            steps.append(Wait("asyncio", what, None, None, None, words, about, place))
    return steps


def _message(kind: str, name: str, since: int) -> Wait:
    words = f"a signal {name!r}" if kind == "signal" else "an event that makes it true"
    return Wait(kind, name, None, since / 1000, None, words, {})


def _step(live: Live, pending: Pending, around: Surroundings, depth: int) -> Wait:
    until: float | None = None
    detail: dict[str, Any] = {}
    kind, words = "external", "completing it with its token"
    if pending.progress.resolved:
        kind, words = "proof", "the proof that its outcome is in the bucket"
        detail = {"of": pending.kind.name.lower()}
    elif pending.kind is Kind.TIMER:
        kind, words = "timer", "its deadline"
        until = int(str(pending.payload)) / 1000
        if live.still and until * 1000 <= around.now:
            words = "resuming the execution: its deadline has passed"
    elif pending.kind is Kind.CHILD:
        kind, (words, detail) = "child", _child(pending, around, depth)
    elif pending.kind is Kind.STEP:
        kind, (words, until, detail) = "activity", _activity(live, pending, around)
    return Wait(kind, *pending.step, pending.since / 1000, until, words, detail)


def _child(pending: Pending, around: Surroundings, depth: int) -> tuple[str, dict[str, Any]]:
    key = json.loads(str(pending.payload))["id"]
    live = around.executions.get(key)
    detail: dict[str, Any] = {"id": key, "diverged": live is not None and live.trouble is not None}
    if live is not None:
        detail["status"] = status_of(live)
        if depth < DEEPEST:
            detail["waits"] = waits_of(live, around, depth + 1)
    return f"the end of execution {key!r}", detail


def _activity(
    live: Live, pending: Pending, around: Surroundings
) -> tuple[str, float | None, dict[str, Any]]:
    progress, activity = pending.progress, pending.activity
    assert activity is not None
    detail: dict[str, Any] = {"attempt": progress.failures + 1}
    if activity.retry.max_attempts is not None:
        detail["max_attempts"] = activity.retry.max_attempts
    if progress.error is not None:
        failure = json.loads(progress.error)
        detail["last_error"] = {"type": failure["type"], "message": failure["message"]}
    if progress.heartbeat is not None:
        detail["progress"] = json.loads(progress.heartbeat)
    if progress.retry_at > around.now:
        return "its next attempt", progress.retry_at / 1000, detail
    if progress.began_at:
        detail["running_since"] = progress.began_at / 1000
        if activity.timeout is None:
            return "the end of the running attempt", None, detail
        ends = progress.began_at / 1000 + activity.timeout
        return "the end of the running attempt, or its timeout", ends, detail
    level = effective(around.floor, live.code.workflow.durability, activity.durability)
    if live.still:
        words = "its attempt, once the execution goes on"
    elif activity.transactional:
        words = "the commit in which it runs"
    elif progress.sequence == 0:
        words = "the commit of its intent"
    elif level is not Durability.ASYNC and progress.sequence > around.proven:
        words = f"the proof that its intent, event {progress.sequence}, is in the bucket"
    elif not around.may_have_effects:
        words = "the host's authority, which it has not now: nothing may leave it"
    elif not (activity.is_async or around.thread_is_free):
        words = "a free thread: others of this engine's activities have them all"
    else:
        words = "the start of its attempt"
    return words, None, detail
