"""What an engine runs, and on which file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.engine.application import Application
from node.engine.durability import Durability
from node.engine.errors import DefinitionError
from node.engine.retention import KEEP_ALL, Default

#: Bytes of JSON; see EngineConfig.
INLINE_LIMIT: Final = 1024 * 1024
BLOB_LIMIT: Final = 16 * 1024 * 1024
#: Bytes. What the engine itself looks for in SQL is always in the event.
LEAST_INLINE: Final = 4096
#: Bytes. SQLite takes no row of more than 1,000,000,000.
MOST: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What an engine runs, and on which file.

    `create` starts an empty log and is for a tenant's genesis only. `durability` is the
    tenant's floor. `threads` bounds the plain activities that run at once. `kept` are older
    versions of the application, for the executions that are pinned to them. `forced_replay` is
    a mode for tests: the coroutine is dropped at every await and replayed for the next event.

    `retention` is how long closed executions and superseded histories are kept where the
    application has no rule of its own.

    A payload of more than `inline_limit` bytes of JSON is kept beside its event, once for all
    events that have it; one of more than `blob_limit` bytes is refused. The latter holds for
    all engines of a process, and the newest one sets it.

    Without `schedules` no schedule starts anything by itself, as if all were paused.
    """

    path: Path
    application: Application
    tenant: str
    lineage: str
    epoch: int = 1
    create: bool = False
    durability: Durability = Durability.ASYNC
    threads: int = 16
    kept: tuple[Application, ...] = ()
    forced_replay: bool = False
    retention: Default = KEEP_ALL
    inline_limit: int = INLINE_LIMIT
    blob_limit: int = BLOB_LIMIT
    schedules: bool = True

    def __post_init__(self) -> None:
        """Raises DefinitionError for limits that cannot be."""
        if not LEAST_INLINE <= self.inline_limit <= self.blob_limit <= MOST:
            raise DefinitionError(
                f"inline_limit is {self.inline_limit} and blob_limit {self.blob_limit}; they are"
                f" from {LEAST_INLINE} to {MOST} bytes, and the second is no less than the first",
                hint="Correct the limits; the engine has not started anything.",
            )
