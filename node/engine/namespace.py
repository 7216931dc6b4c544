"""`workflow`: the decorator, and what a workflow's code asks and says."""

from __future__ import annotations

import asyncio
import logging
import uuid as uuids
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, NoReturn, ParamSpec, Protocol, TypeVar, cast, overload

from node.engine.context import WorkflowInfo
from node.engine.definition import Workflow, level_of, named
from node.engine.durability import Durability
from node.engine.errors import ContinueAsNew, NotInWorkflow
from node.engine.external import External
from node.engine.loop import WorkflowLoop
from node.engine.messages import Messages
from node.engine.payload import Shape
from node.engine.queue import Queue
from node.engine.signals import Signal
from node.engine.stream_publisher import WorkflowStream

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Handles = TypeVar("Handles", bound=Callable[..., Any])
#: Seconds, or a timedelta.
Duration = float | timedelta


class Running(Protocol):
    """The execution that a workflow's code runs in."""

    @property
    def messages(self) -> Messages:
        """Its handlers and its inbox."""

    workflow: Workflow[..., Any]

    def info(self) -> WorkflowInfo:
        """Who is running."""

    def patched(self, name: str) -> bool:
        """Whether to take a new path."""

    def publish(self, stream: str, value: str) -> None:
        """Add a JSON value to a stream."""

    def end_stream(self, stream: str) -> None:
        """Nothing more is added to it."""

    def external(self, name: str, shape: Shape) -> tuple[str, asyncio.Future[Any]]:
        """An event's token and value."""

    @property
    def random(self) -> Random:
        """The execution's own random numbers."""


def _run(loop: WorkflowLoop) -> Running:
    return cast(Running, loop.owner)


def _inside(what: str) -> WorkflowLoop:
    loop = _get_running_loop()
    if not isinstance(loop, WorkflowLoop):
        raise NotInWorkflow(f"workflow.{what}() was called outside of a workflow")
    return loop


class _WorkflowDecorator(Protocol):
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


class WorkflowNamespace:
    """`workflow`: the decorator, and what a workflow uses in place of clock and chance."""

    logger: Final = logging.getLogger("workflow")
    """For what a workflow has to say. So is any other: a replay says nothing again."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = ...,
        durability: Durability | str | None = ...,
        queue: Queue | None = ...,
    ) -> _WorkflowDecorator: ...
    def __call__(
        self,
        function: Callable[..., Coroutine[Any, Any, Any]] | None = None,
        /,
        *,
        name: str | None = None,
        durability: Durability | str | None = None,
        queue: Queue | None = None,
    ) -> Any:
        """Declare a workflow. `durability` is its level (the tenant's floor still holds);
        `queue` is where its executions wait for their turn, unless they are started on
        another one."""
        level = level_of(durability)

        def declare(function: Callable[..., Coroutine[Any, Any, Any]]) -> Workflow[..., Any]:
            return Workflow(function, name=name, durability=level, queue=queue)

        return declare if function is None else declare(function)

    def now(self) -> datetime:
        """The time, in UTC, of the last event this workflow was told. It never goes back."""
        return datetime.fromtimestamp(_inside("now").time(), UTC)

    async def sleep(self, duration: Duration) -> None:
        """Sleep for seconds or a timedelta; the UTC deadline is in the log."""
        _inside("sleep")
        await asyncio.sleep(cast(float, _seconds(duration)))

    async def sleep_until(self, when: datetime) -> None:
        """Sleep until a moment; one that has passed does not sleep. The deadline is in the log,
        in UTC. Raises ValueError for a datetime without a time zone."""
        loop = _inside("sleep_until")
        if when.tzinfo is None or when.utcoffset() is None:
            raise ValueError(
                "workflow.sleep_until() takes a datetime with a time zone, such as"
                " datetime(2026, 11, 24, 9, tzinfo=ZoneInfo('Europe/Paris'))"
            )
        await asyncio.sleep(max(0.0, when.timestamp() - loop.time()))

    def random(self) -> Random:
        """This execution's random numbers: the same on every replay."""
        return _run(_inside("random")).random

    def uuid4(self) -> uuids.UUID:
        """A random UUID: the same on every replay."""
        return uuids.UUID(int=_run(_inside("uuid4")).random.getrandbits(128), version=4)

    def info(self) -> WorkflowInfo:
        """The running execution. Raises NotInWorkflow."""
        return _run(_inside("info")).info()

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End here and begin again with these arguments, under the same id, with an empty
        history. Signals that nobody has received go with it; attached children are cancelled.

        Raises PayloadError.
        """
        codec = _run(_inside("continue_as_new")).workflow.codec
        raise ContinueAsNew(codec.start(codec.signature.bind(*args, **kwargs).arguments))

    def patched(self, name: str) -> bool:
        """Whether to take the new path of a change called `name`.

        False in an execution whose history took the old one; True in every other, now and on
        every replay. Once no such execution is open, remove the old path and this call.
        """
        return _run(_inside("patched")).patched(named(name, "patch"))

    @overload
    def external(self, name: str, type: type[T]) -> External[T]: ...
    @overload
    def external(self, name: str) -> External[Any]: ...
    def external(self, name: str, type: Any = None) -> External[Any]:
        """An event that something outside completes with its token, such as a human's approval.
        Await it for the value, and give its `token` away with an activity."""
        running = _run(_inside("external"))
        shape = Shape(Any if type is None else type, named(name, "external event"))
        return External(*running.external(name, shape))

    def stream(self, name: str) -> WorkflowStream:
        """A stream of values that readers outside follow while they are published. Raises
        DefinitionError."""
        run = _run(_inside("stream"))
        return WorkflowStream(run, named(name, "stream"))

    # Messages ---------------------------------------------------------------------------------

    @overload
    async def receive(self, what: Signal[T], *, timeout: Duration | None = None) -> T: ...
    @overload
    async def receive(self, what: str, type: type[T], *, timeout: Duration | None = None) -> T: ...
    @overload
    async def receive(self, what: str, *, timeout: Duration | None = None) -> Any: ...
    async def receive(
        self, what: Signal[Any] | str, type: Any = None, *, timeout: Duration | None = None
    ) -> Any:
        """The next signal of this name, in the order of the log, waiting for it if need be.

        `timeout` in seconds. Raises TimeoutError, and PayloadError for a value that is not of
        the type (declare a Signal to have such a value refused when it is sent).
        """
        signal: Signal[Any] = what if isinstance(what, Signal) else Signal(what, type)
        messages = _run(_inside("receive")).messages
        return await messages.receive(signal.name, signal.shape.read, _seconds(timeout))

    async def wait_for(
        self, condition: Callable[[], Any], *, timeout: Duration | None = None
    ) -> None:
        """Return once `condition()` is true: now, or after something else was told to the
        workflow. It may only look. `timeout` in seconds; raises TimeoutError."""
        await _run(_inside("wait_for")).messages.wait_for(condition, _seconds(timeout))

    def signal(self, function: Handles) -> Handles:
        """Inside a workflow: call this function for every signal of its name. It takes the
        signal's value, or nothing; an error it raises fails the execution."""
        _run(_inside("signal")).messages.on_signal(function.__name__, function)
        return function

    def query(self, function: Handles) -> Handles:
        """Inside a workflow: answer queries of this name. The function sees a copy of its
        variables and is refused when it changes them."""
        _run(_inside("query")).messages.on_query(function.__name__, function)
        return function

    @overload
    def update(self, function: Handles, /) -> Handles: ...
    @overload
    def update(
        self, /, *, validator: Callable[..., Any] | None = ...
    ) -> Callable[[Handles], Handles]: ...
    def update(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        validator: Callable[..., Any] | None = None,
    ) -> Any:
        """Inside a workflow: answer updates of this name with what the function returns.

        `validator` takes the same arguments, sees a copy of its variables, and refuses the
        update by raising: it then leaves no trace.
        """
        messages = _run(_inside("update")).messages

        def register(function: Handles) -> Handles:
            messages.on_update(function.__name__, function, validator)
            return function

        return register if function is None else register(function)


def _seconds(duration: Duration | None) -> float | None:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


workflow = WorkflowNamespace()
