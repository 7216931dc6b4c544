"""What every node does once is done before the first is forked, so that they all share its memory.

A page of memory is shared with a warm parent until somebody writes to it. What a library imports or
computes when it is first used would be each process's own, so it is used here: an HTTP server and
client on a unix socket, and the client of the store. Nothing here knows a secret, and no thread or
event loop is left behind, which a fork would break.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backup import client as s3
from backup.settings import StoreSettings

PATIENCE = 10.0
"""Seconds after which the rest goes without: it only costs memory."""


def warm_up(store: StoreSettings | None) -> None:
    """Call it in a process that has neither threads nor an event loop; it has none afterwards.

    Args:
        store: where the nodes' records are; its credentials are not used. None: not known yet.
    """
    s3.warm_up()
    try:
        if store is not None:
            s3.prepare(store)
        asyncio.run(asyncio.wait_for(_speak_to_itself(), PATIENCE))
    except Exception as error:
        print(f"goes without all of its warmth: {type(error).__name__}: {error}", flush=True)


async def _speak_to_itself() -> None:
    """A request and its answer, through the same libraries as between engine and sidecar, their
    supervisor and their agent."""

    async def answer(request: Request) -> Response:
        return JSONResponse(await request.json())

    app = Starlette(routes=[Route("/", answer, methods=["POST"])])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    with tempfile.TemporaryDirectory(prefix="litefleet-") as folder:
        path = str(Path(folder) / "rehearsal.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen()
            listener.setblocking(False)
            serving = asyncio.create_task(server._serve(sockets=[listener]))
            transport = httpx.AsyncHTTPTransport(uds=path, verify=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                (await client.post("/", json={"ok": True})).raise_for_status()
            server.should_exit = True
            await serving
