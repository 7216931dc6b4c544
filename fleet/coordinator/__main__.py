"""``python -m fleet.coordinator SETTINGS``: one of the fleet's coordinators."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from backup.errors import StoreError
from backup.litestream.binary import MissingBinary
from backup.settings import StoreSettings
from backup.store import S3Store
from fleet.agent.authority import ClockSkewed
from fleet.agent.memory import AnotherAgent
from fleet.coordinator.api import create_app
from fleet.coordinator.catalog import CatalogCopy
from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.front import Front, waiting_app
from fleet.coordinator.history import History
from fleet.coordinator.own_log import OwnLog
from fleet.coordinator.seat import Seat, steps_socket
from fleet.coordinator.seating import TENANT
from fleet.coordinator.steps import StepServer, steps_app
from fleet.issuer import CredentialIssuer, IamIssuer, SharedIssuer
from fleet.proxy import COORDINATOR_EPOCH_HEADER
from fleet.runtimes.protocol import RuntimeFailed
from fleet.serving import HttpServer, announce
from fleet.settings import BadSettings, CoordinatorSettings


def issuer_of(settings: CoordinatorSettings, store: StoreSettings) -> CredentialIssuer:
    """Where each tenant's sidecar gets its credentials from."""
    if settings.issuer == "iam":
        return IamIssuer(store)
    return SharedIssuer(store.credentials)


class Life:
    """One coordinator process: it waits, coordinates while it is the active one, waits again."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        self._settings = settings
        self._token = settings.token.get_secret_value()
        self._front = Front(self._not_yet)
        self._server = HttpServer(self._front, settings.listen_host, settings.listen_port)
        own = issuer_of(settings, settings.store.of_coordinators)
        self._seat = Seat(settings, self._server.url, lambda: own.issue(TENANT))
        self._front.waiting = waiting_app(self._seat, self._token)
        self._log = OwnLog(self._seat.node)
        self._coordinator: Coordinator | None = None
        self._steps = StepServer(steps_app(lambda: self._coordinator), steps_socket(settings))
        self._active: asyncio.Task[None] | None = None
        self._epoch = 0
        self._told = asyncio.Event()
        self._stopping = False
        self._failure: Exception | None = None

    @staticmethod
    async def _not_yet(*_: object) -> None:
        raise RuntimeError("the application is replaced before anything is served")

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Tenants' nodes go on without a coordinator."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told.set)
        await self._steps.start()
        await self._server.start()
        announce(self._settings.address_file, self._server.url)
        seat = asyncio.create_task(self._seat.run(self._changed))
        told = asyncio.create_task(self._told.wait())
        try:
            await asyncio.wait([seat, told], return_when=asyncio.FIRST_COMPLETED)
            # Before the log is released: what was done is still to be recorded in it.
            self._stopping = True
            await self._end()
            self._seat.stop()
            await seat
        finally:
            told.cancel()
            await self._end()
            await self._server.stop()
            await self._steps.stop()
            await self._log.close()
        if self._failure is not None:
            raise self._failure

    async def _changed(self) -> None:
        """Coordinate if it is this one's turn, and stop at once if it is not any more."""
        epoch = self._seat.epoch
        if epoch == self._epoch or self._stopping:
            return
        await self._end()
        self._epoch = epoch
        if epoch:
            self._active = asyncio.create_task(self._guarded(epoch))

    async def _end(self) -> None:
        self._front.active = None
        self._coordinator = None
        self._epoch = 0
        if self._active is not None:
            self._active.cancel()
            await asyncio.gather(self._active, return_exceptions=True)
            self._active = None

    async def _guarded(self, epoch: int) -> None:
        try:
            await self._coordinate(epoch)
        except Exception as error:  # a process that does not do its work must not live on
            self._failure = error
            self._told.set()

    async def _coordinate(self, epoch: int) -> None:
        # Agents refuse what an earlier coordinator orders once they have heard of a later one.
        headers = {COORDINATOR_EPOCH_HEADER: str(epoch)}
        settings = self._settings
        async with httpx.AsyncClient(timeout=10.0, headers=headers) as http:
            coordinator = Coordinator(
                S3Store(settings.store),
                issuer_of(settings, settings.store),
                self._token,
                http,
                settings.chores,
                History(self._log),
                lambda: self._seat.epoch == epoch,
                CatalogCopy(S3Store(settings.store.of_coordinators)),
                self._log,
                gateway=settings.gateway,
                sleep=settings.sleep,
            )
            self._coordinator = coordinator
            self._front.active = create_app(coordinator, self._token, self._seat)
            await coordinator.run()


async def run(settings: CoordinatorSettings) -> None:
    """Coordinate, or wait to, until SIGTERM or SIGINT."""
    await Life(settings).run()


def main(settings: Callable[[], CoordinatorSettings]) -> int:
    """Run one with these settings; its exit status. What is wrong is told on stderr."""
    try:
        asyncio.run(run(settings()))
    except (
        AnotherAgent,
        BadSettings,
        ClockSkewed,
        MissingBinary,
        RuntimeFailed,
        StoreError,
        OSError,
    ) as error:
        print(f"the coordinator cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(lambda: CoordinatorSettings.read(Path(sys.argv[1]))))
