"""A node's guards: measures every few seconds, tells of what runs away, and does what is set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from backup.guards import Action, Alert, GuardSettings, Measured, Watch
from backup.lag import Lag
from backup.usage import Meter
from backup.walindex import LongReaders, WalIndex


class Guarding:
    """The guards of one node."""

    def __init__(
        self,
        settings: GuardSettings,
        database: Path,
        *,
        lag: Callable[[], Lag],
        sidecar: Callable[[], int | None],
        stuck: Callable[[], bool],
        act: Callable[[Alert], Awaitable[None]],
        tell: Callable[[list[Alert]], None],
        clock: Callable[[], float],
    ):
        """
        Args:
            lag: how far the bucket is behind.
            sidecar: the process of Litestream, which may hold a read transaction.
            stuck: whether the sidecar uploads nothing whatever is done.
            act: does what an alert that begins asks for.
            tell: is given all alerts that stand, after each measurement.
            clock: unix seconds, for what people read.
        """
        self._every = settings.every
        self._watch = Watch(settings)
        self._index = WalIndex(database)
        self._readers = LongReaders()
        self._meter = Meter(database, full_upload_least=settings.full_upload_least)
        self._lag = lag
        self._sidecar = sidecar
        self._stuck = stuck
        self._act = act
        self._tell = tell
        self._clock = clock

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            measured = await asyncio.to_thread(self._measure, self._lag(), self._sidecar())
            begun = self._watch.measured(measured, self._clock())
            self._tell(list(self._watch.alerts.values()))
            for alert in begun:
                if alert.action is not Action.NONE:
                    await self._act(alert)
            await asyncio.sleep(self._every)

    def _measure(self, lag: Lag, sidecar: int | None) -> Measured:
        now = time.monotonic()
        index = self._index.look()
        usage = self._meter.look(index, lag.replicated_txid)
        return Measured(
            at=now,
            database=usage.database,
            wal=usage.wal,
            metadata=usage.metadata,
            committed_bytes=usage.committed_bytes,
            uploaded_bytes=usage.uploaded_bytes,
            full_uploads=usage.full_uploads,
            unproven_seconds=lag.seconds,
            unreplicated_bytes=usage.unreplicated_bytes,
            reader_seconds=self._readers.seen(index, now, apart_from=sidecar),
            reader_pids=self._readers.pids,
            stuck=self._stuck(),
        )
