"""The tenant's log as the supervisor handles it: made at genesis, checked after a restore."""

from __future__ import annotations

import time
from pathlib import Path

from backup.ownership import OwnerRecord
from node.engine.errors import LogRefused
from node.engine.inspection import inspect_log
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


def check_restored(path: Path, record: OwnerRecord) -> None:
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
