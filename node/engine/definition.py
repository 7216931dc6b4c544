"""What tenants write: `@workflow` and `@activity`, and the functions that go with them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine, Generator
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from functools import update_wrapper
from random import Random
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from node.engine.context import ActivityInfo, Transaction, activity_info
from node.engine.durability import Durability
from node.engine.errors import DefinitionError, NonRetryable, NotInActivity, NotInWorkflow
from node.engine.loop import WorkflowLoop
from node.engine.payload import Codec
from node.engine.pulse import Pulse
from node.engine.queue_ticket import Ticket
from node.engine.stream_publisher import ActivityStream

if TYPE_CHECKING:
    from node.engine.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how fast an activity is tried again. Times in seconds.

    `max_attempts` counts the first one; None tries for ever. The wait before attempt n+1 is
    `initial * factor**(n-1)`, at most `max_interval`, give or take the part `jitter` of it. An
    exception of a type in `non_retryable`, or NonRetryable, fails the activity at once; one
    with a numeric `retry_after` sets the wait itself.

    An attempt that a crash of the engine's process cut short does not count as one. After
    `max_interruptions` crashes in a row, without a failed attempt or a heartbeat's progress
    between them, the activity fails as Interrupted: it may be what crashes the process.
    """

    max_attempts: int | None = 5
    initial: float = 0.2
    factor: float = 2.0
    max_interval: float = 60.0
    jitter: float = 0.1
    max_interruptions: int = 100
    non_retryable: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.max_attempts is not None and self.max_attempts < 1:
            raise DefinitionError("RetryPolicy: max_attempts counts the first one: at least 1")
        if self.max_interruptions < 1:
            raise DefinitionError("RetryPolicy: max_interruptions is at least 1")
        if self.initial < 0 or self.factor < 1 or self.max_interval < 0:
            raise DefinitionError("RetryPolicy: waits cannot be negative, factor is at least 1")
        if not 0 <= self.jitter <= 1:
            raise DefinitionError("RetryPolicy: jitter is a part, from 0 to 1")

    def wait(self, attempt: int, error: BaseException, random: Random) -> float | None:
        """Seconds until the attempt after this failed one, None if there is none."""
        if isinstance(error, (NonRetryable, *self.non_retryable)):
            return None
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return None
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, (int, float)) and not isinstance(asked, bool) and asked >= 0:
            return float(asked)
        # The exponent is bounded because a float is: the interval is at its limit long before.
        wait = min(self.initial * self.factor ** min(attempt - 1, 64), self.max_interval)
        return wait * (1 + self.jitter * random.uniform(-1, 1))


class Calls(Protocol):
    """The execution whose code calls an activity."""

    def call(self, activity: Activity[Any, Any], payload: str) -> asyncio.Future[Any]:
        """A step: its number is taken and its intent is recorded now."""

    def start_child(
        self,
        workflow: Workflow[..., Any],
        payload: str,
        id: str | None,
        *,
        detached: bool,
        ticket: Ticket | None,
    ) -> tuple[str, asyncio.Future[Any]]:
        """Another execution: its id is fixed and its start is recorded now."""


class Activity(Generic[P, R]):
    """A function with side effects. Awaited in a workflow it is a step of the log; called
    anywhere else it is just the function."""

    def __init__(
        self,
        function: Callable[P, Any],
        *,
        name: str | None,
        retry: RetryPolicy,
        timeout: float | None,
        durability: Durability | None,
        transactional: bool,
        heartbeat_timeout: float | None = None,
    ) -> None:
        self.name = named(name or function.__name__, "activity")
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.retry = retry
        self.timeout = timeout
        self.heartbeat_timeout = heartbeat_timeout
        self.durability = durability
        self.transactional = transactional
        self.codec = Codec(function, self.name)
        if transactional and self.is_async:
            raise DefinitionError(
                f"{self.name}: a transactional activity is a plain function; it runs inside the"
                " writer's transaction and cannot await"
            )
        if heartbeat_timeout is not None and (transactional or heartbeat_timeout <= 0):
            raise DefinitionError(
                f"{self.name}: a heartbeat's timeout is above 0 seconds, and a transactional"
                " activity has none"
            )
        if transactional and timeout is not None:
            raise DefinitionError(
                f"{self.name}: a transactional activity has no timeout; its function cannot be"
                " left behind while its transaction goes on"
            )
        if timeout is not None and timeout <= 0:
            raise DefinitionError(f"{self.name}: the timeout must be above 0 seconds")
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        loop = _get_running_loop()
        if isinstance(loop, WorkflowLoop):
            # The step's identity is fixed here, at the call, and not where it is awaited.
            running = cast("Calls", loop.owner)
            future = running.call(self, self.codec.input(args, kwargs))
            return result_of(future)
        return self._direct(*args, **kwargs)

    async def _direct(self, *args: P.args, **kwargs: P.kwargs) -> R:
        value = self.function(*args, **kwargs)
        return cast(R, await value if self.is_async else value)


async def result_of(future: asyncio.Future[Any]) -> Any:
    return await future


class Workflow(Generic[P, R]):
    """An `async def` that the engine makes durable. Called directly it is just the function."""

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        *,
        name: str | None,
        durability: Durability | None,
        queue: Queue | None = None,
    ) -> None:
        self.name = named(name or function.__name__, "workflow")
        if not inspect.iscoroutinefunction(function):
            raise DefinitionError(f"{self.name}: a workflow is an async def function")
        self.function = function
        self.durability = durability
        self.codec = Codec(function, self.name)
        self.queue = queue
        self._id: str | None = None
        self._ticket: Ticket | None = None
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return self.function(*args, **kwargs)

    @property
    def given_id(self) -> str | None:
        """The execution id that `with_id` chose."""
        return self._id

    def with_id(self, id: str) -> Workflow[P, R]:
        """The same workflow, whose next `child` or `detach` has this execution id."""
        twin = copy(self)
        twin._id = id
        return twin

    def on_queue(
        self,
        queue: Queue,
        *,
        priority: int = 0,
        dedup: str | None = None,
        partition: str | None = None,
    ) -> Workflow[P, R]:
        """The same workflow, whose next `child` or `detach` waits for its turn in `queue`.

        The smaller `priority` goes first. A child whose `dedup` key belongs to an open
        execution of the queue is not started: an attached one fails. Raises PayloadError.
        """
        twin = copy(self)
        twin._ticket = Ticket(queue.name, priority, dedup, partition).checked()
        return twin

    def child(self, *args: P.args, **kwargs: P.kwargs) -> Child[R]:
        """Inside a workflow: start this one as a child, and await its result.

        It is cancelled when the parent ends or stops waiting; its failure raises ChildFailed.
        """
        return Child(*self._start(args, kwargs, detached=False))

    def detach(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Inside a workflow: start this one on its own; its execution id. Nothing of it comes
        back to the workflow that started it."""
        return self._start(args, kwargs, detached=True)[0]

    def _start(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, detached: bool
    ) -> tuple[str, asyncio.Future[Any]]:
        loop = _get_running_loop()
        if not isinstance(loop, WorkflowLoop):
            raise NotInWorkflow(f"{self.name} was started as a child outside of a workflow")
        bound = self.codec.signature.bind(*args, **kwargs)
        payload = self.codec.start(bound.arguments)
        calls = cast("Calls", loop.owner)
        return calls.start_child(self, payload, self._id, detached=detached, ticket=self._ticket)


class Child(Generic[R]):
    """A child execution: await it for its result. `id` is its execution id."""

    def __init__(self, id: str, future: asyncio.Future[Any]) -> None:
        self.id = id
        self._future = future

    def __await__(self) -> Generator[Any, None, R]:
        return self._future.__await__()

    def cancel(self) -> None:
        """Stop waiting for it, and have it cancelled."""
        self._future.cancel()


def named(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is no name for a {what}: letters, digits, '_', '.' and '-', at most 100"
        )
    return name


class _ActivityDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Activity[P, R]: ...


class ActivityNamespace:
    """`activity`: the decorator, and what an activity asks about itself."""

    logger: Final = logging.getLogger("activity")
    """For what an activity has to say. So is any other: every record says whose it is."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Activity[P, R]: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = ...,
        retry: RetryPolicy | None = ...,
        timeout: float | timedelta | None = ...,
        durability: Durability | str | None = ...,
        transactional: bool = ...,
        heartbeat_timeout: float | timedelta | None = ...,
    ) -> _ActivityDecorator: ...
    def __call__(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        durability: Durability | str | None = None,
        transactional: bool = False,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Any:
        """Declare an activity. `timeout` is for one attempt. A plain function runs on a thread;
        at its timeout it is left behind, since nothing can stop it. `heartbeat_timeout` is the
        longest time between two heartbeats of an attempt."""
        level = level_of(durability)
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        beat = heartbeat_timeout
        pause = beat.total_seconds() if isinstance(beat, timedelta) else beat

        def declare(function: Callable[..., Any]) -> Activity[..., Any]:
            return Activity(
                function,
                name=name,
                retry=retry or RetryPolicy(),
                timeout=seconds,
                durability=level,
                transactional=transactional,
                heartbeat_timeout=pause,
            )

        return declare if function is None else declare(function)

    def info(self) -> ActivityInfo:
        """The running attempt. Raises NotInActivity."""
        return activity_info()

    def heartbeat(self, progress: Any = None) -> None:
        """Say that the running attempt is alive, and how far it is. Any thread may call it.

        Progress (any JSON value) is in the log within a second, and is what `progress` gives in
        a later attempt. Raises ActivityCancelled once nobody waits for the activity any more,
        NotInActivity, PayloadError.
        """
        _pulse("heartbeat").beat(progress)

    def stream(self, name: str) -> ActivityStream:
        """A stream of the execution, for the running attempt to publish to. Any thread may.
        Raises NotInActivity, DefinitionError."""
        return _pulse("stream").stream(named(name, "stream"))

    def progress(self) -> Any:
        """The last progress of an earlier attempt, None when there is none."""
        return _pulse("progress").progress

    def cancelled(self) -> bool:
        """Whether nobody waits for the activity any more. A plain function should ask now and
        then; an async one gets CancelledError."""
        return _pulse("cancelled").cancelled

    def transaction(self) -> Transaction:
        """The transaction of a transactional activity. Raises NotInActivity."""
        transaction = activity_info().transaction
        if transaction is None:
            raise NotInActivity(
                "activity.transaction() was called in an activity that is not transactional",
                hint="Declare it with @activity(transactional=True).",
            )
        return transaction


def _pulse(what: str) -> Pulse:
    pulse = activity_info().pulse
    if pulse is None:
        raise NotInActivity(f"activity.{what}() was called in a transactional activity")
    return pulse


def level_of(durability: Durability | str | None) -> Durability | None:
    if durability is None:
        return None
    try:
        return Durability(durability)
    except ValueError:
        levels = ", ".join(Durability)
        raise DefinitionError(f"no durability {durability!r}; there are: {levels}") from None


activity = ActivityNamespace()
