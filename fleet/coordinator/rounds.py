"""What is done for every tenant now and then, in turn, by the coordinator of its own accord."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from backup.errors import StoreError

LOOK_EVERY = 5.0
"""Seconds between two looks for something that is due."""


class NoHost(Exception):
    """No host of the fleet can do it now; it stays due."""


class Rounds:
    """Does one thing for each tenant within a time, one tenant after the other."""

    def __init__(
        self,
        names: Callable[[], Iterable[str]],
        done_at: Callable[[str], Awaitable[float | None]],
        do: Callable[[str], Awaitable[object]],
        *,
        every: float,
        clock: Callable[[], float] = time.time,
    ):
        """
        Args:
            names: of the tenants that can have it done now.
            done_at: when it was last done well, in unix seconds; None for never.
            do: does it; raises `NoHost` or `StoreError` where it could not be done now.
            every: seconds; 0 for never.
        """
        self._names = names
        self._done_at = done_at
        self._do = do
        self._every = every
        self._clock = clock
        self._tried: dict[str, float] = {}

    async def run(self) -> None:
        """Do what is due until cancelled."""
        while self._every > 0:
            await asyncio.sleep(min(LOOK_EVERY, self._every))
            try:
                done = {name: await self._done_at(name) for name in list(self._names())}
                name = next_due(done, self._tried, self._clock(), self._every)
                if name is not None:
                    self._tried[name] = self._clock()
                    await self._do(name)
            except (NoHost, StoreError):
                continue


def next_due(
    done: Mapping[str, float | None], tried: Mapping[str, float], now: float, every: float
) -> str | None:
    """Whose turn it is: of those for whom it was not done for ``every`` seconds, whoever waited
    longest. Where it was tried and failed, it is tried again after a tenth of that.

    Args:
        done: when it was last done well for each, unix seconds; None for never.
        tried: when it was last begun, with any outcome.
    """
    due = [
        (max(at or 0.0, tried.get(name, 0.0)), name)
        for name, at in done.items()
        if (at is None or now - at >= every) and now - tried.get(name, 0.0) >= every / 10
    ]
    return min(due)[1] if due else None
