"""The deterministic event loop on which one workflow's code runs.

It has no clock and no selector: its time is the time of the last event the workflow was told,
its timers are entries of the log, and it runs only when its owner takes a turn. A turn is run
from a plain callback of the real loop, never from inside a task, with the running loop swapped
for its length, so that everything in asyncio that is built from tasks, futures and timers
(gather, wait_for, TaskGroup, timeout, locks, queues) works as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from asyncio.events import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextvars import Context, copy_context
from typing import Any, Final, NoReturn, Protocol, TypeVar, TypeVarTuple, Unpack, cast
from zlib import crc32

from node.engine import guard
from node.engine.errors import DeterminismError, EngineError, StateChanged

logger = logging.getLogger(__name__)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
#: What was logged, and by which logger.
Line = tuple[logging.Logger, logging.LogRecord]

#: A turn with more callbacks than this is taken for one that never ends.
CALLBACKS_PER_TURN: Final = 1_000_000


class Owner(Protocol):
    """The execution whose code runs on the loop."""

    said: list[Line]
    """What the code has logged and nobody has been given yet."""

    @property
    def about(self) -> dict[str, object]:
        """What a record that the code logs says of it; see `lines.FIELDS`."""

    def timer_set(self, handle: asyncio.TimerHandle, deadline: int) -> None:
        """The code set a timer; `deadline` in unix milliseconds."""

    def timer_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """The code no longer wants it."""

    def step_given_up(self, step: Any) -> None:
        """The code no longer waits for the step that it was given a future for."""


# asyncio keeps tasks in sets and cancels them in the set's order. Hashes that follow the order
# of creation make that order the same on every replay; the salt keeps the hashes of different
# executions apart, for asyncio's own set of all tasks.
class _Task(asyncio.Task[Any]):
    def __init__(self, order: int, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self.order = order
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.order


class _Future(asyncio.Future[Any]):
    def __init__(self, order: int, loop: asyncio.AbstractEventLoop) -> None:
        self.order = order
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.order


class StepFuture(_Future):
    """The outcome of a step. The loop's owner hears in the same turn when the code cancels it.

    A callback would be told of every outcome, and is run once a step for nothing.
    """

    def __init__(self, order: int, loop: WorkflowLoop, step: Any) -> None:
        asyncio.Future.__init__(self, loop=loop)
        self.order = order
        self._step = step

    def cancel(self, msg: Any | None = None) -> bool:
        loop = cast("WorkflowLoop", self.get_loop())
        if not self.done() and not loop.is_closed():
            loop.call_soon(loop.owner.step_given_up, self._step)
        return super().cancel(msg)


class _Handle(asyncio.Handle):
    """asyncio's own, without asking the loop about debugging: there are two or more a step."""

    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


def _told(context: dict[str, Any]) -> str:
    error = context.get("exception")
    if error is None:
        return ""
    place, trace = "", error.__traceback__
    while trace is not None:
        place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f": {type(error).__name__}: {error}{place}"


class WorkflowLoop(asyncio.AbstractEventLoop):
    """One execution's loop. `milliseconds` is its time; the owner sets it before each turn."""

    def __init__(self, owner: Owner, name: str) -> None:
        self.owner = owner
        self.milliseconds = 0
        self._ready: deque[Any] = deque()
        self._order = crc32(name.encode()) << 24
        self._count = 0
        self._closed = False
        self._running = False
        self._entered = False
        self._refused: EngineError | None = None
        self.reading = False
        """Nothing may be scheduled now."""
        self.silent = False
        """What the code logs was logged before, or is no part of what it does."""
        self._tasks: dict[int, _Task] = {}

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those that have not ended, in the order of their creation."""
        return [task for task in self._tasks.values() if not task.done()]

    def turn(self) -> None:
        """Run until nothing is ready. Raises DeterminismError if that never happens."""
        entered = self._entered
        previous = self if entered else _get_running_loop()
        if not entered:
            _set_running_loop(self)
        self._running = True
        guard.enter()
        ready = self._ready
        left = CALLBACKS_PER_TURN
        try:
            while ready:
                handle = ready.popleft()
                left -= 1
                if not handle._cancelled:
                    # As its own `_run` does, without a call more for each.
                    try:
                        handle._context.run(handle._callback, *handle._args)
                    except KeyboardInterrupt:
                        raise
                    except SystemExit:
                        # The task that called exit has it as its exception; the engine lives on.
                        continue
                    except BaseException as error:
                        self.call_exception_handler(
                            {"message": "a callback failed", "exception": error}
                        )
                if left <= 0:
                    raise DeterminismError(
                        "the workflow runs on and on without awaiting an activity or a timer",
                        hint="Await workflow.sleep() in the loop that waits.",
                    )
        finally:
            refused = guard.leave() or self._refused
            self._running = False
            if not entered:
                _set_running_loop(previous)
        if refused is not None:
            # The code may have caught it, and gone on as if nothing had been.
            raise refused

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """For many turns in a row: each but the first costs two calls of the system less."""
        previous = _get_running_loop()
        _set_running_loop(self)
        self._entered = True
        try:
            yield
        finally:
            self._entered = False
            _set_running_loop(previous)

    def refuse(self, error: EngineError) -> NoReturn:
        """Raise `error` where the code stands, and again at the end of the turn."""
        self._refused = self._refused or error
        raise error

    def look(self, function: Callable[[], T]) -> T:
        """Run a function that may do nothing but look: what it schedules is refused.

        Raises StateChanged, DeterminismError, and what the function raises.
        """
        outer = self._running
        previous = _get_running_loop()
        before = self._refused
        self._refused = None
        self.reading = True
        if not outer:
            _set_running_loop(self)
            guard.enter()
        try:
            value = function()
        finally:
            refused = self._refused
            if not outer:
                refused = guard.leave() or refused
                _set_running_loop(previous)
            self.reading = False
            self._refused = before
            if refused is not None:
                raise refused
        return value

    def _refuse_when_reading(self) -> None:
        if self.reading:
            self.refuse(StateChanged("it would do something, and may only look"))

    def close(self) -> None:
        """Drop the coroutines without letting their clean-up do anything."""
        if self._closed:
            return
        self._closed = self.silent = True
        self._ready.clear()
        previous = _get_running_loop()
        _set_running_loop(self)
        guard.enter()
        try:
            for task in list(self._tasks.values()):
                if task.done():
                    continue
                coro = task.get_coro()
                # A coroutine may refuse to end, or end with an error: it is gone either way. It
                # need be no Exception: clean-up that awaits a cancelled task gets CancelledError.
                with contextlib.suppress(BaseException):
                    if coro is not None:
                        coro.close()
        finally:
            guard.leave()
            _set_running_loop(previous)
        self._tasks.clear()
        self._ready.clear()

    def part(self) -> None:
        """Let go of the owner. It and its loop would else be garbage that only a search finds."""
        self.close()
        del self.owner

    def fire(self, handle: asyncio.TimerHandle) -> None:
        """A timer's deadline has passed: run it in the next turn."""
        self._ready.append(handle)

    # What asyncio calls ---------------------------------------------------------------------

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if self.reading:
            self._refuse_when_reading()
        handle = _Handle(callback, args, self, context)
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._refuse_when_reading()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._closed:
            # Rounded up: a timer never fires early. The small term takes back what adding a
            # delay to a large float put on top.
            deadline = math.ceil(when * 1000 - 0.001)
            if deadline <= self.milliseconds:
                self._ready.append(handle)
            else:
                self.owner.timer_set(handle, deadline)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if not self._closed:
            self.owner.timer_cancelled(handle)

    def time(self) -> float:
        return self.milliseconds / 1000

    def create_future(self) -> asyncio.Future[Any]:
        self._count += 1
        return _Future(self._order + self._count, self)

    def create_step(self, step: Any) -> StepFuture:
        """A future for a step's outcome; see `StepFuture`."""
        self._count += 1
        return StepFuture(self._order + self._count, self, step)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        if self.reading:
            coro.close()
            self._refuse_when_reading()
        self._count += 1
        order = self._order + self._count
        task = _Task(order, coro, loop=self, name=name or f"task-{self._count}", context=context)
        # Letting go of one that waits is how an execution leaves memory.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks[order] = task
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        if isinstance(task, _Task):
            self._tasks.pop(task.order, None)

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            # Most often from the garbage collector, about a task that nobody awaited. It comes in
            # the middle of anything, even of compiling, and formatting a traceback compiles.
            words = f"in a workflow: {context.get('message')}{_told(context)}"
            logger.error(words, extra=self.owner.about)

    def run_in_executor(
        self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        self.refuse(DeterminismError("running a function on a thread inside a workflow"))

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        raise DeterminismError("calling into a workflow from another thread")
