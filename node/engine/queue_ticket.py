"""What an execution waits in a queue with, and what its events say about its turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from node.engine.errors import PayloadError
from node.engine.events import Event, Kind
from node.engine.forked import forked_of

#: Priorities are from -PRIORITIES to PRIORITIES.
PRIORITIES: Final = 1_000_000
_FIELD: Final = "queue"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in a queue. The smaller `priority` goes first; `dedup` is what no two open
    executions of the queue have in common; `partition` says whose limits count as well."""

    queue: str
    priority: int = 0
    dedup: str | None = None
    partition: str | None = None

    @staticmethod
    def of(origin: dict[str, Any]) -> Ticket | None:
        """What an ORIGIN or CHILD event's payload says, if anything. Raises ValueError."""
        body = origin.get(_FIELD)
        if body is None:
            return None
        try:
            ticket = Ticket(
                body["name"], body.get("priority", 0), body.get("dedup"), body.get("partition")
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("it does not say which queue") from error
        words = (ticket.queue, ticket.dedup, ticket.partition)
        if not all(word is None or isinstance(word, str) for word in words):
            raise ValueError("it does not say which queue")
        if not isinstance(ticket.priority, int):
            raise ValueError("a priority is a whole number")
        return ticket

    def body(self) -> dict[str, Any]:
        """What such a payload holds of it."""
        body: dict[str, Any] = {"name": self.queue}
        if self.priority:
            body["priority"] = self.priority
        if self.dedup is not None:
            body["dedup"] = self.dedup
        if self.partition is not None:
            body["partition"] = self.partition
        return {_FIELD: body}

    def turn(self) -> str:
        """What the event holds that says that it has its turn."""
        words = {"queue": self.queue}
        if self.partition is not None:
            words["partition"] = self.partition
        return json.dumps(words, separators=(",", ":"), ensure_ascii=False)

    def checked(self) -> Ticket:
        """Itself. Raises PayloadError for what cannot be asked for."""
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise PayloadError("a priority is a whole number")
        if abs(self.priority) > PRIORITIES:
            raise PayloadError(f"a priority is from -{PRIORITIES} to {PRIORITIES}")
        for what, word in (("deduplication key", self.dedup), ("partition", self.partition)):
            if word is not None and not (0 < len(word) <= 200 and word.isprintable()):
                raise PayloadError(f"a {what} has 1 to 200 printable characters")
        return self


def queue_of(events: Sequence[Event]) -> Ticket | None:
    """With what an execution was queued, by its events since it last began."""
    if len(events) < 2 or events[1].kind is not Kind.ORIGIN:
        return None
    payload = str(events[1].payload)
    # Most have none, and their payload is not worth reading.
    return Ticket.of(json.loads(payload)) if f'"{_FIELD}":' in payload else None


@dataclass(frozen=True, slots=True)
class Turn:
    """Where an execution that was queued stands."""

    ticket: Ticket
    begun: Event | None
    """The event with which its code began; None while it has never had its turn."""
    since: int | None
    """The event since which it waits for a turn; None when it has it."""

    @staticmethod
    def of(events: Sequence[Event]) -> Turn | None:
        """What the events since it last began say; None for one that was not queued.

        One that is tried again waits again, and so does a fork. One that goes on with a new
        input keeps its turn.
        """
        ticket = queue_of(events)
        if ticket is None:
            return None
        first = events[0]
        begun = first if _begins(first) else None
        since = None if first.kind is Kind.CONTINUED else first.sequence
        for event in events:
            if event.kind is Kind.REOPENED:
                since = event.sequence
                if begun is not None and begun.sequence >= int(str(event.payload)):
                    begun = None
            elif event.kind is Kind.DEQUEUED:
                begun, since = begun or event, None
        return Turn(ticket, begun, since)


def unbegun(events: Sequence[Event]) -> int | None:
    """Of the standing events of an execution: how many of them came before its code began,
    None when that never did. 0 for one that was not queued."""
    if queue_of(events) is None or _begins(events[0]):
        return 0
    for number, event in enumerate(events):
        if event.kind is Kind.DEQUEUED:
            return number
    return None


def _begins(first: Event) -> bool:
    """Whether the code begins with this event already, though the execution is in a queue."""
    forked = forked_of(first)
    return first.kind is Kind.CONTINUED or (forked is not None and forked.begun)
