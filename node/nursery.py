"""A warm process from which supervisors are forked, in milliseconds and sharing its memory.

``python -m node.nursery FD`` serves requests for children on an inherited socket. It is started
with a clean environment, imports everything that a node needs, is told where the store is and never
a secret: orders reach the supervisor over its own socket, after the fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path

from backup.parent import die_with_parent
from backup.settings import REVEAL, StoreSettings
from node.life import supervise
from node.processes import log_to
from node.warmth import warm_up


class NurseryLost(Exception):
    """The nursery process is gone; start another one."""


class Nursery:
    """The agent's handle on its nursery."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket):
        self._process = process
        self._channel = channel
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._lock = asyncio.Lock()

    @classmethod
    async def start(
        cls, log: Path, environment: dict[str, str], store: StoreSettings | None = None
    ) -> Nursery:
        """Start the process; its errors go to ``log``.

        Args:
            environment: all of it. It is inherited by every node, so it must hold no secret.
            store: where the nodes' records are, to make ready for it; nobody is told how to get in.
        """
        ours, theirs = socket.socketpair()
        log.touch(mode=0o600)
        with theirs, log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "node.nursery",
                str(theirs.fileno()),
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        nursery = cls(process, ours)
        ours.setblocking(False)
        nursery._reader, nursery._writer = await asyncio.open_connection(sock=ours)
        place = None if store is None else store.without_credentials()
        order = {"store": place and place.model_dump(mode="json", context=REVEAL)}
        nursery._writer.write(json.dumps(order).encode() + b"\n")
        return nursery

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def spawn(self, sockets: Path, log: Path) -> int:
        """Fork a supervisor that listens in ``sockets``; its pid.

        Raises:
            NurseryLost: the process ended.
        """
        assert self._reader is not None
        assert self._writer is not None
        async with self._lock:
            try:
                request = {"sockets": str(sockets), "log": str(log)}
                self._writer.write(json.dumps(request).encode() + b"\n")
                line = await self._reader.readline()
            except ConnectionError as error:
                raise NurseryLost(str(error)) from error
        if not line:
            raise NurseryLost("the nursery process ended")
        return int(json.loads(line)["pid"])

    async def stop(self) -> None:
        """End the nursery; its children live on."""
        if self._writer is not None:
            self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def main(handle: int, parent: int) -> None:
    """Serve until the agent is gone."""
    die_with_parent(parent)
    # Nobody waits for these children: the agent sees a supervisor's end on its socket.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=handle)
    lines = channel.makefile("rb")
    place = json.loads(lines.readline() or b"{}").get("store")
    warm_up(None if place is None else StoreSettings.model_validate(place))
    # What is imported now is for good: keep the collector from touching (and so copying) it.
    gc.collect()
    gc.freeze()
    while line := lines.readline():
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            lines.close()
            channel.close()
            _become_supervisor(Path(request["sockets"]), request["log"])
        channel.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _become_supervisor(sockets: Path, log: str) -> None:
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log_to(log)
        supervise(sockets)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]), os.getppid())
