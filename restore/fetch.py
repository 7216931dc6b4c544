"""Bringing one epoch's newest state into a fresh folder, with Litestream's own restore."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backup import keys
from backup.litestream import binary, config
from backup.parent import die_with_parent
from backup.settings import StoreSettings
from backup.store import ObjectStore, S3Store
from restore.errors import Damaged, RestoreFailed
from restore.plan import LtxFile, Plan, list_epoch, plan
from restore.staging import Bad, Gone, Progress, Staging

RELISTS = 5
"""How often a list is taken before the gap or the early end that it shows is believed."""
RELIST_PAUSE = 0.5
"""Seconds between two lists."""
RESTAGES = 20
"""How often files are looked for anew because some were damaged, or merged meanwhile."""
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
    *,
    staging: Staging | None = None,
    in_spite_of_damage: bool = False,
    progress: Progress = lambda _done, _all: None,
    say: Callable[[str], None] = lambda _text: None,
) -> Fetched:
    """Restore an epoch's state at ``txid`` to ``database``, in a folder that holds no other.

    Without ``txid`` it is the newest, and that is what a takeover asks for: there is no fixed cut,
    since a zombie's compaction can make one unreachable, and everything that was acknowledged was
    in the bucket before the takeover's first step.

    With ``staging``, the files are brought there first, checked one by one, and kept if that is cut
    off; a damaged one is gone around where the bucket has another way, or named. Only then
    ``in_spite_of_damage`` has a meaning: the newest state that can be reached without it is taken.

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
    if staging is not None:
        found = await settled_plan(store, tenant, epoch, floor, txid)
        listed = time.monotonic()
        found = await _stage(
            store, tenant, epoch, floor, txid, found, staging, in_spite_of_damage, progress, say
        )
        settings = config.for_folder(staging.replica, database, database.parent / "unused.sock")
        reached = await _litestream_restore(settings, {}, database, found.reachable)
        return Fetched(database, reached, found, listed - began, time.monotonic() - listed)
    # The database must be named by a configuration for the endpoint to be settable.
    settings = config.for_epoch(
        sidecar_store, keys.epoch(tenant, epoch), database, database.parent / "unused.sock"
    )
    env = config.environment(sidecar_store)
    # Both at once: what counts is that what was restored reaches what a list has shown whole.
    restoring = asyncio.create_task(_litestream_restore(settings, env, database, txid))
    try:
        found = await settled_plan(store, tenant, epoch, floor, txid)
        listed = time.monotonic()
        try:
            reached = await restoring
            enough = reached >= found.reachable if txid is None else reached == txid
            if not enough:
                # It may have listed before we did.
                _clear(database)
                reached = await _litestream_restore(settings, env, database, txid)
        except RestoreFailed:
            # If the store is away, refuses these credentials, or has changed meanwhile, this says
            # so: only what is left, with the list whole and readable, is a failure of the content.
            await settled_plan(store, tenant, epoch, floor, txid)
            await asyncio.to_thread(_read_one, sidecar_store, tenant, epoch, found)
            raise
    except BaseException:
        restoring.cancel()
        await asyncio.gather(restoring, return_exceptions=True)
        _clear(database)
        raise
    if reached < found.reachable or (txid is not None and reached != txid):
        raise RestoreFailed(
            f"litestream restored {tenant} to {reached} of epoch {epoch}, but the list reaches "
            f"{found.reachable}"
        )
    return Fetched(database, reached, found, listed - began, time.monotonic() - listed)


def _clear(database: Path) -> None:
    """Remove what a try has left: nothing of it may lie beside the next one's."""
    for path in database.parent.iterdir():
        path.unlink()


def _read_one(sidecar_store: StoreSettings, tenant: str, epoch: int, found: Plan) -> None:
    """Read the smallest file of a plan with the sidecar's credentials. Raises `StoreError`."""
    smallest = min(found.files, key=lambda file: file.size)
    S3Store(sidecar_store).get(keys.epoch(tenant, epoch) + smallest.name)


async def _stage(
    store: ObjectStore,
    tenant: str,
    epoch: int,
    floor: int,
    txid: int | None,
    found: Plan,
    staging: Staging,
    in_spite_of_damage: bool,
    progress: Progress,
    say: Callable[[str], None],
) -> Plan:
    """Bring the files of a plan's chain to ``staging``; the plan that was followed in the end."""
    wanted, bad = found.reachable, set[LtxFile]()
    for _ in range(RESTAGES):
        try:
            await asyncio.to_thread(
                staging.bring, store, keys.epoch(tenant, epoch), found.chain, progress
            )
        except asyncio.CancelledError:
            staging.stop()
            raise
        except Gone:
            found = await settled_plan(store, tenant, epoch, floor, txid)
            wanted = found.reachable
            found = plan(file for file in found.files if file not in bad)
        except Bad as error:
            bad.add(error.file)
            say(str(error))
            found = plan(file for file in found.files if file not in bad)
            if found.reachable == wanted:
                say("the bucket has another way around it")
            elif not in_spite_of_damage or not found.reachable:
                raise Damaged(
                    f"{error}; without it the newest state of epoch {epoch} of {tenant} that can "
                    f"be reached is transaction {found.reachable}, and {wanted} was to be"
                ) from error
        else:
            return found
    raise RestoreFailed(f"the files of epoch {epoch} of {tenant} do not stand still: try again")


async def _litestream_restore(
    settings: config.LitestreamConfig, env: dict[str, str], database: Path, txid: int | None
) -> int:
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
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Nobody would end it: a store that hangs may hold it for a day.
            preexec_fn=partial(die_with_parent, os.getpid()),
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
