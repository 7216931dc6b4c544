"""Running an HTTP application inside a process that has other work to do as well."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import uvicorn


class HttpServer:
    """uvicorn on a socket that is bound at once, so that the address is known before it serves.

    Signals are the process's own business, so uvicorn's handlers are not installed.
    """

    def __init__(self, app: Any, host: str, port: int):
        self._socket = listen(host, port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=2,
            )
        )
        self._task: asyncio.Task[None] | None = None
        bound_host, bound_port = self._socket.getsockname()[:2]
        shown = f"[{bound_host}]" if ":" in bound_host else bound_host
        self.url = f"http://{shown}:{bound_port}"

    async def start(self) -> None:
        """Serve; returns once requests are answered."""
        # serve() would install signal handlers; _serve is what it calls within them.
        self._task = asyncio.create_task(self._server._serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the HTTP server ended at its start")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish what is being answered, within a bound, and stop."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol must be named: asyncio turns Nagle's algorithm off only on sockets that say TCP,
    # and with it on, every answer of two writes waits 40 ms for the other side's delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


def announce(path: Path | None, url: str) -> None:
    """Write ``url`` to ``path`` in one piece: whoever waits for the file never reads half of it."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(url + "\n")
    partial.rename(path)
