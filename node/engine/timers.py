"""Durable timers that are waiting for their deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: Seconds after which the clock is looked at again at the latest: deadlines are UTC, and the
#: loop's own clock does not see a step of the clock or the sleep of a machine.
LOOK_AGAIN: Final = 30.0
#: Timers that fire in one turn of the loop. With 7,500 executions whose timers are due together,
#: a signal waited up to 862 ms when all of them fired in one turn, and 46 ms with 30.
AT_ONCE: Final = 30


class Timers(Generic[T]):
    """Calls `on_due` on the loop with each item whose deadline has come, in deadline order.

    `clock` gives unix milliseconds. Items are never taken out: who gets one that is no longer
    wanted ignores it, and `wanted` tells which these are.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int],
        on_due: Callable[[T], None],
        wanted: Callable[[T], bool] = lambda item: True,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._on_due = on_due
        self._wanted = wanted
        self._heap: list[tuple[int, int, T]] = []
        self._count = 0
        self._handle: asyncio.Handle | None = None
        self._armed_for = 0

    def add(self, deadline: int, item: T) -> None:
        """Hold `item` until `deadline`, in unix milliseconds."""
        self._count += 1
        heappush(self._heap, (deadline, self._count, item))
        if self._handle is None or deadline < self._armed_for:
            self._arm()

    def next(self) -> int | None:
        """The deadline of the next item that is wanted, None when there is none."""
        while self._heap and not self._wanted(self._heap[0][2]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def look(self) -> None:
        """Look at the clock now: it may have jumped."""
        self.close()
        now = self._clock()
        for _ in range(AT_ONCE):
            if not self._heap or self._heap[0][0] > now:
                self._arm()
                return
            self._on_due(heappop(self._heap)[2])
        # Who else is ready comes in between.
        self.close()
        self._armed_for = 0
        self._handle = self._loop.call_soon(self.look)

    def _arm(self) -> None:
        self.close()
        if self._heap:
            self._armed_for = self._heap[0][0]
            wait = max(0.0, (self._armed_for - self._clock()) / 1000)
            self._handle = self._loop.call_later(min(wait, LOOK_AGAIN), self.look)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
