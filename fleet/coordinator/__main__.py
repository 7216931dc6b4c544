"""``python -m fleet.coordinator SETTINGS``: the fleet's coordinator."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import httpx

from backup.errors import StoreError
from backup.store import S3Store
from fleet.coordinator.api import create_app
from fleet.coordinator.coordinator import Coordinator
from fleet.issuer import CredentialIssuer, IamIssuer, SharedIssuer
from fleet.serving import HttpServer, announce
from fleet.settings import BadSettings, CoordinatorSettings


def issuer_of(settings: CoordinatorSettings) -> CredentialIssuer:
    """Where each tenant's sidecar gets its credentials from."""
    if settings.issuer == "iam":
        return IamIssuer(settings.store)
    return SharedIssuer(settings.store.credentials)


async def run(settings: CoordinatorSettings) -> None:
    """Coordinate until SIGTERM or SIGINT. Nodes go on without a coordinator."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    token = settings.token.get_secret_value()
    async with httpx.AsyncClient(timeout=10.0) as http:
        coordinator = Coordinator(
            S3Store(settings.store),
            issuer_of(settings),
            token,
            http,
            settings.chores,
            gateway=settings.gateway,
            data=settings.folder(),
        )
        server = HttpServer(
            create_app(coordinator, token), settings.listen_host, settings.listen_port
        )
        await server.start()
        announce(settings.address_file, server.url)
        loop_task = asyncio.create_task(coordinator.run())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([loop_task, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await server.stop()
        if loop_task.done():
            loop_task.result()
        loop_task.cancel()
        await asyncio.gather(loop_task, return_exceptions=True)


def main(path: str) -> int:
    try:
        asyncio.run(run(CoordinatorSettings.read(Path(path))))
    except (BadSettings, StoreError, OSError) as error:
        print(f"the coordinator cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
