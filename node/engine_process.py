"""One tenant's engine as its supervisor holds it: started from the cradle, stopped, killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from node.cradle import Cradle, CradleLost
from node.order import EngineOrder
from node.processes import kill_below, kill_group

LOG_BYTES = 16 * 1024 * 1024
"""Characters of an engine's log that are looked at for its last words."""
STOP_TIMEOUT = 10.0
"""Seconds that an engine gets to end by itself at a planned stop."""


class EngineProcess:
    """At most one engine at a time, always on the same log and in the same epoch."""

    def __init__(self, cradle: Cradle, order: EngineOrder):
        self._cradle = cradle
        self._order = order
        self._ended: asyncio.Task[int] | None = None
        self.pid: int | None = None

    def use(self, order: EngineOrder) -> None:
        """Start engines with this order from now on; the one that runs goes on."""
        self._order = order

    async def start(self) -> bool:
        """Start an engine and wait until it answers; False if it ended before it did.

        Raises:
            CradleLost: there is nothing to start it from.
        """
        socket = self._order.api_socket
        socket.unlink(missing_ok=True)
        self.pid = await self._cradle.start(self._order)
        self._ended = asyncio.create_task(self._cradle.ended())
        while not socket.exists():
            done, _ = await asyncio.wait([self._ended], timeout=0.005)
            if done:
                return False
        return True

    async def ended(self) -> int:
        """Wait until the engine has ended and is reaped; its exit status. Raises `CradleLost`."""
        assert self._ended is not None
        status = await asyncio.shield(self._ended)
        if self.pid is not None:
            kill_group(self.pid)  # what the tenant's code has started and left in the group
        self.pid = None
        return status

    async def stop(self) -> None:
        """SIGTERM, a bounded wait for what it is doing, then SIGKILL; reaped in either case."""
        if self.pid is None or self._ended is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended(), STOP_TIMEOUT)
        except TimeoutError:
            self.kill()
            await self.ended()
        except CradleLost:
            self.pid = None

    def kill(self) -> None:
        """SIGKILL to the engine and all that it started. Called from any thread; does not wait."""
        pid = self.pid
        if pid is not None:
            kill_group(pid)

    async def destroy(self) -> None:
        """Kill the engine and the cradle: an engine that was just being forked ends with it."""
        self.kill()
        kill_below(self._cradle.pid)
        self._cradle.kill()
        if self._ended is not None:
            with contextlib.suppress(CradleLost):
                await asyncio.shield(self._ended)
        self.pid = None

    def last_words(self) -> str:
        """The last line of the engine's log."""
        try:
            # The folder may be the engine's own: whatever lies in the log's place there.
            handle = os.open(
                self._order.log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
            with open(handle, errors="replace") as log:
                lines = log.read(LOG_BYTES).strip().splitlines()
        except OSError:
            return "no log"
        return lines[-1][:300] if lines else "it said nothing"
