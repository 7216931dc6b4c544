"""Whether an engine has nothing to do: no attempt that runs, nobody who asks, for some seconds.

A tenant may be put to sleep then. What it waits for, a timer, a message or somebody's answer, is in
its log or comes by way of the gateway, and wakes it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from node.engine.engine import Engine

LOOK_EVERY: Final = 1.0
"""Seconds between two looks."""
SETTLED: Final = 3.0
"""Seconds for which nothing may have happened before that is told: who asks again and again, with
pauses, should not be news each time."""
UNCOUNTED: Final = frozenset({"/metrics"})
"""Paths that are asked by machines, whether anybody needs the tenant or not."""


class Attended:
    """An application that knows whether anybody asks it, and when somebody last did."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self.under_way = 0
        self.last = clock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self._app(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.under_way -= 1
            self.last = self._clock()


@dataclass(slots=True)
class Quiet:
    """For how long nothing has happened. Pure; moments are seconds of any clock that never goes
    back. ``since`` is when something was last seen to happen."""

    since: float
    sequence: int = -1

    def seen(self, sequence: int, *, at_rest: bool, asked: bool, last: float, now: float) -> bool:
        """Whether it has settled.

        Args:
            sequence: the log's newest event.
            at_rest: no attempt runs, and all is committed.
            asked: somebody asks something just now.
            last: when somebody last did.
        """
        if asked or not at_rest or sequence != self.sequence:
            self.since, self.sequence = now, sequence
        self.since = max(self.since, last)
        return now - self.since >= SETTLED


async def watch(
    engine: Engine, attended: Attended, tell: Callable[[int | None, float | None], None]
) -> None:
    """Tell whenever the engine settles, and whenever it has something to do again, until cancelled.

    Args:
        tell: given which rest since the engine's start this is, or None for work, and when time
            alone will make something happen next (unix seconds, None for never).
    """
    quiet = Quiet(time.monotonic())
    number, said = 0, (None, None)  # type: tuple[int, tuple[int | None, float | None]]
    since = quiet.since
    while True:
        await asyncio.sleep(LOOK_EVERY)
        settled = quiet.seen(
            engine.sequence,
            at_rest=engine.at_rest(),
            asked=attended.under_way > 0,
            last=attended.last,
            now=time.monotonic(),
        )
        if quiet.since != since:
            # Something happened in between, even if it was over before it was looked for.
            number, since = number + 1, quiet.since
        now = (number if settled else None, engine.next_wake if settled else None)
        if now != said:
            said = now
            tell(*now)
