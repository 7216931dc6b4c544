"""One execution's code: what it is told goes in, what it does comes out.

Nothing in here waits, writes or knows the clock. `begin` and `deliver` run the workflow's code
until it waits, and return the commands it gave; replaying is giving it the logged events again
and comparing its commands with the logged ones.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, cast

from node.engine.context import WorkflowInfo, seed
from node.engine.definition import Activity, Workflow
from node.engine.errors import (
    ActivityFailed,
    DeterminismError,
    Divergence,
    PayloadError,
    describe,
)
from node.engine.events import CLOSING, COMMANDS, DELIVERIES, TIMER_STEP, Event, Kind, Payload
from node.engine.loop import WorkflowLoop

#: A step of an execution: its name and its occurrence.
Step = tuple[str, int]


@dataclass(slots=True, eq=False)
class Progress:
    """How far the engine is with a step; it outlives a replay of the code."""

    failures: int = 0
    """Attempts that failed and are in the log."""
    retry_at: int = 0
    """When the next attempt may start, unix milliseconds."""
    sequence: int = 0
    """The intent's place in the log, 0 until it is committed."""
    resolved: bool = False
    """Its outcome is in the log, though the code may not have been told."""
    attempt: asyncio.Task[Any] | None = None


@dataclass(slots=True, eq=False)
class Pending:
    """A step that the code has called and that has no outcome yet."""

    name: str
    occurrence: int
    payload: Payload
    """An activity's input, a timer's deadline in unix milliseconds."""
    activity: Activity[Any, Any] | None = None
    future: asyncio.Future[Any] | None = None
    handle: asyncio.TimerHandle | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def step(self) -> Step:
        return self.name, self.occurrence


@dataclass(slots=True)
class Command:
    """What the code did: called an activity, set a timer, gave up on one, or ended."""

    kind: Kind
    name: str
    occurrence: int
    payload: Payload
    pending: Pending | None = None


class Run:
    """The code of one execution and what it waits for."""

    def __init__(
        self, *, key: str, workflow: Workflow[..., Any], payload: str, tenant: str, lineage: str
    ) -> None:
        self.key = key
        self.workflow = workflow
        self.payload = payload
        self.tenant = tenant
        self.lineage = lineage
        self.pending: dict[Step, Pending] = {}
        self.finished = False
        self._reset()

    def _reset(self) -> None:
        self._random: Random | None = None
        self._loop = WorkflowLoop(self, self.key)  # type: ignore[abstract]
        self._main: asyncio.Task[Any] | None = None
        self._counts: dict[str, int] = {}
        # By identity: asyncio takes two timers alike for equal.
        self._timers: dict[int, Pending] = {}
        self._commands: list[Command] = []
        self._started_at = 0

    def begin(self, at: int) -> list[Command]:
        """Start the code at the time of its first event. Raises PayloadError."""
        self._loop.milliseconds = self._started_at = at
        bound = self.workflow.codec.arguments(self.payload)
        coroutine = self.workflow.function(*bound.args, **bound.kwargs)
        self._main = self._loop.create_task(coroutine, name=self.key, context=contextvars.Context())
        return self._turn()

    def deliver(self, kind: Kind, step: Step, payload: Payload, at: int) -> list[Command]:
        """Tell the code a step's outcome. A step it no longer waits for changes nothing."""
        loop = self._loop
        pending = self.pending.pop(step, None)
        loop.milliseconds = max(loop.milliseconds, at)
        if pending is None:
            return []
        if kind is Kind.TIMER_FIRED:
            handle = cast(asyncio.TimerHandle, pending.handle)
            del self._timers[id(handle)]
            loop.milliseconds = max(loop.milliseconds, cast(int, pending.payload))
            loop.fire(handle)
        else:
            self._settle(pending, kind, payload)
        return self._turn()

    def _settle(self, pending: Pending, kind: Kind, payload: Payload) -> None:
        future = cast("asyncio.Future[Any]", pending.future)
        activity = cast("Activity[Any, Any]", pending.activity)
        if future.done():
            return
        if kind is Kind.STEP_COMPLETED:
            try:
                future.set_result(activity.codec.value(cast("str | None", payload)))
            except PayloadError as error:
                future.set_exception(error)
        else:
            failure = json.loads(cast(str, payload))
            future.set_exception(
                ActivityFailed(
                    step=pending.name,
                    occurrence=pending.occurrence,
                    type=failure["type"],
                    message=failure["message"],
                    attempts=failure["attempts"],
                )
            )

    def _turn(self) -> list[Command]:
        self._loop.turn()
        commands, self._commands = self._commands, []
        main = cast("asyncio.Task[Any]", self._main)
        if main.done() and not self.finished:
            self.finished = True
            commands.append(self._ending(main))
        return commands

    def _ending(self, main: asyncio.Task[Any]) -> Command:
        error: BaseException | None
        if main.cancelled():
            error = asyncio.CancelledError("the workflow cancelled itself")
        else:
            error = main.exception()
        if error is None:
            try:
                result = self.workflow.codec.result(main.result())
                return Command(Kind.COMPLETED, self.workflow.name, 1, result)
            except PayloadError as unfit:
                error = unfit
        if (broken := _determinism_error(error)) is not None:
            raise broken
        text = json.dumps(describe(error), separators=(",", ":"), ensure_ascii=False)
        return Command(Kind.FAILED, self.workflow.name, 1, text)

    def drop(self) -> None:
        """Let go of the coroutines; what is in the log stays."""
        self._loop.close()
        self._timers.clear()

    def replay(self, history: Sequence[Event], *, strict: bool = True) -> list[Command]:
        """Start over and follow the log; returns what the code did beyond it.

        `strict` also refuses a command that the log does not have while the log goes on; it is
        off where outcomes are logged before the code is told (durability every_commit). Raises
        Divergence, DeterminismError.
        """
        self.drop()
        self.finished = False
        self.pending = {}
        self._reset()
        return _Follower(self, history, strict).follow()

    # What the code calls ----------------------------------------------------------------------

    def call(self, activity: Activity[Any, Any], payload: str) -> asyncio.Future[Any]:
        pending = Pending(activity.name, self._next(activity.name), payload, activity)
        pending.future = self._loop.create_future()
        pending.future.add_done_callback(lambda future: self._given_up(pending, future))
        self.pending[pending.step] = pending
        self._commands.append(
            Command(Kind.STEP, pending.name, pending.occurrence, payload, pending)
        )
        return pending.future

    def _given_up(self, pending: Pending, future: asyncio.Future[Any]) -> None:
        if future.cancelled() and self.pending.get(pending.step) is pending:
            del self.pending[pending.step]
            self._commands.append(
                Command(Kind.STEP_CANCELLED, pending.name, pending.occurrence, None, pending)
            )

    def timer_set(self, handle: asyncio.TimerHandle, deadline: int) -> None:
        pending = Pending(TIMER_STEP, self._next(TIMER_STEP), deadline, handle=handle)
        self._timers[id(handle)] = pending
        self.pending[pending.step] = pending
        self._commands.append(
            Command(Kind.TIMER, pending.name, pending.occurrence, deadline, pending)
        )

    def timer_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pending = self._timers.pop(id(handle), None)
        if pending is not None:
            del self.pending[pending.step]

    def info(self) -> WorkflowInfo:
        started_at = datetime.fromtimestamp(self._started_at / 1000, UTC)
        return WorkflowInfo(self.key, self.workflow.name, started_at, self.tenant, self.lineage)

    @property
    def random(self) -> Random:
        """The execution's own random numbers."""
        if self._random is None:
            self._random = Random(seed(self.lineage, self.key))
        return self._random

    def issued(self, step: Step) -> bool:
        """Whether the code has called this step by now."""
        return step[1] <= self._counts.get(step[0], 0)

    def _next(self, name: str) -> int:
        count = self._counts.get(name, 0) + 1
        self._counts[name] = count
        return count


class _Follower:
    """One replay: the log on one side, the code on the other."""

    def __init__(self, run: Run, history: Sequence[Event], strict: bool) -> None:
        self.run = run
        self.strict = strict
        self.started = history[0]
        self.commands = deque(event for event in history if event.kind in COMMANDS)
        self.deliveries = deque(event for event in history if event.kind in DELIVERIES)
        self.closing = deque(event for event in history if event.kind in CLOSING)
        self.retries = [event for event in history if event.kind is Kind.STEP_RETRY]
        self.beyond: list[Command] = []

    def follow(self) -> list[Command]:
        at = self.started
        try:
            self._compare(self.run.begin(at.at), at)
            while self.deliveries:
                at = self.deliveries.popleft()
                if self.commands and self.commands[0].sequence < at.sequence:
                    raise _missing(self.commands[0])
                step = (at.name, at.occurrence)
                if not self.run.issued(step):
                    raise _missing(at)
                self._compare(self.run.deliver(at.kind, step, at.payload, at.at), at)
        except PayloadError as error:
            raise Divergence(f"event {at.sequence}: {error}", sequence=at.sequence) from error
        if self.commands:
            raise _missing(self.commands[0])
        if self.closing:
            raise _missing(self.closing[0])
        for event in self.retries:
            pending = self.run.pending.get((event.name, event.occurrence))
            if pending is not None:
                failure = json.loads(cast(str, event.payload))
                pending.progress.failures = failure["attempt"]
                pending.progress.retry_at = failure["next"]
        return self.beyond

    def _compare(self, commands: list[Command], told: Event) -> None:
        for command in commands:
            logged = self._expected(command)
            if logged is None:
                self._check_beyond(command, told)
                self.beyond.append(command)
            elif not _same(logged, command):
                raise Divergence(
                    f"event {logged.sequence}: the log holds {_logged(logged)}, the code did"
                    f" {_done(command)}",
                    sequence=logged.sequence,
                )
            elif command.pending is not None and logged.kind is not Kind.STEP_CANCELLED:
                command.pending.progress.sequence = logged.sequence
                # The deadline in the log holds, even if the code would choose another one now.
                command.pending.payload = logged.payload

    def _expected(self, command: Command) -> Event | None:
        if self.commands:
            return self.commands.popleft()
        if command.kind in CLOSING and self.closing and not self.deliveries:
            return self.closing.popleft()
        return None

    def _check_beyond(self, command: Command, told: Event) -> None:
        following = self.deliveries[0] if self.deliveries else None
        if following is None:
            following = self.closing[0] if self.closing else None
        if following is None:
            return
        # Outcomes of one commit can have been logged before the code was told the first.
        late = not self.strict or following.commit == told.commit
        if command.kind in CLOSING or following.kind in CLOSING or not late:
            raise Divergence(
                f"event {following.sequence}: the log holds {_logged(following)}, the code did"
                f" {_done(command)} before it, which the log does not have",
                sequence=following.sequence,
            )


def _same(event: Event, command: Command) -> bool:
    same = (event.kind, event.name, event.occurrence) == (
        command.kind,
        command.name,
        command.occurrence,
    )
    return same and (event.kind is Kind.TIMER or event.payload == command.payload)


def _missing(event: Event) -> Divergence:
    return Divergence(
        f"event {event.sequence}: the log holds {_logged(event)}, the code did not get there",
        sequence=event.sequence,
    )


def _logged(event: Event) -> str:
    return _words(event.kind, event.name, event.occurrence, event.payload)


def _done(command: Command) -> str:
    return _words(command.kind, command.name, command.occurrence, command.payload)


def _words(kind: Kind, name: str, occurrence: int, payload: Payload) -> str:
    detail = "" if payload is None else f" {str(payload)[:200]}"
    return f"{kind.name.lower()} {name} #{occurrence}{detail}"


def _determinism_error(error: BaseException | None) -> DeterminismError | None:
    if isinstance(error, DeterminismError):
        return error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            if (found := _determinism_error(inner)) is not None:
                return found
    return None
