"""What the demo knows when everything is over, as plain data for the checker.

Each kind of fact comes from another witness: expectations from the input
documents, acknowledgements from the client that received them, the log and the
table from a restore out of the bucket alone, effects from the receiver outside
the fleet, and the lost host's log from the files that an observer copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.views import Bookmark, Durability

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one execution must come to, computed from its document alone."""

    execution: str
    result: Any
    row: Row
    effect: Any


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A client was told that an execution exists; `durable` means: and cannot be lost."""

    execution: str
    durable: bool
    bookmark: Bookmark
    at: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A client was told the result of an execution."""

    execution: str
    durable: bool
    bookmark: Bookmark
    status: str
    result: Any
    at: float


@dataclass(frozen=True, slots=True)
class Event:
    """One record of an execution log.

    `kind` is the engine's word for it; `step` and `occurrence` name the step it
    belongs to; `at` is the moment of its commit in UNIX seconds.
    """

    sequence: int
    execution: str
    kind: str
    step: str
    occurrence: int
    at: float

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """What makes it the same event when it is done again after a loss."""
        return (self.execution, self.step, self.occurrence, self.kind)


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution as its tenant's log tells it."""

    id: str
    status: str
    result: Any
    started: int
    """Sequence of its first event."""
    started_at: float
    ended: int | None
    """Sequence of its last event, when it is over."""
    ended_at: float | None
    effects: tuple[str, ...]
    """Idempotency keys of the effects that the log says were done."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One request that the receiver saw: its ledger has a line for each, repeats included."""

    tenant: str
    execution: str
    key: str
    body: Any
    at: float


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """Everything that is known about one tenant at the end."""

    tenant: str
    durability: Durability
    expected: Mapping[str, Expectation]
    acknowledged: tuple[Acknowledgement, ...] = ()
    completions: tuple[Completion, ...] = ()
    executions: Mapping[str, Execution] = field(default_factory=dict)
    """The log, restored from the bucket alone."""
    rows: tuple[Row, ...] = ()
    """The tenant's own table, restored with the log."""
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class LostLog:
    """The log of one tenant as it was on the lost host, against what the restore brought back."""

    tenant: str
    durability: Durability
    lost_at: float
    """UNIX seconds: the host wrote nothing after this."""
    on_host: tuple[Event, ...]
    restored: tuple[Event, ...]
    """The events of the restored log up to the takeover point."""
