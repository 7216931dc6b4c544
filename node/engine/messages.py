"""What one execution's code has to say to signals, queries, updates and conditions."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType
from typing import Any, Final, Protocol

from node.engine.definition import named
from node.engine.errors import (
    DefinitionError,
    PayloadError,
    StateChanged,
    UnknownHandler,
    UpdateRefused,
    describe,
)
from node.engine.events import Kind, Payload, opened
from node.engine.loop import WorkflowLoop
from node.engine.payload import Codec
from node.engine.replica import NotCopyable, Replica

logger = logging.getLogger(__name__)


class Code(Protocol):
    """The execution whose code registers handlers and waits."""

    def emit(self, kind: Kind, name: str, occurrence: int, payload: Payload) -> None:
        """Record what the code did."""

    def read_only(self, function: Callable[[], Any]) -> Any:
        """Run a function that may do nothing but look. Raises StateChanged when it does."""


@dataclass(slots=True, eq=False)
class Waiter:
    """The code waits for a signal or a condition, since `since` (unix ms)."""

    what: str
    future: asyncio.Future[None]
    since: int
    check: Callable[[], Any] | None = None


@dataclass(slots=True, eq=False)
class Handler:
    """A function inside the workflow that answers a message."""

    name: str
    function: Callable[..., Any]
    codec: Codec
    validator: Callable[..., Any] | None = None


class Messages:
    """The handlers that the code has registered, and the signals that wait to be received."""

    def __init__(self, code: Code, loop: WorkflowLoop) -> None:
        self._code = code
        self._loop = loop
        self.inbox: dict[str, deque[str]] = {}
        self.receivers: dict[str, deque[Waiter]] = {}
        self.conditions: list[Waiter] = []
        self.signals: dict[str, Handler] = {}
        self.queries: dict[str, Handler] = {}
        self.updates: dict[str, Handler] = {}
        self.woken = False
        self.failure: BaseException | None = None
        """What a signal's handler raised; it fails the execution."""

    # Signals ----------------------------------------------------------------------------------

    def check_signal(self, name: str, value: str) -> None:
        """Refuse what the handler that is there could not take. Raises PayloadError."""
        handler = self.signals.get(name)
        if handler is not None:
            _single(handler, value)

    def signal(self, name: str, payload: Payload) -> None:
        """A signal arrives."""
        value, _ = opened(payload)
        handler = self.signals.get(name)
        if handler is None:
            self.inbox.setdefault(name, deque()).append(value)
            self._wake(name)
        else:
            self._loop.call_soon(self._handle, handler, value, context=Context())

    def on_signal(self, name: str, function: Callable[..., Any]) -> None:
        """Have a function called for every signal of this name, those that wait first."""
        handler = _handler(name, function, self.signals)
        if len(handler.codec.signature.parameters) > 1:
            raise DefinitionError(
                f"{name}: a signal has one value, so its handler has one parameter or none"
            )
        self.signals[name] = handler
        for value in self.inbox.pop(name, ()):
            self._loop.call_soon(self._handle, handler, value, context=Context())

    def _handle(self, handler: Handler, value: str) -> None:
        try:
            answer = handler.function(*_single(handler, value))
        except PayloadError as error:
            # Sent before the handler was there to refuse it; it is nobody's to fix here.
            logger.warning("signal %s is dropped: %s", handler.name, error)
        except Exception as error:
            self.failure = self.failure or error
        else:
            if inspect.iscoroutine(answer):
                self._loop.create_task(answer).add_done_callback(self._handled)

    def _handled(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = self.failure or error

    async def receive(self, name: str, read: Callable[[str], Any], timeout: float | None) -> Any:
        """The next signal of this name. Raises TimeoutError, PayloadError."""
        if name in self.signals:
            raise DefinitionError(f"signal {name!r} has a handler, which takes every one of them")
        # What is here needs no timer in the log.
        if not self.inbox.get(name):
            async with asyncio.timeout(timeout):
                await self._some(name)
        return read(self.inbox[name].popleft())

    async def _some(self, name: str) -> None:
        while not self.inbox.get(name):
            waiter = Waiter(name, self._loop.create_future(), self._loop.milliseconds)
            waiting = self.receivers.setdefault(name, deque())
            waiting.append(waiter)
            try:
                await waiter.future
            except BaseException:
                if waiter in waiting:
                    waiting.remove(waiter)
                elif self.inbox.get(name):
                    # It was woken and gives up: the signal is the next one's.
                    self._wake(name)
                raise

    def _wake(self, name: str) -> None:
        waiting = self.receivers.get(name)
        while waiting:
            future = waiting.popleft().future
            if not future.done():
                future.set_result(None)
                return

    # Conditions -------------------------------------------------------------------------------

    async def wait_for(self, check: Callable[[], Any], timeout: float | None) -> None:
        """Return once `check()` is true. Raises TimeoutError."""
        if self._code.read_only(check):
            return
        waiter = Waiter(_words(check), self._loop.create_future(), self._loop.milliseconds, check)
        self.conditions.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter.future
        finally:
            if waiter in self.conditions:
                self.conditions.remove(waiter)

    def recheck(self) -> None:
        """Look at every condition again; `woken` says whether one has become true."""
        self.woken = False
        for waiter in list(self.conditions):
            assert waiter.check is not None
            if waiter.future.done():
                continue
            try:
                if not self._code.read_only(waiter.check):
                    continue
            except Exception as error:
                waiter.future.set_exception(error)
            else:
                waiter.future.set_result(None)
            self.conditions.remove(waiter)
            self.woken = True

    # Updates ----------------------------------------------------------------------------------

    def on_update(
        self, name: str, function: Callable[..., Any], validator: Callable[..., Any] | None
    ) -> None:
        """Let a function answer updates of this name."""
        handler = _handler(name, function, self.updates)
        handler.validator = validator
        self.updates[name] = handler

    def admit(self, name: str, values: Mapping[str, Any]) -> str:
        """The JSON of an update's input, if it is accepted as things stand.

        Raises UnknownHandler, PayloadError, PayloadTooLarge, UpdateRefused.
        """
        handler = _find(self.updates, name, "update")
        text = handler.codec.start(values)
        validator = handler.validator
        if validator is not None:
            bound = handler.codec.arguments(text)
            try:
                self._look(validator, bound.args, bound.kwargs, isolated=False)
            except StateChanged:
                raise
            except Exception as error:
                raise UpdateRefused(f"{name}: {type(error).__name__}: {error}") from error
        return text

    def update(self, name: str, occurrence: int, payload: Payload) -> None:
        """An accepted update arrives. Raises UnknownHandler, PayloadError."""
        handler = _find(self.updates, name, "update")
        bound = handler.codec.arguments(opened(payload)[0])

        def perform() -> None:
            async def whole() -> Any:
                answer = handler.function(*bound.args, **bound.kwargs)
                return await answer if inspect.isawaitable(answer) else answer

            task = self._loop.create_task(whole())
            task.add_done_callback(lambda task: self._updated(handler, occurrence, task))

        self._loop.call_soon(perform, context=Context())

    def _updated(self, handler: Handler, occurrence: int, task: asyncio.Task[Any]) -> None:
        error: BaseException | None
        if task.cancelled():
            error = asyncio.CancelledError("the update was cancelled")
        else:
            error = task.exception()
        if error is None:
            try:
                result = handler.codec.result(task.result())
            except PayloadError as unfit:
                error = unfit
            else:
                self._code.emit(Kind.UPDATE_COMPLETED, handler.name, occurrence, result)
                return
        text = json.dumps(describe(error), separators=(",", ":"), ensure_ascii=False)
        self._code.emit(Kind.UPDATE_FAILED, handler.name, occurrence, text)

    # Queries ----------------------------------------------------------------------------------

    def on_query(self, name: str, function: Callable[..., Any]) -> None:
        """Let a function answer queries of this name."""
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(f"{name}: a query is a plain function; it cannot wait")
        self.queries[name] = _handler(name, function, self.queries)

    def query(self, name: str, values: Mapping[str, Any], *, isolated: bool) -> str | None:
        """The JSON of the answer. `isolated` says that this code is itself a copy.

        Raises UnknownHandler, PayloadError, StateChanged, NotCopyable, and what the query raises.
        """
        handler = _find(self.queries, name, "query")
        bound = handler.codec.arguments(handler.codec.start(values))
        value = self._look(handler.function, bound.args, bound.kwargs, isolated=isolated)
        return handler.codec.result(value)

    def _look(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        isolated: bool,
    ) -> Any:
        replica: Replica | None = None
        if not isolated:
            replica = Replica(function)
            function = replica.function
        value = self._code.read_only(lambda: function(*args, **kwargs))
        if replica is not None and replica.changed:
            raise StateChanged("it would change the workflow's state, and may only look at it")
        return value


_CODECS: Final[dict[CodeType, tuple[dict[str, Any], Codec]]] = {}


def _handler(name: str, function: Callable[..., Any], existing: Mapping[str, Handler]) -> Handler:
    named(name, "handler")
    if name in existing:
        raise DefinitionError(f"{name}: there is a handler of this name already")
    return Handler(name, function, _codec(name, function))


def _codec(name: str, function: Callable[..., Any]) -> Codec:
    """Made once for each function of the source, since every execution registers it anew."""
    if not isinstance(function, FunctionType):
        return Codec(function, name)
    annotations = function.__annotations__
    known = _CODECS.get(function.__code__)
    if known is not None and known[0] == annotations:
        return known[1]
    # A twin with empty cells: the codec must not keep the first execution's state alive.
    bare = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(CellType() for _ in function.__code__.co_freevars) or None,
    )
    bare.__annotations__ = dict(annotations)
    bare.__kwdefaults__ = function.__kwdefaults__
    codec = Codec(bare, name)
    codec.check()
    _CODECS[function.__code__] = (bare.__annotations__, codec)
    return codec


def _find(handlers: Mapping[str, Handler], name: str, what: str) -> Handler:
    handler = handlers.get(name)
    if handler is None:
        known = ", ".join(sorted(handlers)) or "none"
        raise UnknownHandler(f"the workflow has no {what} {name!r} now; it has: {known}")
    return handler


def _single(handler: Handler, value: str) -> tuple[Any, ...]:
    """A signal's value as its handler's argument. Raises PayloadError."""
    parameters = handler.codec.signature.parameters
    if not parameters:
        return ()
    name = json.dumps(next(iter(parameters)))
    return handler.codec.arguments(f"{{{name}:{value}}}").args


def _words(check: Callable[[], Any]) -> str:
    code = getattr(check, "__code__", None)
    return "a condition" if code is None else f"{code.co_qualname} (line {code.co_firstlineno})"


__all__ = ["Code", "Handler", "Messages", "NotCopyable", "Waiter"]
