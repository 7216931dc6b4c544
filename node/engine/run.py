"""One execution's code: what it is told goes in, what it does comes out.

Nothing in here waits, writes or knows the clock. `begin` and `deliver` run the workflow's code
until it waits, and return the commands it gave; replaying is giving it the logged events again
and comparing its commands with the logged ones.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, cast

from node.engine.beginning import Beginning, compact
from node.engine.context import WorkflowInfo, child_id, seed
from node.engine.definition import Activity, Workflow
from node.engine.errors import (
    ActivityFailed,
    ChildFailed,
    ContinueAsNew,
    DeterminismError,
    PayloadError,
    StateChanged,
    StreamClosed,
    describe,
)
from node.engine.events import DONE, MESSAGES, TIMER_STEP, Event, Kind, Payload, letter
from node.engine.external import token_for
from node.engine.following import Follower
from node.engine.forked import Identity
from node.engine.labels import FIELD as LABELS
from node.engine.labels import changed, checked_labels
from node.engine.lines import emit
from node.engine.loop import Line, WorkflowLoop
from node.engine.messages import Messages
from node.engine.payload import Shape
from node.engine.queue_ticket import Ticket
from node.engine.steps import Command, Pending, Step
from node.engine.stream import END, FULL, chunk

# Looking a member up in its enumeration takes 0.1 us, some dozens of times a step.
_STEP: Final = Kind.STEP
_CANCEL: Final = Kind.CANCEL
_TIMER_FIRED: Final = Kind.TIMER_FIRED
_GIVE_UP: Final = {
    Kind.STEP: Kind.STEP_CANCELLED,
    Kind.CHILD: Kind.CHILD_CANCELLED,
    Kind.EXTERNAL: Kind.EXTERNAL_CANCELLED,
}


class Run:
    """The code of one execution and what it waits for."""

    def __init__(
        self,
        *,
        key: str,
        workflow: Workflow[..., Any],
        beginning: Beginning,
        tenant: str,
        lineage: str,
        secret: bytes = bytes(32),
        schedule: tuple[str, int] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """`schedule` is what started it and for when (unix ms), if a schedule did."""
        self.key = key
        self.workflow = workflow
        self.beginning = beginning
        self._forked = beginning.forked
        self._own = Identity(key, tenant, lineage, beginning.run, secret)
        forked = beginning.forked
        self.schedule = schedule or (None if forked is None else forked.schedule)
        self._given_labels = labels or {}
        self.pending: dict[Step, Pending] = {}
        self.finished = False
        self.untold: Sequence[Event] = ()
        """What the log that was replayed tells after the code's end."""
        self.said: list[Line] = []
        """What the code has logged and nobody has been given yet."""
        self._reset()

    def _reset(self) -> None:
        self._random: Random | None = None
        self._identity = self._own
        self._loop = WorkflowLoop(self, self.key)  # type: ignore[abstract]
        self._messages: Messages | None = None
        self._main: asyncio.Task[Any] | None = None
        self._patches: dict[str, bool] = {}
        self._closed_streams: set[str] = set()
        self.labels: Mapping[str, str] = self._given_labels
        self._follower: Follower | None = None
        self._cancelled: list[Payload] = []
        self._counts = dict(self.beginning.counts)
        # By identity: asyncio takes two timers alike for equal.
        self._timers: dict[int, Pending] = {}
        self._commands: list[Command] = []
        self._started_at = 0

    def begin(self, at: int, early: Iterable[tuple[str, Payload]] = ()) -> list[Command]:
        """Start the code at the time of its first event. `early` are the signals that came
        before that: name and letter. Raises PayloadError."""
        self._loop.milliseconds = self._started_at = at
        if self._forked is not None:
            self._become()
        bound = self.workflow.codec.arguments(self.beginning.input)
        coroutine = self.workflow.function(*bound.args, **bound.kwargs)
        for name, value in self.beginning.signals:
            self.messages.signal(name, letter(value, None))
        for name, payload in early:
            self.messages.signal(name, payload)
        self._main = self._loop.create_task(coroutine, name=self.key, context=contextvars.Context())
        return self._turn()

    def deliver(self, kind: Kind, step: Step, payload: Payload, at: int) -> list[Command]:
        """Tell the code a step's outcome, or a message.

        A step it no longer waits for changes nothing. Raises UnknownHandler and PayloadError for
        an update that the code does not take, DeterminismError.
        """
        loop = self._loop
        if at > loop.milliseconds:
            loop.milliseconds = at
        if self._forked is not None:
            self._become()
        if kind in MESSAGES or kind is _CANCEL:
            return self._message(kind, step, payload)
        pending = self.pending.pop(step, None)
        if pending is None:
            return []
        if kind is _TIMER_FIRED:
            handle = cast("asyncio.TimerHandle", pending.handle)
            del self._timers[id(handle)]
            loop.milliseconds = max(loop.milliseconds, cast(int, pending.payload))
            loop.fire(handle)
        else:
            self._settle(pending, kind, payload)
        return self._turn()

    def _message(self, kind: Kind, step: Step, payload: Payload) -> list[Command]:
        if self.finished:
            return []
        if kind is Kind.CANCEL:
            self._cancelled.append(payload)
            cast("asyncio.Task[Any]", self._main).cancel()
        elif kind is Kind.SIGNAL:
            self.messages.signal(step[0], payload)
        else:
            self.messages.update(*step, payload)
        return self._turn()

    def _settle(self, pending: Pending, kind: Kind, payload: Payload) -> None:
        future, read = pending.future, pending.read
        assert future is not None
        assert read is not None
        # Each has the other, which only a search for garbage would find.
        pending.future = None
        if future.done():
            return
        if kind in DONE:
            try:
                future.set_result(read(payload))  # type: ignore[arg-type]
            except PayloadError as error:
                future.set_exception(error)
            return
        failure = json.loads(cast(str, payload))
        if kind is Kind.CHILD_FAILED:
            future.set_exception(ChildFailed(workflow=pending.name, **failure))
        else:
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
        loop, main = self._loop, self._main
        assert main is not None
        loop.turn()
        messages = self._messages
        while messages is not None and messages.conditions and not main.done():
            loop.call_soon(messages.recheck, context=contextvars.Context())
            loop.turn()
            if not messages.woken:
                break
        commands, self._commands = self._commands, []
        if self.finished:
            return commands
        if main.done():
            self.finished = True
            commands.append(self._ending(main))
        elif messages is not None and messages.failure is not None:
            self.finished = True
            commands.append(self._failed(messages.failure))
        return commands

    def _ending(self, main: asyncio.Task[Any]) -> Command:
        error: BaseException | None
        if main.cancelled() and self._cancelled:
            return Command(Kind.CANCELLED, self.workflow.name, 1, self._cancelled[-1])
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
        if isinstance(error, ContinueAsNew):
            beginning = Beginning(error.input, self.beginning.run + 1, dict(self._counts))
            return Command(Kind.CONTINUED, self.workflow.name, 1, beginning.payload())
        return self._failed(error)

    def _failed(self, error: BaseException) -> Command:
        if (broken := _determinism_error(error)) is not None:
            raise broken
        text = json.dumps(describe(error), separators=(",", ":"), ensure_ascii=False)
        return Command(Kind.FAILED, self.workflow.name, 1, text)

    def drop(self) -> None:
        """Let go of the coroutines; what is in the log stays."""
        self._loop.close()
        self._timers.clear()

    def retire(self) -> None:
        """It has ended, and nobody will ask it anything any more."""
        self._loop.part()
        self._messages = None

    def replay(self, history: Sequence[Event], *, strict: bool = True) -> list[Command]:
        """Start over and follow the log; returns what the code did beyond it.

        `strict` also refuses a command that the log does not have while the log goes on; it is
        off where outcomes are logged before the code is told (durability every_commit). Raises
        Divergence, DeterminismError.
        """
        if self._main is not None:
            self.drop()
            self.finished = False
            self.pending = {}
            self._reset()
        self._loop.silent = True
        follower = self._follower = Follower(self, history, strict)
        try:
            with self._loop.entered():
                return follower.follow()
        finally:
            self.untold = tuple(follower.deliveries)
            self._follower = None
            self._loop.silent = self._loop.is_closed()

    @property
    def messages(self) -> Messages:
        """What the code has to say to messages. Most executions never ask for it."""
        if self._messages is None:
            self._messages = Messages(self, self._loop)
        return self._messages

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks of the code that have not ended, the workflow's own first."""
        return self._loop.tasks

    # Looking ----------------------------------------------------------------------------------

    @property
    def patches(self) -> Mapping[str, bool]:
        """The patches that the code has asked for, and whether it takes their new path."""
        return self._patches

    def query(self, name: str, values: Mapping[str, Any], *, isolated: bool = False) -> str | None:
        """The JSON of a query's answer; see `Messages.query` for what it raises."""
        return self.messages.query(name, values, isolated=isolated)

    def read_only(self, function: Callable[[], Any]) -> Any:
        """Run a function that may only look. Raises StateChanged, DeterminismError."""
        if self._loop.is_running():
            return self._loop.look(function)
        try:
            return self._loop.look(function)
        finally:
            # Nothing of it comes into the log.
            emit(self.take())

    def take(self) -> list[Line]:
        """What the code has said; it is forgotten here."""
        said, self.said = self.said, []
        return said

    @property
    def about(self) -> dict[str, object]:
        """What a record that the code logs says of it; see `lines.FIELDS`."""
        return {"tenant": self._own.tenant, "execution": self.key, "workflow": self.workflow.name}

    def _refuse_when_reading(self) -> None:
        if self._loop.reading:
            self._loop.refuse(StateChanged("it would do something, and may only look"))

    # What the code calls ----------------------------------------------------------------------

    def external(self, name: str, shape: Shape) -> tuple[str, asyncio.Future[Any]]:
        """An event for something outside to complete: its token, and its value."""
        self._refuse_when_reading()

        def read(payload: str | None) -> Any:
            return shape.read("null" if payload is None else payload)

        pending = self._pending(name, None, Kind.EXTERNAL, read)
        who = self._author()
        return token_for(who.secret, who.execution, pending.step), self._wait(pending)

    def patched(self, name: str) -> bool:
        """Whether the code is to take the new path called `name`: always the same answer in one
        history."""
        self._refuse_when_reading()
        known = self._patches.get(name)
        if known is None:
            follower = self._follower
            issued = self._issued()
            # A history that goes on without it was written by the old path.
            known = follower is None or name in follower.patches or not follower.ahead(issued)
            self._patches[name] = known
            if known:
                self._commands.append(Command(Kind.PATCH, name, 1, None))
        return known

    def publish(self, stream: str, value: str) -> None:
        """Add a JSON value to a stream. Raises StreamClosed."""
        self._refuse_when_reading()
        self._refuse_closed(stream)
        last = self._commands[-1] if self._commands else None
        if last is not None and last.kind is Kind.CHUNK and last.name == stream:
            # What one turn publishes in a row is one event: a replay has the same turns.
            values = str(last.payload)
            if len(values) < FULL:
                last.payload = f"{values[:-2]},{value}]}}"
                return
        self.emit(Kind.CHUNK, stream, 1, chunk([value]))

    def end_stream(self, stream: str) -> None:
        """Nothing more is added to a stream. Raises StreamClosed."""
        self._refuse_when_reading()
        self._refuse_closed(stream)
        self._closed_streams.add(stream)
        self.emit(Kind.CHUNK, stream, 1, END)

    def label(self, change: Mapping[str, str | None]) -> None:
        """Change the execution's labels; None takes one away. Raises PayloadError."""
        self._refuse_when_reading()
        after = checked_labels(changed(self.labels, change))
        if after != self.labels:
            self.labels = after
            self.emit(Kind.LABELLED, self.workflow.name, 1, compact(dict(change)))

    def _refuse_closed(self, stream: str) -> None:
        if stream in self._closed_streams:
            raise StreamClosed(f"the stream {stream!r} is closed")

    def emit(self, kind: Kind, name: str, occurrence: int, payload: Payload) -> None:
        """Record what the code did."""
        if not self.finished:
            self._commands.append(Command(kind, name, occurrence, payload))

    def call(self, activity: Activity[Any, Any], payload: str) -> asyncio.Future[Any]:
        """A step: its number is taken and its intent is recorded now."""
        if self._loop.reading:
            self._refuse_when_reading()
        pending = self._pending(activity.name, payload, _STEP, activity.codec.value)
        pending.activity = activity
        return self._wait(pending)

    def start_child(
        self,
        workflow: Workflow[..., Any],
        payload: str,
        id: str | None,
        *,
        detached: bool,
        ticket: Ticket | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> tuple[str, asyncio.Future[Any]]:
        """Start another execution; its id, and its outcome for one that is not detached."""
        self._refuse_when_reading()
        number = self._counts.get(workflow.name, 0) + 1
        key = child_id(self._author().execution, workflow.name, number) if id is None else id
        if self._forked is not None:
            key = self._forked.renamed.get(key, key)
        flag = ',"detached":true' if detached else ""
        if ticket is not None:
            flag += f",{compact(ticket.body())[1:-1]}"
        if labels:
            flag += f',"{LABELS}":{compact(dict(labels))}'
        body = f'{{"id":{json.dumps(key)},"input":{payload}{flag}}}'
        pending = self._pending(workflow.name, body, Kind.CHILD, workflow.codec.value)
        if not detached:
            return key, self._wait(pending)
        self._commands.append(Command(Kind.CHILD, *pending.step, body))
        future = self._loop.create_future()
        future.set_result(None)
        return key, future

    def _pending(
        self, name: str, payload: Payload, kind: Kind, read: Callable[[str | None], Any] | None
    ) -> Pending:
        number = self._counts.get(name, 0) + 1
        self._counts[name] = number
        since = self._loop.milliseconds
        return Pending(name, number, payload, kind, since, (name, number), read)

    def _wait(self, pending: Pending) -> asyncio.Future[Any]:
        future = pending.future = self._loop.create_step(pending)
        self.pending[pending.step] = pending
        self._commands.append(
            Command(pending.kind, pending.name, pending.occurrence, pending.payload, pending)
        )
        return future

    def step_given_up(self, pending: Pending) -> None:
        pending.future = None
        if self.pending.get(pending.step) is pending:
            del self.pending[pending.step]
            self._commands.append(Command(_GIVE_UP[pending.kind], *pending.step, None, pending))

    def timer_set(self, handle: asyncio.TimerHandle, deadline: int) -> None:
        pending = self._pending(TIMER_STEP, deadline, Kind.TIMER, None)
        pending.handle = handle
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
        who = self._identity
        info = WorkflowInfo(who.execution, self.workflow.name, started_at, who.tenant, who.lineage)
        if self.schedule is None:
            return info
        schedule, at = self.schedule
        when = datetime.fromtimestamp(at / 1000, UTC)
        return replace(info, schedule=schedule, scheduled_at=when)

    @property
    def random(self) -> Random:
        """The execution's own random numbers."""
        self._refuse_when_reading()
        if self._random is None:
            self._random = Random(_seed(self._identity))
        return self._random

    def _become(self) -> None:
        """While a fork's code is told what another one was told, it is that one."""
        forked, follower, before = self._forked, self._follower, self._identity
        self._identity = self._own
        if forked is not None and follower is not None:
            self._identity = forked.identity(follower.at.commit) or self._own
        if self._random is not None and self._identity != before:
            # In place, since the code may have kept it.
            self._random.seed(_seed(self._identity))

    def _author(self) -> Identity:
        """Who the code is, or was, at its next command."""
        forked, follower = self._forked, self._follower
        if forked is None or follower is None:
            return self._own
        logged = follower.coming(self._issued())
        return (None if logged is None else forked.identity(logged.commit)) or self._own

    def _issued(self) -> int:
        """How many of its commands were not compared with the log yet."""
        return sum(command.kind is not Kind.PATCH for command in self._commands)

    def issued(self, step: Step) -> bool:
        """Whether the code has called this step by now."""
        return step[1] <= self._counts.get(step[0], 0)


def _seed(who: Identity) -> int:
    return seed(who.lineage, who.execution, who.run)


def _determinism_error(error: BaseException | None) -> DeterminismError | None:
    if isinstance(error, DeterminismError):
        return error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            if (found := _determinism_error(inner)) is not None:
                return found
    return None
