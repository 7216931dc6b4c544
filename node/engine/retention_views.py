"""What there is to see of retention."""

from __future__ import annotations

from dataclasses import dataclass

from node.engine.due import Execution, History
from node.engine.retention import Rule


@dataclass(frozen=True, slots=True)
class Round:
    """What one round has removed, from `at` on (unix seconds), in `seconds`. `trouble` says why
    it did not come to its end, if it did not."""

    at: float
    executions: int = 0
    histories: int = 0
    events: int = 0
    batches: int = 0
    seconds: float = 0.0
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round would remove now: how many, and the first of them."""

    executions: int
    histories: int
    named_executions: list[Execution]
    named_histories: list[History]


@dataclass(frozen=True, slots=True)
class RetentionView:
    """Retention as it is now. Moments are unix seconds; sizes are bytes of the log's file, of
    which `free` are to be used again."""

    rules: list[Rule]
    executions: int
    """Removed so far, as are the next two."""
    histories: int
    events: int
    ranges: int
    """Ranges of events that are missing."""
    held: list[str]
    """The ids of executions that are held."""
    size: int
    free: int
    last: Round | None
    """The last round of this engine."""
    next_at: float | None
    """When the next one begins by itself."""
    running: bool
