"""Drills on this host: a tenant's backup restored into a scratch folder, and removed again."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from backup.settings import Credentials, StoreSettings
from backup.store import S3Store
from node.engine.errors import LogRefused
from node.engine.inspection import committed_at, inspect_log
from restore.drill import Drill, Ending, practise
from restore.errors import Damaged

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


def checked(database: Path) -> Ending:
    """Every rule of a restored log, and where it ends. Raises `Damaged`."""
    try:
        log = inspect_log(database)
    except LogRefused as error:
        raise Damaged(f"what was restored is not whole: {error}") from error
    return Ending(log.sequence, log.last_commit_at, log.chain)
