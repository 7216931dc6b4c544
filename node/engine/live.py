"""An open execution in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from node.engine.durability import Durability
from node.engine.events import MESSAGES, Event, Kind, Payload, opened
from node.engine.run import Run
from node.engine.steps import Step
from node.engine.writer import Entry


@dataclass(frozen=True, slots=True)
class Answered:
    """How an update ended, and where the log says so."""

    kind: Kind
    payload: Payload
    sequence: int


@dataclass(slots=True, eq=False)
class Post:
    """The messages of one execution: how many of each name, and which key is which."""

    counts: dict[tuple[Kind, str], int] = field(default_factory=dict)
    keys: dict[tuple[Kind, str, str], int] = field(default_factory=dict)

    @staticmethod
    def of(history: Iterable[Event]) -> Post:
        """What the log says was sent."""
        post = Post()
        for event in history:
            if event.kind in MESSAGES:
                post.add(event.kind, event.name, opened(event.payload)[1])
        return post

    def add(self, kind: Kind, name: str, key: str | None) -> int:
        """Count one more; its number."""
        number = self.counts.get((kind, name), 0) + 1
        self.counts[kind, name] = number
        if key is not None:
            self.keys[kind, name, key] = number
        return number


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
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Its closing event is in the log, or it was stopped."""
    trouble: dict[str, Any] | None = None
    """Why it was stopped without an end."""
    in_transaction: int = 0
    """Transactional activities handed to the writer; until they are back, nothing else may be
    told, since their outcome's place in the log is before what would be logged now."""
    deferred: list[Callable[[], None]] = field(default_factory=list)
    """What came meanwhile."""
    post: Post = field(default_factory=Post)
    """The messages it was sent."""
    answers: dict[Step, asyncio.Future[Answered]] = field(default_factory=dict)
    """Who waits for the end of which update."""
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
