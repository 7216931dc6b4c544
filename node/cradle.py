"""Where engine processes come from: a process that never saw a credential.

The supervisor forks its cradle before it is told anything, so the memory that engines inherit
holds no secret. Forking from a process that has everything imported also makes an engine's start
a matter of milliseconds, at a take-over and at every restart in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable

from backup.parent import die_with_parent
from node.order import EngineOrder
from node.processes import adopt_orphans, kill_below, log_to
from node.users import become_engine, limit

Serve = Callable[[EngineOrder], None]
"""The engine's main function: runs until the engine is to end."""


class CradleLost(Exception):
    """The cradle is gone; so is any engine that it had."""


class Cradle:
    """The supervisor's handle on its cradle, which holds at most one engine at a time."""

    def __init__(self, pid: int, channel: socket.socket):
        self.pid = pid
        self._channel = channel
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def attach(self) -> None:
        """Use the running event loop for what follows."""
        self._channel.setblocking(False)
        self._reader, self._writer = await asyncio.open_connection(sock=self._channel)

    async def start(self, order: EngineOrder) -> int:
        """Fork an engine, leader of a process group of its own; its pid."""
        assert self._writer is not None
        self._writer.write(order.model_dump_json().encode() + b"\n")
        return await self._number("pid")

    def kill(self) -> None:
        """SIGKILL to the cradle and, by the kernel's hand, to its engine; both are reaped."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    async def ended(self) -> int:
        """Wait until the engine has ended and is reaped; its exit status, negative for a signal."""
        return await self._number("exit")

    async def _number(self, field: str) -> int:
        assert self._reader is not None
        line = await self._reader.readline()
        if not line:
            raise CradleLost("the cradle process is gone")
        return int(json.loads(line)[field])


def fork_cradle(serve: Serve) -> Cradle:
    """Fork the cradle. Call this first of all: before credentials, threads and event loops."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return Cradle(pid, ours)
    try:
        die_with_parent(parent)
        ours.close()
        _run(theirs, serve)
    finally:
        os._exit(0)


def _run(channel: socket.socket, serve: Serve) -> None:
    # What the tenant's code starts and leaves comes here, wherever it has hidden.
    adopt_orphans()
    lines = channel.makefile("rb")
    while line := lines.readline():
        order = EngineOrder.model_validate_json(line)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            # The engine must not be able to speak to the supervisor as its cradle does.
            lines.close()
            channel.close()
            _become_engine(parent, order, serve)
        with contextlib.suppress(OSError):  # both sides set it, so that neither can be too late
            os.setpgid(pid, pid)
        _send(channel, pid=pid)
        status = _reap(pid)
        kill_below(os.getpid())
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        _send(channel, exit=os.waitstatus_to_exitcode(status))


def _reap(pid: int) -> int:
    """Wait for the engine's end, and for that of orphans meanwhile; the engine's wait status."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status


def _send(channel: socket.socket, **fields: int) -> None:
    channel.sendall(json.dumps(fields).encode() + b"\n")


def _become_engine(parent: int, order: EngineOrder, serve: Serve) -> None:
    status = 1
    try:
        os.setpgid(0, 0)
        # Where memory is short, this is what shall go: it is restarted in place.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")
        if order.users is not None:
            os.chdir(order.database.parent)
            become_engine(order.users, order.rlimits)
        else:
            limit(order.rlimits)
        die_with_parent(parent)  # a change of user makes the kernel forget it
        log_to(str(order.log))
        os.environ.clear()
        os.environ.update(order.env)
        serve(order)
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        # The engine's log is where its operator looks; the supervisor only sees the status.
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
