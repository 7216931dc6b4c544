"""The newest bookmark that a damaged chain still leads to.

A bookmark counts log events, of which the bucket's files know nothing. So the state that can be
reached is restored, somewhere harmless, and its log is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel

from backup.settings import StoreSettings
from node.engine.errors import LogRefused
from node.engine.inspection import LogSummary, committed_at, inspect_log
from restore.errors import Damaged, RestoreFailed
from restore.moment import AtTime, EndOf, Now, restore


class Reached(BaseModel):
    """What can be reached in spite of damage: the position, its last log event as a bookmark, and
    when that was committed (unix seconds). `problem` says why nothing can, None where it can."""

    txid: int = 0
    bookmark: str | None = None
    committed_at: float | None = None
    problem: str | None = None

    @property
    def words(self) -> str:
        """A clause for people."""
        if self.bookmark is None:
            return f"nothing of it can be restored: {self.problem}"
        return f"the newest bookmark that can be reached is {self.bookmark}"


def find_reached(
    settings: StoreSettings,
    tenant: str,
    moment: Now | AtTime | EndOf,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
    scratch: Path | None = None,
) -> Reached:
    """Restore the newest state up to a moment that can be reached, and say which it is.

    `scratch` is where it is put meanwhile, with room for all of it; the folder for temporary files
    by default. `progress` is told of bytes that were fetched.

    Raises `StoreError` where the store cannot be read; that says nothing about the chain.
    """
    with TemporaryDirectory(prefix="reached-", dir=scratch) as folder:
        try:
            done = asyncio.run(
                restore(
                    settings,
                    tenant,
                    moment,
                    Path(folder) / "log",
                    _inspect,
                    committed_at,
                    in_spite_of_damage=True,
                    staging=Path(folder) / "staging",
                    progress=progress,
                )
            )
        except (Damaged, RestoreFailed) as error:
            return Reached(problem=str(error))
    log = done.checked
    return Reached(
        txid=done.fetched.txid,
        bookmark=f"{done.choice.epoch}:{log.sequence}",
        committed_at=log.last_commit_at,
    )


def _inspect(database: Path) -> LogSummary:
    try:
        return inspect_log(database)
    except LogRefused as error:
        raise Damaged(f"what was restored is not whole: {error}") from error
