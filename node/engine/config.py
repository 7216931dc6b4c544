"""What an engine runs, and on which file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.engine.application import Application
from node.engine.durability import Durability


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What an engine runs, and on which file.

    `create` starts an empty log and is for a tenant's genesis only. `durability` is the
    tenant's floor. `threads` bounds the plain activities that run at once. `forced_replay` is
    a mode for tests: the coroutine is dropped at every await and replayed for the next event.
    """

    path: Path
    application: Application
    tenant: str
    lineage: str
    epoch: int = 1
    create: bool = False
    durability: Durability = Durability.ASYNC
    threads: int = 16
    forced_replay: bool = False
