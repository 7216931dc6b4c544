"""Publishing to a stream: from a workflow's code, and from the attempts of an activity."""

from __future__ import annotations

import asyncio
import threading
from asyncio.events import _get_running_loop
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, Final, Protocol

from node.engine.errors import ActivityCancelled
from node.engine.payload import plain_json
from node.engine.stream import FULL

#: Seconds for which an activity's values are collected into one event.
COLLECT: Final = 0.04
#: Bytes of values on their way into the log from which on `publish` waits.
CROWDED: Final = 4 * FULL


class _Done:
    """Awaited at once."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


_DONE: Final = _Done()


class Publishes(Protocol):
    """The execution whose code publishes."""

    def publish(self, stream: str, value: str) -> None:
        """Add a JSON value."""

    def end_stream(self, stream: str) -> None:
        """Nothing more follows."""


class WorkflowStream:
    """A stream of the running execution, as its workflow publishes to it."""

    def __init__(self, run: Publishes, name: str) -> None:
        self.name = name
        self._run = run

    def publish(self, value: Any) -> Awaitable[None]:
        """Add a JSON value. Awaiting it is not needed. Raises PayloadError, StreamClosed."""
        self._run.publish(self.name, plain_json(value, self.name))
        return _DONE

    def close(self) -> None:
        """Nothing more follows, neither from here nor from an activity. Raises StreamClosed."""
        self._run.end_stream(self.name)


Log = Callable[[str, list[str], bool, Callable[[int], None]], bool]


class ActivityStream:
    """A stream of the execution that an attempt works for. Any thread may publish.

    `log` is given the stream, the JSON values of one event, whether they are the attempt's
    first, and what to call once they are committed; it says whether they will be. `alive` is
    called for every value.
    """

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, log: Log, alive: Callable[[], None]
    ) -> None:
        self.name = name
        self._loop = loop
        self._log = log
        self._alive = alive
        self._values: list[str] = []
        self._size = 0
        self._unwritten = 0
        self._begins = True
        self._over = False
        self._handle: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._room_on_thread = threading.Event()
        self._room_on_thread.set()

    def publish(self, value: Any) -> Awaitable[None]:
        """Add a JSON value: it is in the log some hundredths of a second later.

        Await it in an async activity: it waits while too much is on its way. On a thread it
        does that by itself. Raises ActivityCancelled once the attempt is over, PayloadError.
        """
        if self._over:
            raise ActivityCancelled("the attempt is over; nobody follows what it publishes")
        text = plain_json(value, self.name)
        if _get_running_loop() is self._loop:
            self._add(text)
            return _DONE if self._room.is_set() else self._until_room()
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear it
            self._loop.call_soon_threadsafe(self._add, text)
            # An engine that has failed lets nobody in any more, and must not keep its threads.
            while not self._room_on_thread.wait(1.0) and not self._loop.is_closed():
                pass
        return _DONE

    async def _until_room(self) -> None:
        await self._room.wait()

    def _add(self, text: str) -> None:
        if self._over:
            return
        self._alive()
        self._values.append(text)
        self._size += len(text)
        self._unwritten += len(text)
        if self._unwritten >= CROWDED:
            self._room.clear()
            self._room_on_thread.clear()
        if self._size >= FULL:
            self._flush()
        elif self._handle is None:
            self._handle = self._loop.call_later(COLLECT, self._flush)

    def _flush(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if not self._values:
            return
        values, size = self._values, self._size
        self._values, self._size = [], 0
        begins, self._begins = self._begins, False

        def committed(sequence: int) -> None:
            self._unwritten -= size
            if self._unwritten < CROWDED:
                self._let_in()

        if not self._log(self.name, values, begins, committed):
            self._let_in()

    def _let_in(self) -> None:
        self._room.set()
        self._room_on_thread.set()

    def end(self, *, cancelled: bool) -> None:
        """The attempt is over: what was collected goes into the log, unless it is `cancelled`."""
        if not self._over and not cancelled:
            self._flush()
        self._over = True
        if self._handle is not None:
            self._handle.cancel()
        self._let_in()
