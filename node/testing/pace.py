"""When a test goes on, and when time does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from node.engine.engine import Engine
from node.engine.errors import EngineStopped
from node.engine.events import Status
from node.testing.clock import SkippingClock

#: Turns of the loop in which nothing happens, after which nothing will: who was just answered
#: takes one or two to ask for more.
CALM: Final = 4
#: Turns in which the engine is busy, after which the test waits for it in real time.
EAGER: Final = 200
#: Jumps of the clock in one wait, after which what is waited for will never come: time alone
#: goes on for ever where there are schedules.
MOST_JUMPS: Final = 10_000


class Stuck(AssertionError):
    """Something is waited for that nothing will bring about."""


class Pace:
    """Waits for an engine to come to rest, and only then lets its clock jump.

    `hanging` tells how many attempts of activities never end by themselves. With `skips`, time
    jumps while somebody waits; `patience` is in seconds of real time.
    """

    def __init__(
        self, clock: SkippingClock, hanging: Callable[[], int], *, skips: bool, patience: float
    ) -> None:
        self.engine: Engine | None = None
        self._clock = clock
        self._hanging = hanging
        self._skips = skips
        self._patience = patience

    async def settle(self) -> None:
        """Return when nothing but time or a message can go on. Raises EngineStopped."""
        calm = turns = 0
        while calm < CALM:
            calm = calm + 1 if self._running().at_rest(self._hanging()) else 0
            turns += 1
            await asyncio.sleep(0 if calm or turns < EAGER else 0.001)

    async def advance(self, duration: timedelta | float) -> None:
        """Let so much time pass, and what comes due in it happen in its order."""
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        target = self._clock.milliseconds / 1000 + seconds
        await self.settle()
        while (wake := self._running().next_wake) is not None and wake <= target:
            self._jump(wake)
            await self.settle()
        self._jump(target)
        await self.settle()

    async def until(self, condition: Callable[[], object], waiting_for: str = "") -> None:
        """Return once `condition()` is true. Raises Stuck, EngineStopped."""
        calm = turns = jumps = 0
        given_up_at: float | None = None
        while not condition():
            turns += 1
            engine = self._running()
            if not engine.at_rest(self._hanging()):
                calm, given_up_at = 0, None
                await asyncio.sleep(0 if turns < EAGER else 0.001)
                continue
            calm += 1
            if calm < CALM:
                await asyncio.sleep(0)
            elif self._skips and (wake := engine.next_wake) is not None:
                jumps += 1
                if jumps > MOST_JUMPS:
                    raise Stuck(
                        f"the clock has jumped {MOST_JUMPS:,} times, and it has not come. Where"
                        " schedules make it jump so often, try Lab(..., schedules=False)."
                    )
                self._jump(wake)
                calm, turns, given_up_at = 0, 0, None
            else:
                # Somebody else in this test may still send something.
                given_up_at = given_up_at or time.monotonic() + self._patience
                if time.monotonic() > given_up_at:
                    raise Stuck(_why(engine, waiting_for))
                await asyncio.sleep(0.001)

    def _running(self) -> Engine:
        if self.engine is None or not self.engine.running:
            raise EngineStopped("the engine stopped")
        return self.engine

    def _jump(self, to: float) -> None:
        self._clock.jump(to)
        self._running().look_at_clock()


def _why(engine: Engine, id: str) -> str:
    waiting = [id] if id else [view.id for view in engine.executions(status=Status.RUNNING)]
    words = [
        f"{each} waits for {wait.kind} {wait.name}".rstrip() + f": {wait.wakes}"
        for each in waiting
        for wait in engine.waiting(each)
    ]
    return "nothing will happen any more: " + ("; ".join(words) or "nothing is open")
