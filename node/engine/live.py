"""An open execution in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from node.engine.beginning import Beginning, Post, compact
from node.engine.durability import Durability
from node.engine.events import Event, Kind, Payload
from node.engine.observer import Watched
from node.engine.queue_ticket import Ticket
from node.engine.run import Run
from node.engine.steps import Step
from node.engine.writer import Entry

# Looking a member up in its enumeration takes 0.1 us, here for every event of a replay.
_ORIGIN: Final = Kind.ORIGIN


@dataclass(frozen=True, slots=True)
class Ending:
    """The event that closed an execution; `at` in unix milliseconds."""

    kind: Kind
    payload: Payload
    at: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Answered:
    """How an update ended, and where the log says so."""

    kind: Kind
    payload: Payload
    sequence: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an execution comes from: the step of another one that started it, if any, and the
    version of the application that did."""

    parent: str | None = None
    step: Step = ("", 0)
    detached: bool = False
    version: str | None = None
    trace: str | None = None
    """The `traceparent` that the start came with."""
    ticket: Ticket | None = None
    """The queue that it was started on, if any."""
    schedule: tuple[str, int] | None = None
    """The schedule that started it, and the time that it is for, unix milliseconds."""

    @staticmethod
    def of(history: Iterable[Event]) -> Origin:
        """What the log says."""
        for event in history:
            if event.kind is _ORIGIN:
                body = json.loads(str(event.payload))
                name, number = body.get("step", ("", 0))
                return Origin(
                    body.get("parent"),
                    (name, number),
                    "detached" in body,
                    body.get("version"),
                    body.get("trace"),
                    Ticket.of(body),
                    scheduled(body),
                )
        return Origin()

    def payload(self) -> str | None:
        """What the log holds of it; None when there is nothing to say."""
        body: dict[str, Any] = {}
        if self.parent is not None:
            body |= {"parent": self.parent, "step": list(self.step)}
            body |= {"detached": True} if self.detached else {}
        if self.version is not None:
            body["version"] = self.version
        if self.trace is not None:
            body["trace"] = self.trace
        if self.ticket is not None:
            body |= self.ticket.body()
        if self.schedule is not None:
            body["schedule"] = list(self.schedule)
        return compact(body) if body else None


def scheduled(body: dict[str, Any]) -> tuple[str, int] | None:
    """What an ORIGIN event's payload says about a schedule, if anything. Raises ValueError."""
    said = body.get("schedule")
    if said is None:
        return None
    if not (isinstance(said, list) and [type(one) for one in said] == [str, int]):
        raise ValueError("it does not say which schedule, and for which time")
    return said[0], said[1]


@dataclass(slots=True, eq=False)
class Live:
    """One open execution: its code, and how far the log and the code have heard of each other.

    `run` is None when the application has no such workflow, and while it waits in a queue for
    its code to begin.
    """

    key: str
    rowid: int
    workflow: str
    payload: str
    """Its input, as the idempotent start compares it."""
    durability: Durability
    run: Run | None
    committed: asyncio.Future[None]
    """Done once its first event is in the log."""
    started: int = 0
    """Its first event."""
    started_at: int = 0
    """That event's time, unix milliseconds."""
    ended: Ending | None = None
    """Its last event, once that is in the log."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Its closing event is in the log, or it was stopped."""
    trouble: dict[str, Any] | None = None
    """Why it was stopped without an end."""
    stopped_at: int = 0
    """And when, unix milliseconds."""
    in_transaction: int = 0
    """Transactional activities handed to the writer; until they are back, nothing else may be
    told, since their outcome's place in the log is before what would be logged now."""
    deferred: list[Callable[[], None]] = field(default_factory=list)
    """What came meanwhile."""
    post: Post = field(default_factory=Post)
    """The messages it was sent."""
    origin: Origin = Origin()
    children: set[str] = field(default_factory=set)
    """The ids of its attached children that are open."""
    cancelled: bool = False
    """It was asked to stop."""
    continuing: bool = False
    """It has ended to go on with a new input, and its new code has not begun."""
    paused: bool = False
    queued: bool = False
    """It waits for its turn in a queue."""
    beginning: Beginning | None = None
    """What its code is to begin from, while it waits for that in a queue."""
    early: list[tuple[str, Payload]] = field(default_factory=list)
    """The signals that came before its code began."""
    reopened_at: int = 0
    """When it was last tried again, unix milliseconds; 0 if never. Its parent may have been told
    of an end before."""
    ending: bool = False
    """Its end is on its way into the log, though its code had none."""
    untold: list[tuple[str, str]] = field(default_factory=list)
    """Signals that are logged, and wait for proof before the code is told."""
    unheard: tuple[Payload] | None = None
    """The reason of a request to stop that waits for the same."""
    held: list[Callable[[], None]] = field(default_factory=list)
    """What waits for it to be resumed."""
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
    def about(self) -> dict[str, object]:
        """What a record of the engine's says of it; see `lines.FIELDS`."""
        return {"execution": self.key, "workflow": self.workflow}

    @property
    def watched(self) -> Watched:
        """It, as an observer is told of it."""
        origin = self.origin
        beginning = self.beginning if self.run is None else self.run.beginning
        return Watched(
            self.key,
            self.workflow,
            self.started_at,
            self.reopened_at,
            origin.trace,
            origin.parent,
            1 if beginning is None else beginning.run,
        )

    @property
    def busy(self) -> bool:
        """Something comes first in the log; what may wait is deferred."""
        return self.in_transaction > 0 or self.continuing

    @property
    def still(self) -> bool:
        """No attempt starts and no timer wakes the code."""
        return self.paused or self.queued

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
