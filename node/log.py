"""The tenant's log as the supervisor handles it: made at genesis, checked after a restore."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack, closing
from pathlib import Path

import apsw

from backup.ownership import Origin, OwnerRecord
from node.engine import seals
from node.engine.errors import LogRefused
from node.engine.inspection import LogSummary, chain_at, inspect_log
from node.engine.parting import part
from node.engine.schema import connect, version_of
from node.engine.store import Store
from restore.errors import Damaged


def create_log(path: Path, tenant: str, lineage: str) -> None:
    """Make an empty log at ``path``: at genesis, and never again.

    The supervisor does it, not the engine, so that an engine process can never start empty.

    Raises:
        LogRefused: something is there already.
    """
    store = Store(
        path, tenant=tenant, lineage=lineage, create=True, now=lambda: int(time.time() * 1000)
    )
    store.close()


def check_restored(path: Path, record: OwnerRecord) -> LogSummary:
    """Check the log's own invariants, row by row, and that it is this tenant's.

    Raises:
        Damaged: with what was found.
    """
    try:
        summary = inspect_log(path)
    except LogRefused as error:
        raise Damaged(f"the restored log of {record.tenant} is not whole: {error}") from error
    if (summary.tenant, summary.lineage) != (record.tenant, record.lineage):
        raise Damaged(
            f"the restored log is that of {summary.tenant} in lineage {summary.lineage}, not of "
            f"{record.tenant} in lineage {record.lineage}"
        )
    return summary


def part_log(path: Path, record: OwnerRecord, origin: Origin) -> str:
    """Make a restored log of another tenant's that of a fork, with all that is open in it paused.

    Returns:
        What was done, for the record.

    Raises:
        Damaged: it is not whole, or not the log that was to be forked.
    """
    try:
        summary = inspect_log(path)
        if (summary.tenant, summary.lineage) != (origin.tenant, origin.lineage):
            raise Damaged(
                f"what was restored is the log of {summary.tenant} in lineage {summary.lineage}, "
                f"not of {origin.tenant} in lineage {origin.lineage}"
            )
        done = part(
            path,
            tenant=record.tenant,
            lineage=record.lineage,
            reason=f"forked from {origin.tenant} at {origin.bookmark}",
            now=lambda: int(time.time() * 1000),
        )
    except LogRefused as error:
        raise Damaged(f"the log of {origin.tenant} cannot be forked: {error}") from error
    return (
        f"forked from {origin.tenant} at {origin.epoch}:{done.until}, with {done.executions} open "
        f"executions and {done.schedules} schedules paused"
    )


def live_chain_at(path: Path, sequence: int) -> str:
    """The chain's value (hex) after an event of a log that an engine has open; "" where no commit
    ends there. One short read.

    Raises:
        LogRefused: it cannot be read.
    """
    with closing(connect(path, read_only=True)) as db:
        end = seals.end_at(db, version_of(db, path), sequence)
    return "" if end is None else bytes(end.chain).hex()


def adopt_tail(local: Path, restored: Path, record: OwnerRecord) -> str:
    """Put the log that is still on this disk in the restored one's place, if it goes on from it.

    So a node that died on a live host, or a reboot, does not lose what was committed and not yet
    uploaded. A local log that is behind (a disk rolled back by a power loss) or has diverged is
    left alone: the bucket's stands.

    Returns:
        What was done and why, for the record.

    Raises:
        Damaged: the copy that was put in place does not hold together.
    """
    bucket = check_restored(restored, record)
    with ExitStack() as locks:
        for lock in (
            local.with_name(local.name + ".lock"),
            local.parent.parent / "litestream.lock",
        ):
            if lock.exists() and not _locked(lock, locks):
                return (
                    "the local files are still in use by an earlier node; the bucket's log stands"
                )
        if local.is_symlink():
            return "the local file is none, but a link; the bucket's log stands"
        try:
            here = inspect_log(local, closed=True)
            follows = chain_at(local, bucket.sequence) == bucket.chain
        except LogRefused as error:
            return f"the local log is not whole, so the bucket's stands: {error}"
        if not follows:
            return (
                f"the local log does not go on from the bucket's event {bucket.sequence}: it is "
                f"behind or a fork of history; the bucket's stands"
            )
        if here.sequence == bucket.sequence:
            return f"the bucket has all of the local log, to event {here.sequence}"
        _copy(local, restored)
    check_restored(restored, record)
    return (
        f"the local log goes on from the bucket's event {bucket.sequence} to {here.sequence} and "
        "is used"
    )


def _locked(path: Path, locks: ExitStack) -> bool:
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    locks.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _copy(local: Path, restored: Path) -> None:
    """Replace ``restored`` by a consistent copy of ``local``, WAL included, in one step."""
    fresh = restored.with_name(restored.name + ".tail")
    with closing(connect(local)) as source, closing(apsw.Connection(str(fresh))) as target:
        # Checkpointing the copy is right, and needed: nobody streams it yet, and its WAL must be
        # gone before it is moved.
        target.execute("PRAGMA synchronous=FULL")
        with target.backup("main", source, "main") as backup:
            backup.step()
    for suffix in ("-wal", "-shm"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    fresh.rename(restored)
