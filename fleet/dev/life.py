"""One child process with an engine, as the parent holds it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

#: Seconds that an engine gets to close in good order.
STOP_WITHIN: Final = 10.0
Line = dict[str, Any]


class Life:
    """A process that has loaded the code, then runs the engine, then ends.

    `said` gets each line it says; `first` is done with its first one, `loaded` or `refused`, and
    `opened` with the one that it opens the log with, `open` or `refused`.
    """

    def __init__(self, orders: Line, listener: int, said: Callable[[Line], None]) -> None:
        loop = asyncio.get_running_loop()
        self._said = said
        control, self._control = os.pipe()
        self._events, events = os.pipe()
        orders = {**orders, "listener": listener, "control": control, "events": events}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fleet.dev.child", json.dumps(orders)],
            pass_fds=(listener, control, events),
            # In --json mode stdout is for lines only; what the code prints is for people.
            stdout=sys.stderr,
            # A group of its own: Ctrl-C in the terminal reaches the parent only.
            process_group=0,
        )
        os.close(control)
        os.close(events)
        self.first: asyncio.Future[Line | None] = loop.create_future()
        self.opened: asyncio.Future[Line | None] = loop.create_future()
        self.ended: asyncio.Task[int] = asyncio.create_task(self._follow())

    async def _follow(self) -> int:
        """Pass on its lines to their end; its exit status."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**24)
        file = os.fdopen(self._events, "rb")
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        finally:
            transport.close()
        status = await loop.run_in_executor(None, self._process.wait)
        for future in (self.first, self.opened):
            if not future.done():
                future.set_result(None)
        return status

    def _take(self, line: Line) -> None:
        event = line["event"]
        if not self.first.done():
            self.first.set_result(line)
        elif not self.opened.done() and event in ("open", "refused"):
            self.opened.set_result(line)
        else:
            self._said(line)

    def open(self) -> None:
        """Let it open the log and serve."""
        with suppress(BrokenPipeError):
            os.write(self._control, b"\n")

    async def stop(self) -> None:
        """Have it close the log in good order; killed when it takes too long."""
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), STOP_WITHIN)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self.ended


def listen(host: str, port: int) -> Any:
    """A socket that each life serves in turn, so that nobody is turned away between two."""
    import socket

    return socket.create_server((host, port), backlog=512)


def relative(path: str) -> str:
    """A path as a person in this folder calls it."""
    with suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
