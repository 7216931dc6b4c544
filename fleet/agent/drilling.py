"""Drills on this host: a tenant's backup restored into a scratch folder, and removed again."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict

from backup.settings import Credentials, StoreSettings
from backup.store import S3Store
from node.engine.errors import LogRefused
from node.engine.inspection import LogSummary, committed_at, inspect_log
from restore.drill import Drill, Ending, practise, refuse_without_space
from restore.errors import Damaged
from restore.moment import AtBookmark, AtTime, EndOf, Moment, Now, choose, restore

AT_ONCE = 1
"""Drills of one host at a time: the nodes' disk and network come first."""


class DrillRequest(BaseModel):
    """The coordinator's order; ``sidecar`` reaches the tenant's replicas."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sidecar: Credentials


class DrillDone(BaseModel):
    """What a drill found, before its verdict, and the restored log's chain (None: no log)."""

    drill: Drill
    chain: str | None = None


class RehearsalRequest(BaseModel):
    """Restore a state of a tenant to see that it can be: the newest one, or that `at` a time (unix
    seconds), at a `bookmark` (epoch:sequence), or at the end of `epoch`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sidecar: Credentials
    at: float | None = None
    bookmark: str | None = None
    epoch: int | None = None

    def moment(self) -> Moment:
        """Raises ValueError where it names more than one."""
        if (self.at, self.bookmark, self.epoch).count(None) < 2:
            raise ValueError("name one of at, bookmark and epoch")
        if self.at is not None:
            return AtTime(self.at)
        if self.epoch is not None:
            return EndOf(self.epoch)
        if self.bookmark is None:
            return Now()
        epoch, _, sequence = self.bookmark.partition(":")
        return AtBookmark(int(epoch), int(sequence))


class Rehearsal(BaseModel):
    """A past state that was restored and is whole: its exact position, when it was taken and when
    its last event was committed (unix seconds), and what it holds. `seconds` is what it took."""

    lineage: str
    epoch: int
    txid: int
    sequence: int
    at: float
    committed_at: float | None
    executions: dict[str, int]
    bytes: int
    seconds: float
    host: str


class Drilling:
    """Restores in a folder of this host's, one at a time."""

    def __init__(self, store: StoreSettings, scratch: Path, host: str):
        # What an agent that was killed has left: nobody else writes there.
        shutil.rmtree(scratch, ignore_errors=True)
        self._settings = store
        self._scratch = scratch
        self._host = host
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def drill(self, tenant: str, request: DrillRequest) -> DrillDone:
        """Raises `StoreError` where the store could not be read."""
        async with self._turn:
            drill, ending = await practise(
                self._settings.reached_with(request.sidecar),
                S3Store(self._settings),
                tenant,
                self._scratch,
                checked,
                committed_at,
                host=self._host,
            )
        return DrillDone(drill=drill, chain=ending.chain if ending else None)

    async def rehearse(self, tenant: str, request: RehearsalRequest) -> Rehearsal:
        """Restore a past state into a folder that is removed again, and say what it is.

        Raises:
            ValueError: the request names no moment.
            RestoreFailed, Damaged: it cannot be restored; the message says what can.
            StoreError: the store could not be read.
        """
        moment, began = request.moment(), time.monotonic()
        async with self._turn:
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            store = S3Store(self._settings)
            # Where the newest state cannot be had, an older one may be what mends the tenant.
            with suppress(Damaged):
                now = await asyncio.to_thread(choose, store, tenant, Now())
                refuse_without_space(self._scratch, now.bytes)
            with TemporaryDirectory(prefix=f"{tenant}-", dir=self._scratch) as folder:
                done = await restore(
                    self._settings.reached_with(request.sidecar),
                    tenant,
                    moment,
                    Path(folder) / "log",
                    inspected,
                    committed_at,
                    store=store,
                )
        choice, log = done.choice, done.checked
        return Rehearsal(
            lineage=choice.history.owner.lineage,
            epoch=choice.epoch,
            txid=done.fetched.txid,
            sequence=log.sequence,
            at=choice.at,
            committed_at=log.last_commit_at,
            executions=log.executions,
            bytes=choice.bytes,
            seconds=time.monotonic() - began,
            host=self._host,
        )


def inspected(database: Path) -> LogSummary:
    """Every rule of a restored log. Raises `Damaged`."""
    try:
        return inspect_log(database)
    except LogRefused as error:
        raise Damaged(f"what was restored is not whole: {error}") from error


def checked(database: Path) -> Ending:
    """Every rule of a restored log, and where it ends. Raises `Damaged`."""
    log = inspected(database)
    return Ending(log.sequence, log.last_commit_at, log.chain)
