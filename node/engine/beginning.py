"""Where an execution's history begins: at its start, or where it goes on under the same id.

An execution that continues as new, or whose id is used again, keeps counting its steps and
messages, so that no step ever has another one's idempotency key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from node.engine.events import BEGINNINGS, INTENTS, MESSAGES, Event, Kind, Payload, opened
from node.engine.forked import Forked, retimed

#: How many idempotency keys go along when an execution continues as new.
KEYS: Final = 1000
# Looking a member up in its enumeration takes 0.1 us, here for every event of a replay.
_REOPENED: Final = Kind.REOPENED


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
            if event.kind in BEGINNINGS:
                beginning = Beginning.of(event)
                post.counts = dict(beginning.posted)
                post.keys = dict.fromkeys(beginning.keys, 0)
            elif event.kind in MESSAGES:
                post.add(event.kind, event.name, opened(event.payload)[1])
        return post

    def add(self, kind: Kind, name: str, key: str | None) -> int:
        """Count one more; its number."""
        number = self.counts.get((kind, name), 0) + 1
        self.counts[kind, name] = number
        if key is not None:
            self.keys[kind, name, key] = number
        return number


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the code starts from. `run` counts the histories of one id from 1."""

    input: str
    run: int = 1
    counts: dict[str, int] = field(default_factory=dict)
    """The numbers that steps have had before, by name."""
    posted: dict[tuple[Kind, str], int] = field(default_factory=dict)
    """The numbers that messages have had before."""
    signals: tuple[tuple[str, str], ...] = ()
    """Signals that nobody had received yet: name and JSON value."""
    keys: tuple[tuple[Kind, str, str], ...] = ()
    """The newest keys of messages that it had, at most KEYS."""
    paused: bool = False
    forked: Forked | None = None
    """The other execution that it was made from, if any."""
    since: int = field(default=0, compare=False)
    """The event that it is, 0 for one that is not in the log yet."""

    @staticmethod
    def of(event: Event) -> Beginning:
        """Read the event that begins a history. Raises ValueError."""
        if event.kind is Kind.STARTED:
            return Beginning(str(event.payload), since=event.sequence)
        return replace(Beginning.read(event.payload), since=event.sequence)

    @staticmethod
    def read(payload: Payload) -> Beginning:
        """The reverse of `payload`. Raises ValueError."""
        body = json.loads(str(payload))
        try:
            return Beginning(
                compact(body["input"]),
                int(body["run"]),
                {str(name): int(count) for name, count in body["counts"].items()},
                {(Kind(code), str(name)): int(count) for code, name, count in body["posted"]},
                tuple((str(name), compact(value)) for name, value in body["signals"]),
                tuple((Kind(code), str(name), str(key)) for code, name, key in body["keys"]),
                bool(body["paused"]),
                Forked.of(body),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it does not say how it begins: {error}") from error

    def payload(self) -> str:
        """What the log holds of it, in a CONTINUED, RESTARTED or FORKED event."""
        return compact(
            {
                "input": json.loads(self.input),
                "run": self.run,
                "counts": self.counts,
                "posted": [[kind.value, name, n] for (kind, name), n in self.posted.items()],
                "signals": [[name, json.loads(value)] for name, value in self.signals],
                "keys": [[kind.value, name, key] for kind, name, key in self.keys],
                "paused": self.paused,
                **({} if self.forked is None else self.forked.body()),
            }
        )


def compact(value: object) -> str:
    """Its JSON, without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def standing(events: Iterable[Event]) -> list[Event]:
    """The events that a replay follows: from the newest beginning, without what is void."""
    kept: list[Event] = []
    for event in events:
        if event.kind in BEGINNINGS:
            kept = [event]
        elif event.kind is _REOPENED:
            kept = [one for one in kept if one.sequence < int(str(event.payload))]
        else:
            kept.append(event)
    return retimed(kept) if kept and kept[0].kind is Kind.FORKED else kept


def restarted(history: Sequence[Event], input: str) -> Beginning:
    """How an id is used again after this history."""
    before = Beginning.of(history[0])
    counts = dict(before.counts)
    for event in history:
        if event.kind in INTENTS:
            counts[event.name] = event.occurrence
    return Beginning(input, before.run + 1, counts, Post.of(history).counts)
