"""Bringing one epoch's newest state into a fresh folder, with Litestream's own restore."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from backup import keys
from backup.litestream import binary, config
from backup.settings import StoreSettings
from backup.store import ObjectStore, S3Store
from restore.errors import Damaged, RestoreFailed
from restore.plan import Plan, list_epoch

RELISTS = 5
"""How often a list is taken before the gap or the early end that it shows is believed."""
RELIST_PAUSE = 0.5
"""Seconds between two lists."""
FETCH_TIMEOUT = 600.0
"""Seconds for one restore by Litestream."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A restored database: the position that it reached, the plan behind it, and seconds taken."""

    database: Path
    txid: int
    plan: Plan
    list_seconds: float
    fetch_seconds: float


async def settled_plan(
    store: ObjectStore,
    tenant: str,
    epoch: int,
    floor: int,
    txid: int | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Plan:
    """List an epoch until its chain is unbroken and reaches ``floor``; with ``txid``, as far as
    that and exactly to it.

    Raises:
        Damaged: it stays gapped, short or empty.
        StoreError: the store could not be listed.
    """
    for attempt in range(RELISTS):
        found = await asyncio.to_thread(list_epoch, store, tenant, epoch)
        if txid is not None:
            found = found.up_to(txid)
        missing = found.missing(floor if txid is None else txid)
        if missing is None:
            return found
        if attempt < RELISTS - 1:
            await sleep(RELIST_PAUSE)
    raise Damaged(f"epoch {epoch} of {tenant} cannot be restored: {missing}")


async def fetch(
    store: ObjectStore,
    sidecar_store: StoreSettings,
    tenant: str,
    epoch: int,
    floor: int,
    database: Path,
    txid: int | None = None,
) -> Fetched:
    """Restore an epoch's state at ``txid`` to ``database``, in a folder that holds no other.

    Without ``txid`` it is the newest, and that is what a takeover asks for: there is no fixed cut,
    since a zombie's compaction can make one unreachable, and everything that was acknowledged was
    in the bucket before the takeover's first step.

    Raises:
        Damaged: the bucket does not lead to all that it must hold.
        RestoreFailed: Litestream failed, or the folder is not fresh.
        StoreError: the store could not be listed.
    """
    if database.parent.exists() and any(database.parent.iterdir()):
        # A restored file beside an old -wal was replayed into nonsense that passed every check.
        raise RestoreFailed(f"{database.parent} is not empty; a restore needs a fresh folder")
    database.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    began = time.monotonic()
    found = await settled_plan(store, tenant, epoch, floor, txid)
    listed = time.monotonic()
    try:
        reached = await _litestream_restore(
            sidecar_store, keys.epoch(tenant, epoch), database, txid
        )
    except RestoreFailed:
        # If the store is away, refuses these credentials, or has changed meanwhile, this says so:
        # only what is left, with the list whole and readable, is a failure of the content.
        await settled_plan(store, tenant, epoch, floor, txid)
        await asyncio.to_thread(_read_one, sidecar_store, tenant, epoch, found)
        raise
    if reached < found.reachable or (txid is not None and reached != txid):
        raise RestoreFailed(
            f"litestream restored {tenant} to {reached} of epoch {epoch}, but the list reaches "
            f"{found.reachable}"
        )
    return Fetched(database, reached, found, listed - began, time.monotonic() - listed)


def _read_one(sidecar_store: StoreSettings, tenant: str, epoch: int, found: Plan) -> None:
    """Read the smallest file of a plan with the sidecar's credentials. Raises `StoreError`."""
    smallest = min(found.files, key=lambda file: file.size)
    S3Store(sidecar_store).get(keys.epoch(tenant, epoch) + smallest.name)


async def _litestream_restore(
    store: StoreSettings, prefix: str, database: Path, txid: int | None
) -> int:
    # The database must be named by a configuration for the endpoint to be settable.
    settings = config.for_epoch(store, prefix, database, database.parent / "unused.sock")
    path = database.parent.parent / f".restore-{database.parent.name}.yml"
    settings.write(path)
    try:
        process = await asyncio.create_subprocess_exec(
            str(binary.find()),
            "restore",
            "-config",
            str(path),
            "-json",
            *(["-txid", f"{txid:016x}"] if txid is not None else []),
            "-o",
            str(database),
            str(database),
            env=config.environment(store),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), FETCH_TIMEOUT)
        except BaseException:
            process.kill()
            await process.wait()
            raise
    finally:
        path.unlink(missing_ok=True)
    if process.returncode != 0 or not database.exists():
        words = err.decode(errors="replace").strip().splitlines()
        raise RestoreFailed(f"litestream restore failed: {words[-1] if words else 'no output'}")
    try:
        return int(json.loads(out)["txid"], 16)
    except (ValueError, KeyError, TypeError) as error:
        raise RestoreFailed(f"litestream restore gave no position: {out[:200]!r}") from error
