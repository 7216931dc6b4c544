"""Replay: the log on one side, the code on the other."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, cast

from node.engine.errors import Divergence, PayloadError, UnknownHandler
from node.engine.events import (
    CLOSING,
    COMMANDS,
    DELIVERIES,
    ENDINGS,
    GIVEN_UP,
    NOTES,
    OUTCOMES,
    Event,
    Kind,
    Payload,
)
from node.engine.queue_ticket import unbegun
from node.engine.steps import Command, Pending, Step

# Looking a member up in its enumeration takes 0.1 us, some dozens of times a step.
_PATCH: Final = Kind.PATCH
_TIMER: Final = Kind.TIMER


class Followed(Protocol):
    """The code that is replayed."""

    finished: bool

    @property
    def pending(self) -> Mapping[Step, Pending]: ...

    def begin(self, at: int, early: Iterable[tuple[str, Payload]] = ()) -> list[Command]: ...

    def deliver(self, kind: Kind, step: Step, payload: Payload, at: int) -> list[Command]: ...

    def issued(self, step: Step) -> bool: ...


class Follower:
    """One replay: the log on one side, the code on the other."""

    def __init__(self, run: Followed, history: Sequence[Event], strict: bool) -> None:
        self.run = run
        self.strict = strict
        before = unbegun(history)
        self.begun = before is not None
        self.early: list[tuple[str, Payload]] = []
        if before:
            signals = (event for event in history[:before] if event.kind is Kind.SIGNAL)
            self.early = [(event.name, event.payload) for event in signals]
            history = history[before:]
        self.started = history[0]
        self.commands: deque[Event] = deque()
        self.deliveries: deque[Event] = deque()
        self.closing: deque[Event] = deque()
        self.notes: list[Event] = []
        self.patches: set[str] = set()
        for event in history:
            kind = event.kind
            if kind in COMMANDS:
                self.commands.append(event)
            elif kind in DELIVERIES:
                self.deliveries.append(event)
            elif kind in ENDINGS:
                self.closing.append(event)
            elif kind in NOTES:
                self.notes.append(event)
            elif kind is _PATCH:
                self.patches.add(event.name)
        self.beyond: list[Command] = []

    def ahead(self, issued: int) -> bool:
        """Whether the log goes on after what the code did, with `issued` commands not compared."""
        return bool(len(self.commands) > issued or self.deliveries or self.closing)

    def follow(self) -> list[Command]:
        if not self.begun:
            # It ended, or is, in its queue.
            return []
        at = self.started
        try:
            self._compare(self.run.begin(at.at, self.early), at)
            # What comes after its end was in the log already when it ended, and is not told.
            while self.deliveries and not self.run.finished:
                at = self.deliveries.popleft()
                if self.commands and self.commands[0].sequence < at.sequence:
                    raise _missing(self.commands[0])
                step = (at.name, at.occurrence)
                if at.kind in OUTCOMES and not self.run.issued(step):
                    raise _missing(at)
                self._compare(self.run.deliver(at.kind, step, at.payload, at.at), at)
        except (PayloadError, UnknownHandler) as error:
            raise Divergence(f"event {at.sequence}: {error}", sequence=at.sequence) from error
        if self.commands:
            raise _missing(self.commands[0])
        if self.closing:
            raise _missing(self.closing[0])
        for event in self.notes:
            pending = self.run.pending.get((event.name, event.occurrence))
            if pending is None:
                continue
            pending.progress.sign = event.sequence
            if event.kind is Kind.HEARTBEAT:
                pending.progress.heartbeat = str(event.payload)
            elif event.kind is Kind.STEP_RETRY:
                pending.progress.error = str(event.payload)
                failure = json.loads(cast(str, event.payload))
                pending.progress.failures = failure["attempt"]
                pending.progress.retry_at = failure["next"]
        return self.beyond

    def _compare(self, commands: list[Command], told: Event) -> None:
        for command in commands:
            if command.kind is _PATCH and command.name in self.patches:
                # Where it asks is its own affair, and whether it still asks, too.
                continue
            logged = self._expected(command, told)
            if logged is None:
                self._check_beyond(command, told)
                self.beyond.append(command)
            elif not _same(logged, command):
                raise Divergence(
                    f"event {logged.sequence}: the log holds {_logged(logged)}, the code did"
                    f" {_done(command)}",
                    sequence=logged.sequence,
                    logged=_logged(logged),
                    did=_done(command),
                )
            elif command.pending is not None and logged.kind not in GIVEN_UP:
                command.pending.progress.sequence = logged.sequence
                command.pending.progress.sign = logged.sequence
                # The deadline in the log holds, even if the code would choose another one now.
                command.pending.payload = logged.payload

    def _expected(self, command: Command, told: Event) -> Event | None:
        if self.commands:
            return self.commands.popleft()
        if command.kind in CLOSING and self.closing and self._all_late(told):
            return self.closing.popleft()
        return None

    def _all_late(self, told: Event) -> bool:
        """Whether all that is left to be told can have been logged before the code was told this:
        outcomes of one commit, and with every_commit whatever came before the proof."""
        return not self.strict or all(each.commit == told.commit for each in self.deliveries)

    def _check_beyond(self, command: Command, told: Event) -> None:
        following = self.deliveries[0] if self.deliveries else None
        if following is None:
            following = self.closing[0] if self.closing else None
        if following is None:
            return
        if following.kind in CLOSING or not self._all_late(told):
            raise Divergence(
                f"event {following.sequence}: the log holds {_logged(following)}, the code did"
                f" {_done(command)} before it, which the log does not have",
                sequence=following.sequence,
                logged=_logged(following),
                did=_done(command),
            )


def _same(event: Event, command: Command) -> bool:
    return (
        event.kind is command.kind
        and event.name == command.name
        and event.occurrence == command.occurrence
        and (event.kind is _TIMER or event.payload == command.payload)
    )


def _missing(event: Event) -> Divergence:
    return Divergence(
        f"event {event.sequence}: the log holds {_logged(event)}, the code did not get there",
        sequence=event.sequence,
        logged=_logged(event),
        did="did not get there",
    )


def _logged(event: Event) -> str:
    return _words(event.kind, event.name, event.occurrence, event.payload)


def _done(command: Command) -> str:
    return _words(command.kind, command.name, command.occurrence, command.payload)


def _words(kind: Kind, name: str, occurrence: int, payload: Payload) -> str:
    detail = "" if payload is None else f" {str(payload)[:200]}"
    return f"{kind.name.lower()} {name} #{occurrence}{detail}"
