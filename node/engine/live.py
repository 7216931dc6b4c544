"""An open execution in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from node.engine.durability import Durability
from node.engine.events import Event, Kind, Payload
from node.engine.run import Pending, Run
from node.engine.writer import Entry


@dataclass(frozen=True, slots=True)
class Ending:
    """The event that closed an execution; `at` in unix milliseconds."""

    kind: Kind
    payload: Payload
    at: int
    sequence: int


@dataclass(slots=True, eq=False)
class Live:
    """One open execution: its code, and how far the log and the code have heard of each other.

    `run` is None when the application has no such workflow.
    """

    key: str
    rowid: int
    workflow: str
    payload: str
    durability: Durability
    run: Run | None
    committed: asyncio.Future[None]
    """Done once its first event is in the log."""
    started: int = 0
    """Its first event."""
    started_at: int = 0
    """That event's time, unix milliseconds."""
    ending: Ending | None = None
    """Its last event, once that is in the log."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Its closing event is in the log, or it was stopped."""
    trouble: dict[str, Any] | None = None
    """Why it was stopped without an end."""
    in_transaction: int = 0
    """Transactional activities handed to the writer; until they are back, nothing else may be
    told, since their outcome's place in the log is before what would be logged now."""
    deferred: list[tuple[Kind, Pending, Payload]] = field(default_factory=list)
    """What came meanwhile."""
    history: list[Event] | None = None
    """What forced replay is made from, in the order the code saw it; None without it."""

    @property
    def code(self) -> Run:
        """The code of an execution that has it."""
        assert self.run is not None
        return self.run

    @property
    def over(self) -> bool:
        """Nothing more can be told to the code."""
        return self.run is None or self.run.finished

    def entry(
        self,
        kind: Kind,
        name: str,
        occurrence: int,
        payload: Payload,
        after: Callable[[int], None] | None = None,
    ) -> Entry:
        """An event of this execution, to be written."""
        return Entry(self.rowid, self.key, kind, name, occurrence, payload, after)

    def remember(self, kind: Kind, name: str, occurrence: int, payload: Payload, at: int) -> None:
        """Keep an event for forced replay."""
        if self.history is not None:
            number = len(self.history) + 1
            self.history.append(
                Event(number, self.key, kind, name, occurrence, payload, at, number)
            )

    def drop(self) -> None:
        """Cancel its attempts and let go of its coroutines; what is in the log stays."""
        if self.run is not None:
            for pending in self.run.pending.values():
                if pending.progress.attempt is not None:
                    pending.progress.attempt.cancel()
            self.run.drop()
