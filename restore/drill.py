"""A restore that is practised: somewhere harmless, verified, compared with its source, recorded.

A backup that was never restored is a hope. A drill restores a tenant's newest state beside the
live one, checks every rule of it, and has the hash chain at its end compared with the live log's
at the same event: equal values mean that every event up to there is the same. That covers the
execution log, row by row; the tenant's own tables are covered by SQLite's integrity check.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, Field

from backup import keys, records
from backup.records import Record
from backup.settings import StoreSettings
from backup.store import ObjectStore
from restore.errors import Damaged, RestoreFailed
from restore.moment import CommittedAt, Now, choose, restore

KEPT = 50
"""Drills of a tenant that its record keeps, the newest ones."""
SPACE_FACTOR = 6
"""Free bytes needed for each byte to be fetched: files in the bucket are compressed."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a log: its last event, when that was committed (unix seconds), its chain (hex)."""

    sequence: int
    committed_at: float | None
    chain: str


class Drill(BaseModel):
    """One drill. ``ok`` only if the state was restored, holds together, has all that was proven
    before it began, and is the source's own past; ``finding`` says what was not so.

    ``began_at`` is in unix seconds, ``seconds`` is the whole duration, of which ``fetch`` and
    ``verify`` are parts: what a host that has to take the tenant over would need as well.
    ``behind_seconds`` is how old the oldest commit was that the restore did not bring: what the
    loss of the tenant's host, at the time the drill began, would have cost. ``compared`` says
    whether the live log was there to be compared with.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: str
    began_at: float
    ok: bool = False
    finding: str = ""
    lineage: str = ""
    epoch: int = 0
    txid: int = 0
    sequence: int = 0
    committed_at: float | None = None
    compared: bool = False
    behind_seconds: float | None = None
    seconds: float = 0.0
    fetch: float = 0.0
    verify: float = 0.0
    files: int = 0
    bytes: int = 0
    host: str = ""

    @property
    def bookmark(self) -> str:
        return f"{self.epoch}:{self.sequence}"


class DrillRecord(Record):
    """``drills.json``: a tenant's last drills, oldest first."""

    tenant: str
    drills: list[Drill] = Field(default_factory=list)

    @property
    def verified_at(self) -> float | None:
        """When the last good drill began, in unix seconds."""
        return max((drill.began_at for drill in self.drills if drill.ok), default=None)


async def practise(
    settings: StoreSettings,
    store: ObjectStore,
    tenant: str,
    scratch: Path,
    check: Callable[[Path], Ending],
    committed_at: CommittedAt,
    *,
    host: str = "",
    clock: Callable[[], float] = time.time,
    timer: Callable[[], float] = time.monotonic,
) -> tuple[Drill, Ending | None]:
    """Restore a tenant's newest state into a folder under ``scratch`` that is removed again.

    ``settings`` are those that the restore itself uses, ``store`` reads records and lists;
    ``check`` verifies the restored log and raises `Damaged`. The drill's ``ok`` is for `judge`.

    Raises:
        StoreError: the store could not be read; that says nothing about the backup.
    """
    drill, began = Drill(tenant=tenant, began_at=clock(), host=host), timer()
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    ending: Ending | None = None

    def checked(database: Path) -> Ending:
        nonlocal drill
        drill = drill.model_copy(update={"fetch": timer() - began})
        return check(database)

    try:
        choice = await asyncio.to_thread(choose, store, tenant, Now())
        if choice.missing is not None:
            raise Damaged(choice.missing)
        refuse_without_space(scratch, choice.bytes)
        with TemporaryDirectory(prefix=f"{tenant}-", dir=scratch) as folder:
            done = await restore(
                settings, tenant, Now(), Path(folder) / "log", checked, committed_at, store=store
            )
        ending = done.checked
        drill = drill.model_copy(
            update={
                "lineage": done.choice.history.owner.lineage,
                "epoch": done.choice.epoch,
                "txid": done.fetched.txid,
                "sequence": ending.sequence,
                "committed_at": ending.committed_at,
                "files": len(done.fetched.plan.chain),
                "bytes": sum(file.size for file in done.fetched.plan.chain),
            }
        )
    except (Damaged, RestoreFailed) as error:
        drill = drill.model_copy(update={"finding": str(error)})
    whole = timer() - began
    return drill.model_copy(update={"seconds": whole, "verify": whole - drill.fetch}), ending


def refuse_without_space(scratch: Path, needed: int) -> None:
    """Raises `RestoreFailed` where what is fetched would leave too little for the nodes."""
    free = shutil.disk_usage(scratch).free
    if free < needed * SPACE_FACTOR:
        raise RestoreFailed(
            f"{free >> 20} MB are free at {scratch}, and a restore that fetches {needed >> 20} MB "
            f"wants {SPACE_FACTOR} times that"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """What was known of the live tenant before the drill: the position that was proven then, and
    for how many seconds its oldest unproven commit had been waiting."""

    epoch: int = 0
    proven_sequence: int = 0
    behind_seconds: float | None = None


def judge(drill: Drill, chain: str | None, source: Source, live_chain: str | None) -> Drill:
    """Give a drill its verdict.

    Args:
        chain: the restored log's at its last event, in hex; None where nothing was restored.
        live_chain: the live log's chain at the same event; None where there was no live log of
            that epoch to ask, "" where it has no commit that ends there.
    """
    if chain is None or drill.finding:
        return drill
    told: dict[str, object] = {
        "compared": live_chain is not None,
        "behind_seconds": source.behind_seconds,
    }
    if (source.epoch, source.proven_sequence) > (drill.epoch, drill.sequence):
        told["finding"] = (
            f"it reaches {drill.bookmark}, though {source.epoch}:{source.proven_sequence} was "
            "proven before it began"
        )
    elif live_chain is not None and live_chain != chain:
        told["finding"] = f"at event {drill.sequence} it has another past than the live log"
    else:
        told["ok"] = True
    return drill.model_copy(update=told)


def read(store: ObjectStore, tenant: str) -> DrillRecord:
    """A tenant's drills so far. Raises `StoreError`."""
    found = records.read(store, keys.drills(tenant), DrillRecord)
    return DrillRecord(tenant=tenant) if found is None else found.record


def note(store: ObjectStore, drill: Drill) -> DrillRecord:
    """Add a drill to its tenant's record. Raises `StoreError`."""

    def noted(now: DrillRecord | None) -> DrillRecord:
        before = now or DrillRecord(tenant=drill.tenant)
        return DrillRecord.model_validate(
            before.succeeded_by(tenant=drill.tenant, drills=[*before.drills, drill][-KEPT:])
        )

    record = records.change(store, keys.drills(drill.tenant), DrillRecord, noted)
    assert record is not None
    return record
