"""What the log says of an execution that was forked from another one, or imported.

Its first events are FORKED, ORIGIN and KEPT, and then those of the other one that stand in it: its
own events from here on, with the times and the identity that they had there.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from node.engine.events import Event, Kind, Payload, opened

#: The events before those that stand: FORKED itself, ORIGIN and KEPT.
HEADS: Final = 3


class ForkMode(StrEnum):
    """What a fork has of the execution that it was made from."""

    EXACT = "exact"
    """Everything before a step, as it was and in its order; the code goes on from there."""
    REUSE = "reuse"
    """Results only: the code starts from its beginning, and a step whose activity has the same
    name, declared version and arguments takes the recorded result."""
    RECORD = "record"
    """Everything, to be looked at; it is closed. Only an import makes one."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the ids of children, tokens and random numbers are made from."""

    execution: str
    tenant: str
    lineage: str
    run: int = 1
    """The histories of one id are counted from 1."""
    secret: bytes = bytes(32)


@dataclass(frozen=True, slots=True)
class ForkedFrom:
    """The execution that one was made from. `sequence` is the newest of its events that this
    one has, or knows of; `tenant` and `lineage` are there for one of another log, `digest` for
    what was imported."""

    id: str
    mode: ForkMode
    sequence: int
    tenant: str | None = None
    lineage: str | None = None
    digest: str | None = None

    def body(self) -> dict[str, Any]:
        """Its JSON."""
        said = {"tenant": self.tenant, "lineage": self.lineage, "digest": self.digest}
        known = {name: word for name, word in said.items() if word is not None}
        return {"id": self.id, "mode": self.mode.value, "sequence": self.sequence, **known}

    @staticmethod
    def of(body: Mapping[str, Any]) -> ForkedFrom:
        """The reverse of `body`. Raises KeyError, ValueError, TypeError."""
        return ForkedFrom(
            str(body["id"]),
            ForkMode(body["mode"]),
            int(body["sequence"]),
            body.get("tenant"),
            body.get("lineage"),
            body.get("digest"),
        )


class Stretch(NamedTuple):
    """So many commits, one after the other, in which the code had this identity."""

    commits: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Forked:
    """Where an execution comes from, and how to read what stands in it.

    `times` has a pair for each commit that the events which stand were in, the first one being
    that in which the code began: how many of them, and when (unix milliseconds). `begun` says
    whether the code had.
    """

    source: ForkedFrom
    begun: bool = False
    times: tuple[tuple[int, int], ...] = ()
    past: tuple[Stretch, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    """The ids of children that have another one than the code gives them, since that is the
    other execution's."""
    schedule: tuple[str, int] | None = None
    """The schedule that began the other one, and for which time, unix milliseconds."""

    @property
    def events(self) -> int:
        """How many events stand."""
        return sum(count for count, _ in self.times)

    def identity(self, commit: int) -> Identity | None:
        """Who the code was in a commit of the past, as `retimed` numbers them; None for one of
        its own."""
        left = -commit
        if left > 0:
            for stretch in self.past:
                if left <= stretch.commits:
                    return stretch.identity
                left -= stretch.commits
        return None

    def body(self) -> dict[str, Any]:
        """What a FORKED event holds of it."""
        return {
            "from": self.source.body(),
            "begun": self.begun,
            "times": [list(pair) for pair in self.times],
            "past": [
                {
                    "commits": stretch.commits,
                    "id": stretch.identity.execution,
                    "tenant": stretch.identity.tenant,
                    "lineage": stretch.identity.lineage,
                    "run": stretch.identity.run,
                    "secret": stretch.identity.secret.hex(),
                }
                for stretch in self.past
            ],
            "renamed": dict(self.renamed),
            **({} if self.schedule is None else {"schedule": list(self.schedule)}),
        }

    @staticmethod
    def of(body: Mapping[str, Any]) -> Forked | None:
        """What the payload of an event that begins a history says. Raises ValueError."""
        if "from" not in body:
            return None
        try:
            return Forked(
                ForkedFrom.of(body["from"]),
                bool(body["begun"]),
                tuple((int(count), int(at)) for count, at in body["times"]),
                tuple(
                    Stretch(
                        int(one["commits"]),
                        Identity(
                            str(one["id"]),
                            str(one["tenant"]),
                            str(one["lineage"]),
                            int(one["run"]),
                            bytes.fromhex(one["secret"]),
                        ),
                    )
                    for one in body["past"]
                ),
                {str(old): str(new) for old, new in body["renamed"].items()},
                (str(body["schedule"][0]), int(body["schedule"][1]))
                if "schedule" in body
                else None,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it does not say what it was forked from: {error}") from error


def scheduled(said: Any) -> tuple[str, int] | None:
    """A schedule and the time that it was for. Raises TypeError, ValueError."""
    if said is None:
        return None
    name, at = said
    return str(name), int(at)


def forked_of(event: Event) -> Forked | None:
    """What the event that begins a history says of a fork. Raises ValueError."""
    return Forked.of(json.loads(str(event.payload))) if event.kind is Kind.FORKED else None


def retimed(history: Sequence[Event]) -> list[Event]:
    """The history of a fork with the times at which its code was told what stands in it.

    Its commits then have negative numbers. What is retimed already stays as it is.
    """
    first = history[0]
    forked = forked_of(first)
    if forked is None or not forked.begun:
        return list(history)
    before = [number for number, (count, _) in enumerate(forked.times, 1) for _ in range(count)]
    edge = first.sequence + HEADS
    found = [first._replace(at=forked.times[0][1], commit=-1)]
    for event in history[1:]:
        place = event.sequence - edge
        if 0 <= place < len(before):
            number = before[place]
            event = event._replace(at=forked.times[number - 1][1], commit=-number)
        found.append(event)
    return found


class KeptOutcome(NamedTuple):
    """How a step ended in the other execution, which is told once the code has come that far."""

    kind: Kind
    name: str
    occurrence: int
    payload: Payload
    version: str | None = None


class Recorded(NamedTuple):
    """A result for whoever calls the same activity with the same arguments."""

    name: str
    version: str | None
    input: str
    result: Payload


class Letter(NamedTuple):
    """A message that is sent again."""

    kind: Kind
    name: str
    occurrence: int
    payload: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What a fork takes from the other execution when its code comes to it."""

    outcomes: tuple[KeptOutcome, ...] = ()
    results: tuple[Recorded, ...] = ()
    letters: tuple[Letter, ...] = ()

    def payload(self) -> str:
        """What the log holds of it."""
        body: dict[str, Any] = {}
        if self.outcomes:
            body["outcomes"] = [[one.kind.value, *one[1:]] for one in self.outcomes]
        if self.results:
            body["results"] = [list(one) for one in self.results]
        if self.letters:
            body["letters"] = [[one.kind.value, *one[1:]] for one in self.letters]
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def read(payload: Payload) -> Kept:
        """The reverse of `payload`. Raises ValueError, KeyError, TypeError."""
        body = json.loads(str(payload))
        if not isinstance(body, dict) or not body.keys() <= {"outcomes", "results", "letters"}:
            raise ValueError("it does not say what is kept")
        outcomes = tuple(
            KeptOutcome(Kind(code), str(name), int(number), said, version)
            for code, name, number, said, version in body.get("outcomes", ())
        )
        results = tuple(
            Recorded(str(name), version, str(given), result)
            for name, version, given, result in body.get("results", ())
        )
        letters = tuple(
            Letter(Kind(code), str(name), int(number), str(said))
            for code, name, number, said in body.get("letters", ())
        )
        for letter in letters:
            opened(letter.payload)
        return Kept(outcomes, results, letters)

    @staticmethod
    def of(history: Iterable[Event]) -> Kept | None:
        """What a fork's history has; None for another execution's."""
        for event in history:
            if event.kind is Kind.KEPT:
                return Kept.read(event.payload)
        return None


class Supply:
    """The results that a fork has not used yet. Equal calls get them in their recorded order."""

    def __init__(self, results: Iterable[Recorded], history: Iterable[Event] = ()) -> None:
        """`history` is the fork's own, of which is known what it has used."""
        self._by_call: dict[tuple[str, str | None, str], deque[Recorded]] = {}
        for one in results:
            call = (one.name, one.version, same(one.input))
            self._by_call.setdefault(call, deque()).append(one)
        inputs: dict[tuple[str, int], str] = {}
        versions: dict[tuple[str, int], str] = {}
        for event in history:
            step = (event.name, event.occurrence)
            if event.kind is Kind.STEP:
                inputs[step] = str(event.payload)
            elif event.kind is Kind.STEP_VERSION:
                versions[step] = str(event.payload)
            elif event.kind is Kind.STEP_REUSED:
                self.take(event.name, versions.get(step), inputs[step])

    def left(self) -> list[Recorded]:
        """Those that nobody has taken."""
        return [one for left in self._by_call.values() for one in left]

    def take(self, name: str, version: str | None, input: str) -> Recorded | None:
        """The next result for this call, if there is one left."""
        left = self._by_call.get((name, version, same(input)))
        return left.popleft() if left else None


def same(input: str) -> str:
    """The arguments of a call in the form in which two calls are compared."""
    return json.dumps(json.loads(input), sort_keys=True, separators=(",", ":"))
