"""A real object store that is as far away as one wishes: every answer comes so much later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from backup.settings import StoreSettings
from fleet.seaweed import EmbeddedStore


@asynccontextmanager
async def far_store(folder: Path, latency: float) -> AsyncIterator[StoreSettings]:
    """A store on this machine whose every answer takes `latency` seconds longer.

    One relay stands between it and whoever uses the settings, so that they all feel it alike.
    """
    with EmbeddedStore(folder) as store:
        near = store.settings("bench")
        address = urlsplit(near.endpoint)
        host, port = str(address.hostname), int(address.port or 80)
        tasks: set[asyncio.Task[None]] = set()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(host, port)
            for flow in (_pass_on(reader, back, 0), _pass_on(there, writer, latency)):
                task = asyncio.create_task(flow)
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        own = server.sockets[0].getsockname()[1]
        try:
            yield near.model_copy(update={"endpoint": f"http://127.0.0.1:{own}"})
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency: float
) -> None:
    """Pass on what comes, `latency` seconds after it came; pieces do not wait for each other."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            if latency:
                loop.call_later(latency, writer.write, data)
            else:
                writer.write(data)
                await writer.drain()
        await asyncio.sleep(latency)
    writer.close()
